"""Additive attention: what it promises, in numbers and in memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from jax.extend import core

from attn import additive, masks
from attn.backends.plan import make_plan
from tests.additive_cases import (
  HV,
  IMPLEMENTATIONS,
  WEIGHTS,
  floats,
  loss,
  quick_attend,
  quick_run,
  real_run,
  run,
)
from tests.checks import assert_close, assert_same_bits
from tests.inputs import B, K, N, S, T, ragged_mask


class PromisesTest(parameterized.TestCase):
  @parameterized.parameters(*IMPLEMENTATIONS)
  def test_rows_without_keys_are_0_and_send_nothing(self, implementation):
    arguments = floats()
    nothing = jnp.zeros((B, N, T, S), bool)
    (context, residual), gradients = real_run(
      arguments, nothing, implementation=implementation
    )
    assert_same_bits(context, jnp.zeros((B, T, N, HV)))
    chex.assert_trees_all_equal(residual, jnp.full((B, T, N), -jnp.inf))
    zeros = jax.tree.map(jnp.zeros_like, arguments)
    chex.assert_trees_all_equal(gradients, zeros)

  @parameterized.product(
    implementation=IMPLEMENTATIONS,
    poison=(np.nan, np.inf, -np.inf),
    kind=('shared', 'projected'),
  )
  def test_what_is_masked_changes_no_bit(self, implementation, poison, kind):
    mask = ragged_mask().at[:, :, :, ::3].set(False)
    arguments = floats(kind)
    poisoned = dict(arguments)
    for name in ('key', 'value'):
      poisoned[name] = poisoned[name].at[:, ::3, :, 1].set(poison)
    blind = np.argwhere(~np.asarray(mask).any(-1))
    for b, n, t in blind:
      poisoned['query'] = poisoned['query'].at[b, t, n, 2].set(poison)
    self.assertGreater(len(blind), 5)
    assert_same_bits(
      real_run(poisoned, mask, implementation=implementation),
      real_run(arguments, mask, implementation=implementation),
    )

  @parameterized.product(
    implementation=IMPLEMENTATIONS, name=('query', 'key', 'value')
  )
  def test_who_sees_a_nan_is_nan_and_nobody_else(self, implementation, name):
    mask = ragged_mask()
    arguments = floats('per head')
    clean, _ = real_run(arguments, mask, implementation=implementation)
    b, at, head = 0, 1, 1
    arguments[name] = arguments[name].at[b, at, head, 1].set(jnp.nan)
    sees = np.zeros((B, T, N), bool)
    for t, n in np.ndindex(T, N):
      if name == 'query':
        sees[b, t, n] = (t, n) == (at, head) and mask[b, n, t].any()
      else:
        sees[b, t, n] = n // (N // K) == head and mask[b, n, t, at]
    self.assertTrue(sees.any())
    (context, residual), gradients = real_run(
      arguments, mask, implementation=implementation
    )
    chex.assert_trees_all_equal(np.isnan(residual), sees)
    self.assertTrue(np.isnan(context[sees]).all())
    assert_same_bits(context[~sees], clean[0][~sees])
    if implementation != 'dense':
      # The loss is NaN, and so is what it sends: through no other row, though.
      others = gradients['query'][~sees]
      chex.assert_tree_all_finite(others)

  @parameterized.parameters(*IMPLEMENTATIONS)
  def test_a_nan_in_v_stays_in_its_head(self, implementation):
    mask, arguments = ragged_mask(), floats('per head')
    clean, _ = quick_attend(arguments, mask, implementation=implementation)
    arguments['v'] = arguments['v'].at[2, 5].set(jnp.nan)
    context, _ = quick_attend(arguments, mask, implementation=implementation)
    sees = np.moveaxis(np.asarray(mask.any(-1)), 1, 2) & (np.arange(N) == 2)
    chex.assert_trees_all_equal(np.isnan(context).all(-1), sees)
    chex.assert_trees_all_equal(context[~sees], clean[~sees])

  @parameterized.parameters('dense', 'blockwise')
  def test_a_nan_among_many_keys_is_not_passed_over(self, implementation):
    # From 64 keys on, XLA's maximum on a CPU passes over NaN.
    arguments = floats(batch=(1,), s=71)
    arguments['key'] = arguments['key'].at[0, 65, 0, 0].set(jnp.nan)
    context, _ = real_run(arguments, implementation=implementation)[0]
    self.assertTrue(np.isnan(context[:, :, : N // K]).all())
    self.assertTrue(np.isfinite(context[:, :, N // K :]).all())

  @parameterized.parameters(*IMPLEMENTATIONS)
  def test_huge_numbers_do_not_overflow(self, implementation):
    arguments = floats('projected')
    for name, size in (('query', 1e30), ('key', 1e-30), ('v', 1e30)):
      arguments[name] = size * arguments[name]
    outputs, gradients = real_run(arguments, implementation=implementation)
    chex.assert_tree_all_finite((outputs[0], gradients))

  @parameterized.product(
    implementation=IMPLEMENTATIONS, dtype=(jnp.bfloat16, jnp.float16)
  )
  def test_narrow_floats_come_back(self, implementation, dtype):
    arguments = floats(dtype=dtype)
    (context, residual), gradients = quick_run(
      arguments, implementation=implementation
    )
    chex.assert_type(jax.tree.leaves((context, gradients)), dtype)
    chex.assert_type(residual, jnp.float32)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), arguments)
    expected, gradients_of_wide = quick_run(wide, implementation='dense')
    eps = float(jnp.finfo(dtype).eps)
    assert_close(context, expected[0], eps)
    assert_close(residual, expected[1], 2e-6)
    assert_close(gradients, gradients_of_wide, 2 * eps)

  @parameterized.parameters(*IMPLEMENTATIONS)
  def test_axes_may_be_empty(self, implementation):
    def shape(**sizes):
      arguments = floats(**sizes)
      return quick_attend(arguments, implementation=implementation)[0].shape

    self.assertEqual(shape(t=0), (B, 0, N, HV))
    self.assertEqual(shape(batch=(0,)), (0, T, N, HV))
    self.assertEqual(shape(batch=()), (T, N, HV))
    self.assertEqual(shape(batch=(2, 1)), (2, 1, T, N, HV))
    no_keys, _ = quick_attend(floats(s=0), implementation=implementation)
    assert_same_bits(no_keys, jnp.zeros((B, T, N, HV)))

  @parameterized.parameters(*IMPLEMENTATIONS)
  def test_without_hidden_units_all_keys_are_alike(self, implementation):
    arguments = floats()
    for name in WEIGHTS:
      arguments[name] = arguments[name][..., :0]
    context, _ = quick_attend(arguments, implementation=implementation)
    mean = jnp.repeat(arguments['value'].mean(1), N // K, axis=1)
    assert_close(context, jnp.broadcast_to(mean[:, None], context.shape))


def _largest(jaxpr):
  """The most numbers that any array of a program has, loops included."""
  arrays = [v.aval for eqn in jaxpr.eqns for v in eqn.outvars]
  inner = [
    _largest(part.jaxpr if isinstance(part, core.ClosedJaxpr) else part)
    for eqn in jaxpr.eqns
    for value in eqn.params.values()
    for part in (value if isinstance(value, tuple | list) else (value,))
    if isinstance(part, core.ClosedJaxpr | core.Jaxpr)
  ]
  return max([0, *inner, *(getattr(x, 'size', 0) for x in arrays)])


def _shapes(length, width):
  row = jax.ShapeDtypeStruct((1, length, 1, width), jnp.float32)
  square = jax.ShapeDtypeStruct((width, width), jnp.float32)
  vector = jax.ShapeDtypeStruct((width,), jnp.float32)
  arrays = row, row, row, square, square, vector
  return dict(zip(('query', 'key', 'value', *WEIGHTS), arrays))


class MemoryTest(parameterized.TestCase):
  @parameterized.parameters(None, masks.causal(), masks.sliding_window(90, 0))
  def test_no_array_is_as_large_as_the_scores(self, mask):
    length, width = 1021, 64
    program = jax.make_jaxpr(lambda x: run(x, mask))(_shapes(length, width))
    self.assertLess(_largest(program.jaxpr), length**2 // 4)
    written = jax.make_jaxpr(lambda x: run(x, mask, 'dense'))
    wanted = length**2 * width
    self.assertGreaterEqual(
      _largest(written(_shapes(length, width)).jaxpr), wanted
    )

  def test_second_order_keeps_no_hidden_layer(self):
    length, width = 1021, 64
    hessian = jax.grad(lambda x: jax.grad(loss)(x)['key'].sum())
    program = jax.make_jaxpr(hessian)(_shapes(length, width))
    self.assertLess(_largest(program.jaxpr), length**2 * width // 16)

  def test_scratch_memory_of_a_long_call(self):
    def scratch(length):
      compiled = jax.jit(run).lower(_shapes(length, 128)).compile()
      return compiled.memory_analysis().temp_size_in_bytes

    longest = scratch(4096)
    self.assertLess(longest, 256 * 2**20)
    self.assertLess(longest, 2.2 * scratch(2048))

  def test_hidden_tiles_are_skipped(self):
    arguments = floats(t=500, s=1000, kind='projected', batch=(1,))
    given = {**dict.fromkeys(WEIGHTS), **arguments}
    call = additive._prepare(**given, mask=masks.sliding_window(0, 0))
    plan, _ = make_plan(call)
    self.assertLess(plan.visited, plan.rows * plan.columns / 2)
    self.assertGreaterEqual(plan.visited, plan.rows)

  @parameterized.parameters((1, 'dense'), (2048, 'blockwise'))
  def test_few_hidden_units_are_written_out(self, length, implementation):
    arguments = floats(t=length, s=length)
    given = {**dict.fromkeys(WEIGHTS), **arguments}
    call = additive._prepare(**given, mask=None)
    self.assertEqual(additive._choose(call), implementation)


if __name__ == '__main__':
  absltest.main()
