"""Score modifications: what they promise, and that they are values."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks, mods
from tests.checks import assert_close, attention, compile_fast
from tests.inputs import B, H, N, S, T, normal, qkv
from tests.mod_cases import BATCH_OFFSETS, bucket, loss, numbers, table_of


class PropertiesTest(parameterized.TestCase):
  def test_alibi_of_the_past_is_a_bias_of_keys_alone(self):
    # -slope (q - k) is slope k and a constant of the row, as the paper has it.
    inputs = qkv()
    slopes = attn.alibi_slopes(N)
    bias = slopes[:, None, None] * jnp.arange(S, dtype=jnp.float32)
    assert_close(
      attention(**inputs, score_mod=mods.alibi(N), is_causal=True),
      attention(**inputs, bias=bias, is_causal=True),
      1e-6,
    )

  def test_alibi_with_its_own_slopes_is_alibi(self):
    for heads in (N, 2 * 3):
      inputs = qkv(n=heads)
      chex.assert_trees_all_equal(
        attention(**inputs, score_mod=mods.alibi(heads)),
        attention(**inputs, score_mod=mods.alibi(attn.alibi_slopes(heads))),
      )

  def test_alibi_sees_near_keys_more(self):
    # With nothing to choose by, weights fall with distance, fastest in head 0.
    zero, length = jnp.zeros((1, 6, 8, 1)), 6
    value = jnp.broadcast_to(jnp.eye(length)[:, None], (1, length, 8, length))
    weights = attention(
      zero, zero, value, score_mod=mods.alibi(8), is_causal=True
    )
    last = np.asarray(weights[0, -1])  # [N, S]
    self.assertTrue((np.diff(last) > 0).all())
    ratios = last[:, 1:] / last[:, :-1]
    expected = np.exp(0.5 ** np.arange(1, 9))[:, None]
    assert_close(ratios, np.broadcast_to(expected, ratios.shape), 1e-5)

  def test_relative_bias_is_a_bias(self):
    inputs, table = qkv(), jnp.asarray(table_of())
    place = np.vectorize(bucket)(np.arange(S) - np.arange(T)[:, None])

    @compile_fast
    def both(table):
      def by_mod(table):
        mod = mods.relative_bias(table)
        return attn.attention(**inputs, score_mod=mod)

      def by_bias(table):
        bias = jnp.moveaxis(table[place], -1, 0)
        return attn.attention(**inputs, bias=bias)

      return [
        (by(table), jax.grad(lambda x, by=by: loss(by(x)))(table))
        for by in (by_mod, by_bias)
      ]

    assert_close(*both(table), 2e-6)

  @parameterized.parameters(
    lambda: mods.alibi(N),
    lambda: mods.distance_decay(0.7),
    lambda: mods.relative_bias(jnp.asarray(table_of()), max_distance=6),
  )
  def test_only_distance_counts(self, build):
    # Both sequences begin three tokens later: nothing changes.
    inputs, mod = qkv(), build()

    def moved(score, b, n, q, k):
      return mod(score, b, n, q + 3, k + 3)

    chex.assert_trees_all_equal(
      *(
        compile_fast(lambda m=m: attn.attention(**inputs, score_mod=m))()
        for m in (mod, moved)
      )
    )

  def test_a_high_cap_is_none_and_a_low_one_bounds(self):
    inputs = qkv()
    assert_close(
      attention(**inputs, score_mod=mods.soft_cap(1e4)),
      attention(**inputs),
      1e-6,
    )
    capped = attention(**inputs, score_mod=mods.soft_cap(1e-6))
    assert_close(capped, attention(**inputs, scale=0.0), 1e-5)
    loud = jax.grad(lambda x: mods.soft_cap(2.0)(x, 0, 0, 0, 0))
    for score, slope in ((0.0, 1.0), (1e30, 0.0), (-1e30, 0.0)):
      self.assertEqual(float(loud(score)), slope)

  def test_temperature_is_a_scale(self):
    inputs = qkv()
    assert_close(
      attention(**inputs, score_mod=mods.temperature(4.0)),
      attention(**inputs, scale=H**-0.5 / 4),
      1e-6,
    )

  def test_decay_is_alibi(self):
    rates = 1 - 2.0 ** (-5 - jnp.arange(N, dtype=jnp.float32))
    inputs = qkv()
    assert_close(
      attention(**inputs, score_mod=mods.distance_decay(rates)),
      attention(**inputs, score_mod=mods.alibi(-jnp.log(rates))),
      1e-6,
    )
    chex.assert_trees_all_equal(
      attention(**inputs, score_mod=mods.distance_decay(1.0)),
      attention(**inputs),
    )

  @parameterized.parameters(
    lambda offset: mods.alibi(N, offset=offset),
    lambda offset: mods.distance_decay(0.9, offset=offset),
    lambda offset: mods.relative_bias(jnp.asarray(table_of()), offset=offset),
    lambda offset: mods.with_offset(
      mods.compose(mods.soft_cap(2.0), mods.alibi(N)), offset
    ),
  )
  def test_decoding_is_prefill(self, build):
    inputs = qkv(t=S)
    whole = attention(**inputs, score_mod=build(0), is_causal=True)
    traced = []

    @compile_fast
    def step(t):
      traced.append(t)
      query = jax.lax.dynamic_slice_in_dim(inputs['query'], t, 1, axis=1)
      return attn.attention(
        **(inputs | {'query': query}),
        mask=masks.padding(jnp.full(B, t + 1)),
        score_mod=build(t),
      )

    steps = [step(jnp.int32(t)) for t in range(S)]
    self.assertLen(traced, 1)
    assert_close(jnp.concatenate(steps, axis=1), whole, 1e-6)

  def test_rows_that_see_nothing_stay_0(self):
    mask = jnp.ones((T, S), bool).at[2].set(False)
    mod = mods.compose(mods.soft_cap(1.0), mods.alibi(N))
    context = attention(**qkv(), mask=mask, score_mod=mod)
    np.testing.assert_array_equal(context[:, 2], 0)
    chex.assert_tree_all_finite(context)


class ValuesTest(parameterized.TestCase):
  def test_arrays_are_leaves_and_numbers_are_not(self):
    table = jnp.asarray(table_of())
    for mod, leaves in (
      (mods.alibi(N), []),
      (mods.alibi(table[0]), [table[0]]),
      (mods.alibi(N, offset=jnp.array([2, 1])), [jnp.array([2, 1])]),
      (mods.relative_bias(table, offset=3), [table]),
      (mods.compose(mods.soft_cap(3.0), abs), []),
      (mods.compose(mods.relative_bias(table), mods.soft_cap(table[1])),
       [table, table[1]]),
    ):  # fmt: skip
      chex.assert_trees_all_equal(jax.tree.leaves(mod), leaves)
      again = jax.tree.unflatten(jax.tree.structure(mod), jax.tree.leaves(mod))
      self.assertEqual(again, mod)

  def test_equal_values_are_equal(self):
    same = (mods.alibi(N), mods.alibi(N), mods.alibi(np.int64(N)))
    self.assertLen(set(same), 1)
    slopes = jnp.ones(N)
    self.assertEqual(mods.alibi(slopes), mods.alibi(slopes))
    different = {
      mods.alibi(N),
      mods.alibi(N + 1),
      mods.alibi(N, offset=1),
      mods.alibi(slopes),
      mods.alibi(slopes + 0),
      mods.soft_cap(2.0),
      mods.temperature(2.0),
      mods.compose(mods.soft_cap(2.0), mods.temperature(2.0)),
      mods.compose(mods.temperature(2.0), mods.soft_cap(2.0)),
    }
    self.assertLen(different, 9)
    with self.assertRaises(AttributeError):
      mods.alibi(N).formula = abs

  def test_pass_through_jit_without_a_new_program(self):
    inputs, traced = qkv(), []

    @compile_fast
    def call(mod):
      traced.append(mod)
      return attn.attention(**inputs, score_mod=mod)

    contexts = []
    for seed in range(3):
      table = jnp.asarray(table_of(seed), jnp.float32)
      mod = mods.compose(mods.soft_cap(2.0), mods.relative_bias(table))
      contexts.append(call(mod))
    self.assertLen(traced, 1)
    self.assertFalse(bool((contexts[0] == contexts[1]).all()))
    assert_close(contexts[2], attention(**inputs, score_mod=mod))

  def test_pass_through_grad(self):
    inputs = qkv()

    @compile_fast
    @jax.grad
    def gradient(mod):
      return loss(attn.attention(**inputs, score_mod=mod))

    @compile_fast
    @jax.grad
    def captured(table):
      mod = mods.relative_bias(table, offset=2)
      return loss(attn.attention(**inputs, score_mod=mod))

    table = jnp.asarray(table_of(), jnp.float32)
    by_leaf = gradient(mods.relative_bias(table, offset=2))
    self.assertIsInstance(by_leaf, mods.Mod)
    chex.assert_trees_all_equal(jax.tree.leaves(by_leaf), [captured(table)])

  def test_pass_through_vmap_and_scan(self):
    inputs = qkv()
    built = [
      mods.compose(
        mods.temperature(jnp.asarray(numbers(N, seed=i), jnp.float32)),
        mods.relative_bias(jnp.asarray(table_of(i), jnp.float32)),
      )
      for i in range(3)
    ]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *built)

    def call(mod):
      return attn.attention(**inputs, score_mod=mod)

    expected = jnp.stack([compile_fast(call)(mod) for mod in built])
    assert_close(compile_fast(jax.vmap(call))(stacked), expected, 1e-6)

    @compile_fast
    def scan(stacked):
      return jax.lax.scan(lambda _, mod: (0, call(mod)), 0, stacked)[1]

    assert_close(scan(stacked), expected, 1e-6)

  def test_vmap_over_captured_arrays(self):
    inputs = qkv()
    slopes = normal(3, N)

    def call(slopes):
      return attn.attention(**inputs, score_mod=mods.alibi(slopes))

    expected = jnp.stack([compile_fast(call)(x) for x in slopes])
    assert_close(compile_fast(jax.vmap(call))(slopes), expected, 1e-6)

  def test_what_arrays_fix(self):
    table = jnp.asarray(table_of())
    for mod, batch, heads in (
      (mods.soft_cap(2.0), None, None),
      (mods.soft_cap(jnp.float32(2)), None, None),
      (mods.soft_cap(jnp.ones(5)), None, 5),
      (mods.alibi(3), None, 3),
      (mods.relative_bias(table, offset=BATCH_OFFSETS), B, N),
      (mods.compose(mods.soft_cap(2.0), abs, mods.alibi(N)), None, N),
      (mods.with_offset(abs, jnp.int32(3)), None, None),
    ):
      self.assertEqual(mod.extents, (batch, heads, None, None))


if __name__ == '__main__':
  absltest.main()
