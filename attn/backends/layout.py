"""How a call is dealt out to the devices of a mesh."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from attn.backends.problem import Floats, Others, Problem
from attn.call import Call

Array = jax.Array


class Layout(NamedTuple):
  """Axes of a mesh by what is dealt out along them.

  Attributes:
    mesh: The mesh; None for the one that is set.
    sequence: The axis of the sequence.
    batch: Axes of batch elements, perhaps none.
    heads: Axes of heads, perhaps none.
    sizes: Devices along these three.
    whole_queries: Whether only keys and values are dealt out, not queries.
  """

  mesh: Mesh | None
  sequence: str
  batch: tuple[str, ...]
  heads: tuple[str, ...]
  sizes: tuple[int, int, int]
  whole_queries: bool = False

  @property
  def devices(self) -> int:
    """Along the sequence."""
    return self.sizes[0]


def part_of(call: Call, layout: Layout) -> Call:
  """The shapes of what one device holds of a call."""
  devices, batch_parts, head_parts = layout.sizes

  def part(x: Array, devices: int) -> Any:
    batch, length, heads, size = x.shape
    shape = batch // batch_parts, length // devices, heads // head_parts, size
    return jax.ShapeDtypeStruct(shape, x.dtype)

  return dataclasses.replace(
    call,
    query=part(call.query, 1 if layout.whole_queries else devices),
    key=part(call.key, devices),
    value=part(call.value, devices),
  )


def problem_of(problem: Problem, call: Call, local: Call) -> Problem:
  """What one device computes of a call that was taken apart."""
  batch, heads, num_queries, num_keys = local.sizes
  return dataclasses.replace(
    problem,
    batch=batch,
    heads=heads,
    kv_heads=local.key.shape[2],
    num_queries=num_queries,
    num_keys=num_keys,
    mask=jax.tree.structure(call.mask),
    has_bias=call.bias is not None,
  )


def first_of(layout: Layout, problem: Problem) -> tuple[Array, Array]:
  """The first batch element and the first head of the device that asks."""

  def first(axes: tuple[str, ...], size: int) -> Array:
    return jax.lax.axis_index(axes) * size if axes else jnp.int32(0)

  return (
    first(layout.batch, problem.batch),
    first(layout.heads, problem.heads),
  )


def on_devices(
  layout: Layout,
  compute: Callable[[Floats, Others], Any],
  out_specs: Any,
  floats: Floats,
  others: Others,
  mask_specs: list[Any] | None = None,
) -> Any:
  """Compute on every device with its part of the arrays.

  Args:
    layout: How they are dealt out.
    compute: From the parts to its part of the result; `others.classes` have an
      axis of devices in front.
    out_specs: How the results are dealt out.
    floats: Float arrays of the whole call.
    others: Its other arrays.
    mask_specs: How those of the mask are dealt out; None for all to all.

  Returns:
    The results.
  """
  sequence, batch, heads = layout.sequence, layout.batch, layout.heads
  # Specs stand where arrays do: the types of these say nothing of them.
  keys: Any = P(batch, sequence, heads)
  queries: Any = P(batch, None if layout.whole_queries else sequence, heads)
  whole: Any = P()
  of_queries = None if layout.whole_queries else sequence

  def spec(x: Array | None, *axes: Any) -> Any:
    """Of an axis that has one entry for all, all have the whole."""
    if x is None:
      return None
    return P(*(axis if s > 1 else None for axis, s in zip(axes, x.shape)))

  in_specs = (
    Floats(
      query=queries,
      key=keys,
      value=keys,
      v=None,
      bias=spec(floats.bias, batch, heads, of_queries),
      sink=spec(floats.sink, heads),
      scale=spec(floats.scale),
      score_mod=[whole] * len(floats.score_mod),
    ),
    Others(
      poison=keys,
      mask=mask_specs or [whole] * len(others.mask),
      score_mod=[whole] * len(others.score_mod),
      seeds=spec(others.seeds, batch, heads),
      classes=spec(others.classes, sequence, batch, heads),
    ),
  )
  mesh = layout.mesh or jax.sharding.get_abstract_mesh()
  arrays: Any = (floats, others)
  if AxisType.Explicit in mesh.axis_types:
    # There arrays are where they are said to be; elsewhere the compiler sees.
    arrays = jax.tree.map(
      lambda spec, x: jax.sharding.reshard(x, NamedSharding(mesh, spec)),
      in_specs,
      arrays,
    )
  # Not checked: it does not know that a ring ends where it began.
  shared = jax.shard_map(
    compute,
    mesh=layout.mesh,
    in_specs=in_specs,
    out_specs=out_specs,
    axis_names={sequence, *batch, *heads},
    check_vma=False,
  )
  return shared(*arrays)
