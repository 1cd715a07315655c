"""Weights: softmax and its kin, and the context they make."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from tests import oracles
from tests.checks import assert_close, assert_gradients, compile_fast
from tests.inputs import booleans, normal

B, T, S, H = 2, 3, 5, 11


class SoftmaxTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    softmax = self.variant(attn.softmax)
    actual = softmax(jnp.log(jnp.array([[1.0, 2.0, 5.0]])))
    assert_close(actual, np.array([[1 / 8, 2 / 8, 5 / 8]]), 1e-6)
    # e, e² and e³ over their sum.
    actual = softmax(jnp.array([[1.0, 2.0, 3.0]]))
    assert_close(actual, np.array([[0.09003057, 0.24472847, 0.66524096]]), 1e-6)
    mask = jnp.array([[True, False, True]])
    actual = softmax(jnp.log(jnp.array([[1.0, 2.0, 3.0]])), mask)
    assert_close(actual, np.array([[1 / 4, 0, 3 / 4]]), 1e-6)

  def test_a_sink_takes_its_share_by_hand(self):
    scores = jnp.log(jnp.array([[1.0, 3.0], [2.0, 2.0]]))
    sink = jnp.log(jnp.array([4.0, 1.0]))
    expected = np.array([[1 / 8, 3 / 8], [2 / 5, 2 / 5]])
    assert_close(attn.softmax(scores, sink=sink), expected, 1e-6)
    expected = np.log([[8.0, 5.0]])[0]
    assert_close(attn.log_normalizer(scores, sink=sink), expected, 1e-6)
    # A sink so low that it takes nothing, and one so high that it takes all.
    np.testing.assert_array_equal(
      attn.softmax(scores, sink=-1e30), attn.softmax(scores)
    )
    np.testing.assert_array_equal(attn.softmax(scores, sink=1e30), 0)
    actual = attn.log_normalizer(scores, sink=1e30)
    np.testing.assert_array_equal(actual, np.float32(1e30))

  @parameterized.parameters(
    (None, None),
    (None, (T,)),
    ((B, T, S), None),
    ((B, T, S), (B, T)),
    ((S,), ()),
    ((T, 1), (B, 1)),
    ((B, 1, 1), (1,)),
  )
  def test_equals_loops(self, mask_shape, sink_shape):
    scores = normal(B, T, S)
    mask = None if mask_shape is None else booleans(*mask_shape, seed=1)
    sink = None if sink_shape is None else normal(*sink_shape, seed=2)
    weights, log_normalizers = oracles.softmax(scores, mask, sink)
    actual = _softmax(scores, mask, sink)
    assert_close(actual, (weights, log_normalizers), 1e-6)

  @parameterized.parameters(0, 1, 2, -1, -2, -3)
  def test_any_axis_may_hold_the_keys(self, axis):
    scores, mask = normal(B, T, S), booleans(B, T, S, seed=1)
    sink = normal(*np.delete(scores.shape, axis), seed=2)
    moved = np.moveaxis(scores, axis, -1), np.moveaxis(mask, axis, -1)
    weights, log_normalizers = oracles.softmax(*moved, sink)
    actual = attn.softmax(scores, mask, sink=sink, axis=axis)
    assert_close(actual, np.moveaxis(weights, -1, axis), 1e-6)
    actual = attn.log_normalizer(scores, mask, sink=sink, axis=axis)
    assert_close(actual, log_normalizers, 1e-6)

  def test_equals_jax(self):
    scores, mask = normal(B, T, S), booleans(B, T, S, seed=1, share=0.8)
    expected = jax.nn.softmax(scores, where=mask)
    assert_close(attn.softmax(scores, mask), expected, 1e-6)
    expected = jax.nn.logsumexp(scores, axis=-1, where=mask)
    assert_close(attn.log_normalizer(scores, mask), expected, 1e-6)

  @parameterized.parameters(0.0, -1e30, 1e30)
  def test_only_differences_matter(self, shift):
    # Every number here is exact in float32, so that no bit may change.
    scores = jnp.array([[0.0, -jnp.inf, 0.0, -jnp.inf]]) + shift
    expected = jnp.array([[0.5, 0.0, 0.5, 0.0]])
    chex.assert_trees_all_equal(attn.softmax(scores), expected)

  def test_a_masked_row_is_exactly_0(self):
    scores = normal(T, S)
    mask = jnp.ones((T, S), bool).at[1].set(False)
    weights, log_normalizers = _softmax(scores, mask, None)
    np.testing.assert_array_equal(weights[1], 0)
    self.assertEqual(log_normalizers[1], -np.inf)
    chex.assert_tree_all_finite((weights, log_normalizers[::2]))
    # With a sink nothing is left to attend to but the sink.
    weights, log_normalizers = _softmax(scores, mask, jnp.array([3.0, 4, 5]))
    np.testing.assert_array_equal(weights[1], 0)
    self.assertEqual(log_normalizers[1], 4)

  def test_no_keys(self):
    weights, log_normalizers = _softmax(jnp.ones((T, 0)), None, None)
    chex.assert_shape(weights, (T, 0))
    np.testing.assert_array_equal(log_normalizers, np.full(T, -np.inf))

  def test_what_is_masked_is_not_read(self):
    scores, mask = normal(T, S), booleans(T, S, seed=1)
    for poison in (jnp.nan, jnp.inf, -jnp.inf, 1e30):
      poisoned = jnp.where(mask, scores, poison)
      chex.assert_trees_all_equal(
        _softmax(poisoned, mask, None), _softmax(scores, mask, None)
      )
      chex.assert_trees_all_equal(
        _gradients(poisoned, mask, None), _gradients(scores, mask, None)
      )

  def test_narrow_floats_come_back(self):
    scores = normal(T, S, dtype=jnp.bfloat16)
    weights = attn.softmax(scores)
    chex.assert_type(weights, jnp.bfloat16)
    assert_close(weights, oracles.softmax(scores)[0], 2.0**-8)
    log_normalizers = attn.log_normalizer(scores)
    chex.assert_type(log_normalizers, jnp.float32)
    assert_close(log_normalizers, oracles.softmax(scores)[1], 1e-6)
    # A denominator of 4099 summed in bfloat16 would stick at 256.
    many = attn.softmax(jnp.zeros((1, 4096), jnp.bfloat16))
    np.testing.assert_array_equal(np.float32(many), 2.0**-12)


class SoftmaxGradientTest(chex.TestCase):
  @parameterized.product(masked=(False, True), with_sink=(False, True))
  def test_equals_finite_differences(self, masked, with_sink):
    mask = booleans(B, T, S, seed=1) if masked else None
    with jax.enable_x64(True):
      scores = normal(B, T, S, dtype=jnp.float64)
      sink = normal(T, seed=2, dtype=jnp.float64) if with_sink else None
      gradients = _gradients(scores, mask, sink)
    cotangents = _cotangents(scores)

    def loss(scores, *sinks):
      return _inner(oracles.softmax(scores, mask, *sinks), cotangents)

    arguments = (scores, sink) if with_sink else (scores,)
    assert_gradients(gradients[: len(arguments)], loss, arguments)

  def test_a_huge_sink_sends_no_gradient(self):
    scores_dot, sink_dot = _gradients(normal(T, S), None, jnp.full(T, 1e30))
    np.testing.assert_array_equal(scores_dot, 0)
    # All of the log-normalizer's change is the sink's.
    expected = _cotangents(normal(T, S))[1]
    np.testing.assert_array_equal(sink_dot, expected)

  def test_jacobian_by_its_formula(self):
    scores = normal(S)
    weights = np.asarray(attn.softmax(scores))
    expected = np.diag(weights) - np.outer(weights, weights)
    for jacobian in (jax.jacfwd, jax.jacrev):
      actual = compile_fast(jacobian(attn.softmax))(scores)
      assert_close(actual, expected, 1e-6)

  @parameterized.parameters(False, True)
  def test_second_derivatives(self, with_sink):
    mask = booleans(T, S, seed=1)
    with jax.enable_x64(True):
      scores, direction = (
        normal(T, S, seed=i, dtype=jnp.float64) for i in (0, 3)
      )
      sink = normal(T, seed=2, dtype=jnp.float64) if with_sink else None

      def gradient(scores):
        return _differentiate(scores, mask, sink)[0]

      _, along = compile_fast(lambda x: jax.jvp(gradient, (x,), (direction,)))(
        scores
      )
      step = 1e-5
      up, down = (
        np.asarray(_gradients(scores + x * direction, mask, sink)[0])
        for x in (step, -step)
      )
    assert_close(along, (up - down) / (2 * step), 1e-8)

  def test_log_normalizer_differentiates_to_the_weights(self):
    scores, mask = normal(T, S), booleans(T, S, seed=1).at[1].set(False)
    gradient = compile_fast(
      jax.grad(
        lambda x: jnp.where(
          jnp.arange(T) == 1, 0, attn.log_normalizer(x, mask)
        ).sum()
      )
    )(scores)
    assert_close(gradient, attn.softmax(scores, mask), 1e-6)

  def test_a_masked_row_sends_exactly_no_gradient(self):
    scores = normal(T, S)
    mask = jnp.ones((T, S), bool).at[1].set(False)
    gradient, _ = _gradients(scores, mask, None)
    np.testing.assert_array_equal(gradient[1], 0)
    chex.assert_tree_all_finite(gradient)
    self.assertTrue(bool(gradient[0].all()))


class MergeTest(chex.TestCase):
  @parameterized.parameters(0, 1, 2, S)
  def test_merged_parts_are_the_whole(self, cut):
    @compile_fast
    def merge(scores, value):
      contexts, logs = [], []
      for part in (slice(0, cut), slice(cut, S)):
        weights = attn.softmax(scores[:, part])
        contexts.append(attn.weighted_sum(weights, value[part]))
        logs.append(attn.log_normalizer(scores[:, part]))
      shares = attn.softmax(jnp.stack(logs), axis=0)
      merged = (shares[..., None] * jnp.stack(contexts)).sum(0)
      return merged, attn.log_normalizer(jnp.stack(logs), axis=0)

    scores, value = normal(T, S), normal(S, H, seed=1)
    weights, log_normalizers = oracles.softmax(scores)
    whole = weights @ np.float64(value), log_normalizers
    assert_close(merge(scores, value), whole)


class OtherWeightsTest(chex.TestCase):
  def test_naive_softmax_is_softmax_while_it_can(self):
    scores = normal(B, T, S)
    assert_close(attn.naive_softmax(scores), attn.softmax(scores), 1e-6)
    scores = jnp.array([[89.0, 0.0]])
    self.assertTrue(bool(jnp.isnan(attn.naive_softmax(scores)[0, 0])))
    assert_close(attn.softmax(scores), np.array([[1.0, 0.0]]), 1e-6)

  def test_sum_normalize_by_hand(self):
    actual = attn.sum_normalize(jnp.array([[1.0, 3.0], [3.0, -2.0]]))
    expected = jnp.array([[0.25, 0.75], [3.0, -2.0]])
    chex.assert_trees_all_equal(actual, expected)

  @chex.variants(with_jit=True, without_jit=True)
  def test_weighted_sum_by_hand(self):
    weights = jnp.array([[0.25, 0.75], [1.0, 0.0], [0.0, 0.0]])
    value = jnp.array([[4.0, 8.0], [0.0, -4.0]])
    actual = self.variant(attn.weighted_sum)(weights, value)
    expected = jnp.array([[1.0, -1.0], [4.0, 8.0], [0.0, 0.0]])
    chex.assert_trees_all_equal(actual, expected)

  def test_weighted_sum_of_batches(self):
    weights, value = normal(B, T, S), normal(B, S, H, seed=1)
    actual = attn.weighted_sum(weights, value)
    expected = np.zeros((B, T, H))
    for b, t, s in np.ndindex(B, T, S):
      expected[b, t] += np.float64(weights[b, t, s]) * np.asarray(value[b, s])
    assert_close(actual, expected, 1e-6)

  @parameterized.parameters(jnp.bfloat16, jnp.float16)
  def test_weighted_sum_adds_in_float32(self, dtype):
    ones = jnp.ones((1, 4096), dtype)
    actual = attn.weighted_sum(ones, ones.T)
    chex.assert_trees_all_equal(actual, jnp.full((1, 1), 4096, dtype))

  def test_weighted_sum_rounds_no_operand(self):
    exact = jnp.array([[1.0, 1 + 2.0**-20]])
    actual = attn.weighted_sum(jnp.ones((1, 2), jnp.bfloat16), exact.T)
    chex.assert_trees_all_equal(actual, exact.sum(keepdims=True))
    value = jnp.array([[1.0], [-1.0]], jnp.bfloat16)
    actual = attn.weighted_sum(exact, value)
    expected = jnp.full((1, 1), -(2.0**-20), jnp.bfloat16)
    chex.assert_trees_all_equal(actual, expected)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(attn.softmax, attn.log_normalizer)
  def test_masks_and_sinks(self, function):
    scores = jnp.ones((T, S))
    with self.assertRaisesRegex(
      TypeError, r'mask: got dtype float32, wanted bool.*bias'
    ):
      function(scores, jnp.ones((T, S)))
    for shape in ((T, S + 1), (B, T, S)):
      with self.assertRaisesRegex(
        ValueError, r'mask: got shape \(.*\), wanted .* broadcasts to \(3, 5\)'
      ):
        function(scores, jnp.ones(shape, bool))
    with self.assertRaisesRegex(
      ValueError, r'sink: got shape \(5,\), wanted .* broadcasts to \(3,\)'
    ):
      function(scores, sink=jnp.ones(S))

  @parameterized.parameters(((S + 1, H),), ((S,),))
  def test_weighted_sum(self, shape):
    with self.assertRaisesRegex(
      ValueError, r'value: got shape \(.*\) for weights of shape \(3, 5\), want'
    ):
      attn.weighted_sum(jnp.ones((T, S)), jnp.ones(shape))


def _both(scores, mask, sink):
  weights = attn.softmax(scores, mask, sink=sink)
  return weights, attn.log_normalizer(scores, mask, sink=sink)


def _differentiate(scores, mask, sink):
  """With respect to scores and sink."""

  def loss(scores, sink):
    weights, log_normalizers = _both(scores, mask, sink)
    # The residual of a row without keys is -inf, which no loss may add up.
    log_normalizers = jnp.where(log_normalizers == -jnp.inf, 0, log_normalizers)
    return _inner((weights, log_normalizers), _cotangents(scores))

  return jax.grad(loss, argnums=(0, 1))(scores, sink)


_softmax, _gradients = compile_fast(_both), compile_fast(_differentiate)


def _cotangents(scores):
  rng = np.random.default_rng(7)
  shapes = scores.shape, scores.shape[:-1]
  return [rng.normal(size=x).astype(scores.dtype) for x in shapes]


def _inner(xs, ys):
  return sum((x * y).sum() for x, y in zip(xs, ys))


if __name__ == '__main__':
  absltest.main()
