"""Sums over the rows of a batch, each device taking some of the rows."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from attn.modules.ngram_counts import apart
from attn.modules.sharding import (
  DATA,
  FSDP,
  ROWS,
  SEQUENCE,
  TENSOR,
  tree_specs,
)

Array = jax.Array

# (params, batch, rng) -> ((value, gradient), another value).
Sum = Callable[[Any, Any, Array], tuple[tuple[Any, Any], Any]]


def over_rows(total: Sum, mesh: Mesh) -> Sum:
  """A sum over rows, and its gradient, with parameters divided by `FSDP`.

  Each device gathers the parameters, takes its rows, and sends to each other
  the sum of the gradient of what that keeps.  What `tensor` and `sequence`
  divide is left to the compiler.

  Args:
    total: Of the rows it is given.
    mesh: The devices.

  Returns:
    The same of all rows, for the same arguments.
  """
  axes = _row_axes(mesh)

  def of_all(params: Any, batch: Any, rng: Array) -> tuple[Any, Any]:
    if not axes:
      with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return total(params, batch, rng)
    specs = _kept(params, mesh)
    learned, _ = apart(specs)

    def of_some(params: Any, batch: Any, rng: Array) -> tuple[Any, Any]:
      rng = jax.random.fold_in(rng, jax.lax.axis_index(axes))
      (value, gradient), other = total(_gather(params, specs), batch, rng)
      scatter = functools.partial(_scatter, axes=axes)
      gradient = jax.tree.map(scatter, gradient, learned)
      value, other = jax.lax.psum((value, other), axes)
      return (value, gradient), other

    whole, rows = PartitionSpec(), PartitionSpec(axes)
    return _by_hand(
      of_some,
      mesh,
      in_specs=(specs, rows, whole),
      out_specs=((whole, learned), whole),
    )(params, batch, rng)

  return of_all


def sum_over_rows(
  function: Callable[[Any, Any], Any], params: Any, batch: Any
) -> Any:
  """function(params, batch), a sum over rows, on the mesh in use, if any."""
  mesh = jax.sharding.get_abstract_mesh()
  axes = _row_axes(mesh)
  if not axes:
    return function(params, batch)
  specs = _kept(params, mesh)

  def of_some(params: Any, batch: Any) -> Any:
    return jax.lax.psum(function(_gather(params, specs), batch), axes)

  whole, rows = PartitionSpec(), PartitionSpec(axes)
  return _by_hand(of_some, mesh, (specs, rows), whole)(params, batch)


def _row_axes(mesh: Any) -> tuple[str, ...]:
  """Those that divide rows, if it is done here and not by the compiler."""
  if not mesh.empty and mesh.shape[TENSOR] > 1 and mesh.shape[SEQUENCE] > 1:
    # It would fail to divide both inside of a `shard_map` (jaxlib 0.10).
    return ()
  return tuple(axis for axis in ROWS if mesh.shape.get(axis, 1) > 1)


def _kept(params: Any, mesh: Any) -> Any:
  """What `FSDP` divides of each parameter."""
  sizes = dict.fromkeys(mesh.axis_names, 1) | {FSDP: mesh.shape[FSDP]}
  return tree_specs(params, sizes)


def _gather(params: Any, specs: Any) -> Any:
  """Parameters whole, inside of `shard_map`."""

  def whole(x: Array, spec: PartitionSpec) -> Array:
    if FSDP not in spec:
      return x
    return jax.lax.all_gather(x, FSDP, axis=spec.index(FSDP), tiled=True)

  return jax.tree.map(whole, params, specs)


def _scatter(x: Array, spec: PartitionSpec, axes: tuple[str, ...]) -> Array:
  """The sum over all rows, of what this device keeps."""
  if FSDP not in spec:
    return jax.lax.psum(x, axes)
  axis = spec.index(FSDP)
  x = jax.lax.psum_scatter(x, FSDP, scatter_dimension=axis, tiled=True)
  return jax.lax.psum(x, DATA) if DATA in axes else x


def _by_hand(
  function: Callable, mesh: Any, in_specs: Any, out_specs: Any
) -> Callable:
  """`shard_map` over rows; the compiler does the rest, if there is any."""
  axes = _row_axes(mesh)
  alone = math.prod(mesh.shape[axis] for axis in axes) == mesh.size
  return jax.shard_map(
    function,
    mesh=mesh,
    in_specs=in_specs,
    out_specs=out_specs,
    axis_names=set(mesh.axis_names if alone else axes),
    # Not checked: it does not see that equal sums make equal values.
    check_vma=False,
  )
