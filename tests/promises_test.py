"""What attention() promises, on every implementation, forward and backward.

The list is in its docstring.  That what is masked cannot leak is tested in
tests/poison_test.py, accuracy in tests/precision_test.py.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

import attn
from attn import masks
from tests import oracles
from tests.checks import (
  assert_close,
  assert_same_bits,
  attention,
  forward_and_backward,
  rows_of,
  run,
  silence,
)
from tests.inputs import (
  HV,
  IMPLEMENTATIONS,
  B,
  H,
  K,
  N,
  S,
  T,
  cotangents,
  normal,
  qkv,
  ragged_mask,
  with_bias,
)

pytestmark = pytest.mark.smoke


class EmptyRowsTest(parameterized.TestCase):
  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_give_exactly_0_and_send_exactly_no_gradient(self, implementation):
    arguments, mask = with_bias(), ragged_mask()
    cotangent = cotangents(arguments)
    (context, residual), gradients = run(
      implementation, arguments, mask, cotangent
    )
    empty = rows_of(~mask.any(-1))
    np.testing.assert_array_equal(context[empty], 0)
    np.testing.assert_array_equal(residual[empty], -np.inf)
    np.testing.assert_array_equal(gradients['query'][empty], 0)
    np.testing.assert_array_equal(gradients['bias'][~mask], 0)
    chex.assert_tree_all_finite((context, residual[~empty], gradients))
    # Nothing of theirs reaches any gradient.
    _, without = run(implementation, arguments, mask, silence(cotangent, empty))
    assert_same_bits(gradients, without)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_keys_that_no_row_may_attend_to_get_no_gradient(self, implementation):
    arguments, mask = with_bias(), ragged_mask()
    _, gradients = run(implementation, arguments, mask, cotangents(arguments))
    unseen = ~np.asarray(mask).reshape(B, K, N // K * T, S).any(2)
    unseen = np.moveaxis(unseen, 1, 2)
    self.assertTrue(unseen[1, 4].all())
    for name in ('key', 'value'):
      np.testing.assert_array_equal(gradients[name][unseen], 0)
      self.assertTrue(bool((gradients[name][~unseen] != 0).any(-1).all()))

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_nothing_to_attend_to_at_all(self, implementation):
    arguments, mask = with_bias(), jnp.zeros((B, N, T, S), bool)
    (context, residual), gradients = run(
      implementation, arguments, mask, cotangents(arguments)
    )
    np.testing.assert_array_equal(context, 0)
    np.testing.assert_array_equal(residual, -np.inf)
    for gradient in gradients.values():
      np.testing.assert_array_equal(gradient, 0)


class ExtremesTest(parameterized.TestCase):
  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_a_bias_of_minus_infinity_is_a_mask(self, implementation):
    arguments, mask = with_bias(), ragged_mask()
    cotangent, everything = cotangents(arguments), jnp.ones_like(mask)
    masked = run(implementation, arguments, mask, cotangent)
    bias = jnp.where(mask, arguments['bias'], -jnp.inf)
    biased = {**arguments, 'bias': bias}
    actual = run(implementation, biased, everything, cotangent)
    chex.assert_trees_all_equal(actual, masked)
    # It hides NaN as a mask does: here key 4 of batch element 1.
    for name in ('key', 'value'):
      biased[name] = biased[name].at[1, 4].set(jnp.nan)
    actual = run(implementation, biased, everything, cotangent)
    chex.assert_trees_all_equal(actual, masked)

  @parameterized.product(
    implementation=IMPLEMENTATIONS, size=(1e30, -1e30, 3e38)
  )
  def test_huge_scores_do_not_overflow(self, implementation, size):
    arguments = with_bias()
    # The products are ±1 or 0, times the sign and size of the bias.
    bias = jnp.sign(arguments['bias']) * size
    bias = bias.at[0, 0, 0].set(0).at[0, 0, 0, 3].set(size)
    arguments['bias'] = bias
    cotangent = cotangents(arguments)
    everything = jnp.ones((B, N, T, S), bool)
    outputs, gradients = run(implementation, arguments, everything, cotangent)
    chex.assert_tree_all_finite((outputs, gradients))
    oracle = oracles.Attention(**arguments)
    assert_close(outputs[0], oracle.context, 4e-6)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_huge_products_do_not_overflow(self, implementation):
    arguments = with_bias()
    signs = jnp.sign(normal(B, S, K, 1, seed=8)).at[:, 2:4].set(1)
    arguments['query'] = jnp.full((B, T, N, H), 1e15 / H**0.25)
    arguments['key'] = jnp.broadcast_to(signs * 1e15, (B, S, K, H)) / H**0.25
    arguments['bias'] = jnp.zeros((B, N, T, S))
    mask = jnp.ones((B, N, T, S), bool).at[0, 0, 0].set(signs[0, :, 0, 0] < 0)
    outputs, gradients = run(
      implementation, arguments, mask, cotangents(arguments)
    )
    chex.assert_tree_all_finite((outputs, gradients))
    # The highest keys, all ±1e30 alike, share each row.
    allowed = np.asarray(mask)
    high = np.moveaxis(np.asarray(signs[..., 0] > 0), 1, 2)
    high = np.repeat(high, N // K, axis=1)[:, :, None] & allowed
    best = np.where(high.any(-1, keepdims=True), high, allowed)
    value = np.repeat(np.float64(arguments['value']), N // K, axis=2)
    expected = np.einsum(
      'bnts,bsnh->btnh', best / best.sum(-1, keepdims=True), value
    )
    assert_close(outputs[0], expected)


class CausalTest(parameterized.TestCase):
  """Alignment is stated, never guessed; decoding equals prefill."""

  @parameterized.product(implementation=IMPLEMENTATIONS, sizes=((5, 7), (7, 5)))
  def test_the_keyword_is_aligned_at_the_top_left(self, implementation, sizes):
    arguments = qkv(t=sizes[0], s=sizes[1])
    actual = attention(
      **arguments, is_causal=True, implementation=implementation
    )
    mask = np.tri(*sizes, dtype=bool)
    assert_close(actual, oracles.Attention(**arguments, mask=mask).context)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_decoding_by_chunks_equals_prefill(self, implementation):
    arguments = qkv(t=S, s=S)
    whole = oracles.Attention(**arguments, mask=np.tri(S, dtype=bool)).context
    for start, stop in ((0, 4), (4, 7)):
      part = attention(
        arguments['query'][:, start:stop],
        arguments['key'][:, :stop],
        arguments['value'][:, :stop],
        mask=masks.causal(offset=start),
        implementation=implementation,
      )
      assert_close(part, whole[:, start:stop])

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_decoding_by_tokens_equals_prefill(self, implementation):
    arguments = qkv(t=S, s=S)
    whole = oracles.Attention(**arguments, mask=np.tri(S, dtype=bool)).context

    def step(cache, token):
      t, query, key, value = token
      cache = jax.tree.map(
        lambda old, new: old.at[:, t].set(new), cache, (key, value)
      )
      context = attn.attention(
        query[:, None],
        *cache,
        key_value_seq_lengths=jnp.full(B, t + 1),
        implementation=implementation,
      )
      return cache, context[:, 0]

    # A cache that was never written to may hold anything.
    cache = tuple(
      jnp.full_like(arguments[name], jnp.nan) for name in ('key', 'value')
    )
    tokens = [jnp.moveaxis(x, 1, 0) for x in arguments.values()]
    _, contexts = jax.lax.scan(step, cache, (jnp.arange(S), *tokens))
    assert_close(jnp.moveaxis(contexts, 0, 1), whole)


class EmptyAxesTest(parameterized.TestCase):
  @parameterized.product(
    implementation=IMPLEMENTATIONS,
    sizes=(
      {'batch': (0,)},
      {'batch': (2, 0)},
      {'t': 0},
      {'s': 0},
      {'t': 0, 's': 0},
      {'k': 0, 'n': 0},
      {'k': 1, 'n': 0},
      {'h': 0},
      {'hv': 0},
    ),
  )
  def test_forward_and_backward(self, implementation, sizes):
    arguments = qkv(**sizes)
    *batch, t, n, _ = arguments['query'].shape
    s = arguments['key'].shape[-3]
    arguments['bias'] = normal(*batch, n, t, s, seed=5)
    others = {
      'mask': masks.causal() & masks.dense(jnp.ones((n, 1, s), bool)),
      'key_value_seq_lengths': jnp.full(batch, S - 1),
    }
    outputs, gradients = forward_and_backward(
      arguments,
      cotangents(arguments),
      others,
      implementation=implementation,
    )
    hv = arguments['value'].shape[-1]
    chex.assert_shape(outputs, [(*batch, t, n, hv), (*batch, t, n)])
    for name, gradient in gradients.items():
      chex.assert_shape(gradient, arguments[name].shape)
    chex.assert_tree_all_finite((outputs[0], gradients))
    if s == 0:
      np.testing.assert_array_equal(outputs[0], 0)
      np.testing.assert_array_equal(outputs[1], -np.inf)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_heads_of_size_0_average(self, implementation):
    arguments = qkv(h=0)
    actual = attention(**arguments, implementation=implementation)
    chex.assert_shape(actual, (B, T, N, HV))
    mean = np.repeat(arguments['value'].mean(1, keepdims=True), N // K, axis=2)
    assert_close(actual, np.broadcast_to(mean, actual.shape))


class SameBitsTest(parameterized.TestCase):
  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_same_inputs_and_rng_same_bits(self, implementation):
    def call(arguments, rng):
      return attn.attention(
        **arguments,
        is_causal=True,
        dropout_rate=0.5,
        rng=rng,
        implementation=implementation,
      )

    def differentiate(arguments, rng):
      context, pull_back = jax.vjp(lambda x: call(x, rng), arguments)
      return context, pull_back(jnp.ones_like(context))

    arguments, rng = qkv(), jax.random.key(1)
    once = jax.jit(differentiate)
    first = once(arguments, rng)
    assert_same_bits(once(arguments, rng), first)
    other = once(arguments, jax.random.key(2))
    self.assertFalse(bool((other[0] == first[0]).all()))


if __name__ == '__main__':
  absltest.main()
