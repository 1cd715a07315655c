"""Normalisation layers by name."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from attn.modules.norms import ZeroCentredRMSNorm, make_norm
from tests import module_cases
from tests.checks import assert_close
from tests.inputs import normal
from tests.module_cases import random_parameters, run

T, D = 5, 11
_F32 = jnp.dtype('float32')


class NormsTest(parameterized.TestCase):
  def test_zero_centred_by_hand(self):
    x = jnp.array([[3.0, 4.0]])
    # The mean square is 12.5; with an epsilon of 3.5 the root is 4.
    layer = ZeroCentredRMSNorm(epsilon=3.5)
    start = layer.init(jax.random.key(0), x)
    np.testing.assert_array_equal(start['params']['scale'], 0)
    assert_close(layer.apply(start, x), [[0.75, 1.0]], 1e-6)
    parameters = {'params': {'scale': jnp.array([1.0, -1.0])}}
    assert_close(layer.apply(parameters, x), [[1.5, 0.0]], 1e-6)

  @parameterized.product(
    kind=('layernorm', 'rmsnorm', 'rmsnorm1p'), epsilon=(1e-6, 0.7)
  )
  def test_equals_its_formula(self, kind, epsilon):
    x = normal(T, D)
    use_bias = kind == 'layernorm'
    layer = make_norm(kind, 'n', _F32, epsilon=epsilon, use_bias=use_bias)
    parameters = random_parameters(layer, x)
    self.assertEqual('bias' in parameters['params'], use_bias)
    expected = module_cases.norm(
      kind, jax.tree.map(np.float64, parameters['params']), x, epsilon
    )
    assert_close(run(layer, parameters, x), expected, 2e-6)

  def test_half_precision_is_summed_in_float32(self):
    x = (300 * normal(T, D)).astype(jnp.float16)  # its squares overflow
    layer = ZeroCentredRMSNorm()
    parameters = random_parameters(layer, x)
    out = run(layer, parameters, x)
    self.assertEqual(out.dtype, np.float16)
    expected = module_cases.norm(
      'rmsnorm1p',
      jax.tree.map(np.float64, parameters['params']),
      np.float64(x),
    )
    assert_close(np.float64(out), expected, 2e-3)

  def test_refuses_by_name(self):
    with self.assertRaisesRegex(ValueError, "norm: got 'batch', wanted one of"):
      make_norm('batch', 'n', _F32)
    with self.assertRaisesRegex(
      ValueError, 'use_bias: got True, wanted False for rmsnorm'
    ):
      make_norm('rmsnorm', 'n', _F32, use_bias=True)


if __name__ == '__main__':
  absltest.main()
