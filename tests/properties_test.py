"""What attention is, said in other ways: properties, each by its name."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks
from tests.checks import assert_close, attention, compile_fast
from tests.inputs import (
  IMPLEMENTATIONS,
  B,
  K,
  N,
  S,
  T,
  booleans,
  normal,
  qkv,
)

_each = parameterized.product(implementation=IMPLEMENTATIONS)


class PropertiesTest(parameterized.TestCase):
  @_each
  def test_causal_is_a_zero_jacobian_above_the_diagonal(self, implementation):
    arguments = qkv((), T, T, 1, 2, 3, 2)

    def call(arguments):
      return attn.attention(
        **arguments, is_causal=True, implementation=implementation
      )

    jacobians = compile_fast(jax.jacrev(call))(arguments)
    for name in ('key', 'value'):
      # [T, N, Hv, S, K, H]: how much does key s move row t?
      moves = np.abs(np.asarray(jacobians[name])).sum((1, 2, 4, 5))
      np.testing.assert_array_equal(np.triu(moves, 1), 0)
      self.assertTrue((moves[1:][np.tri(T - 1, T, 1, dtype=bool)] > 0).all())
    # The first row has one key, and its value whatever the key.
    self.assertGreater(np.asarray(jacobians['value'])[0, ..., 0, :, :].max(), 0)
    moves = np.abs(np.asarray(jacobians['query'])).sum((1, 2, 4, 5))
    np.testing.assert_array_equal(moves - np.diag(np.diag(moves)), 0)

  @_each
  def test_masked_is_deleted(self, implementation):
    arguments, keep = qkv(), jnp.array([0, 2, 3, 6])
    mask = jnp.zeros(S, bool).at[keep].set(True)
    masked = attention(
      **arguments,
      mask=mask,
      implementation=implementation,
      return_residual=True,
    )
    for name in ('key', 'value'):
      arguments[name] = arguments[name][:, keep]
    deleted = attention(
      **arguments, implementation=implementation, return_residual=True
    )
    assert_close(masked, deleted)

  @_each
  def test_grouped_is_repeated_heads(self, implementation):
    arguments, mask = qkv(), booleans(B, N, T, S)
    grouped = attention(**arguments, mask=mask, implementation=implementation)
    for name in ('key', 'value'):
      arguments[name] = attn.repeat_kv(arguments[name], N // K)
    repeated = attention(**arguments, mask=mask, implementation=implementation)
    assert_close(grouped, repeated)

  @_each
  def test_vmap_is_batch(self, implementation):
    arguments, mask = qkv(), booleans(B, N, T, S)
    call = functools.partial(attention, implementation=implementation)
    expected = call(**arguments, mask=mask)
    mapped = jax.vmap(lambda a, m: call(**a, mask=m))(arguments, mask)
    assert_close(mapped, expected)
    # Over an axis of heads as well, with one key/value head for each group.
    query = arguments['query'].reshape(B, T, K, N // K, -1)
    mask = mask.reshape(B, K, N // K, T, S)

    def group(query, key, value, mask):
      return call(query, key[:, :, None], value[:, :, None], mask=mask)

    mapped = jax.vmap(group, in_axes=(2, 2, 2, 1), out_axes=2)(
      query, arguments['key'], arguments['value'], mask
    )
    assert_close(mapped.reshape(expected.shape), expected)

  @_each
  def test_a_window_as_wide_as_the_text_is_causal(self, implementation):
    arguments = qkv(t=S)
    call = functools.partial(attention, implementation=implementation)
    causal = call(**arguments, is_causal=True)
    for left in (S - 1, 10 * S):
      window = call(**arguments, mask=masks.sliding_window(left, 0))
      assert_close(window, causal)
    narrow = call(**arguments, mask=masks.sliding_window(S - 2, 0))
    assert_close(narrow[:, :-1], causal[:, :-1])
    self.assertGreater(float(jnp.abs(narrow - causal)[:, -1].min()), 0)

  @_each
  def test_documents_packed_are_documents_apart(self, implementation):
    lengths = (4, 1, 6)
    documents = [qkv((1,), n, n, seed=10 * n) for n in lengths]
    packed = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *documents)
    ids = jnp.repeat(jnp.arange(3), np.array(lengths), total_repeat_length=11)
    together = attention(
      **packed,
      mask=masks.causal() & masks.segments(ids[None]),
      implementation=implementation,
    )
    for document, apart in zip(documents, jnp.split(together, (4, 5), axis=1)):
      alone = attention(
        **document, is_causal=True, implementation=implementation
      )
      assert_close(apart, alone)

  @_each
  def test_merged_parts_are_the_whole(self, implementation):
    arguments = qkv()
    # The third row sees keys of the second part only, the last row none.
    mask = booleans(B, N, T, S).at[:, :, 2, :4].set(False)
    mask = mask.at[:, :, 4].set(False)
    options = {'implementation': implementation, 'return_residual': True}
    whole = attention(**arguments, mask=mask, **options)
    parts = []
    for part in (slice(0, 4), slice(4, S)):
      keys = {name: arguments[name][:, part] for name in ('key', 'value')}
      parts.append(
        attention(**{**arguments, **keys}, mask=mask[..., part], **options)
      )
    contexts, residuals = (jnp.stack(x) for x in zip(*parts))
    shares = attn.softmax(residuals, axis=0)
    merged = (shares[..., None] * contexts).sum(0)
    assert_close((merged, attn.log_normalizer(residuals, axis=0)), whole, 4e-6)

  @_each
  def test_order_of_keys_does_not_matter(self, implementation):
    arguments, order = qkv(), jnp.array([3, 0, 6, 4, 1, 5, 2])
    bias = normal(N, T, S, seed=5)
    call = functools.partial(attention, implementation=implementation)
    expected = call(**arguments, bias=bias)
    for name in ('key', 'value'):
      arguments[name] = arguments[name][:, order]
    assert_close(call(**arguments, bias=bias[..., order]), expected)

  @_each
  def test_a_sink_is_one_more_key_worth_nothing(self, implementation):
    arguments, sink = qkv(), normal(N, seed=6)
    call = functools.partial(attention, implementation=implementation)
    expected = call(**arguments, sink=sink)
    for name in ('key', 'value'):
      arguments[name] = jnp.pad(
        arguments[name], ((0, 0), (0, 1), (0, 0), (0, 0))
      )
    column = jnp.broadcast_to(sink[:, None, None], (N, T, 1))
    bias = jnp.concatenate([jnp.zeros((N, T, S)), column], axis=-1)
    assert_close(call(**arguments, bias=bias), expected)

  @_each
  def test_a_score_mod_may_add_a_bias_or_mask(self, implementation):
    arguments, table = qkv(), normal(B, N, T, S, seed=5)
    table = jnp.where(booleans(B, N, T, S), table, -jnp.inf)

    @compile_fast
    def both(arguments, table):
      def score_mod(score, b, n, q, k):
        return score + table[b, n, q, k]

      return [
        attn.attention(**arguments, **options, implementation=implementation)
        for options in ({'score_mod': score_mod}, {'bias': table})
      ]

    modified, biased = both(arguments, table)
    chex.assert_tree_all_finite(modified)
    assert_close(modified, biased)


if __name__ == '__main__':
  absltest.main()
