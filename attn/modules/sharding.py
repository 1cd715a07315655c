"""Which axis of a mesh divides what: the one place that says so.

  data       rows of a batch; parameters are whole on every device
  fsdp       rows of a batch, and parameters, which are gathered to be used
  tensor     heads, the width inside the feed-forward, the vocabulary
  sequence   the tokens of a row; keys and values go around in attention

A size that an axis does not divide stays whole.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

Array = jax.Array

DATA, FSDP, TENSOR, SEQUENCE = AXES = ('data', 'fsdp', 'tensor', 'sequence')
# Those that divide the rows of a batch.
ROWS = (DATA, FSDP)

# The end of a parameter's path, a regular expression, and for each axis of the
# parameter what divides it.  The first that fits; the optimiser's memory of a
# parameter has a path that ends alike, and is divided alike.
PARAMETERS = (
  # [vocabulary, width]
  (r'embed/embedding', (TENSOR, FSDP)),
  # [n-gram rows, width of a row]
  (r'table_\d+/embedding', (FSDP, None)),
  # [width, heads x head size]
  (r'attention/(query|key|value|turn)/kernel', (FSDP, TENSOR)),
  (r'attention/(query|key|value)/bias', (TENSOR,)),
  # Of latent attention: [latent, heads, head size]
  (r'attention/(key|value)', (FSDP, TENSOR, None)),
  # [heads x head size, width]
  (r'attention/out/kernel', (TENSOR, FSDP)),
  # [width, inside the feed-forward]
  (r'feed_forward/(in|gate)/kernel', (FSDP, TENSOR)),
  # [inside the feed-forward, width]
  (r'feed_forward/out/kernel', (TENSOR, FSDP)),
  # [width, vocabulary]
  (r'head/kernel', (FSDP, TENSOR)),
  # Other matrices; vectors and numbers are whole everywhere.
  (r'kernel', (FSDP, None)),
)

# What an axis of an activation counts, and what divides it.
ACTIVATIONS: dict[str, tuple[str, ...]] = {
  'batch': ROWS,
  'length': (SEQUENCE,),
  'heads': (TENSOR,),
  'hidden': (TENSOR,),
  'vocab': (TENSOR,),
}


def parameter_spec(
  path: str, shape: tuple[int, ...], sizes: Mapping[str, int]
) -> PartitionSpec:
  """What divides each axis of a parameter.

  Args:
    path: Its names from the root on, with slashes between them.
    shape: Its shape.
    sizes: Devices along each axis of the mesh.

  Returns:
    A spec without the axes of the mesh that have one device.

  Example:
    >>> sizes = {'data': 1, 'fsdp': 4, 'tensor': 2, 'sequence': 1}
    >>> tuple(parameter_spec('block_0/attention/out/kernel', (8, 8), sizes))
    ('tensor', 'fsdp')
    >>> tuple(parameter_spec('block_0/attention/out/kernel', (8, 6), sizes))
    ('tensor', None)
  """
  for pattern, axes in PARAMETERS:
    if len(axes) == len(shape) and re.search(rf'(^|/|_){pattern}$', path):
      return PartitionSpec(
        *(
          axis if axis and sizes[axis] > 1 and not size % sizes[axis] else None
          for axis, size in zip(axes, shape)
        )
      )
  return PartitionSpec()


def tree_specs(tree: Any, sizes: Mapping[str, int]) -> Any:
  """`parameter_spec` of every array of a tree of parameters, or of a state."""

  def spec(path: Any, x: Any) -> PartitionSpec:
    return parameter_spec(path_name(path), x.shape, sizes)

  return jax.tree_util.tree_map_with_path(spec, tree)


def path_name(path: Any) -> str:
  """A path of `jax.tree_util`, with slashes."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def divides(name: str) -> bool:
  """Whether the mesh in use divides axes that count `name`; see ACTIVATIONS."""
  return bool(axes_of(name))


def constrain(x: Array, *names: str | None) -> Array:
  """Tell the compiler what divides the last axes of an activation.

  Without a mesh, x.  So it is where `shard_map` has divided an axis already.

  Args:
    x: Of any shape.
    names: What its last axes count, see ACTIVATIONS; None for undivided ones.

  Returns:
    x.

  Example:
    >>> constrain(jax.numpy.ones((2, 3, 8)), 'batch', 'length', None).shape
    (2, 3, 8)
  """
  mesh = jax.sharding.get_abstract_mesh()
  names = names[-x.ndim :]
  sizes = x.shape[x.ndim - len(names) :]
  axes = [axes_of(name, size) for name, size in zip(names, sizes)]
  if not any(axes):
    return x
  before = [PartitionSpec.UNCONSTRAINED] * (x.ndim - len(names))
  spec = PartitionSpec(*before, *(axis or None for axis in axes))
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def undivided(x: Array) -> Array:
  """x, whole on every device of the mesh in use, if any."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  return jax.lax.with_sharding_constraint(
    x, NamedSharding(mesh, PartitionSpec())
  )


def axes_of(name: str | None, size: int | None = None) -> tuple[str, ...]:
  """What divides an axis of an activation, on the mesh in use.

  Args:
    name: What the axis counts, see ACTIVATIONS; None for nothing.
    size: How many it counts; None for as many as can be divided.

  Returns:
    Axes of the mesh, none where they do not divide the size.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if name is None or mesh.empty:
    return ()
  left = dict(zip(mesh.axis_names, mesh.axis_types))
  axes = tuple(
    axis
    for axis in ACTIVATIONS[name]
    if left.get(axis) == AxisType.Auto and mesh.shape[axis] > 1
  )
  parts = 1
  for axis in axes:
    parts *= mesh.shape[axis]
  return () if size is not None and size % parts else axes
