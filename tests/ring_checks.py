"""Eight devices and what they find: run by tests/sharded_test.py.

A process of its own, because a process has as many devices as it begins with.
Prints one JSON object.
"""

import collections
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

import attn
from attn import masks, mods
from attn.backends.dense import dense
from attn.backends.layout import Layout
from attn.backends.ring import ring
from attn.backends.split_keys import split_keys
from attn.call import prepare
from benchmarks import ring as ring_benchmark
from benchmarks.ring_masks import make_masks
from tests.inputs import booleans, normal, qkv

_DEVICES = 8
# A part of a device is 6, or twice 3: no tile of 2 fits.
_LENGTH, _SIDES = 48, (2, 2)
_AXIS = 'sequence'


def main():
  jax.config.update('jax_numpy_dtype_promotion', 'strict')
  jax.config.update('jax_num_cpu_devices', _DEVICES)
  print(
    json.dumps(
      {
        'masks': of_masks(),
        'gradients': of_gradients(),
        'promises': of_promises(),
        'visits': of_visits(),
        'meshes': of_meshes(),
        'decoding': of_decoding(),
      }
    )
  )


def _mesh(shape=(_DEVICES,), axes=(_AXIS,)):
  kinds = (jax.sharding.AxisType.Auto,) * len(shape)
  return jax.make_mesh(shape, axes, axis_types=kinds)


@functools.cache
def _layout():
  return Layout(_mesh(), _AXIS, (), (), (_DEVICES, 1, 1))


def _difference(ours, theirs):
  """Largest, in proportion to the largest entry, but at least to 1."""

  def one(x, y):
    x, y = (np.nan_to_num(np.asarray(z, np.float64)) for z in (x, y))
    return float(np.abs(x - y).max() / max(np.abs(y).max(), 1))

  return max(map(one, jax.tree.leaves(ours), jax.tree.leaves(theirs)))


def of_masks():
  """Of every mask: context and residual beside those of `dense`."""
  found = {}
  inputs = qkv((2,), _LENGTH, _LENGTH, 1, 2, 3, 5)
  for i, (name, build) in enumerate(make_masks(2, 2, _LENGTH).items()):
    call = prepare(**inputs, mask=build())
    ours = ring(call, _layout(), sides=_SIDES, parts=1 + i % 2)
    found[name] = _difference(ours, dense(call))
  return found


def _everything():
  """Call, arrays it is differentiated by, and masks' arrays that are traced."""
  lengths = 80, 48
  arrays = {
    **qkv((2,), *lengths, 2, 4, 5, 3),
    'bias': normal(2, 4, *lengths, seed=5),
    'sink': normal(4, seed=6),
    'slopes': normal(4, seed=7),
  }
  rng = np.random.default_rng(8)
  ids = [jnp.asarray(rng.integers(0, 3, length)) for length in lengths]

  def call(arrays, ids):
    slopes = arrays['slopes']

    def mod(score, b, n, q, k):
      return score + slopes[n] * jnp.cos((q - k).astype(score.dtype))

    return prepare(
      arrays['query'],
      arrays['key'],
      arrays['value'],
      arrays['bias'],
      masks.causal(3) | masks.segments(*ids),
      sink=arrays['sink'],
      score_mod=mods.compose(mods.soft_cap(3.0), mod),
      dropout_rate=0.3,
      rng=jax.random.key(3),
    )

  # `compose` does not see what a function captures; a plain one is traced.
  def plain(arrays, ids):
    made = call(arrays, ids)
    return dataclasses.replace(
      made, score_mod=lambda *args: made.score_mod(*args)
    )

  return plain, arrays, ids


def _gradients(compute, call):
  """From arrays to the gradient by each of them, and context and residual."""

  def loss(arrays, *others):
    context, residual = compute(call(arrays, *others))
    wave = jnp.cos(jnp.arange(context.size, dtype=context.dtype))
    seen = jnp.where(jnp.isfinite(residual), residual, 0)
    total = (context * wave.reshape(context.shape)).sum()
    return total + (seen * seen).sum(), (context, residual)

  return jax.jit(jax.grad(loss, has_aux=True))


def of_gradients():
  """Everything at once, forward and backward, beside `dense`."""
  call, arrays, ids = _everything()
  ours, theirs = (
    _gradients(compute, call)(arrays, ids)
    for compute in (
      functools.partial(ring, layout=_layout(), sides=(3, 2), parts=2),
      dense,
    )
  )
  found = {name: _difference(ours[0][name], theirs[0][name]) for name in arrays}
  return {**found, 'outputs': _difference(ours[1], theirs[1])}


def of_promises():
  """Rows that see nothing, and NaN that nobody sees, or somebody does."""
  inputs = qkv((), _LENGTH, _LENGTH, 1, 1, 3, 5)
  mask = masks.causal() & ~masks.dense(
    jnp.zeros((_LENGTH, 1), bool).at[7].set(True)
  )
  bad = 29

  run = _gradients(
    functools.partial(ring, layout=_layout(), sides=_SIDES, parts=2),
    lambda x: prepare(**x, mask=mask),
  )
  clean = run(inputs)
  poisoned = dict(inputs, value=inputs['value'].at[bad, 0, 1].set(jnp.nan))
  poisoned['key'] = poisoned['key'].at[bad, 0, 2].set(jnp.inf)
  gradients, (context, _) = run(poisoned)
  before = np.asarray(context)[0, :bad]
  return {
    'nothing to see': float(np.abs(clean[1][0][0, 7]).max()),
    'its gradient': float(np.abs(clean[0]['query'][7]).max()),
    'bits before a NaN': bool(
      (before == np.asarray(clean[1][0])[0, :bad]).all()
    ),
    'rows after it': bool(np.isnan(np.asarray(context)[0, bad:]).all()),
    'gradients are finite': all(
      bool(np.isfinite(x).all()) for x in jax.tree.leaves(gradients)
    ),
    'again': all(
      bool((x == y).all())
      for x, y in zip(jax.tree.leaves(clean), jax.tree.leaves(run(inputs)))
    ),
  }


def of_visits():
  """Tiles that were computed, by devices and steps: planned, and happened."""
  inputs = ring_benchmark.make_inputs(64, 1, 1, 1, 4)
  found = {}
  for name, mask, parts in (
    ('causal in order', masks.causal(), 1),
    ('causal zigzag', masks.causal(), 2),
    ('window', masks.causal() & masks.sliding_window(8, 0), 1),
    ('nothing', masks.causal(-64), 1),
  ):
    options = {'sides': (4, 4), 'parts': parts}
    planned = ring_benchmark.count(mask, inputs, _layout().mesh, **options)
    happened = collections.Counter()

    def count(row, column, happened=happened):
      happened[int(row), int(column)] += 1

    def mod(score, b, n, q, k, count=count):
      jax.debug.callback(count, q // 4, k // 4)
      return score

    call = prepare(*map(jnp.asarray, inputs[:3]), mask=mask, score_mod=mod)
    context, _ = ring(call, _layout(), **options)
    jax.block_until_ready(context)
    jax.effects_barrier()
    found[name] = {
      'steps': list(planned[0].steps),
      'planned': planned[1].tolist(),
      'tiles': sorted(happened),
      'scores': sorted(set(happened.values())),
    }
  return found


def of_meshes():
  """Batch elements, heads and sequence on axes of one mesh."""
  mesh = _mesh((2, 2, 2), ('data', 'tensor', _AXIS))
  inputs = {**qkv((2, 2), 8, 8, 2, 4, 3, 5), 'bias': normal(2, 2, 4, 8, 8)}
  options = {
    'mask': masks.padding(jnp.array([4, 8, 3, 0])) & booleans_per_head(),
    'sink': normal(4, seed=4),
    'dropout_rate': 0.2,
    'rng': jax.random.key(0),
  }

  def loss(attend, inputs):
    return (attend(**inputs, **options) ** 2).sum()

  one, many = (
    jax.value_and_grad(functools.partial(loss, attend))(inputs)
    for attend in (
      functools.partial(attn.attention, implementation='dense'),
      functools.partial(
        attn.ring_attention, mesh=mesh, batch_axes='data', head_axes='tensor'
      ),
    )
  )
  explicit = jax.make_mesh((_DEVICES,), (_AXIS,))
  x = qkv((1,), 16, 16, 1, 2)
  with jax.set_mesh(explicit):
    parts = jax.sharding.PartitionSpec(None, _AXIS)
    there = jax.device_put(x, jax.sharding.NamedSharding(explicit, parts))
    ours = attn.ring_attention(**there, is_causal=True)
  return {
    'three axes': _difference(many, one),
    'an explicit mesh': _difference(ours, attn.attention(**x, is_causal=True)),
  }


def booleans_per_head():
  return masks.dense(booleans(1, 4, 8, 8))


def of_decoding():
  """Queries at the end of a sequence whose keys are on eight devices."""
  inputs = qkv((2,), 40, 40, 2, 4, 5, 3)
  inputs['bias'] = normal(4, 40, 40, seed=5)
  options = {
    'sink': normal(4, seed=6),
    'score_mod': mods.alibi(4),
    'dropout_rate': 0.3,
    'rng': jax.random.key(3),
  }

  whole = dense(prepare(**inputs, mask=masks.causal(), **options))
  at = 19
  step = {**inputs, 'query': inputs['query'][:, at : at + 1]}
  step['bias'] = inputs['bias'][:, at : at + 1]
  # Of one query at place `at`; its dropout would be that of query 0.
  of_step = {**options, 'score_mod': mods.with_offset(mods.alibi(4), at)}
  of_step.update(dropout_rate=0.0, rng=None)
  call = prepare(**step, mask=masks.causal(jnp.array(at)), **of_step)
  undropped = prepare(
    **inputs, mask=masks.causal(), **{**options, 'dropout_rate': 0.0}
  )
  layout = _layout()._replace(whole_queries=True)
  ours = split_keys(call, layout, sides=(1, 2))
  expected = [x[:, at : at + 1] for x in dense(undropped)]
  every = prepare(**inputs, mask=masks.causal(), **options)

  def call_of(arrays):
    return dataclasses.replace(every, **arrays)

  arrays = {x: getattr(every, x) for x in ('query', 'key', 'value', 'sink')}
  gradients = [
    _gradients(compute, call_of)(arrays)
    for compute in (functools.partial(split_keys, layout=layout), dense)
  ]
  poisoned = dict(inputs, key=inputs['key'].at[:, 30].set(jnp.nan))
  hidden = split_keys(
    prepare(**poisoned, mask=masks.causal(), **options), layout
  )
  return {
    'a step': _difference(ours, expected),
    'all rows': _difference(gradients[0], gradients[1]),
    'a NaN later on': _difference(
      [x[:, :30] for x in hidden], [x[:, :30] for x in whole]
    ),
    'a NaN before': bool(np.isnan(np.asarray(hidden[0])[:, 30:]).all()),
  }


if __name__ == '__main__':
  main()
