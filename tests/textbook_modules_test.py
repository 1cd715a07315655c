"""The modules that lead up to multi-head attention."""

import functools

import chex
import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

import attn
from attn import masks
from attn.modules import (
  CausalSelfAttention,
  MultiHeadAttention,
  SelfAttention,
  StackedHeadsAttention,
)
from tests import oracles
from tests.checks import assert_close
from tests.inputs import normal
from tests.module_cases import (
  assert_dropout,
  assert_every_parameter_learns,
  compile_fast,
  random_parameters,
  reach,
  run,
  shapes,
)

pytestmark = pytest.mark.smoke

B, T, D, H, N = 2, 5, 7, 11, 3
_NAMES = ('query', 'key', 'value')
_TRIANGLE = np.tri(T, dtype=bool)
_MODULES = {
  'self': SelfAttention(H, use_bias=True),
  'causal': CausalSelfAttention(H, use_bias=True),
  'stacked': StackedHeadsAttention(N, H, use_bias=True),
}


def _kernels(parameters):
  return [parameters[name]['kernel'] for name in _NAMES]


def _one_head(parameters, x, mask=None):
  query, key, value = (
    np.float64(x) @ np.float64(parameters[name]['kernel'])
    + np.float64(parameters[name].get('bias', 0))
    for name in _NAMES
  )
  weights, _ = oracles.softmax(oracles.dot_product_scores(query, key), mask)
  return weights @ value


class OneHeadTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(SelfAttention, CausalSelfAttention)
  def test_equals_single_head_attention(self, module):
    x, layer = normal(B, T, D), module(H)
    parameters = random_parameters(layer, x)
    mask = jnp.tri(T, dtype=bool) if module is CausalSelfAttention else None
    actual = self.variant(layer.apply)(parameters, x)
    kernels = _kernels(parameters['params'])
    expected, _ = attn.single_head_attention(x, *kernels, mask=mask)
    assert_close(actual, expected, 1e-6)

  @parameterized.parameters((), (B,), (B, N))
  def test_equal_loops_with_bias(self, *batch):
    x = normal(*batch, T, D)
    for name, mask in (('self', None), ('causal', _TRIANGLE)):
      parameters = random_parameters(_MODULES[name], x)
      actual = run(_MODULES[name], parameters, x)
      assert_close(actual, _one_head(parameters['params'], x, mask), 3e-6)

  def test_parameters(self):
    for layer in (SelfAttention(H), CausalSelfAttention(H)):
      parameters = random_parameters(layer, normal(T, D))
      expected = {f'{name}/kernel': (D, H) for name in _NAMES}
      self.assertEqual(shapes(parameters), expected)
    biased = random_parameters(_MODULES['self'], normal(T, D))
    biases = {f'{name}/bias': (H,) for name in _NAMES}
    self.assertEqual(shapes(biased), expected | biases)


class StackedHeadsTest(chex.TestCase):
  def test_are_heads_side_by_side(self):
    x, layer = normal(B, T, D), _MODULES['stacked']
    parameters = random_parameters(layer, x)
    heads = [
      _one_head(parameters['params'][f'head_{n}'], x, _TRIANGLE)
      for n in range(N)
    ]
    actual = run(layer, parameters, x)
    assert_close(actual, np.concatenate(heads, -1), 3e-6)

  def test_equal_one_projection_split_into_heads(self):
    width = N * H  # the output's kernel can be the identity
    x, layer = normal(B, T, width), StackedHeadsAttention(N, H)
    parameters = random_parameters(layer, x)
    heads = [parameters['params'][f'head_{n}'] for n in range(N)]
    split = {
      name: {'kernel': jnp.concatenate([h[name]['kernel'] for h in heads], 1)}
      for name in _NAMES
    }
    split['out'] = {'kernel': jnp.eye(width)}
    expected = run(
      MultiHeadAttention(N), {'params': split}, x, mask=masks.causal()
    )
    assert_close(run(layer, parameters, x), expected, 1e-6)

  @parameterized.parameters(0, -1)
  def test_there_is_a_head(self, num_heads):
    with self.assertRaisesRegex(
      ValueError, f'num_heads: got {num_heads}, wanted at least 1'
    ):
      random_parameters(StackedHeadsAttention(num_heads, H), normal(T, D))


class PropertiesTest(parameterized.TestCase):
  def test_who_sees_whom(self):
    x, expected = normal(T, D), {'self': np.ones((T, T), bool)}
    for name, layer in _MODULES.items():
      parameters = random_parameters(layer, x)
      actual = reach(functools.partial(layer.apply, parameters), x)
      np.testing.assert_array_equal(actual, expected.get(name, _TRIANGLE))

  @parameterized.parameters(*_MODULES)
  def test_vmap_is_batch(self, name):
    x, layer = normal(B, T, D), _MODULES[name]
    parameters = random_parameters(layer, x)
    apart = compile_fast(jax.vmap(lambda x: layer.apply(parameters, x)))(x)
    assert_close(run(layer, parameters, x), apart, 1e-6)

  def test_every_parameter_learns(self):
    x = normal(T, D)
    for layer in (
      SelfAttention(H),
      CausalSelfAttention(H),
      StackedHeadsAttention(N, H),
    ):
      assert_every_parameter_learns(layer, random_parameters(layer, x), x)

  def test_bfloat16_comes_back(self):
    x, layer = normal(T, D), _MODULES['stacked']
    parameters = random_parameters(layer, x)
    narrow = run(layer, parameters, x.astype(jnp.bfloat16))
    chex.assert_type(narrow, jnp.bfloat16)
    assert_close(narrow, run(layer, parameters, x), 0.05)

  def test_float64_is_honoured(self):
    with jax.enable_x64(True):
      x, layer = normal(T, D, dtype=jnp.float64), _MODULES['causal']
      parameters = random_parameters(layer, x)
      actual = run(layer, parameters, x)
      chex.assert_type(actual, jnp.float64)
    assert_close(actual, _one_head(parameters['params'], x, _TRIANGLE), 1e-13)


class DropoutTest(parameterized.TestCase):
  @parameterized.parameters(
    (CausalSelfAttention, {}), (StackedHeadsAttention, {'num_heads': N})
  )
  def test_dropout(self, module, sizes):
    x = normal(T, D)
    layer = module(**sizes, head_dim=H, dropout_rate=0.4)
    assert_dropout(
      layer,
      module(**sizes, head_dim=H),
      random_parameters(layer, x),
      x,
      keeps_expectation=True,
    )

  def test_weights_are_dropped_and_the_others_scaled(self):
    # Where the values are the identity, the context is the weights.
    x, rate = jnp.eye(T), 0.25
    layer = StackedHeadsAttention(N, T, dropout_rate=rate)
    parameters = random_parameters(layer, x)
    for head in parameters['params'].values():
      head['value']['kernel'] = jnp.eye(T)
    weights = run(layer, parameters, x).reshape(T, N, T)
    rngs = {'dropout': jax.random.key(1)}
    dropped = run(layer, parameters, x, deterministic=False, rngs=rngs)
    dropped = dropped.reshape(T, N, T)
    kept = np.asarray(dropped != 0)
    assert_close(dropped, np.where(kept, weights / (1 - rate), 0), 1e-6)
    # A weight is dropped, not a key: of key 0, some queries lose sight.
    self.assertTrue((kept.any(0) & ~kept.all(0))[:, 0].any())
    kept = np.moveaxis(kept, 1, 0)[:, _TRIANGLE]  # [N, 15]
    self.assertBetween(kept.mean(), 0.55, 0.95)
    # Every head drops its own.
    self.assertLen(np.unique(kept, axis=0), N)

  def test_dropout_needs_an_rng(self):
    layer = CausalSelfAttention(H, dropout_rate=0.5)
    parameters = random_parameters(layer, normal(T, D))
    with self.assertRaisesRegex(flax.errors.InvalidRngError, 'dropout'):
      layer.apply(parameters, normal(T, D), deterministic=False)

  @parameterized.product(
    rate=(-0.5, 1.5, float('nan')), deterministic=(True, False)
  )
  def test_rates_are_probabilities(self, rate, deterministic):
    layer = CausalSelfAttention(H, dropout_rate=rate)
    with self.assertRaisesRegex(
      ValueError, rf'dropout_rate: got {rate}, wanted a probability in \[0, 1\]'
    ):
      random_parameters(layer, normal(T, D), deterministic=deterministic)


if __name__ == '__main__':
  absltest.main()
