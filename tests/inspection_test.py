"""Statistics of weights, against all weights written out."""

import functools
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import inspection, masks
from attn.backends.statistics import statistics
from tests import oracles
from tests.checks import (
  assert_close,
  assert_gradients,
  assert_same_bits,
  compile_fast,
)
from tests.inputs import B, H, K, N, S, T, normal, qkv, ragged_mask
from tests.inspection_cases import (
  CALLS,
  POISONS,
  SIDES,
  SMALL,
  capped,
  capped_in_numpy,
  oracle_of,
  run_statistics,
  split,
)
from tests.mask_cases import CASES


def _one_key_only(score, b, n, q, k):
  return jnp.where((k == 3) | (score > 1), score, -jnp.inf)


def _raised(number):
  return oracles.Attention(
    **qkv(), score_mod=lambda score, b, n, q, k: score + number
  )


class StatisticsTest(parameterized.TestCase):
  def _check(self, found, oracle, tolerance=1e-13):
    entropy, mass, top_weight, top_key = oracles.statistics(oracle.weights)
    assert_close(found.entropy, entropy, tolerance)
    assert_close(found.mass, mass, tolerance)
    assert_close(found.top_weight, top_weight, tolerance)
    assert_close(found.residual, oracle.residual, tolerance)
    np.testing.assert_array_equal(found.top_key, top_key)
    chex.assert_type(found.top_key, jnp.int32)

  @parameterized.parameters(*CASES)
  def test_masks(self, name):
    build, rule = CASES[name]
    arguments = qkv()
    oracle = oracles.Attention(**arguments, mask=oracles.mask(rule, B, N, T, S))
    traced = run_statistics({**arguments, 'mask': build()}, SMALL)
    self._check(traced, oracle, 2e-6)
    if name in ('per head', 'segments', 'causal later'):
      known = run_statistics(arguments, SMALL, mask=build())
      self._check(known, oracle, 2e-6)

  @parameterized.product(name=tuple(CALLS), sides=SIDES)
  def test_options(self, name, sides):
    options, _ = CALLS[name]
    with jax.enable_x64(True):
      arguments = qkv(dtype=jnp.float64)
      traced, others = split(options)
      found = run_statistics({**arguments, **traced}, sides, **others)
      chex.assert_type([*found[:3], found.residual], jnp.float64)
    self._check(found, oracle_of(arguments, name))

  @parameterized.product(dtype=(jnp.bfloat16, jnp.float16))
  def test_narrow_floats_are_summed_in_float32(self, dtype):
    arguments = qkv(dtype=dtype)
    found = run_statistics(arguments, SMALL)
    chex.assert_type([*found[:3], found.residual], jnp.float32)
    wide = {name: np.float64(x) for name, x in arguments.items()}
    self._check(found, oracles.Attention(**wide), 2e-6)

  @parameterized.parameters((), (2,), (2, 3), (0,))
  def test_any_batch_axes(self, *batch):
    arguments = qkv(batch)
    found = run_statistics(arguments, SMALL, is_causal=True)
    chex.assert_shape([*found[:1], *found[2:]], (*batch, T, N))
    chex.assert_shape(found.mass, (*batch, S, N))
    flat = {
      name: np.reshape(x, (int(np.prod(batch)), *x.shape[-3:]))
      for name, x in arguments.items()
    }
    mask = oracles.mask(
      lambda b, n, q, k: k <= q, *flat['query'].shape[:1], N, T, S
    )
    found = type(found)(
      *(np.reshape(x, (int(np.prod(batch)), *x.shape[-2:])) for x in found)
    )
    self._check(found, oracles.Attention(**flat, mask=mask), 2e-6)

  @parameterized.parameters({'t': 0}, {'s': 0}, {'n': 0, 'k': 0}, {'h': 0})
  def test_empty_axes(self, **sizes):
    for options in ({}, {'sink': normal(sizes.get('n', N), seed=6)}):
      arguments = qkv(**sizes)
      found = run_statistics({**arguments, **options})
      self._check(found, oracles.Attention(**arguments, **options), 2e-6)

  @parameterized.product(sides=SIDES)
  def test_the_first_of_equals(self, sides):
    arguments = {**qkv(), 'query': jnp.zeros((B, T, N, H))}
    # Tiles on the diagonal are visited before those to their left.
    for mask, first in (
      (masks.causal(1), 0),
      (masks.sliding_window(2, 2), [0, 0, 0, 1, 2]),
      (masks.segments(jnp.array([0, 0, 1, 1, 1]), jnp.arange(S) // 4), None),
    ):
      found = run_statistics(arguments, sides, mask=mask)
      first = [0, 0, 4, 4, 4] if first is None else first
      expected = np.broadcast_to(np.reshape(first, (-1, 1)), (T, N))
      for one in found.top_key:
        np.testing.assert_array_equal(one, np.broadcast_to(expected, (T, N)))

  @parameterized.product(sides=SIDES, largest=(1e30, 3e38))
  def test_large_scores_do_not_overflow(self, sides, largest):
    bias = np.zeros((T, S), np.float32)
    bias[:, 2], bias[:, 5] = largest, -largest
    found = run_statistics({**qkv(), 'bias': bias}, sides)
    np.testing.assert_array_equal(found.entropy, 0)
    np.testing.assert_array_equal(found.top_weight, 1)
    np.testing.assert_array_equal(found.top_key, 2)
    chex.assert_trees_all_equal(
      found.mass, np.broadcast_to(T * np.eye(S)[2][:, None], (B, S, N))
    )

  @parameterized.product(sides=SIDES)
  def test_rows_of_padding_are_not_counted(self, sides):
    # Of 5 queries, in tiles of 2: one row that does not exist.
    found = run_statistics(
      qkv(), sides, score_mod=lambda score, b, n, q, k: score + 300
    )
    self._check(found, _raised(300), 2e-5)

  @parameterized.product(sides=SIDES)
  def test_a_row_that_sees_nothing(self, sides):
    mask = ragged_mask()
    found = run_statistics({**qkv(), 'mask': mask}, sides)
    dead = np.moveaxis(~np.asarray(mask).any(-1), 1, 2)
    unseen = np.moveaxis(~np.asarray(mask).any(2), 1, 2)
    self.assertGreater(dead.sum(), T)
    self.assertGreater(unseen.sum(), S)
    assert_same_bits(found.entropy[dead], np.zeros(dead.sum(), np.float32))
    assert_same_bits(found.top_weight[dead], np.zeros(dead.sum(), np.float32))
    np.testing.assert_array_equal(found.top_key[dead], -1)
    np.testing.assert_array_equal(found.residual[dead], -np.inf)
    assert_same_bits(found.mass[unseen], np.zeros(unseen.sum(), np.float32))

  def test_without_and_with_values(self):
    arguments = qkv()
    with_values = run_statistics(arguments, SMALL)
    arguments.pop('value')
    assert_same_bits(run_statistics(arguments, SMALL), with_values)

  def test_what_it_cannot_take(self):
    arguments = qkv()
    for option in ({'dropout_rate': 0.5}, {'return_residual': True}):
      with self.assertRaisesRegex(TypeError, next(iter(option))):
        attn.attention_statistics(**arguments, **option)
      with self.assertRaisesRegex(TypeError, next(iter(option))):
        attn.attention_rows(**arguments, **option, rows=[0])
    with self.assertRaisesRegex(ValueError, 'key: got shape'):
      attn.attention_statistics(arguments['query'], jnp.ones(3))


class PoisonTest(parameterized.TestCase):
  @parameterized.product(
    sides=SIDES, name=('key', 'value', 'query'), poison=POISONS
  )
  def test_one_number_reaches_only_who_may_see_it(self, sides, name, poison):
    arguments, mask = qkv(), np.asarray(ragged_mask())
    sees = np.zeros((B, N, T), bool)
    if name == 'query':
      at = (0, 1, 2, 3)
      sees[0, 2, 1] = mask[0, 2, 1].any()
    else:
      at = (0, 3, 1, 2)
      sees[0, 2:] = mask[0, 2:, :, 3]  # the heads that read key head 1
    self.assertGreater(sees.sum(), 0)
    self.assertLess(sees.sum(), mask.any(-1).sum())
    poisoned = {**arguments, name: arguments[name].at[at].set(poison)}
    clean = run_statistics({**arguments, 'mask': mask}, sides)
    found = run_statistics({**poisoned, 'mask': mask}, sides)
    rows = np.moveaxis(sees, 1, 2)
    keys = np.moveaxis((mask & sees[..., None]).any(2), 1, 2)
    for field in ('entropy', 'top_weight', 'residual'):
      actual = np.asarray(getattr(found, field))
      np.testing.assert_array_equal(np.isnan(actual), rows)
      assert_same_bits(actual[~rows], np.asarray(getattr(clean, field))[~rows])
    np.testing.assert_array_equal(np.isnan(found.mass), keys)
    assert_same_bits(found.mass[~keys], clean.mass[~keys])
    np.testing.assert_array_equal(
      found.top_key, np.where(rows, -1, clean.top_key)
    )

  @parameterized.product(sides=SIDES)
  def test_a_mod_that_hides_a_poisoned_key(self, sides):
    # Without the number that is NaN its score would pass for a good one.
    key = (
      normal(B, S, K, H, seed=1).at[:, 4].set(100.0).at[:, 4, :, 0].set(np.nan)
    )
    arguments = {**qkv(), 'query': jnp.ones((B, T, N, H)), 'key': key}
    found = run_statistics(arguments, sides, score_mod=_one_key_only)
    expected = np.zeros((B, S, N))
    expected[:, 3] = T
    others = oracles.Attention(
      **{**arguments, 'key': key.at[:, 4].set(0)},
      score_mod=lambda score, b, n, q, k: (
        score if k == 3 or score > 1 else -np.inf
      ),
    )
    assert_close(found.mass, oracles.statistics(others.weights)[1])

  @parameterized.product(sides=SIDES)
  def test_what_is_masked_sends_no_gradient(self, sides):
    mask = ragged_mask().at[:, :, :, 3].set(False)
    arguments = qkv()
    arguments['key'] = arguments['key'].at[:, 3].set(np.nan)
    gradients = _gradients(arguments, sides, mask=mask)
    chex.assert_tree_all_finite(gradients)
    np.testing.assert_array_equal(gradients['key'][:, 3], 0)
    dead = np.moveaxis(~np.asarray(mask).any(-1), 1, 2)
    np.testing.assert_array_equal(gradients['query'][dead], 0)
    self.assertGreater(np.abs(gradients['query'][~dead]).min(), 0)


def _weigh(entropy, mass, top_weight, residual):
  """A number in which every entry of each counts differently."""
  total = 0
  for i, x in enumerate((entropy, mass, top_weight, residual)):
    waves = np.cos(1.0 + i + np.arange(x.size)).reshape(x.shape)
    total = total + (x * waves.astype(x.dtype)).sum()
  return total


def _gradients(arguments, sides, **options):
  small = functools.partial(statistics, sides=sides)

  def loss(arguments):
    found = attn.attention_statistics(**arguments, **options)
    residual = jnp.where(jnp.isfinite(found.residual), found.residual, 0)
    return _weigh(found.entropy, found.mass, found.top_weight, residual)

  with mock.patch.object(inspection, 'statistics', small):
    return compile_fast(jax.grad(loss))(arguments)


class GradientTest(parameterized.TestCase):
  @parameterized.product(sides=SIDES, segments=(False, True))
  def test_against_differences(self, sides, segments):
    ids = np.array([0, 0, 1, 1, 1]), np.arange(S) // 3
    rule = lambda b, n, q, k: k <= q + 1  # noqa: E731
    mask = masks.causal(1)
    if segments:
      rule = lambda b, n, q, k: ids[0][q] == ids[1][k]  # noqa: E731
      mask = masks.segments(*map(jnp.asarray, ids))
    with jax.enable_x64(True):
      floats = {
        **qkv((1,), dtype=jnp.float64),
        'bias': normal(1, N, T, S, seed=5, dtype=jnp.float64),
        'sink': normal(N, seed=6, dtype=jnp.float64),
      }
      gradients = _gradients(floats, sides, mask=mask, score_mod=capped)
    names = list(floats)
    written = oracles.mask(rule, 1, N, T, S)

    def loss(*floats):
      oracle = oracles.Attention(
        **dict(zip(names, floats)),
        mask=written,
        score_mod=capped_in_numpy,
      )
      entropy, mass, top_weight, _ = oracles.statistics(oracle.weights)
      return _weigh(entropy, mass, top_weight, oracle.residual)

    assert_gradients(
      [gradients[name] for name in names], loss, [floats[x] for x in names]
    )


class MemoryTest(parameterized.TestCase):
  def _mebibytes(self, function, length, mask):
    x = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
    compiled = jax.jit(function).lower(x, x, mask).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 2**20

  @parameterized.product(gradient=(False, True), segments=(False, True))
  def test_grows_with_the_length_not_its_square(self, gradient, segments):
    def run(query, key, mask):
      found = attn.attention_statistics(query, key, mask=mask)
      if not gradient:
        return found
      return (
        found.entropy.sum() + (found.mass**2).sum() + found.top_weight.sum()
      )

    run = jax.grad(run, (0, 1)) if gradient else run
    used = []
    for length in (4096, 8192):
      mask = masks.causal()
      if segments:
        mask = mask & masks.segments(jnp.arange(length) // 1000)
      used.append(self._mebibytes(run, length, mask))
    # All weights are 512 MiB.
    self.assertLess(used[1], 48)
    self.assertLess(used[1] / used[0], 2.6)


if __name__ == '__main__':
  absltest.main()
