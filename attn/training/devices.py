"""The devices that a run computes on, and the memory they are given."""

import contextlib
import ctypes
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from attn.training.errors import UserError

# The axis of a mesh along which the rows of a batch are dealt out.
DATA = 'data'

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def make_mesh(data: int) -> Mesh | None:
  """As many devices as rows are dealt out to; None for one.

  On a CPU the cores are made as many devices as are asked for, which must
  happen before anything is computed.  A small model's products are too short to
  be shared by two cores; half of its rows each, and no core waits.

  Args:
    data: How many.

  Returns:
    A mesh with the axis `DATA`.

  Raises:
    UserError: if there are not that many.
  """
  if data == 1:
    return None
  # Once something was computed, there are as many as there are.
  with contextlib.suppress(RuntimeError):
    jax.config.update('jax_num_cpu_devices', data)
  found = jax.device_count()
  if found < data:
    raise UserError(
      f'config.mesh.data: got {data}, wanted at most {found}, the devices '
      'that this process has'
    )
  return jax.make_mesh(
    (data,),
    (DATA,),
    axis_types=(AxisType.Auto,),
    devices=jax.devices()[:data],
  )


def everywhere(tree: Any, mesh: Mesh | None) -> Any:
  """Arrays, whole on every device of the mesh."""
  if mesh is None:
    return tree
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def beside(batch: Any, params: Any) -> Any:
  """A batch, its rows dealt out to the devices that the parameters are on."""
  sharding = jax.tree.leaves(params)[0].sharding
  if not isinstance(sharding, NamedSharding):
    return batch
  return jax.device_put(
    batch, NamedSharding(sharding.mesh, PartitionSpec(DATA))
  )


def keep_freed_memory() -> None:
  """Ask the C library to keep the memory that a step frees, for the next.

  glibc returns large arrays to the system at once and is given them anew, page
  by page, each page wiped: a quarter of the time of a small model's step.
  Other C libraries are left as they are.
  """
  library = ctypes.CDLL(None)
  if not hasattr(library, 'gnu_get_libc_version'):
    return
  most = 2**31 - 1
  library.mallopt(_MMAP_THRESHOLD, most)
  library.mallopt(_TRIM_THRESHOLD, most)
