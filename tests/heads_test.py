"""Heads: cutting, laying side by side, and sharing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

import attn
from tests.inputs import normal

pytestmark = pytest.mark.smoke

B, T, N, H, G = 2, 3, 7, 11, 5


class HeadsTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((), (T,), (B, T))
  def test_split_and_merge(self, *leading):
    x = normal(*leading, N * H)
    heads = self.variant(attn.split_heads, static_argnums=1)(x, N)
    chex.assert_shape(heads, (*leading, N, H))
    for n, h in np.ndindex(N, H):
      chex.assert_trees_all_equal(heads[..., n, h], x[..., n * H + h])
    merged = self.variant(attn.merge_heads)(heads)
    chex.assert_trees_all_equal(merged, x)

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((), (B, T))
  def test_repeat_kv(self, *leading):
    x = normal(*leading, N, H)
    repeated = self.variant(attn.repeat_kv, static_argnums=1)(x, G)
    chex.assert_shape(repeated, (*leading, N * G, H))
    for n in range(N * G):
      chex.assert_trees_all_equal(repeated[..., n, :], x[..., n // G, :])

  def test_repeated_heads_add_up_their_gradients(self):
    cotangent = normal(N * G, H)
    _, pull_back = jax.vjp(lambda x: attn.repeat_kv(x, G), normal(N, H))
    expected = np.stack([cotangent[n * G : n * G + G].sum(0) for n in range(N)])
    chex.assert_trees_all_close(pull_back(cotangent)[0], expected, rtol=1e-5)

  def test_any_dtype_comes_back(self):
    for dtype in (jnp.bfloat16, jnp.int8, jnp.bool_):
      x = jnp.ones((T, N * H), dtype)
      heads = attn.split_heads(x, N)
      for out in (heads, attn.merge_heads(heads), attn.repeat_kv(heads, G)):
        chex.assert_type(out, dtype)

  def test_axes_may_be_empty(self):
    chex.assert_shape(attn.split_heads(jnp.ones((T, 0)), N), (T, N, 0))
    chex.assert_shape(attn.merge_heads(jnp.ones((T, 0, H))), (T, 0))
    chex.assert_shape(attn.repeat_kv(jnp.ones((0, N, H)), G), (0, N * G, H))


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(0, -7, 5)
  def test_heads_divide_the_width(self, num_heads):
    with self.assertRaisesRegex(
      ValueError,
      rf'num_heads: got {num_heads} for x of shape \(3, 77\), wanted a divisor',
    ):
      attn.split_heads(jnp.ones((T, N * H)), num_heads)

  def test_a_number_has_no_heads(self):
    with self.assertRaisesRegex(ValueError, r'x of shape \(\), wanted'):
      attn.split_heads(jnp.ones(()), 1)

  def test_merging_wants_two_axes(self):
    with self.assertRaisesRegex(
      ValueError, r'x: got shape \(7,\), wanted at least \[N, H\]'
    ):
      attn.merge_heads(jnp.ones(N))

  def test_repeating(self):
    with self.assertRaisesRegex(ValueError, 'groups: got 0, wanted at least 1'):
      attn.repeat_kv(jnp.ones((N, H)), 0)
    with self.assertRaisesRegex(
      ValueError, r'x: got shape \(7,\), wanted at least \[K, H\]'
    ):
      attn.repeat_kv(jnp.ones(N), G)


if __name__ == '__main__':
  absltest.main()
