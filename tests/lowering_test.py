"""Programs lower for accelerators that are not there."""

import functools

import jax
import jax.numpy as jnp
from absl.testing import absltest, parameterized

import attn
from attn import masks, mods

_PLATFORMS = ('cuda', 'tpu')


class LoweringTest(parameterized.TestCase):
  @parameterized.parameters('dense', 'blockwise', 'ring', 'decode')
  def test_forward_and_gradient(self, implementation):
    mesh = jax.make_mesh(
      (2,), ('sequence',), axis_types=(jax.sharding.AxisType.Auto,)
    )
    attend = {
      'ring': functools.partial(attn.ring_attention, mesh=mesh),
      'decode': functools.partial(attn.decode_attention, mesh=mesh),
    }.get(
      implementation,
      functools.partial(attn.attention, implementation=implementation),
    )

    def loss(query, key, value, slopes, ids):
      mask = masks.causal() & masks.segments(ids)
      context = attend(
        query, key, value, mask=mask, score_mod=mods.alibi(slopes)
      )
      return (context.astype(jnp.float32) ** 2).sum(), context

    # Tiles of a real size, so that there are loops.
    x = jax.ShapeDtypeStruct((1, 2048, 2, 64), jnp.bfloat16)
    kv = jax.ShapeDtypeStruct((1, 2048, 1, 64), jnp.bfloat16)
    slopes = jax.ShapeDtypeStruct((2,), jnp.float32)
    ids = jax.ShapeDtypeStruct((2048,), jnp.int32)
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True))
    exported = jax.export.export(gradient, platforms=_PLATFORMS)(
      x, kv, kv, slopes, ids
    )
    self.assertEqual(exported.platforms, _PLATFORMS)
    shapes = [(y.shape, y.dtype) for y in exported.out_avals]
    wanted = [x, kv, kv, slopes, x]
    self.assertEqual(shapes, [(y.shape, y.dtype) for y in wanted])
    parts = implementation in ('ring', 'decode')
    self.assertEqual(exported.nr_devices, 2 if parts else 1)
    sent = exported.mlir_module().count('collective_permute')
    self.assertEqual(sent > 0, implementation == 'ring')


if __name__ == '__main__':
  absltest.main()
