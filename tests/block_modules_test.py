"""Linear, FeedForward and TransformerBlock."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from attn import masks
from attn.modules import (
  FeedForward,
  Linear,
  MultiHeadAttention,
  TransformerBlock,
)
from tests import module_cases
from tests.checks import assert_close
from tests.inputs import booleans, normal
from tests.module_cases import (
  B,
  D,
  F,
  H,
  K,
  N,
  T,
  assert_dropout,
  assert_every_parameter_learns,
  compile_fast,
  random_parameters,
  reach,
  run,
  shapes,
)

_ACTIVATIONS = ('gelu', 'gelu_exact', 'relu2', 'swiglu', 'geglu')
_POSITIONS = np.array([[0, 3, 4, 1, 9], [5, 2, 2, 7, 30]])


def _block(attention=(), activation='relu2', **options):
  if attention is not None:
    attention = MultiHeadAttention(N, K, H, **dict(attention))
  return TransformerBlock(attention, FeedForward(F, activation), **options)


class LinearTest(parameterized.TestCase):
  @parameterized.product(
    batch=((), (T,), (B, T), (B, N, T), (B, 0)), use_bias=(True, False)
  )
  def test_is_dense(self, batch, use_bias):
    x = normal(*batch, D)
    layer, dense = (kind(F, use_bias=use_bias) for kind in (Linear, nn.Dense))
    parameters = random_parameters(dense, x)
    actual = run(layer, parameters, x)
    assert_close(actual, run(dense, parameters, x), 1e-6)
    self.assertEqual(shapes(random_parameters(layer, x)), shapes(parameters))

  def test_starts_as_dense_does(self):
    x = normal(D)
    starts = [
      compile_fast(kind(F, use_bias=True).init)(jax.random.key(0), x)
      for kind in (Linear, nn.Dense)
    ]
    chex.assert_trees_all_equal(*starts)

  def test_gradients_are_those_of_dense(self):
    x, cotangent = normal(B, T, D), normal(B, T, F, seed=1)
    parameters = random_parameters(Linear(F, use_bias=True), x)

    @functools.partial(compile_fast, static_argnums=0)
    def gradients(layer, parameters, x):
      _, pull_back = jax.vjp(layer.apply, parameters, x)
      return pull_back(cotangent)

    actual, expected = (
      gradients(kind(F, use_bias=True), parameters, x)
      for kind in (Linear, nn.Dense)
    )
    assert_close(actual, expected, 1e-6)


class FeedForwardTest(parameterized.TestCase):
  @parameterized.parameters(*_ACTIVATIONS)
  def test_equals_its_formula(self, activation):
    with jax.enable_x64(True):
      x = normal(B, T, D, dtype=jnp.float64)
      layer = FeedForward(F, activation)
      parameters = random_parameters(layer, x)
      actual = run(layer, parameters, x)
      chex.assert_type(actual, jnp.float64)
    kernels = jax.tree.map(np.float64, parameters['params'])
    expected = module_cases.feed_forward(activation, kernels, np.float64(x))
    assert_close(actual, expected, 1e-13)

  def test_parameters(self):
    x = normal(B, T, D)
    two = {'in/kernel': (D, F), 'out/kernel': (F, D)}
    for activation in _ACTIVATIONS:
      gated = activation in ('swiglu', 'geglu')
      gate = {'gate/kernel': (D, F)} if gated else {}
      parameters = random_parameters(FeedForward(F, activation), x)
      self.assertEqual(shapes(parameters), two | gate)

  def test_out_init_starts_the_output_and_nothing_else(self):
    layer = FeedForward(F, 'swiglu', out_init=nn.initializers.zeros)
    start = compile_fast(layer.init)(jax.random.key(0), normal(D))['params']
    for name in ('in', 'gate', 'out'):
      self.assertEqual(bool((start[name]['kernel'] == 0).all()), name == 'out')

  def test_unknown_activation(self):
    with self.assertRaisesRegex(
      ValueError, "activation: got 'tanh', wanted one of .*gelu.*relu2.*swiglu"
    ):
      random_parameters(FeedForward(F, 'tanh'), normal(T, D))


class TransformerBlockTest(parameterized.TestCase):
  @parameterized.product(
    norm=('layernorm', 'rmsnorm', 'rmsnorm1p'),
    attention=({'rope_base': 50.0}, None),
  )
  def test_equals_its_formula(self, norm, attention):
    # Flax's norms promote dtypes themselves where x is not float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
      x = 3 + normal(B, T, D, dtype=jnp.float64)  # layernorm takes the 3 away
      layer, mask = _block(attention, 'swiglu', norm=norm), booleans(B, 1, T, T)
      parameters = random_parameters(layer, x)
      actual = run(layer, parameters, x, mask=mask, positions=_POSITIONS)
      chex.assert_type(actual, jnp.float64)
    expected = module_cases.block(
      jax.tree.map(np.float64, parameters['params']),
      np.float64(x),
      kind=norm,
      activation='swiglu',
      num_kv_heads=K,
      rope_base=50.0,
      mask=np.asarray(mask),
      positions=_POSITIONS,
    )
    assert_close(actual, expected, 1e-12)

  def test_parameters(self):
    parameters = random_parameters(_block(), normal(T, D))
    feed_forward = {
      'feed_forward/in/kernel': (D, F),
      'feed_forward/out/kernel': (F, D),
      'feed_forward_norm/scale': (D,),
    }
    attention = {
      'attention/query/kernel': (D, N * H),
      'attention/key/kernel': (D, K * H),
      'attention/value/kernel': (D, K * H),
      'attention/out/kernel': (N * H, D),
      'attention_norm/scale': (D,),
    }
    self.assertEqual(shapes(parameters), attention | feed_forward)
    without = random_parameters(_block(None), normal(T, D))
    self.assertEqual(shapes(without), feed_forward)

  def test_adds_to_what_came_in(self):
    x, layer = normal(B, T, D), _block()
    parameters = random_parameters(layer, x)
    silent = jax.tree.map(lambda x: x, parameters)
    for half in ('attention', 'feed_forward'):
      kernel = parameters['params'][half]['out']['kernel']
      silent['params'][half]['out'] = {'kernel': jnp.zeros_like(kernel)}
    chex.assert_trees_all_equal(run(layer, silent, x), x)
    self.assertGreater(np.abs(run(layer, parameters, x) - x).max(), 0.1)

  @parameterized.parameters(
    (_block({'rope_base': 50.0, 'qk_norm': True}), np.tri(T, dtype=bool)),
    (_block(norm='rmsnorm', activation='swiglu'), np.tri(T, dtype=bool)),
    (_block(None), np.eye(T, dtype=bool)),
  )
  def test_who_sees_whom(self, layer, expected):
    x = normal(T, D)
    parameters = random_parameters(layer, x)
    causal = functools.partial(layer.apply, parameters, mask=masks.causal())
    np.testing.assert_array_equal(reach(causal, x), expected)

  def test_every_parameter_learns(self):
    x = normal(B, T, D)
    layer = _block({'rope_base': 50.0, 'qk_norm': True}, 'swiglu')
    assert_every_parameter_learns(layer, random_parameters(layer, x), x)

  def test_bfloat16_comes_back(self):
    x, layer = normal(B, T, D), _block()
    parameters = random_parameters(layer, x)
    with jax.numpy_dtype_promotion('standard'):
      narrow = run(layer, parameters, x.astype(jnp.bfloat16))
    chex.assert_type(narrow, jnp.bfloat16)
    assert_close(narrow, run(layer, parameters, x), 0.05)

  def test_a_token_of_zeros_is_no_trouble(self):
    x, layer = jnp.zeros((T, D)), _block({'qk_norm': True})
    parameters = random_parameters(layer, x)
    gradient = compile_fast(
      jax.grad(lambda x: layer.apply(parameters, x).sum())
    )
    np.testing.assert_array_equal(run(layer, parameters, x), 0)
    chex.assert_tree_all_finite(gradient(x))

  @parameterized.parameters(True, False)
  def test_unknown_norm(self, attends):
    layer = _block(() if attends else None, norm='batchnorm')
    with self.assertRaisesRegex(
      ValueError, "norm: got 'batchnorm', wanted one of .*layernorm.*rmsnorm"
    ):
      random_parameters(layer, normal(T, D))


class _Ones(nn.Module):
  """Stands in for attention and for feed-forward."""

  def __call__(self, x, **_):
    return jnp.ones_like(x)


class DropoutTest(parameterized.TestCase):
  def test_dropout_of_attention(self):
    x, layer = normal(T, D), _block({'dropout_rate': 0.4})
    parameters = random_parameters(layer, x)
    # What feed-forward makes of a mean is not the mean of what it makes.
    assert_dropout(layer, _block(), parameters, x, keeps_expectation=False)

  def test_both_halves_are_dropped_each_for_itself(self):
    layer = TransformerBlock(_Ones(), _Ones(), dropout_rate=0.5)
    x = jnp.zeros((101, 97))
    parameters = random_parameters(layer, x)
    rngs = {'dropout': jax.random.key(0)}
    dropped = run(layer, parameters, x, deterministic=False, rngs=rngs)
    # Each half adds 2 or nothing: binomial, within 4 standard deviations.
    for added, share in ((0, 0.25), (2, 0.5), (4, 0.25)):
      deviation = (share * (1 - share) / dropped.size) ** 0.5
      self.assertLess(abs((dropped == added).mean() - share), 4 * deviation)
    np.testing.assert_array_equal(run(layer, parameters, x), 2)

  @parameterized.parameters(-0.1, 1.1, float('nan'))
  def test_rates_are_probabilities(self, rate):
    with self.assertRaisesRegex(
      ValueError, rf'dropout_rate: got {rate}, wanted a probability in \[0, 1\]'
    ):
      random_parameters(_block(dropout_rate=rate), normal(T, D))


if __name__ == '__main__':
  absltest.main()
