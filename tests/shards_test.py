"""What several devices keep of an array is counted once, however divided."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from attn.training import devices, shards

pytestmark = pytest.mark.smoke


def test_checksum_does_not_depend_on_the_division():
  mesh = devices.make_mesh({'fsdp': 2})
  assert mesh is not None
  x = np.arange(24, dtype=np.float32).reshape(2, 6, 2) / 7
  tree = {'x': x, 'n': np.int32(5)}
  expected = shards.checksum(tree)
  for spec in ((), ('fsdp',), (None, 'fsdp'), (None, None, 'fsdp')):
    put = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
    divided = {'x': put, 'n': jnp.int32(5)}
    assert shards.checksum(divided) == expected
    assert shards.local_bytes(divided) == x.nbytes + 4


def test_checksum_notices_any_bit():
  x = np.arange(6, dtype=np.float32)
  found = {shards.checksum({'x': x})}
  for place in range(6):
    for bit in range(32):
      other = x.copy()
      other.view(np.uint32)[place] ^= np.uint32(1 << bit)
      found.add(shards.checksum({'x': other}))
  assert len(found) == 1 + 6 * 32
  assert shards.checksum({'x': x[::-1]}) not in found
  assert shards.checksum({'a': x, 'b': x + 1}) != shards.checksum(
    {'a': x + 1, 'b': x}
  )
