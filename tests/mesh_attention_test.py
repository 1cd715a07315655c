"""Multi-head attention where a mesh divides the tokens."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from jax.sharding import AxisType

from attn import masks
from attn.modules import MultiHeadAttention
from attn.modules.sharding import AXES


def make_mesh():
  """Both devices share the tokens."""
  return jax.make_mesh((1, 1, 1, 2), AXES, axis_types=(AxisType.Auto,) * 4)


def find(layer, length, mask=None, mesh=None):
  """Output and gradient, and whether keys go around in them."""
  x = jax.random.normal(jax.random.key(1), (2, length, 16))
  params = layer.init(jax.random.key(0), x)

  def run(params, x, mask):
    def loss(params):
      out = layer.apply(params, x, mask=mask)
      return (out**2).sum(), out

    return jax.grad(loss, has_aux=True)(params)

  with jax.set_mesh(mesh or jax.make_mesh((1,), ('none',))):
    compiled = jax.jit(run).lower(params, x, mask).compile()
    found = jax.device_get(compiled(params, x, mask))
  return found, 'collective-permute' in compiled.as_text()


class MeshAttentionTest(parameterized.TestCase):
  @parameterized.parameters(
    {'num_kv_heads': 2},
    {'rope_base': 1e4, 'qk_norm': True},
    {'sinks': True},
    {'score': 'cosine'},
  )
  def test_keys_go_around(self, **options):
    layer = MultiHeadAttention(num_heads=4, **options)
    lengths = jnp.array([5, 8])
    mask = masks.causal() & masks.padding(lengths)
    expected, alone = find(layer, 8, mask)
    found, around = find(layer, 8, mask, make_mesh())
    self.assertTrue(around)
    self.assertFalse(alone)
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found)):
      np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)

  @parameterized.parameters((7, {}), (8, {'implementation': 'dense'}))
  def test_keys_are_gathered_where_they_cannot_go_around(self, length, options):
    layer = MultiHeadAttention(num_heads=4, **options)
    expected, _ = find(layer, length, masks.causal())
    found, around = find(layer, length, masks.causal(), make_mesh())
    self.assertFalse(around)
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found)):
      np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
