"""Arrays that several processes share: what is here, whole, and a checksum."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_MODULO = 2**64


def is_here(x: Any) -> bool:
  """Whether this process can read all of an array."""
  return not isinstance(x, jax.Array) or (
    x.is_fully_addressable or x.is_fully_replicated
  )


def whole(tree: Any) -> Any:
  """Arrays of NumPy, one after the other whole; all processes must ask."""

  def fetch(x: Any) -> np.ndarray:
    if is_here(x):
      return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))

  return jax.tree.map(fetch, tree)


def local_bytes(tree: Any) -> int:
  """How much of arrays this process has to write."""
  return sum(
    part.nbytes for x in jax.tree.leaves(tree) for part, _ in _owned(x)
  )


def checksum(tree: Any) -> int:
  """Of the part of arrays that is this process's.

    Σ over arrays a, elements i  (2 a + 1) (2 i + 1) bits(x[i])  mod 2⁶⁴

  Added up over processes it is the same however the arrays are divided, and
  another one if any one bit is.

  Example:
    >>> checksum({'w': np.array([1, 2], np.int32)})
    7
  """
  total = 0
  for number, x in enumerate(jax.tree.leaves(tree)):
    here = sum(_weighted(*part, np.shape(x)) for part in _owned(x))
    total += (2 * number + 1) * here
  return total % _MODULO


def _owned(x: Any) -> list[tuple[Any, Any]]:
  """Parts of an array, and where they are, that no other process counts."""
  if not isinstance(x, jax.Array):
    # Whole in every process, and the first's.
    return [] if jax.process_index() else [(np.asarray(x), ())]
  return [
    (shard.data, shard.index)
    for shard in x.addressable_shards
    if shard.replica_id == 0
  ]


def _weighted(part: Any, index: Any, shape: tuple[int, ...]) -> int:
  words = np.ascontiguousarray(part).reshape(-1)
  words = words.view(f'u{part.dtype.itemsize}').astype(np.uint64)
  places = np.zeros((), np.uint64)
  for axis, size in enumerate(shape):
    start, stop, _ = index[axis].indices(size) if index else (0, size, 1)
    along = np.arange(start, stop, dtype=np.uint64)
    places = places[..., None] * np.uint64(size) + along
  weights = np.uint64(2) * places.reshape(-1) + np.uint64(1)
  return int((words * weights).sum(dtype=np.uint64))
