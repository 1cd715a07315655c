"""Dropout: its rate, its expectation, and what decides who is dropped."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn.weights import dropout_seed, keep
from tests.checks import assert_close, compile_fast
from tests.inputs import normal

B, N, T, S = 2, 7, 3, 5
_RNG = jax.random.key(3)

_dropout = compile_fast(attn.dropout, static_argnums=1)


@functools.partial(compile_fast, static_argnums=3)
def _keep(rng, queries, keys, rate):
  return keep(dropout_seed(rng), queries, keys, rate)


class DropoutTest(chex.TestCase):
  @parameterized.parameters(0.1, 0.5, 0.9)
  def test_survivors_are_scaled_and_expectation_is_kept(self, rate):
    weights = jnp.abs(normal(101, 97)) + 1
    dropped = _dropout(weights, rate, _RNG)
    kept = np.asarray(dropped != 0)
    expected = np.where(kept, np.asarray(weights) / (1 - rate), 0)
    assert_close(dropped, expected, 1e-6)
    # 9797 coins: the share of survivors is within 4 standard deviations.
    deviation = (rate * (1 - rate) / kept.size) ** 0.5
    self.assertLess(abs(kept.mean() - (1 - rate)), 4 * deviation)
    # Neither do whole rows or columns stand or fall together.
    for axis in (0, 1):
      spread = (rate * (1 - rate) / kept.shape[axis]) ** 0.5
      self.assertBetween(kept.mean(axis).std(), 0.7 * spread, 1.3 * spread)

  def test_rate_0_keeps_all_and_rate_1_drops_all(self):
    weights = normal(B, N, T, S)
    chex.assert_trees_all_equal(_dropout(weights, 0.0, _RNG), weights)
    chex.assert_trees_all_equal(_dropout(weights, 0, _RNG), weights)
    for rate in (1, 1.0):
      nothing = _dropout(weights, rate, _RNG)
      chex.assert_trees_all_equal(nothing, jnp.zeros_like(weights))

  def test_same_rng_same_bits_other_rng_other_bits(self):
    weights = jnp.ones((31, 37))
    first, second = (_dropout(weights, 0.5, _RNG) for _ in range(2))
    chex.assert_trees_all_equal(first, second)
    chex.assert_trees_all_equal(attn.dropout(weights, 0.5, _RNG), first)
    other = _dropout(weights, 0.5, jax.random.key(4))
    # Half of 1147 coins agree, within 4 standard deviations.
    self.assertLess(abs(float((first == other).mean()) - 0.5), 0.06)

  def test_a_part_drops_the_same_weights(self):
    whole = _dropout(jnp.ones((N, T, S)), 0.5, _RNG)
    part = _dropout(jnp.ones((N - 2, T - 1, S - 2)), 0.5, _RNG)
    chex.assert_trees_all_equal(whole[:-2, :-1, :-2], part)

  @parameterized.parameters(0, 3, 1 << 20)
  def test_any_window_is_a_part_of_the_whole(self, start):
    queries, keys = start + jnp.arange(8), 2 * start + jnp.arange(11)
    whole = _keep(_RNG, queries, keys, 0.5)
    part = _keep(_RNG, queries[5:], keys[3:7], 0.5)
    chex.assert_trees_all_equal(whole[5:, 3:7], part)
    self.assertBetween(int(whole.sum()), 25, 63)  # 44 ± 4 deviations of 4.7

  def test_leading_axes_fold_their_index_into_rng(self):
    weights = jnp.ones((B, N, T, S))
    dropped = _dropout(weights, 0.5, _RNG)
    for b, n in np.ndindex(B, N):
      rng = jax.random.fold_in(jax.random.fold_in(_RNG, b), n)
      kept = _keep(rng, jnp.arange(T), jnp.arange(S), 0.5)
      expected = jnp.where(kept, 2.0, 0.0)
      chex.assert_trees_all_equal(dropped[b, n], expected)

  def test_gradient_passes_where_the_weight_passed(self):
    dropped, pull_back = jax.vjp(
      lambda w: attn.dropout(w, 0.5, _RNG), normal(T, S)
    )
    (gradient,) = pull_back(jnp.ones((T, S)))
    expected = jnp.where(dropped == 0, 0.0, 2.0)
    chex.assert_trees_all_equal(gradient, expected)
    self.assertBetween(int((gradient == 0).sum()), 1, T * S - 1)

  @parameterized.parameters(jnp.bfloat16, jnp.float16)
  def test_narrow_floats_come_back(self, dtype):
    dropped = _dropout(jnp.ones((T, S), dtype), 0.5, _RNG)
    chex.assert_type(dropped, dtype)
    expected = _dropout(jnp.ones((T, S)), 0.5, _RNG).astype(dtype)
    chex.assert_trees_all_equal(dropped, expected)

  def test_axes_may_be_empty(self):
    for shape in ((0, S), (T, 0), (0, T, S), (B, 0, T, S)):
      dropped = _dropout(jnp.ones(shape), 0.5, _RNG)
      chex.assert_shape(dropped, shape)

  def test_old_style_keys_serve_too(self):
    old = jax.random.key_data(_RNG)
    chex.assert_trees_all_equal(
      _dropout(jnp.ones((B, T, S)), 0.5, old),
      _dropout(jnp.ones((B, T, S)), 0.5, _RNG),
    )


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(-0.1, 1.1, float('nan'))
  def test_rates_are_probabilities(self, rate):
    with self.assertRaisesRegex(
      ValueError, rf'rate: got {rate}, wanted a probability in \[0, 1\]'
    ):
      _dropout(jnp.ones((T, S)), rate, _RNG)

  def test_weights_have_two_axes(self):
    with self.assertRaisesRegex(
      ValueError, r'weights: got shape \(5,\), wanted at least \[T, S\]'
    ):
      _dropout(jnp.ones(S), 0.5, _RNG)


if __name__ == '__main__':
  absltest.main()
