"""Attention with one head, whole."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from tests import oracles
from tests.checks import assert_close, assert_gradients, attention
from tests.inputs import booleans, normal

B, T, D, H, HV = 2, 5, 7, 11, 13


def _projections(**options):
  sizes = (D, H), (D, H), (D, HV)
  return [normal(*s, seed=i + 1, **options) for i, s in enumerate(sizes)]


def _oracle(x, w_query, w_key, w_value, mask=None):
  x, w_query, w_key, w_value = map(np.float64, (x, w_query, w_key, w_value))
  scores = oracles.dot_product_scores(x @ w_query, x @ w_key)
  weights, _ = oracles.softmax(scores, mask)
  return weights @ (x @ w_value), weights


class SelfAttentionTest(chex.TestCase):
  def test_by_hand(self):
    # Scores are squares and products of √log 3 and 0: log 3 and 0.
    x = jnp.sqrt(jnp.log(3.0)) * jnp.eye(2)
    context, weights = attn.self_attention(x)
    assert_close(weights, np.array([[3, 1], [1, 3]]) / 4, 1e-6)
    expected = np.sqrt(np.log(3)) * np.array([[3, 1], [1, 3]]) / 4
    assert_close(context, expected, 1e-6)

  def test_six_words_of_a_textbook(self):
    # Raschka, 2024, "Build a Large Language Model", section 3.3: the weights
    # and the context of the second word of "Your journey starts with one step".
    x = jnp.array(
      [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
      ]
    )
    context, weights = attn.self_attention(x)
    expected = np.array([0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581])
    assert_close(weights[1], expected, 3e-4)  # printed with four digits
    assert_close(context[1], np.array([0.4419, 0.6515, 0.5683]), 1e-4)

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((), (B,))
  def test_equals_loops(self, *batch):
    x = normal(*batch, T, D)
    context, weights = self.variant(attn.self_attention)(x)
    scores = oracles.dot_product_scores(x, x, 1.0)
    expected, _ = oracles.softmax(scores)
    assert_close(weights, expected, 2e-6)
    assert_close(context, expected @ np.float64(x), 2e-6)

  def test_words_are_a_set(self):
    x, order = normal(T, D), jnp.array([3, 0, 4, 1, 2])
    context, _ = attn.self_attention(x)
    assert_close(attn.self_attention(x[order])[0], context[order])

  def test_errors(self):
    with self.assertRaisesRegex(
      ValueError, r'x: got shape \(7,\), wanted at least \[T, D\]'
    ):
      attn.self_attention(jnp.ones(D))


class SingleHeadTest(chex.TestCase):
  def test_by_hand(self):
    x = jnp.eye(2)
    w_query = jnp.array([[2.0], [0.0]])
    w_key = jnp.log(jnp.array([[2.0], [4.0]])) / 2
    w_value = jnp.array([[3.0, 0.0], [0.0, 6.0]])
    context, weights = attn.single_head_attention(x, w_query, w_key, w_value)
    # Word 0 scores log 2 and log 4, word 1 scores 0 and 0.
    assert_close(weights, np.array([[1 / 3, 2 / 3], [1 / 2, 1 / 2]]), 1e-6)
    assert_close(context, np.array([[1.0, 4.0], [1.5, 3.0]]), 1e-6)

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.product(batch=((), (B,)), masked=(False, True))
  def test_equals_loops(self, batch, masked):
    x, weights = normal(*batch, T, D), _projections()
    mask = booleans(*batch, T, T) if masked else None
    actual = self.variant(attn.single_head_attention)(x, *weights, mask=mask)
    chex.assert_shape(actual, [(*batch, T, HV), (*batch, T, T)])
    # Scores of up to 20 turn an error of 1e-6 of theirs into 2e-5.
    assert_close(actual, _oracle(x, *weights, mask), 2e-5)

  def test_gradients_equal_finite_differences(self):
    mask = np.tri(T, dtype=bool)
    with jax.enable_x64(True):
      arguments = [
        0.5 * x
        for x in (
          normal(T, D, dtype=jnp.float64),
          *_projections(dtype=jnp.float64),
        )
      ]

      def loss(*arguments):
        context, weights = attn.single_head_attention(*arguments, mask=mask)
        return jnp.sin(context).sum() + jnp.square(weights).sum()

      gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*arguments)

    def expected(*arguments):
      context, weights = _oracle(*arguments, mask)
      return np.sin(context).sum() + np.square(weights).sum()

    assert_gradients(gradients, expected, arguments)

  def test_equals_attention_with_one_head(self):
    x, weights = normal(T, D), _projections()
    mask = jnp.tri(T, dtype=bool)
    actual, _ = attn.single_head_attention(x, *weights, mask=mask)
    query, key, value = ((x @ w)[:, None] for w in weights)
    expected = attention(query, key, value, mask=mask)
    assert_close(actual, expected[:, 0])

  def test_a_masked_word_gives_0(self):
    mask = jnp.ones((T, T), bool).at[2].set(False)
    context, weights = attn.single_head_attention(
      normal(T, D), *_projections(), mask=mask
    )
    np.testing.assert_array_equal(context[2], 0)
    np.testing.assert_array_equal(weights[2], 0)

  def test_axes_may_be_empty(self):
    context, weights = attn.single_head_attention(
      jnp.ones((0, D)), *_projections()
    )
    chex.assert_shape([context, weights], [(0, HV), (0, 0)])

  def test_dtypes(self):
    x = normal(T, D, dtype=jnp.bfloat16)
    for out in attn.single_head_attention(x, *_projections(dtype=jnp.bfloat16)):
      chex.assert_type(out, jnp.bfloat16)


class ErrorsTest(parameterized.TestCase):
  def test_x_has_two_axes(self):
    with self.assertRaisesRegex(
      ValueError, r'x: got shape \(7,\), wanted at least \[T, D\]'
    ):
      attn.single_head_attention(jnp.ones(D), *_projections())

  @parameterized.parameters('w_query', 'w_key', 'w_value')
  def test_projections_fit(self, name):
    for shape in ((D + 1, H), (D,), (B, D, H)):
      weights = dict(zip(('w_query', 'w_key', 'w_value'), _projections()))
      weights[name] = jnp.ones(shape)
      with self.assertRaisesRegex(
        ValueError, rf'{name}: got shape \(.*\), wanted \(7, head size\)'
      ):
        attn.single_head_attention(jnp.ones((T, D)), **weights)

  def test_query_and_key_have_one_size(self):
    w_query, _, w_value = _projections()
    with self.assertRaisesRegex(
      ValueError, r'key: got head size 13 \(.*\), wanted 11'
    ):
      attn.single_head_attention(
        jnp.ones((T, D)), w_query, jnp.ones((D, HV)), w_value
      )

  def test_masks_are_boolean_and_broadcast(self):
    x, weights = jnp.ones((T, D)), _projections()
    with self.assertRaisesRegex(
      TypeError, 'mask: got dtype int32, wanted bool'
    ):
      attn.single_head_attention(x, *weights, mask=jnp.ones((T, T), int))
    with self.assertRaisesRegex(
      ValueError, r'mask: got shape \(5, 4\), wanted .* to \(5, 5\)'
    ):
      attn.single_head_attention(x, *weights, mask=jnp.ones((T, 4), bool))


if __name__ == '__main__':
  absltest.main()
