"""Score modifications: by rule, by hand, and what they refuse."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import mods
from tests import oracles
from tests.checks import (
  assert_close,
  assert_gradients,
  attention,
  compile_fast,
)
from tests.inputs import IMPLEMENTATIONS, S, T, qkv
from tests.mod_cases import CASES, bucket, loss, table_of


class RulesTest(parameterized.TestCase):
  @parameterized.product(name=tuple(CASES), implementation=IMPLEMENTATIONS)
  def test_forward_and_gradients(self, name, implementation):
    arrays, build, rule = CASES[name]

    @compile_fast
    def run(inputs, arrays):
      def run_loss(inputs, arrays):
        context = attn.attention(
          **inputs, score_mod=build(*arrays), implementation=implementation
        )
        return loss(context), context

      return jax.grad(run_loss, argnums=(0, 1), has_aux=True)(inputs, arrays)

    with jax.enable_x64(True):
      inputs = qkv(dtype=jnp.float64)
      (of_inputs, of_arrays), context = run(
        inputs, jax.tree.map(jnp.array, arrays)
      )
      chex.assert_type([context, *of_arrays], jnp.float64)

    def oracle(query, key, value, *arrays):
      def score_mod(score, b, n, q, k):
        return rule(score, b, n, q, k, *arrays)

      return oracles.Attention(query, key, value, score_mod=score_mod).context

    assert_close(context, oracle(*inputs.values(), *arrays), 1e-13)
    assert_gradients(
      (*(of_inputs[name] for name in inputs), *of_arrays),
      lambda *arguments: loss(oracle(*arguments)),
      (*inputs.values(), *arrays),
    )
    # The mod does something: without it the context is another.
    plain = oracles.Attention(**inputs).context
    self.assertGreater(np.abs(plain - np.float64(context)).max(), 0.01)

  @parameterized.parameters(*CASES)
  def test_every_dtype_in_every_other(self, name):
    arrays, build, _ = CASES[name]
    index = jax.ShapeDtypeStruct((), jnp.int32)
    with jax.enable_x64(True):
      for wide in (jnp.float32, jnp.float64):
        for narrow in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64):
          mod = build(*(jnp.asarray(x, narrow) for x in arrays))
          out = jax.eval_shape(
            mod, jax.ShapeDtypeStruct((), wide), index, index, index, index
          )
          self.assertEqual((out.shape, out.dtype), ((), wide))

  @parameterized.parameters(jnp.bfloat16, jnp.float16)
  def test_narrow_inputs(self, dtype):
    inputs = qkv(dtype=dtype)
    table = jnp.asarray(table_of(), dtype)

    @compile_fast
    def run(table):
      def total(table):
        context = attn.attention(**inputs, score_mod=mods.relative_bias(table))
        return context.astype(jnp.float32).sum(), context

      return jax.value_and_grad(total, has_aux=True)(table)

    (_, context), gradient = run(table)
    chex.assert_type([context, gradient], dtype)
    chex.assert_tree_all_finite(gradient)
    bias = np.float64(table)[
      np.vectorize(bucket)(np.arange(S) - np.arange(T)[:, None])
    ]
    expected = oracles.Attention(**inputs, bias=np.moveaxis(bias, -1, 0))
    assert_close(context, expected.context, 2 * float(jnp.finfo(dtype).eps))


class ByHandTest(parameterized.TestCase):
  def testnumbers(self):
    score, here = jnp.float32(2), (0, 0, 5, 2)
    for mod, expected in (
      (mods.alibi(8), 2 - 3 / 2),
      (mods.alibi(jnp.array([0.25])), 2 - 3 / 4),
      (mods.alibi(8, offset=4), 2 - 7 / 2),
      (mods.temperature(4.0), 0.5),
      (mods.soft_cap(1.0), math.tanh(2)),
      (mods.distance_decay(0.5), 2 - 3 * math.log(2)),
      # Three back is bucket 3, three ahead would be bucket 19.
      (mods.relative_bias(jnp.arange(32.0)[:, None]), 2 + 3),
      (mods.relative_bias(jnp.arange(32.0)[:, None], offset=-6), 2 + 19),
    ):
      self.assertAlmostEqual(float(mod(score, *here)), expected, delta=1e-6)

  def test_slopes_are_as_exact_as_the_scores(self):
    with jax.enable_x64(True):
      score = mods.alibi(16)(jnp.float64(0), 0, 0, 1, 0)
      self.assertAlmostEqual(float(score), -(2**-0.5), delta=1e-15)

  def test_decayed_weights(self):
    # Equal scores: a key has half the weight of the one after it.
    zero = jnp.zeros((1, 3, 1, 1))
    value = jnp.eye(3)[:, None][None]
    weights = attention(
      zero, zero, value, score_mod=mods.distance_decay(0.5), is_causal=True
    )
    expected = [[1, 0, 0], [1 / 3, 2 / 3, 0], [1 / 7, 2 / 7, 4 / 7]]
    assert_close(weights[0, :, 0], np.array(expected), 1e-6)

  def test_order(self):
    halve, cap = mods.temperature(2.0), mods.soft_cap(1.0)
    for mod, expected in (
      (mods.compose(halve, cap), math.tanh(0.5)),
      (mods.compose(cap, halve), math.tanh(1) / 2),
      (
        mods.compose(mods.compose(cap, halve), cap),
        math.tanh(math.tanh(1) / 2),
      ),
      (
        mods.compose(cap, mods.compose(halve, cap)),
        math.tanh(math.tanh(1) / 2),
      ),
      (mods.compose(cap), math.tanh(1)),
    ):
      actual = float(mod(jnp.float32(1), 0, 0, 0, 0))
      self.assertAlmostEqual(actual, expected, delta=1e-6)

  def test_drawings(self):
    self.assertEqual(
      mods.alibi(2).draw(2, 3, score=1, head=1),
      ' 1.0000  0.9961  0.9922\n 0.9961  1.0000  0.9961',
    )
    self.assertEqual(
      repr(mods.compose(mods.alibi(jnp.ones(3)), mods.soft_cap(2), abs)),
      'compose(mod_0=alibi(slopes=float32[3]), mod_1=soft_cap(cap=2.0), '
      'mod_2=abs)',
    )


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    (lambda: mods.alibi(0), ValueError, 'num_heads: got 0, wanted at least 1'),
    (lambda: mods.alibi(2.5), ValueError, r'slopes: got shape \(\), wanted'),
    (
      lambda: mods.alibi(jnp.ones((2, 3))),
      ValueError,
      r'slopes: got shape \(2, 3\), wanted \[N\], one number per head',
    ),
    (
      lambda: mods.alibi(jnp.ones(2, int)),
      TypeError,
      'slopes: got dtype int32, wanted a float dtype',
    ),
    (
      lambda: mods.alibi(2, offset=1.5),
      TypeError,
      'offset: got dtype float32, wanted integers',
    ),
    (
      lambda: mods.with_offset(mods.alibi(2, offset=jnp.ones(2, int)), [1] * 3),
      ValueError,
      r'offset: got mods for different batch sizes, \[2, 3\]',
    ),
    (
      lambda: mods.with_offset(3, 1),
      TypeError,
      r'mod: got 3, wanted a function \(score, b, n, q, k\) -> score',
    ),
    *(
      (
        lambda cap=cap: mods.soft_cap(cap),
        ValueError,
        f'cap: got {cap}, wanted a number above 0 and finite',
      )
      for cap in (0.0, -1, math.nan, math.inf)
    ),
    (
      lambda: mods.soft_cap('loud'),
      TypeError,
      "cap: got 'loud', wanted a number or floats",
    ),
    (
      lambda: mods.temperature(np.array([1.0, 0.0])),
      ValueError,
      r'value: got \[1. 0.\], wanted a number above 0',
    ),
    (
      lambda: mods.temperature(jnp.ones((2, 2))),
      ValueError,
      r'value: got shape \(2, 2\), wanted \[N\]',
    ),
    (
      lambda: mods.temperature(jnp.ones(2, int)),
      TypeError,
      'value: got dtype int32, wanted a float dtype',
    ),
    *(
      (
        lambda rate=rate: mods.distance_decay(rate),
        ValueError,
        rf'rate: got {rate}, wanted a number in \(0, 1\]',
      )
      for rate in (0.0, 1.5, -0.5, math.nan)
    ),
    (
      lambda: mods.relative_bias(jnp.ones(32)),
      ValueError,
      r'table: got shape \(32,\), wanted \[num_buckets, N\]',
    ),
    (
      lambda: mods.relative_bias(jnp.ones((32, 2), int)),
      TypeError,
      'table: got dtype int32, wanted a float dtype',
    ),
    (
      lambda: mods.relative_bias(jnp.ones((7, 2))),
      ValueError,
      'num_buckets: got 7, wanted an even number of at least 4',
    ),
    (
      lambda: mods.relative_bias(jnp.ones((8, 2)), max_distance=2),
      ValueError,
      'max_distance: got 2, wanted more than 2, the distances',
    ),
    (mods.compose, ValueError, 'mods: got none, wanted at least one'),
    (
      lambda: mods.compose(mods.alibi(2), 3.0),
      TypeError,
      r'mods: got 3.0, wanted a function \(score, b, n, q, k\) -> score',
    ),
    (
      lambda: mods.compose(mods.alibi(2), mods.soft_cap(jnp.ones(3))),
      ValueError,
      r'mods: got mods for different numbers of heads, \[2, 3\]',
    ),
  )
  def test_arguments(self, build, error, message):
    with self.assertRaisesRegex(error, message):
      build()


if __name__ == '__main__':
  absltest.main()
