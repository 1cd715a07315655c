"""The devices that a run computes on, and the memory they are given."""

import contextlib
import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from attn.modules.sharding import AXES, DATA, ROWS, SEQUENCE, tree_specs
from attn.training.errors import UserError

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def make_mesh(
  sizes: Mapping[str, int],
  processes: int = 1,
  devices: Sequence[Any] | None = None,
) -> Mesh | None:
  """All devices in a mesh with the axes `AXES`; None for one device alone.

  On a CPU the cores are made as many devices as are asked for, which must
  happen before anything is computed.  A small model's products are too short to
  be shared by two cores; half of its rows each, and no core waits.

  Args:
    sizes: Devices along each axis, 1 where it is not named; -1 for one of them
      takes what the others leave.
    processes: That have devices in it.
    devices: All there are, if not those of all processes.

  Returns:
    A mesh of all devices; None where every axis is 1 and one process is alone.

  Raises:
    UserError: if they do not multiply to the devices there are.

  Example:
    >>> dict(make_mesh({'fsdp': jax.device_count()}).shape)['data']
    1
  """
  sizes = {axis: sizes.get(axis, 1) for axis in AXES}
  wanted = math.prod(sizes.values())
  if wanted > 1:
    # Once something was computed, there are as many as there are.
    with contextlib.suppress(RuntimeError):
      jax.config.update('jax_num_cpu_devices', wanted // processes)
  if {*sizes.values(), processes} == {1} and devices is None:
    return None
  devices = jax.devices() if devices is None else devices
  sizes = _fill(sizes, len(devices))
  if len(devices) == 1:
    return None
  return jax.make_mesh(
    tuple(sizes.values()),
    AXES,
    axis_types=(AxisType.Auto,) * len(AXES),
    devices=devices,
  )


def _fill(sizes: dict[str, int], found: int) -> dict[str, int]:
  """Without -1, and as many as were found."""
  open_axes = [axis for axis, size in sizes.items() if size == -1]
  given = math.prod(size for size in sizes.values() if size != -1)
  told = ', '.join(f'{axis} {size}' for axis, size in sizes.items())
  if len(open_axes) > 1:
    raise UserError(
      f'config.mesh.{open_axes[1]}: got -1, and so did {open_axes[0]}; wanted '
      'one axis that takes what is left'
    )
  if open_axes and not found % given:
    return {**sizes, open_axes[0]: found // given}
  if given != found or open_axes:
    axis = max(sizes, key=lambda axis: sizes[axis])
    raise UserError(
      f'config.mesh.{axis}: got a mesh of {told}, wanted sizes that multiply '
      f'to {found}, the devices that there are; -1 takes what is left'
    )
  return sizes


def divides_rows_alone(mesh: Mesh) -> bool:
  """Whether every device holds all parameters, and rows of its own."""
  return mesh.size == mesh.shape[DATA]


def place(tree: Any, mesh: Mesh | None) -> Any:
  """Parameters, or a state, divided as `attn.modules.sharding` says."""
  if mesh is None:
    return tree
  return jax.device_put(tree, shardings(tree, mesh))


def shardings(tree: Any, mesh: Mesh) -> Any:
  """Where each array of a tree of parameters, or of a state, belongs."""
  return jax.tree.map(
    lambda spec: NamedSharding(mesh, spec), tree_specs(tree, mesh.shape)
  )


def mesh_of(params: Any) -> Mesh | None:
  """The mesh that parameters are on."""
  sharding = jax.tree.leaves(params)[0].sharding
  if not isinstance(sharding, NamedSharding):
    return None
  assert isinstance(sharding.mesh, Mesh)
  return sharding.mesh


def using(mesh: Mesh | None) -> contextlib.AbstractContextManager:
  """A context in which modules know the mesh."""
  return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def batch_sharding(mesh: Mesh, shape: Sequence[int]) -> NamedSharding:
  """Of one array of a batch, [..., B, T]."""
  length = shape[-1] % mesh.shape[SEQUENCE] == 0
  before = [None] * (len(shape) - 2)
  return NamedSharding(
    mesh, PartitionSpec(*before, ROWS, SEQUENCE if length else None)
  )


def beside(batch: Any, mesh: Mesh | None, rows: int) -> Any:
  """A batch, its rows and tokens dealt out to the devices of a mesh.

  Args:
    batch: Arrays [..., B, T], whole, or the rows of this process alone.
    mesh: The devices; None for one.
    rows: B of the whole batch.

  Returns:
    Arrays of all processes.
  """
  if mesh is None:
    return batch

  def put(x: Any) -> jax.Array:
    shape = (*x.shape[:-2], rows, x.shape[-1])
    sharding = batch_sharding(mesh, shape)
    if sharding.is_fully_addressable:
      return jax.device_put(x, sharding)
    return jax.make_array_from_process_local_data(sharding, x, shape)

  return jax.tree.map(put, batch)


def rows_here(mesh: Mesh | None, rows: int) -> slice:
  """Of the rows of a batch, those that devices of this process take."""
  if mesh is None:
    return slice(0, rows)
  sharding = NamedSharding(mesh, PartitionSpec(ROWS))
  taken = sharding.addressable_devices_indices_map((rows,)).values()
  ranges = [part[0].indices(rows) for part in taken if part]
  return slice(min(r[0] for r in ranges), max(r[1] for r in ranges))


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
