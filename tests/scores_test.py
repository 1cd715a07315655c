"""Scores: numbers by hand, loops, gradients, dtypes and errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

import attn
from tests import oracles
from tests.checks import assert_close, assert_gradients, compile_fast
from tests.inputs import normal

pytestmark = pytest.mark.smoke

# B batch, T queries, S keys, H query size, J key size, A hidden width.
B, T, S, H, J, A = 2, 3, 5, 11, 7, 13


def _arguments(name, *batch, dtype=jnp.float32):
  """Positional arguments of the scores of that name."""
  query = normal(*batch, T, H, seed=0, dtype=dtype)
  size = H if name in ('dot_product', 'cosine', 'l2') else J
  key = normal(*batch, S, size, seed=1, dtype=dtype)
  weights = {
    'bilinear': [(H, J)],
    'additive': [(H, A), (J, A), (A,)],
    'concat': [(H + J, A), (A,)],
  }.get(name, [])
  others = [
    normal(*shape, seed=2 + i, dtype=dtype) for i, shape in enumerate(weights)
  ]
  return query, key, *others


_NAMES = ('dot_product', 'bilinear', 'additive', 'concat', 'cosine', 'l2')


def _function(name):
  return getattr(attn, f'{name}_scores')


def _gradients(name, cotangent, *arguments):
  return jax.vjp(_function(name), *arguments)[1](cotangent)


class ScoresTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.product(name=_NAMES, batch=((), (B,)))
  def test_equals_loops(self, name, batch):
    arguments = _arguments(name, *batch)
    actual = self.variant(_function(name))(*arguments)
    chex.assert_shape(actual, (*batch, T, S))
    expected = getattr(oracles, f'{name}_scores')(*arguments)
    assert_close(actual, expected, 1e-6)

  @parameterized.parameters(*_NAMES)
  def test_vmap_is_batch(self, name):
    query, key, *weights = _arguments(name, B)
    mapped = jax.vmap(lambda q, k: _function(name)(q, k, *weights))
    assert_close(
      mapped(query, key), _function(name)(query, key, *weights), 1e-6
    )

  @parameterized.parameters(*_NAMES)
  def test_gradients_equal_finite_differences(self, name):
    with jax.enable_x64(True):
      arguments = _arguments(name, dtype=jnp.float64)
      cotangent = normal(T, S, seed=8, dtype=jnp.float64)
      gradients = compile_fast(_gradients, static_argnums=0)(
        name, cotangent, *arguments
      )

    def loss(*arguments):
      scores = getattr(oracles, f'{name}_scores')(*arguments)
      return np.sum(scores * np.asarray(cotangent))

    assert_gradients(gradients, loss, arguments)

  @parameterized.parameters(*_NAMES)
  def test_float64_is_honoured(self, name):
    with jax.enable_x64(True):
      arguments = _arguments(name, dtype=jnp.float64)
      actual = _function(name)(*arguments)
      chex.assert_type(actual, jnp.float64)
      expected = getattr(oracles, f'{name}_scores')(*arguments)
      assert_close(actual, expected, 1e-14)

  @parameterized.product(name=_NAMES, dtype=(jnp.bfloat16, jnp.float16))
  def test_narrow_floats_come_back(self, name, dtype):
    arguments = _arguments(name, dtype=dtype)
    actual = _function(name)(*arguments)
    chex.assert_type(actual, dtype)
    expected = getattr(oracles, f'{name}_scores')(*arguments)
    # Operands and result are each rounded to `dtype`, at most half a unit.
    assert_close(actual, expected, 2 * float(jnp.finfo(dtype).eps))

  @parameterized.product(
    name=('dot_product', 'bilinear', 'l2'), dtype=(jnp.bfloat16, jnp.float16)
  )
  def test_sums_are_kept_in_float32(self, name, dtype):
    # 4096 ones added up in bfloat16 stick at 256, in float16 at 2048.
    ones = jnp.ones((1, 4096), dtype)
    if name == 'bilinear':
      one = jnp.ones((4096, 1), dtype)
      actual = attn.bilinear_scores(ones, one[:1], one)
    elif name == 'l2':
      actual = -attn.l2_scores(ones, 2 * ones)
    else:
      actual = attn.dot_product_scores(ones, ones, scale=1.0)
    chex.assert_trees_all_equal(actual, jnp.full((1, 1), 4096, dtype))

  def test_products_may_be_more_than_a_float16_holds(self):
    # 16 · 16 · 4096 is a million, and 2^14 when it is scaled.
    query = jnp.full((1, 4096), 16, jnp.float16)
    actual = attn.dot_product_scores(query, query)
    chex.assert_trees_all_equal(actual, jnp.full((1, 1), 2**14, jnp.float16))

  @parameterized.parameters(*_NAMES)
  def test_axes_may_be_empty(self, name):
    query, key, *weights = _arguments(name)
    function = _function(name)
    chex.assert_shape(function(query[:0], key, *weights), (0, S))
    chex.assert_shape(function(query, key[:0], *weights), (T, 0))

  @parameterized.parameters('dot_product', 'cosine', 'l2')
  def test_size_0_scores_0(self, name):
    actual = _function(name)(jnp.zeros((T, 0)), jnp.zeros((S, 0)))
    chex.assert_trees_all_equal(actual, jnp.zeros((T, S)))


class ByHandTest(chex.TestCase):
  def test_dot_product(self):
    query, key = jnp.array([[1.0, 2.0, 2.0, 4.0]]), jnp.array([[3.0, 1, 0, 5]])
    # 3 + 2 + 0 + 20 = 25, and √4 = 2.
    actual = attn.dot_product_scores(query, key)
    chex.assert_trees_all_equal(actual, jnp.array([[12.5]]))
    actual = attn.dot_product_scores(query, key, scale=jnp.float32(-2))
    chex.assert_trees_all_equal(actual, jnp.array([[-50.0]]))
    actual = attn.dot_product_scores(query, key, scale=0.0)
    chex.assert_trees_all_equal(actual, jnp.array([[0.0]]))

  def test_bilinear(self):
    w = jnp.array([[1.0, 0, 2], [0, 3, 0]])
    # [1, 2] W = [1, 6, 2], and [1, 6, 2]·[4, 5, 6] = 46.
    actual = attn.bilinear_scores(
      jnp.array([[1.0, 2]]), jnp.array([[4.0, 5, 6]]), w
    )
    chex.assert_trees_all_equal(actual, jnp.array([[46.0]]))

  def test_additive(self):
    actual = attn.additive_scores(
      jnp.array([[0.25]]),
      jnp.array([[0.5, 0.5], [0.0, 0.0]]),
      jnp.array([[2.0, 0.0]]),
      jnp.array([[1.0, 0.0], [0.0, 1.0]]),
      jnp.array([1.0, 10.0]),
    )
    # tanh(0.5 + 0.5) + 10 tanh(0 + 0.5), and tanh(0.5) + 10 tanh(0).
    expected = np.array([[0.76159416 + 4.6211716, 0.46211716]])
    assert_close(actual, expected, 1e-6)

  def test_cosine(self):
    query, key = jnp.array([[3.0, 4.0]]), jnp.array([[4.0, 3.0], [-6.0, -8.0]])
    # 24 / (5 · 5) and -50 / (5 · 10).
    actual = attn.cosine_scores(query, key, scale=10.0)
    assert_close(actual, np.array([[9.6, -10.0]]), 1e-6)

  def test_l2(self):
    query, key = jnp.array([[1.0, 2.0]]), jnp.array([[4.0, 6.0], [1.0, 2.5]])
    actual = attn.l2_scores(query, key, scale=2.0)
    chex.assert_trees_all_equal(actual, jnp.array([[-50.0, -0.5]]))

  def test_location(self):
    w = jnp.array([[1.0, 0, 2], [0, 3, -1]])
    # [1, 2] W: 1 + 0, 0 + 6, 2 - 2.
    actual = attn.location_scores(jnp.array([[1.0, 2]]), w)
    chex.assert_trees_all_equal(actual, jnp.array([[1.0, 6, 0]]))


class PropertiesTest(chex.TestCase):
  def test_scale_keeps_the_variance_near_1(self):
    # Each of 101 × 103 scores has variance 1; their mean is within 0.1 of it.
    scores = attn.dot_product_scores(normal(101, 499), normal(103, 499, seed=1))
    self.assertBetween(float(scores.var()), 0.9, 1.1)

  def test_scale_is_differentiated(self):
    query, key = _arguments('dot_product')
    for function in (attn.dot_product_scores, attn.cosine_scores):
      slope = jax.jacobian(lambda s, f=function: f(query, key, scale=s))(2.0)
      assert_close(slope, function(query, key, scale=1.0))

  def test_bilinear_with_identity_is_the_dot_product(self):
    query, key = _arguments('dot_product')
    assert_close(
      attn.bilinear_scores(query, key, jnp.eye(H)),
      attn.dot_product_scores(query, key, scale=1.0),
    )

  def test_concat_is_additive_with_stacked_weights(self):
    query, key, w_query, w_key, v = _arguments('additive')
    stacked = jnp.concatenate([w_query, w_key])
    chex.assert_trees_all_equal(
      attn.concat_scores(query, key, stacked, v),
      attn.additive_scores(query, key, w_query, w_key, v),
    )

  def test_a_side_may_be_projected_already(self):
    query, key, w_query, w_key, v = _arguments('additive', B)
    expected = attn.additive_scores(query, key, w_query, w_key, v)
    projected_query, projected_key = query @ w_query, key @ w_key
    for arguments in (
      (query, projected_key, w_query, None),
      (projected_query, key, None, w_key),
      (projected_query, projected_key, None, None),
    ):
      assert_close(attn.additive_scores(*arguments, v), expected, 1e-6)

  def test_cosine_forgets_lengths(self):
    query, key = _arguments('cosine')
    assert_close(
      attn.cosine_scores(1024 * query, key / 1024),
      attn.cosine_scores(query, key),
    )

  def test_cosine_of_length_0_is_0_and_sends_no_gradient(self):
    query, key = _arguments('cosine')
    query = query.at[1].set(0)
    scores = attn.cosine_scores(query, key)
    chex.assert_trees_all_equal(scores[1], jnp.zeros(S))
    gradients = compile_fast(_gradients, static_argnums=0)(
      'cosine', normal(T, S), query, key
    )
    chex.assert_tree_all_finite(gradients)
    self.assertTrue(bool(scores[0].all()))

  def test_l2_does_not_cancel(self):
    # 4097² is not a float32: |q|² + |k|² - 2 q·k would be off by 1.
    scores = attn.l2_scores(jnp.array([[4097.0]]), jnp.array([[4096.0]]))
    chex.assert_trees_all_equal(scores, jnp.array([[-1.0]]))

  def test_l2_moves_with_the_origin(self):
    query, key = _arguments('l2')
    assert_close(
      attn.l2_scores(query + 1, key + 1), attn.l2_scores(query, key), 1e-5
    )


class CoverageTest(chex.TestCase):
  def _all_arguments(self, dtype=jnp.float32):
    coverage = jnp.abs(normal(T, S, seed=7, dtype=dtype))
    w_coverage = normal(A, seed=8, dtype=dtype)
    return *_arguments('additive', dtype=dtype), coverage, w_coverage

  def _scores(self, *arguments):
    *rest, coverage, w_coverage = arguments
    return attn.additive_scores(*rest, coverage=coverage, w_coverage=w_coverage)

  @chex.variants(with_jit=True, without_jit=True)
  def test_equals_loops(self):
    arguments = self._all_arguments()
    actual = self.variant(self._scores)(*arguments)
    assert_close(actual, oracles.covered_scores(*arguments), 1e-6)

  def test_gradients_equal_finite_differences(self):
    with jax.enable_x64(True):
      arguments = self._all_arguments(jnp.float64)
      cotangent = normal(T, S, seed=9, dtype=jnp.float64)
      gradients = jax.vjp(self._scores, *arguments)[1](cotangent)

    def loss(*arguments):
      return np.sum(oracles.covered_scores(*arguments) * np.asarray(cotangent))

    assert_gradients(gradients, loss, arguments)

  def test_no_coverage_yet_is_no_coverage(self):
    *arguments, coverage, w_coverage = self._all_arguments()
    chex.assert_trees_all_equal(
      self._scores(*arguments, jnp.zeros_like(coverage), w_coverage),
      attn.additive_scores(*arguments),
    )

  @parameterized.parameters(
    ('coverage', jnp.ones((S, T)), r'coverage: got shape \(5, 3\)'),
    ('coverage', None, 'coverage: got None, wanted both'),
    ('w_coverage', jnp.ones(S), r'w_coverage: got shape \(5,\), wanted \(13,'),
    ('w_coverage', None, 'w_coverage: got None, wanted both'),
  )
  def test_does_not_fit(self, name, value, message):
    *arguments, coverage, w_coverage = self._all_arguments()
    options = {'coverage': coverage, 'w_coverage': w_coverage, name: value}
    with self.assertRaisesRegex(ValueError, message):
      attn.additive_scores(*arguments, **options)


class LocationTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_equals_loops(self):
    query, w = normal(B, T, H), normal(H, S, seed=1)
    actual = self.variant(attn.location_scores)(query, w)
    assert_close(actual, oracles.location_scores(query, w), 1e-6)

  def test_gradients_equal_finite_differences(self):
    with jax.enable_x64(True):
      query, w, cotangent = (
        normal(*shape, seed=i, dtype=jnp.float64)
        for i, shape in enumerate(((T, H), (H, S), (T, S)))
      )
      gradients = jax.vjp(attn.location_scores, query, w)[1](cotangent)

    def loss(query, w):
      return np.sum(oracles.location_scores(query, w) * np.asarray(cotangent))

    assert_gradients(gradients, loss, (query, w))

  @parameterized.parameters(jnp.bfloat16, jnp.float16)
  def test_sums_are_kept_in_float32(self, dtype):
    ones = jnp.ones((1, 4096), dtype)
    actual = attn.location_scores(ones, ones.T)
    chex.assert_trees_all_equal(actual, jnp.full((1, 1), 4096, dtype))

  def test_does_not_fit(self):
    for w in (jnp.ones((S, H)), jnp.ones(H)):
      with self.assertRaisesRegex(ValueError, r'w: got .*wanted \(11, key'):
        attn.location_scores(jnp.ones((T, H)), w)
    with self.assertRaisesRegex(ValueError, r'query: got shape \(11,\)'):
      attn.location_scores(jnp.ones(H), jnp.ones((H, S)))


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(*_NAMES)
  def test_vectors_are_not_sequences(self, name):
    query, key, *weights = _arguments(name)
    wanted = 'wanted at least two axes'
    with self.assertRaisesRegex(
      ValueError, rf'query: got shape \(11,\), {wanted}'
    ):
      _function(name)(query[0], key, *weights)
    with self.assertRaisesRegex(
      ValueError, rf'key: got shape \(\d+,\), {wanted}'
    ):
      _function(name)(query, key[0], *weights)

  @parameterized.parameters('dot_product', 'cosine', 'l2')
  def test_sizes_differ(self, name):
    message = r'key: got head size 7 \(shape \(5, 7\)\), wanted 11'
    with self.assertRaisesRegex(ValueError, message):
      _function(name)(jnp.ones((T, H)), jnp.ones((S, J)))

  @parameterized.parameters(
    ('bilinear', 2, 'w', r'\(11, 7\)'),
    ('additive', 2, 'w_query', r'\(11, 13\)'),
    ('additive', 3, 'w_key', r'\(7, 13\)'),
    ('concat', 2, 'w', r'\(18, 13\)'),
  )
  def test_weights_do_not_fit(self, name, position, argument, wanted):
    arguments = list(_arguments(name))
    arguments[position] = jnp.ones((4, 6))
    message = rf'{argument}: got shape \(4, 6\), wanted {wanted}'
    with self.assertRaisesRegex(ValueError, message):
      _function(name)(*arguments)

  @parameterized.parameters('query', 'key')
  def test_a_side_is_not_projected_after_all(self, name):
    arguments = dict(
      zip(('query', 'key', 'w_query', 'w_key', 'v'), _arguments('additive'))
    )
    arguments[f'w_{name}'] = None
    message = f'{name}: got size .* and no w_{name}, wanted it projected to 13'
    with self.assertRaisesRegex(ValueError, message):
      attn.additive_scores(**arguments)

  @parameterized.parameters('additive', 'concat')
  def test_v_is_not_a_vector(self, name):
    *arguments, _ = _arguments(name)
    message = r'v: got shape \(4, 13\), wanted \(13,\)'
    with self.assertRaisesRegex(ValueError, message):
      _function(name)(*arguments, jnp.ones((4, A)))


if __name__ == '__main__':
  absltest.main()
