"""Muon: updates of matrices made orthogonal, the work dealt out to devices."""

import collections
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

Array = jax.Array

# One axis of a mesh, or several as one.
Axis = str | tuple[str, ...]

# Of the quintic that the paper iterates.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class MuonState(NamedTuple):
  """What Muon remembers.

  Attributes:
    made: int32[], updates.
    mean: Decaying mean of the gradients.
  """

  made: Array
  mean: Any


def scale_by_muon(
  decay: float, axis: str | None = None, mesh: Mesh | None = None
) -> optax.GradientTransformation:
  """Replace the mean gradient of each matrix by the nearest orthogonal one.

    update = U Vᵀ √max(1, columns / rows),   U S Vᵀ = mean gradient, about

  The numbers of `optax.contrib.muon`.  That orthogonalises one matrix after the
  other, on every device the same; here those of one shape go together, and each
  device takes some of them.

  Args:
    decay: Of the mean, with Nesterov's look ahead.
    axis: Inside `shard_map`, the axis whose devices share the work.
    mesh: Outside of it, the mesh whose devices do; None for one device.

  Returns:
    An optax transformation of matrices, [inputs, outputs].

  Example:
    >>> muon = scale_by_muon(0.95)
    >>> w = {'w': jnp.ones((2, 3))}
    >>> update, _ = muon.update({'w': jnp.eye(2, 3)}, muon.init(w))
    >>> bool((jnp.abs(update['w']) > 0.5).sum() == 2)
    True

  References:
    Jordan et al., 2024. https://kellerjordan.github.io/posts/muon
  """
  orthogonal = functools.partial(_orthogonal, axis=axis)
  if mesh is not None:
    # What is divided is gathered: a product needs all of its matrix.
    orthogonal = jax.shard_map(
      functools.partial(_orthogonal, axis=mesh.axis_names),
      mesh=mesh,
      in_specs=PartitionSpec(),
      out_specs=PartitionSpec(),
      check_vma=False,
    )

  def init(params: Any) -> MuonState:
    return MuonState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params))

  def update(
    updates: Any, state: Any, params: Any = None
  ) -> tuple[Any, MuonState]:
    del params
    made = jnp.asarray(optax.safe_increment(state.made))
    count = made.astype(jnp.float32)
    mean = optax.tree.update_moment(updates, state.mean, decay, 1)
    ahead = jax.tree.map(
      lambda mean, now: decay * mean + (1 - decay) * now,
      optax.tree.bias_correction(mean, decay, count + 1),
      optax.tree.bias_correction(updates, decay, count),
    )
    leaves, structure = jax.tree.flatten(ahead)
    turned = jax.tree.unflatten(structure, orthogonal(leaves))
    turned = jax.tree.map(
      lambda x: x * max(1.0, x.shape[1] / x.shape[0]) ** 0.5, turned
    )
    return turned, MuonState(made, mean)

  return optax.GradientTransformation(init, update)


def _orthogonal(matrices: Sequence[Array], axis: Axis | None) -> list[Array]:
  """Each matrix orthogonalised, those of one shape together."""
  alike = collections.defaultdict(list)
  for place, matrix in enumerate(matrices):
    alike[min(matrix.shape, matrix.shape[::-1])].append(place)
  stacks = [
    jnp.stack([_lying(matrices[place]) for place in places])
    for places in alike.values()
  ]
  made: list[Any] = [None] * len(matrices)
  for places, stack in zip(alike.values(), _orthogonal_stacks(stacks, axis)):
    for place, matrix in zip(places, stack):
      stands = matrix.shape != matrices[place].shape
      made[place] = matrix.T if stands else matrix
  return made


def _orthogonal_stacks(
  stacks: list[Array], axis: Axis | None
) -> Sequence[Array]:
  if axis is None:
    return [_iterate(stack) for stack in stacks]
  devices, me = jax.lax.axis_size(axis), jax.lax.axis_index(axis)
  mine = []
  for stack in stacks:
    share = -(-len(stack) // devices)
    # Whoever has nothing left to do does something twice.
    dealt = jnp.pad(
      stack, ((0, share * devices - len(stack)), (0, 0), (0, 0)), mode='edge'
    )
    mine.append(
      _iterate(jax.lax.dynamic_slice_in_dim(dealt, me * share, share))
    )
  # As one array: each array would be a message of its own.
  flat, apart = ravel_pytree(mine)
  gathered = jax.vmap(apart)(jax.lax.all_gather(flat, axis))
  return [
    found.reshape(-1, *stack.shape[1:])[: len(stack)]
    for found, stack in zip(gathered, stacks)
  ]


def _iterate(stack: Array) -> Array:
  """Newton and Schulz's iteration on matrices [G, m, n], m at most n."""
  a, b, c = _COEFFICIENTS
  norm = jnp.linalg.norm(stack, axis=(1, 2), keepdims=True)
  x = stack / (norm + 1e-8)
  for _ in range(_ITERATIONS):
    square = x @ x.swapaxes(1, 2)
    x = a * x + (b * square + c * square @ square) @ x
  return x


def _lying(matrix: Array) -> Array:
  return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
