"""What is peculiar to tiles: which are visited, memory, programs compiled.

What every implementation must do is in tests/backends_test.py and its
neighbours; all orders of differentiation are in tests/orders_test.py.
"""

import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks, mods
from attn.backends import blockwise
from attn.backends.plan import make_plan
from attn.call import prepare
from tests import oracles
from tests.checks import assert_close, assert_same_bits, compile_fast
from tests.inputs import B, N, S, T, normal, qkv

_EMPTY, _FULL = masks.EMPTY, masks.FULL
# 4 x 4 tiles of 3 x 3, but for the tests that say otherwise.
_LENGTH, _SIDE = 12, 3
_DOCUMENTS = np.array([0] * 6 + [1] * 6)

_FACTORS = jnp.array([0.5, 1.0, 2.0, 4.0])


def _plan(mask, t=_LENGTH, s=_LENGTH, sides=(_SIDE, _SIDE), heads=(2, 2)):
  call = prepare(**qkv((1,), t, s, *heads), mask=mask)
  return make_plan(call, sides)


def _traced_plan(build, *arrays):
  """The plan made while `arrays` are traced, and the classes it computes."""
  plans = []

  @jax.jit
  def run(*arrays):
    plan, classes = _plan(build(*arrays))
    plans.append(plan)
    return classes

  classes = run(*arrays)
  return plans[0], np.asarray(classes)


class PlanTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('everything', None, 16, 0),
    ('everything by a mask', masks.sliding_window(20, 20), 16, 0),
    ('causal', masks.causal(), 6, 4),
    ('causal by a tile', masks.causal(_SIDE), 10, 3),
    ('window', masks.causal() & masks.sliding_window(_SIDE, 0), 0, 7),
    ('wide window', masks.sliding_window(5, 5), 10, 4),
    ('chunks', masks.chunked(_SIDE), 4, 0),
    ('odd chunks', masks.chunked(4), 2, 8),
    ('prefix', masks.causal() | masks.prefix(_SIDE), 7, 3),
    ('documents', masks.block_diagonal([6, 6]) & masks.causal(), 2, 4),
    ('nothing', ~masks.sliding_window(20, 20), 0, 0),
  )
  def test_counts(self, mask, full, partial):
    plan, classes = _plan(mask)
    self.assertEqual((len(plan.full), len(plan.partial)), (full, partial))
    self.assertEqual((plan.undecided, classes), ((), None))
    self.assertEqual(plan.visited, full + partial)
    written = np.ones((1, 1)) if mask is None else mask.dense(_LENGTH, _LENGTH)
    written = np.broadcast_to(written, (_LENGTH, _LENGTH))
    tiles = written.reshape(4, _SIDE, 4, _SIDE).swapaxes(1, 2)
    where = lambda flags: {tuple(x) for x in np.argwhere(flags)}  # noqa: E731
    self.assertEqual(set(plan.full), where(tiles.all((2, 3))))
    some = tiles.any((2, 3)) & ~tiles.all((2, 3))
    self.assertEqual(set(plan.partial), where(some))

  def test_keys_that_do_not_exist_are_hidden(self):
    plan, _ = _plan(None, s=_LENGTH - 1)
    self.assertEqual((len(plan.full), len(plan.partial)), (12, 4))
    self.assertEqual({j for _, j in plan.partial}, {3})

  def test_heads_that_differ_decide_each_for_itself(self):
    mask = masks.per_head([masks.causal(), masks.chunked(_SIDE)])
    plan, classes = _plan(mask)
    self.assertLen(plan.undecided, 10)
    visited = (np.asarray(classes) != _EMPTY).sum(-1)
    np.testing.assert_array_equal(visited, [[10, 4]])
    # Query heads of one group are computed together.
    plan, classes = _plan(mask, heads=(1, 2))
    self.assertEqual(np.asarray(classes).shape, (1, 1, 10))
    self.assertEqual((np.asarray(classes) != _EMPTY).sum(), 10)
    self.assertEqual((np.asarray(classes) == _FULL).sum(), 0)

  @parameterized.parameters(
    (_DOCUMENTS, 6, 2), (0 * _DOCUMENTS, 10, 6), (np.arange(12) // 3, 4, 0)
  )
  def test_traced_ids_decide_in_the_program(self, ids, visited, full):
    plan, classes = _traced_plan(
      lambda ids: masks.causal() & masks.segments(ids), jnp.asarray(ids)
    )
    # What is not causal is not even listed.
    self.assertLen(plan.undecided, 10)
    self.assertTrue(all(j <= i for i, j in plan.undecided))
    self.assertEqual((plan.full, plan.partial), ((), ()))
    self.assertEqual((classes != _EMPTY).sum(), visited)
    self.assertEqual((classes == _FULL).sum(), full)

  def test_an_offset_that_is_traced(self):
    for offset, visited in ((0, 10), (-_LENGTH, 0), (_LENGTH, 16)):
      _, classes = _traced_plan(masks.causal, jnp.array(offset))
      self.assertEqual((classes != _EMPTY).sum(), visited)


class SkippingTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('causal', lambda ids: masks.causal()),
    ('window', lambda ids: masks.sliding_window(2, 0)),
    ('documents', masks.segments),
    ('causal documents', lambda ids: masks.causal() & masks.segments(ids)),
  )
  def test_scores_of_empty_tiles_are_not_computed(self, build):
    seen = set()

    def score_mod(score, b, n, q, k):
      jax.debug.callback(lambda *at: seen.add((int(at[0]), int(at[1]))), q, k)
      return score

    arguments = qkv((), _LENGTH, _LENGTH, 1, 1, 2, 2)

    @jax.jit
    def run(ids):
      return attn.attention(
        **arguments,
        mask=build(ids),
        score_mod=score_mod,
        implementation='small tiles',
      )

    jax.block_until_ready(run(jnp.asarray(_DOCUMENTS)))
    jax.effects_barrier()
    classes = build(_DOCUMENTS).blocks(_LENGTH, _LENGTH, 2, 3)
    tiles = {tuple(x) for x in np.argwhere(classes != _EMPTY)}
    self.assertEqual({(q // 2, k // 3) for q, k in seen}, tiles)
    self.assertLen(seen, 6 * len(tiles))

  def test_masks_are_not_evaluated_in_full_tiles(self):
    arguments = qkv((), _LENGTH, _LENGTH, 1, 1, 2, 2)

    def run(mask):
      return compile_fast(
        lambda x: attn.attention(**x, mask=mask, implementation='small tiles')
      )(arguments)

    expected = run(None)
    lie = lambda self, start, size: jnp.zeros(size, bool)  # noqa: E731
    with mock.patch.object(masks.Mask, '_tile', lie):
      everything = run(masks.sliding_window(20, 20))
      causal = run(masks.causal())
    assert_same_bits(everything, expected)
    # What is below the diagonal of tiles is seen all the same: tile (2, 0).
    self.assertTrue(bool((causal[4:] != 0).all()))
    np.testing.assert_array_equal(causal[:2], 0)


class PaddingTest(parameterized.TestCase):
  @parameterized.parameters((1, 1), (2, 3), (4, 5))
  def test_one_tile_that_is_larger_than_the_call(self, t, s):
    """What fills it up is hidden also from a mask that is written out."""
    mask = masks.between_chunks(masks.causal(), 8)
    call = prepare(**qkv((2,), t, s, 2, 2), mask=mask)
    exact = blockwise.blockwise(call)
    assert_close(blockwise.blockwise(call, (5, 7)), exact)


class MemoryTest(parameterized.TestCase):
  @parameterized.parameters('mask', 'bias')
  def test_gradients_copy_no_array_of_all_scores(self, which):
    length = 4096
    x = jax.ShapeDtypeStruct((length, 1, 16), jnp.float32)
    dtype = {'mask': jnp.bool_, 'bias': jnp.float32}[which]
    array = jax.ShapeDtypeStruct((length, length), dtype)
    ids = jax.ShapeDtypeStruct((length,), jnp.int32)

    def loss(arrays, array, ids):
      mask, bias = attn.masks.segments(ids), None
      if which == 'mask':
        mask &= attn.masks.dense(array)
      else:
        bias = array[None]
      context = attn.attention(
        *arrays, mask=mask, bias=bias, implementation='blockwise'
      )
      return (context**2).sum()

    compiled = jax.jit(jax.grad(loss)).lower((x, x, x), array, ids).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    self.assertLess(temporary, array.size * array.dtype.itemsize)

  @parameterized.named_parameters(
    ('forward', 0), ('gradient', 1), ('hessian', 2)
  )
  def test_grows_linearly(self, order):
    def loss(*arrays):
      context = attn.attention(
        *arrays, is_causal=True, implementation='blockwise'
      )
      return (context**2).sum()

    def gradient(*arrays):
      return jax.grad(loss, (0, 1, 2))(*arrays)

    def product(*arrays):
      return jax.jvp(gradient, arrays, arrays)[1]

    # From here on tiles do not grow with the length.
    lengths = (4096, 8192, 16384)
    sizes = []
    for length in lengths:
      x = jax.ShapeDtypeStruct((length, 1, 16), jnp.float32)
      compiled = jax.jit((loss, gradient, product)[order]).lower(x, x, x)
      sizes.append(compiled.compile().memory_analysis().temp_size_in_bytes)
    first, second = np.diff(sizes)
    self.assertLess(second, 2.3 * first)
    self.assertLess(sizes[-1], 2.3 * sizes[-2])
    # Of as many scores as there are, each four bytes.
    self.assertLess(sizes[-1], 4 * lengths[-1] ** 2 / 5)


class CompilationTest(parameterized.TestCase):
  """Calls outside of any `jit`, and calls inside one with other arrays."""

  def _programs(self, calls):
    """How many programs there are after each of the calls."""
    sizes = []
    for call in calls:
      call()
      sizes.append(blockwise.attend._cache_size())
    return [size - sizes[0] for size in sizes]

  @parameterized.named_parameters(
    ('no mask', lambda i: {}),
    ('numbers', lambda i: {'mask': masks.causal() & masks.chunked(4)}),
    (
      'arrays',
      lambda i: {'mask': masks.segments(jnp.asarray(_DOCUMENTS[i : i + S]))},
    ),
    ('offset', lambda i: {'mask': masks.causal(jnp.array(i))}),
    ('array', lambda i: {'mask': normal(S, S, seed=i) > 0}),
    ('mod', lambda i: {'score_mod': mods.alibi(normal(N, seed=i))}),
    (
      'mods',
      lambda i: {
        'score_mod': mods.compose(
          mods.soft_cap(2.0), mods.relative_bias(normal(8, N, seed=i))
        )
      },
    ),
    ('options', lambda i: {'sink': normal(N, seed=i), 'is_causal': True}),
    (
      'dropout',
      lambda i: {'dropout_rate': 0.5, 'rng': jax.random.key(i)},
    ),
  )
  def test_once_for_all_numbers(self, options):
    def call(i):
      arguments = qkv(t=S, seed=i)
      attn.attention(**arguments, **options(i), implementation='small tiles')

    calls = [functools.partial(call, i) for i in range(3)]
    self.assertEqual(self._programs(calls), [0, 0, 0])

  def test_another_window_is_another_program(self):
    def call(width):
      attn.attention(
        **qkv(hv=2), local_window_size=width, implementation='small tiles'
      )

    calls = [functools.partial(call, width) for width in (1, 2, 1)]
    self.assertEqual(self._programs(calls), [0, 1, 1])

  def test_masks_of_other_classes_are_other_programs(self):
    # Equal numbers must not make one of two classes the other.
    mine = [
      masks.chunked(2),
      masks.prefix(2),
      masks.dilated(2),
      masks.global_tokens(2),
      masks.causal(2),
      masks.sliding_window(2, 2),
      ~masks.chunked(2),
      masks.causal(2) & masks.chunked(2),
      masks.causal(2) | masks.chunked(2),
    ]
    for one, other in itertools.combinations(mine, 2):
      self.assertNotEqual(jax.tree.structure(one), jax.tree.structure(other))
    arguments = qkv()

    @jax.jit
    def call(mask):
      return attn.attention(
        **arguments, mask=mask, implementation='small tiles'
      )

    for mask in mine[:4]:
      expected = oracles.Attention(**arguments, mask=mask.dense(T, S))
      assert_close(call(mask), expected.context)

  def test_calls_that_differ_only_in_having_a_mask_or_in_their_mod(self):
    # Their tiles are the same, so that all else is compared.
    arguments = qkv(hv=3)
    options = [
      {},
      {'mask': masks.sliding_window(20, 20)},
      {},
      {'score_mod': mods.soft_cap(jnp.ones(N))},
      {'score_mod': lambda score, b, n, q, k: score * _FACTORS[n]},
      {'score_mod': mods.temperature(1 / _FACTORS)},
    ]
    plain, windowed, again, capped, scaled, warm = (
      attn.attention(**arguments, **x, implementation='small tiles')
      for x in options
    )
    assert_same_bits(windowed, plain)
    assert_same_bits(again, plain)
    assert_close(warm, scaled)
    self.assertGreater(float(jnp.abs(capped - scaled).max()), 1e-3)

  def test_other_numbers_are_traced_once(self):
    traced = []

    @jax.jit
    def call(arguments, mask, score_mod, scale):
      traced.append(mask)
      return attn.attention(
        **arguments,
        mask=mask,
        score_mod=score_mod,
        scale=scale,
        implementation='small tiles',
      )

    for i in range(3):
      rng = np.random.default_rng(i)
      ids = rng.integers(0, 2, (B, T)), rng.integers(0, 2, (B, S))
      mask = masks.causal(jnp.array(i)) & masks.segments(*ids)
      slopes = np.float64(rng.uniform(size=N))
      actual = call(qkv(seed=i), mask, mods.alibi(jnp.float32(slopes)), 0.5 + i)
      expected = oracles.Attention(
        **qkv(seed=i),
        mask=np.broadcast_to(mask.dense(T, S), (B, 1, T, S)),
        score_mod=lambda x, b, n, q, k, s=slopes: x - s[n] * abs(q - k),
        scale=0.5 + i,
      )
      assert_close(actual, expected.context)
    self.assertLen(traced, 1)


if __name__ == '__main__':
  absltest.main()
