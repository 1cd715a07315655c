"""What tests of attn/interop share: random states, and the wrong ones."""

import itertools

import jax
import numpy as np

from tests import oracles

# B batch, T queries, S keys, N heads, H head size, D and widths of the others.
B, T, S, N, H, D, DK, DV, DO = 2, 3, 5, 2, 7, 14, 11, 13, 17


def draw(shapes, seed=0):
  """Random arrays of these shapes, by name."""
  generator = np.random.default_rng(seed)
  return {
    name: np.float32(generator.normal(size=shape) / max(shape[-1], 1) ** 0.5)
    for name, shape in shapes.items()
  }


def attend(query, key, value, *, num_heads=N, **options):
  """Projected [B, T, N H] and two [B, S, N H] → [B, T, N H], in float64."""
  split = (x.reshape(*x.shape[:2], num_heads, -1) for x in (query, key, value))
  context = oracles.Attention(*split, **options).context
  return context.reshape(*query.shape)


def inputs(*widths, seed=5):
  """[B, T, D], and [B, S, ...] of the other widths."""
  generator = np.random.default_rng(seed)
  lengths = (T, *itertools.repeat(S, len(widths) - 1))
  return [
    np.float32(generator.normal(size=(B, length, width)))
    for length, width in zip(lengths, widths)
  ]


def zeros(layer, *inputs):
  """Parameters of a layer, all 0."""
  shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), *inputs))
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes['params'])


def spoilt(state, free=()):
  """Every way to spoil one array of a state: (state, error, what it names).

  Args:
    state: Name -> array.
    free: (name, axis) where any size will do.
  """
  for name, array in state.items():
    rest = {other: x for other, x in state.items() if other != name}
    yield rest, ValueError, name
    yield {**state, f'{name}_more': array}, ValueError, f'{name}_more'
    for axis in range(array.ndim):
      if (name, axis) in free:
        continue
      longer = np.concatenate([array, array.take([0], axis)], axis)
      yield {**state, name: longer}, ValueError, ''
    yield {**state, name: array[None]}, ValueError, name
    yield {**state, name: array.astype(np.int32)}, TypeError, name
    yield {**state, name: array.tolist()}, TypeError, name
    yield {**state, name: array.astype(np.float64)}, TypeError, 'dtype'


def same(found, wanted):
  """Whether two mappings hold the same arrays, to the bit and the dtype."""
  assert set(found) == set(wanted)
  for name, array in wanted.items():
    assert found[name].dtype == array.dtype, name
    np.testing.assert_array_equal(found[name], array, err_msg=name)
