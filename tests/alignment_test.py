"""Alignment: numbers by hand, loops, gradients, dtypes and errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

import attn
from tests import oracles
from tests.checks import assert_close, assert_gradients
from tests.inputs import normal

pytestmark = pytest.mark.smoke

# B batch, T queries, S keys, H query size, A hidden width, D half a window.
B, T, S, H, A, D = 2, 5, 7, 11, 13, 3


def _weights(*batch, seed=0, dtype=jnp.float32):
  return jax.nn.softmax(normal(*batch, T, S, seed=seed, dtype=dtype))


def _centers(*batch, dtype=jnp.float32):
  uniform = np.random.default_rng(1).uniform(0, S, (*batch, T))
  return jnp.asarray(uniform, dtype)


def _predictor(*batch, dtype=jnp.float32):
  """Query, w and v."""
  return (
    normal(*batch, T, H, dtype=dtype),
    normal(H, A, seed=1, dtype=dtype),
    normal(A, seed=2, dtype=dtype),
  )


class PredictedCentersTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(
    (S,), (np.int32([[3], [5]]),), (np.float32([[2.5], [7]]),)
  )
  def test_equals_loops(self, lengths):
    arguments = _predictor(B)
    centers = self.variant(attn.predicted_centers)(*arguments, lengths)
    chex.assert_shape(centers, (B, T))
    expected = oracles.predicted_centers(*arguments, lengths)
    assert_close(centers, expected, 1e-6)

  def test_gradients_equal_finite_differences(self):
    with jax.enable_x64(True):
      arguments = _predictor(dtype=jnp.float64)
      gradients = jax.grad(
        lambda *args: jnp.sin(attn.predicted_centers(*args, S)).sum(),
        argnums=(0, 1, 2),
      )(*arguments)
    chex.assert_type(gradients, jnp.float64)
    assert_gradients(
      gradients,
      lambda *args: np.sin(oracles.predicted_centers(*args, S)).sum(),
      arguments,
    )

  def test_positions_are_not_rounded_to_bfloat16(self):
    query, w, v = _predictor(dtype=jnp.bfloat16)
    # v·tanh(0) is 0: half of 515, which bfloat16 rounds to 258.
    centers = attn.predicted_centers(0 * query, w, v, 515)
    chex.assert_trees_all_equal(centers, jnp.full(T, 257.5))

  def test_does_not_fit(self):
    query, w, v = _predictor(B)
    predict = attn.predicted_centers
    for message, call in (
      (r'v: got shape \(1, 13\)', lambda: predict(query, w, v[None], S)),
      (r'w: got shape \(13, 11\)', lambda: predict(query, w.T, v, S)),
      (r'query: got shape \(11,\)', lambda: predict(query[0, 0], w, v, S)),
      (
        r'lengths: got shape \(2,\), wanted .* broadcasts to \(2, 5\)',
        lambda: predict(query, w, v, jnp.array([3, 5])),
      ),
    ):
      with self.assertRaisesRegex(ValueError, message):
        call()


class LocalMaskTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_equals_the_definition(self):
    centers = _centers(B)
    mask = self.variant(lambda x: attn.local_mask(x, S, D))(centers)
    chex.assert_type(mask, jnp.bool_)
    expected = np.zeros((B, T, S), bool)
    for b, t, s in np.ndindex(B, T, S):
      expected[b, t, s] = abs(s - float(centers[b, t])) <= D
    chex.assert_trees_all_equal(np.asarray(mask), expected)

  def test_whole_centers_see_both_neighbours(self):
    mask = attn.local_mask(jnp.array([0, 3, 4, 9]), 5, 1).astype(int)
    expected = [[1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1], [0] * 5]
    chex.assert_trees_all_equal(mask, jnp.array(expected))

  def test_a_window_beyond_the_keys_gives_context_0(self):
    weights = attn.softmax(
      normal(2, S), attn.local_mask(jnp.array([1.0, 99.0]), S, D)
    )
    self.assertGreater(float(weights[0].sum()), 0.99)
    chex.assert_trees_all_equal(weights[1], jnp.zeros(S))

  def test_bad_arguments(self):
    with self.assertRaisesRegex(ValueError, 'half_width: got -1, wanted at le'):
      attn.local_mask(jnp.ones(T), S, -1)
    with self.assertRaisesRegex(ValueError, 'num_keys: got -2'):
      attn.local_mask(jnp.ones(T), -2, 1)
    with self.assertRaisesRegex(ValueError, r'centers: got shape \(\)'):
      attn.local_mask(jnp.float32(1), S, 1)


class LocalWeightsTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_equals_loops(self):
    weights, centers = _weights(B), _centers(B)
    actual = self.variant(lambda w, c: attn.local_weights(w, c, D))(
      weights, centers
    )
    assert_close(actual, oracles.local_weights(weights, centers, D), 1e-6)

  def test_gradients_equal_finite_differences(self):
    with jax.enable_x64(True):
      arguments = _weights(dtype=jnp.float64), _centers(dtype=jnp.float64)
      cotangent = normal(T, S, seed=3, dtype=jnp.float64)
      function = lambda w, c: attn.local_weights(w, c, D)  # noqa: E731
      gradients = jax.vjp(function, *arguments)[1](cotangent)

    def loss(weights, centers):
      out = oracles.local_weights(weights, centers, D)
      return np.sum(out * np.asarray(cotangent))

    assert_gradients(gradients, loss, arguments)

  def test_at_the_center_and_half_a_window_away(self):
    actual = attn.local_weights(jnp.ones((1, 4)), jnp.array([1]), 2)
    # σ is 1: exp(-1/2), 1, exp(-1/2), exp(-2).
    expected = np.array([[0.60653066, 1, 0.60653066, 0.13533528]])
    assert_close(actual, expected, 1e-6)

  @parameterized.parameters(jnp.bfloat16, jnp.float16)
  def test_narrow_floats_come_back(self, dtype):
    weights = _weights().astype(dtype)
    actual = attn.local_weights(weights, _centers(), D)
    chex.assert_type(actual, dtype)
    expected = oracles.local_weights(weights, _centers(), D)
    assert_close(actual, expected, float(jnp.finfo(dtype).eps))

  def test_bad_arguments(self):
    with self.assertRaisesRegex(ValueError, 'half_width: got 0, wanted above'):
      attn.local_weights(_weights(), _centers(), 0)
    with self.assertRaisesRegex(ValueError, r'centers: got shape \(2, 5\)'):
      attn.local_weights(_weights(), _centers(B), D)
    with self.assertRaisesRegex(ValueError, r'weights: got shape \(7,\)'):
      attn.local_weights(_weights()[0], _centers(), D)


class CoverageTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_equals_loops(self):
    weights = _weights(B)
    actual = self.variant(attn.coverage)(weights)
    assert_close(actual, oracles.coverage(weights), 1e-6)
    chex.assert_trees_all_equal(actual[:, 0], jnp.zeros((B, S)))

  def test_equals_a_decoder_that_adds_up(self):
    weights, seen = _weights(), jnp.zeros(S)
    for t in range(T):
      assert_close(attn.coverage(weights)[t], seen, 1e-6)
      seen = seen + weights[t]

  def test_no_coverage_is_exactly_none(self):
    # As an inclusive sum less the weight itself, 1e-9 + 1 - 1, it would be 0.
    weights = jnp.array([[1e-9], [1.0], [1e9], [1.0]])
    actual = attn.coverage(weights)
    chex.assert_trees_all_equal(actual[:2], jnp.array([[0.0], [1e-9]]))

  def test_a_long_sum_in_bfloat16(self):
    # Added up one by one in bfloat16, ones stick at 256.
    actual = attn.coverage(jnp.ones((513, 1), jnp.bfloat16))
    chex.assert_type(actual, jnp.bfloat16)
    chex.assert_trees_all_equal(actual[-1], jnp.full(1, 512, jnp.bfloat16))

  def test_axes_may_be_empty(self):
    chex.assert_shape(attn.coverage(jnp.ones((0, S))), (0, S))
    chex.assert_shape(attn.coverage(jnp.ones((T, 0))), (T, 0))

  def test_weights_need_two_axes(self):
    for function in (attn.coverage, attn.coverage_loss):
      with self.assertRaisesRegex(ValueError, r'weights: got shape \(7,\)'):
        function(jnp.ones(S))


class CoverageLossTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters('nothing', 'keys', 'steps')
  def test_equals_loops(self, hides):
    weights = _weights(B)
    mask = {
      'nothing': None,
      'keys': (np.arange(S) < np.array([[3], [5]]))[:, None],
      'steps': (np.arange(T) < np.array([[2], [5]]))[:, :, None],
    }[hides]
    mask = None if mask is None else jnp.asarray(mask)
    actual = self.variant(attn.coverage_loss)(weights, mask)
    assert_close(actual, oracles.coverage_loss(weights, mask), 1e-6)

  def test_gradients_equal_finite_differences(self):
    with jax.enable_x64(True):
      weights = _weights(dtype=jnp.float64)
      cotangent = normal(T, seed=3, dtype=jnp.float64)
      gradients = jax.vjp(attn.coverage_loss, weights)[1](cotangent)

    def loss(weights):
      return np.sum(oracles.coverage_loss(weights) * np.asarray(cotangent))

    assert_gradients(gradients, loss, (weights,))

  def test_each_key_once_costs_nothing(self):
    chex.assert_trees_all_equal(attn.coverage_loss(jnp.eye(S)), jnp.zeros(S))
    same = attn.coverage_loss(jnp.eye(S)[jnp.array([1, 1, 1])])
    chex.assert_trees_all_equal(same, jnp.array([0.0, 1.0, 1.0]))

  def test_what_is_masked_may_be_nan(self):
    weights, mask = _weights(), jnp.arange(T)[:, None] < 3
    poisoned = jnp.where(mask, weights, jnp.nan)
    loss, pull_back = jax.vjp(lambda x: attn.coverage_loss(x, mask), poisoned)
    chex.assert_trees_all_equal(loss, attn.coverage_loss(weights, mask))
    chex.assert_trees_all_equal(loss[3:], jnp.zeros(2))
    gradient = pull_back(jnp.ones(T))[0]
    chex.assert_trees_all_equal(gradient[3:], jnp.zeros((2, S)))

  def test_bad_masks(self):
    with self.assertRaisesRegex(TypeError, 'mask: got dtype float32'):
      attn.coverage_loss(_weights(), jnp.ones((T, S)))
    with self.assertRaisesRegex(ValueError, r'mask: got shape \(5,\)'):
      attn.coverage_loss(_weights(), jnp.ones(T, bool))


if __name__ == '__main__':
  absltest.main()
