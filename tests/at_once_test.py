"""One small tile a head: when it is computed at once, and what of it."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from attn import masks
from attn.backends.at_once import at_once_mask
from attn.backends.blockwise import attend, blockwise
from attn.backends.dense import dense
from attn.backends.plan import make_plan
from attn.backends.problem import take_apart
from attn.call import prepare

B, T, S, N, K, H, V = 2, 5, 7, 6, 3, 11, 13


def arrays(length=T, keys=S):
  rng = np.random.default_rng(0)
  shapes = ((B, length, N, H), (B, keys, K, H), (B, keys, K, V))
  return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def served(call):
  return at_once_mask(*take_apart(call, *make_plan(call)))


class AtOnceTest(parameterized.TestCase):
  @parameterized.parameters(
    {},
    {'is_causal': True},
    {'mask': masks.causal(S - T) & masks.sliding_window(2, 0)},
    # Its first rows see nothing.
    {'mask': masks.causal(-2)},
    {'scale': 0.3},
  )
  def test_serves_what_numbers_hide(self, **options):
    call = prepare(*arrays(), **options)
    mask = served(call)
    expected = np.ones((T, S), bool)
    if call.mask is not None:
      expected = np.asarray(call.mask.dense(T, S))
    np.testing.assert_array_equal(mask, expected)
    got, wanted = blockwise(call), dense(call)
    chex.assert_trees_all_close(got, wanted, rtol=1e-5, atol=1e-6)

  @parameterized.parameters(
    {'bias': jnp.zeros((T, S))},
    {'mask': jnp.ones((T, S), bool)},
    {'mask': masks.per_head([masks.causal(h) for h in range(N)])},
    {'sink': jnp.zeros(N)},
    {'score_mod': lambda score, b, n, q, k: score},
    {'dropout_rate': 0.5, 'rng': jax.random.key(0)},
    {'key_value_seq_lengths': jnp.array([3, 4])},
  )
  def test_leaves_all_else_to_tiles(self, **options):
    self.assertIsNone(served(prepare(*arrays(), **options)))

  def test_leaves_long_heads_to_tiles(self):
    self.assertIsNotNone(served(prepare(*arrays(256, 256), is_causal=True)))
    self.assertIsNone(served(prepare(*arrays(257, 256), is_causal=True)))

  @parameterized.product(
    which=('query', 'key', 'value'), what=(np.nan, np.inf, -np.inf)
  )
  def test_a_row_is_spoiled_by_what_it_sees_alone(self, which, what):
    """Also where each score that it sees would be -inf."""
    query, key, value = (abs(x) for x in arrays(S, S))
    place = 2
    clean = dense(prepare(query, key, value, is_causal=True))[0]
    x = {'query': query, 'key': key, 'value': value}
    x[which] = x[which].at[:, place, :, 4].set(what)
    call = prepare(**x, is_causal=True)
    self.assertIsNotNone(served(call))
    context = np.asarray(blockwise(call)[0])
    spoiled = np.arange(S) >= place
    if which == 'query':
      spoiled = np.arange(S) == place
    self.assertTrue(np.isnan(context[:, spoiled]).all())
    chex.assert_trees_all_close(
      context[:, ~spoiled], clean[:, ~spoiled], rtol=1e-5
    )


class DerivativeTest(parameterized.TestCase):
  @parameterized.parameters(
    {},
    {'is_causal': True},
    {'mask': masks.causal(-2)},
    {'scale': jnp.float32(0.3)},
  )
  def test_gradients_and_hessians_are_those_of_dense(self, **options):
    scale = options.pop('scale', jnp.float32(1))

    def loss(implementation, arrays, scale):
      call = prepare(*arrays, scale=scale, **options)
      context, residual = implementation(call)
      residual = jnp.where(jnp.isfinite(residual), residual, 0)
      return (jnp.sin(3 * context)).sum() + (residual**2).sum()

    def derivatives(implementation):
      point = (arrays(), scale)
      first = functools.partial(jax.grad(loss, (1, 2)), implementation)
      return first(*point), jax.jvp(first, point, point)[1]

    got, wanted = derivatives(blockwise), derivatives(dense)
    chex.assert_trees_all_close(got, wanted, rtol=2e-5, atol=2e-5)

  @parameterized.parameters('query', 'key', 'value')
  def test_rows_that_are_spoiled_send_no_gradient(self, which):
    query, key, value = arrays(S, S)
    x = {'query': query, 'key': key, 'value': value}
    place = 4
    x[which] = x[which].at[:, place, :, 4].set(np.nan)

    def loss(x, rows):
      context = blockwise(prepare(**x, is_causal=True))[0]
      return (jnp.where(rows, context, 0) ** 2).sum()

    spoiled = np.arange(S) >= place
    if which == 'query':
      spoiled = np.arange(S) == place
    rows = ~spoiled[:, None, None]
    got = jax.grad(loss)(x, rows)
    zeros = jax.tree.map(lambda x: jnp.where(jnp.isnan(x), 0, x), x)
    chex.assert_trees_all_close(got, jax.grad(loss)(zeros, rows), rtol=1e-5)
    # Also what comes back to a spoiled row is not passed on.
    everywhere = jax.grad(lambda x: loss(x, True))(x)
    chex.assert_tree_all_finite(everywhere)

  def test_weights_are_kept_of_few_heads_alone(self):
    def kept(batch, length):
      x = jax.ShapeDtypeStruct((batch, length, 8, 4), jnp.float32)

      def context(*arrays):
        return blockwise(prepare(*arrays))[0]

      _, vjp = jax.eval_shape(lambda *x: jax.vjp(context, *x), x, x, x)
      return max(y.size for y in jax.tree.leaves(vjp))

    self.assertEqual(kept(1, 256), 8 * 256 * 256)
    self.assertLess(kept(64, 256), 64 * 256 * 8 * 8)

  def test_without_a_derivative_no_weights_are_returned(self):
    call = prepare(*arrays())
    output = attend(*take_apart(call, *make_plan(call)))
    self.assertIsNone(output.weights)
