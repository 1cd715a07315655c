"""Muon: the numbers of optax's, however many devices work on them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from attn.modules.sharding import DATA
from attn.training import devices
from attn.training.muon import scale_by_muon

pytestmark = pytest.mark.smoke


@pytest.fixture(autouse=True)
def _standard_promotion():
  # optax multiplies a Python float by an int32 count.
  with jax.numpy_dtype_promotion('standard'):
    yield


def gradients(count: int) -> list[dict[str, jax.Array]]:
  """Of matrices that lie, stand and are square, three of one shape."""
  rng = np.random.default_rng(0)
  shapes = {'a': (6, 4), 'b': (4, 6), 'c': (5, 5), 'd': (4, 6), 'e': (1, 3)}
  return [
    {
      name: jnp.asarray(rng.normal(size=shape), jnp.float32)
      for name, shape in shapes.items()
    }
    for _ in range(count)
  ]


def run(transformation: optax.GradientTransformation) -> list:
  made = gradients(4)
  state, updates = transformation.init(made[0]), []
  for gradient in made:
    update, state = transformation.update(gradient, state, gradient)
    updates.append(update)
  return updates


def test_is_optax():
  theirs = optax.contrib.muon(-1.0, beta=0.95)
  chex.assert_trees_all_close(
    run(scale_by_muon(0.95)), run(theirs), rtol=2e-5, atol=2e-5
  )


def test_devices_that_share_the_work_make_the_same():
  mesh = devices.make_mesh({'data': 2})
  everywhere = PartitionSpec()
  shared = jax.shard_map(
    lambda: run(scale_by_muon(0.95, DATA)),
    mesh=mesh,
    in_specs=(),
    out_specs=everywhere,
    check_vma=False,
  )
  chex.assert_trees_all_close(
    jax.jit(shared)(), run(scale_by_muon(0.95)), atol=1e-5
  )


def test_what_devices_keep_parts_of_is_the_same():
  mesh = devices.make_mesh({'fsdp': 2})
  assert mesh is not None
  made = gradients(1)[0]
  divided = jax.sharding.NamedSharding(mesh, PartitionSpec(None, 'fsdp'))
  made['a'] = jax.device_put(made['a'], divided)
  shared, alone = scale_by_muon(0.95, mesh=mesh), scale_by_muon(0.95)
  got, _ = jax.jit(shared.update)(made, shared.init(made))
  expected, _ = alone.update(gradients(1)[0], alone.init(made))
  chex.assert_trees_all_close(got, expected, atol=1e-5)


def test_singular_values_are_near_one():
  (update,) = run(scale_by_muon(0.95))[:1]
  for x in update.values():
    scale = max(1, x.shape[1] / x.shape[0]) ** 0.5
    values = np.linalg.svd(np.asarray(x) / scale, compute_uv=False)
    assert ((values > 0.3) & (values < 1.3)).all()


def test_a_gradient_of_zero_moves_nothing():
  muon = scale_by_muon(0.95)
  zero = {'a': jnp.zeros((2, 3))}
  update, _ = muon.update(zero, muon.init(zero))
  chex.assert_trees_all_equal(update, zero)
