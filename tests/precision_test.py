"""Accuracy: float64 is honoured, narrow floats are summed in float32."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks
from attn.precision import at_least_float32
from tests import oracles
from tests.checks import (
  assert_close,
  assert_gradients,
  attention,
  compile_fast,
  forward_and_backward,
)
from tests.inputs import (
  IMPLEMENTATIONS,
  N,
  S,
  T,
  cotangents,
  normal,
  qkv,
  ragged_mask,
)


def _arguments(dtype):
  return {
    **qkv(dtype=dtype),
    'bias': normal(N, T, S, seed=5, dtype=dtype),
    'sink': normal(N, seed=6, dtype=dtype),
  }


class PrecisionTest(parameterized.TestCase):
  @parameterized.parameters(
    (jnp.float64, jnp.float64),
    (jnp.float32, jnp.float32),
    (jnp.float16, jnp.float32),
    (jnp.bfloat16, jnp.float32),
    (jnp.int64, jnp.float32),
    (jnp.bool_, jnp.float32),
  )
  def test_at_least_float32(self, narrow, wide):
    self.assertEqual(at_least_float32(jnp.dtype(narrow)), jnp.dtype(wide))

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_float64_is_honoured(self, implementation):
    with jax.enable_x64(True):
      arguments = _arguments(jnp.float64)
      cotangent = cotangents(arguments)
      outputs, gradients = forward_and_backward(
        arguments,
        cotangent,
        {'mask': ragged_mask()},
        implementation=implementation,
        optimized=True,
      )
      chex.assert_type([*outputs, *gradients.values()], jnp.float64)
    oracle = oracles.Attention(**arguments, mask=ragged_mask())
    assert_close(outputs, (oracle.context, oracle.residual), 1e-14)
    assert_close(gradients, oracle.gradients(*cotangent), 1e-14)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_indices_are_int32_whatever_the_floats(self, implementation):
    table = jnp.array([4, 0, 6], jnp.int32)
    with jax.enable_x64(True):
      arguments = qkv(dtype=jnp.float64)

      def score_mod(score, b, n, q, k):
        chex.assert_type([b, n, q, k], jnp.int32)
        return jnp.where(k <= table[b], score, -jnp.inf)

      call = compile_fast(
        lambda x: attn.attention(
          **x, score_mod=score_mod, implementation=implementation
        )
      )
      actual = call(arguments)
    mask = np.arange(S) <= np.array([4, 0, 6])[:, None, None, None]
    oracle = oracles.Attention(**arguments, mask=mask)
    assert_close(actual, oracle.context, 1e-14)

  @parameterized.product(
    implementation=IMPLEMENTATIONS, dtype=(jnp.bfloat16, jnp.float16)
  )
  def test_narrow_floats_are_rounded_once(self, implementation, dtype):
    arguments = _arguments(dtype)
    cotangent = cotangents(arguments)
    outputs, gradients = forward_and_backward(
      arguments,
      cotangent,
      {'mask': ragged_mask()},
      implementation=implementation,
      optimized=True,
    )
    oracle = oracles.Attention(**arguments, mask=ragged_mask())
    chex.assert_type(outputs, [dtype, jnp.float32])
    assert_close(outputs[1], oracle.residual)
    _assert_rounded(outputs[0], oracle.context, dtype)
    # Gradients too are summed in float32 and rounded at the end.
    expected = oracle.gradients(*cotangent)
    for name, gradient in gradients.items():
      chex.assert_type(gradient, dtype)
      _assert_rounded(gradient, expected[name], dtype)

  @parameterized.product(
    implementation=IMPLEMENTATIONS, dtype=(jnp.bfloat16, jnp.float16)
  )
  def test_many_keys_are_summed_in_float32(self, implementation, dtype):
    # A sum of ones in bfloat16 sticks at 256, in float16 at 2048; and a score
    # of 4096 · 16 · 16 is more than a float16 can hold.
    query, key = (jnp.full((1, 1, 4096), 16, dtype) for _ in range(2))
    key = jnp.broadcast_to(key, (4096, 1, 4096))
    value = jnp.ones((4096, 1, 1), dtype)
    context, residual = attention(
      query, key, value, implementation=implementation, return_residual=True
    )
    chex.assert_trees_all_equal(context, jnp.ones((1, 1, 1), dtype))
    expected = np.log(4096) + 4096 * 16 * 16 / 64
    assert_close(residual, np.full((1, 1), expected), 1e-7)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_close_scores_are_told_apart_in_bfloat16(self, implementation):
    # Scores 256 and 257 are one number in bfloat16; their weights differ by e.
    query = jnp.full((1, 1, 1), 1, jnp.bfloat16)
    key = jnp.array([[[256.0]], [[1.0]]], jnp.bfloat16)
    bias = jnp.array([[[0.0, 256.0]]])
    value = jnp.array([[[0.0]], [[1.0]]], jnp.bfloat16)
    context = attention(query, key, value, bias, implementation=implementation)
    expected = np.full((1, 1, 1), 1 / (1 + np.exp(-1)))
    _assert_rounded(context, expected, jnp.bfloat16)


def _assert_rounded(actual, exact, dtype):
  """Off by half a unit in the last place, as any rounding is."""
  unit = float(jnp.finfo(dtype).eps) / 2 * 1.001
  # A float32 sum adds an error of 2e-6 of the largest terms before.
  atol = 4e-6 * max(1, np.abs(exact).max())
  chex.assert_trees_all_close(
    np.float64(actual), np.float64(exact), rtol=unit, atol=atol
  )


class DerivativesTest(parameterized.TestCase):
  """Of any order, in both directions, in float64 against differences."""

  def _call(self, implementation):
    mask = masks.dense(ragged_mask())

    def context(arguments):
      return attn.attention(
        **arguments, mask=mask, implementation=implementation
      )

    return context

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_forward_mode(self, implementation):
    with jax.enable_x64(True):
      arguments = _arguments(jnp.float64)
      tangents = _directions(arguments)
      call = self._call(implementation)
      _, actual = compile_fast(lambda x: jax.jvp(call, (x,), (tangents,)))(
        arguments
      )

    def along(step):
      moved = {
        k: np.float64(x) + step * np.float64(tangents[k])
        for k, x in arguments.items()
      }
      return oracles.Attention(**moved, mask=ragged_mask()).context

    assert_close(actual, oracles.slope(along, 0.0, 1.0), 1e-8)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_hessian_vector_products(self, implementation):
    with jax.enable_x64(True):
      arguments = _arguments(jnp.float64)
      tangents = _directions(arguments)
      cotangent, _ = cotangents(arguments)
      call = self._call(implementation)

      def gradient(x):
        return jax.vjp(call, x)[1](cotangent)[0]

      actual = compile_fast(lambda x: jax.jvp(gradient, (x,), (tangents,))[1])(
        arguments
      )

    def along(step, name):
      moved = {
        k: np.float64(x) + step * np.float64(tangents[k])
        for k, x in arguments.items()
      }
      oracle = oracles.Attention(**moved, mask=ragged_mask())
      return oracle.gradients(cotangent)[name]

    for name in arguments:
      expected = oracles.slope(lambda x, n=name: along(x, n), 0.0, 1.0)
      assert_close(actual[name], expected, 1e-8)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_what_a_score_mod_captures_is_differentiated(self, implementation):
    table, cap = normal(N, T + S, seed=5), jnp.float32(1.5)

    def context(table, cap):
      def score_mod(score, b, n, q, k):
        return cap * jnp.tanh((score + table[n, q - k + S]) / cap)

      return attn.attention(
        **qkv(), score_mod=score_mod, implementation=implementation
      )

    cotangent, _ = cotangents(qkv())
    actual = compile_fast(lambda *x: jax.vjp(context, *x)[1](cotangent))(
      table, cap
    )

    def loss(table, cap):
      oracle = oracles.Attention(
        **qkv(),
        score_mod=lambda score, b, n, q, k: (
          cap * np.tanh((score + table[n, q - k + S]) / cap)
        ),
      )
      return np.sum(oracle.context * np.asarray(cotangent))

    table, cap = np.float64(table), np.float64(cap)
    expected = oracles.jacobian(lambda x: np.array([loss(x, cap)]), table)[0]
    assert_close(actual[0], expected, 4e-6)
    expected = oracles.slope(lambda x: loss(table, x), cap, 1.0)
    assert_close(actual[1], expected, 4e-6)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_scale_is_differentiated(self, implementation):
    with jax.enable_x64(True):
      arguments, scale = qkv(dtype=jnp.float64), jnp.array(0.3, jnp.float64)
      cotangent, _ = cotangents(arguments)

      def context(scale):
        return attn.attention(
          **arguments, scale=scale, implementation=implementation
        )

      actual = compile_fast(lambda x: jax.vjp(context, x)[1](cotangent))(scale)

    def loss(scale):
      context = oracles.Attention(**arguments, scale=scale).context
      return np.sum(context * np.asarray(cotangent))

    assert_gradients(actual, loss, [scale])


def _directions(arguments):
  return {
    k: normal(*x.shape, seed=30 + i, dtype=x.dtype)
    for i, (k, x) in enumerate(arguments.items())
  }


if __name__ == '__main__':
  absltest.main()
