"""Which blocks of a mask are empty, and which are full.

First every block is asked for what its numbers prove (`Mask._facts`).  A block
that this leaves open is settled by a few of its entries, or by asking the same
of its quarters, and theirs, down to squares small enough to be written out.  So
the answer is exact, and what it costs depends on the blocks, not on T×S.

A traced array cannot be looked at: what the numbers prove of it is all.
"""

from __future__ import annotations

import functools
import typing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.masks.arguments import is_traced, whole
from attn.masks.facts import (
  EMPTY,
  FULL,
  PARTIAL,
  Facts,
  Region,
  exactly,
  grid,
  span,
)

if typing.TYPE_CHECKING:
  from attn.masks.base import Mask

Array = jax.Array

# Squares of this side are written out rather than cut.
_SMALL = 16
# Rectangles looked at together: enough for NumPy, few enough for the memory.
_TOGETHER = 2**13


def cut(
  batch: int | None,
  heads: int | None,
  num_queries: int,
  num_keys: int,
  block_q: int,
  block_k: int,
) -> Region:
  """All blocks of a mask with these extents.

  Args:
    batch: B, None for any.
    heads: N, None for any.
    num_queries: T.
    num_keys: S.
    block_q: Queries in a block.
    block_k: Keys in a block.

  Returns:
    A grid.

  Raises:
    TypeError: if a size of a block is not an integer.
    ValueError: if it is less than 1.
  """
  # A block larger than the mask is the mask.
  block_q = min(whole('block_q', block_q, 1), max(num_queries, 1))
  block_k = min(whole('block_k', block_k, 1), max(num_keys, 1))
  return grid(
    1 if batch is None else batch,
    1 if heads is None else heads,
    *(num_queries, num_keys, block_q, block_k),
  )


@functools.lru_cache(maxsize=64)
def remembered(
  mask: Mask, batch: int | None, heads: int | None, *sizes: int
) -> np.ndarray:
  """Classes of a mask of numbers, computed once.

  Args:
    mask: A mask without arrays.
    batch: As for `cut`, and so the others.
    heads: N, None for any.
    *sizes: T, S, and those of a block.

  Returns:
    NumPy int8[B, N, rows, columns], read-only.
  """
  classes = np.asarray(classify(mask, cut(batch, heads, *sizes)))
  classes.flags.writeable = False
  return classes


def classify(mask: Mask, region: Region) -> np.ndarray | Array:
  """Classes of a grid's blocks; exact if no array of the mask is traced.

  Args:
    mask: The mask.
    region: A grid.

  Returns:
    int8[B, N, rows, columns], of NumPy unless an array is traced.
  """
  shape = np.broadcast_shapes(region.shape, region.b.shape, region.n.shape)
  if 0 in shape:
    return np.zeros(shape, np.int8)
  if _is_open(mask):
    classes = _prove(mask, region).classes
    return jnp.broadcast_to(jnp.asarray(classes), shape)
  return np.broadcast_to(_exact(mask, region), shape).copy()


def outline(mask: Mask, region: Region) -> np.ndarray:
  """Classes of a grid's blocks whatever the mask's arrays hold.

  Args:
    mask: The mask.
    region: A grid, of one batch element.

  Returns:
    NumPy int8[1, N, rows, columns], N of 1 unless numbers make heads differ.
  """
  shape = np.broadcast_shapes(region.shape, region.b.shape)
  if 0 in shape:
    return np.zeros(shape, np.int8)
  from attn.masks.base import is_single
  from attn.masks.combine import Unknown

  def hide(x: Mask) -> Mask:
    fixed = jax.tree.leaves(x) or x.extents[0] is not None
    return Unknown(x.starts_at_zero) if fixed else x

  mask = jax.tree.map(hide, mask, is_leaf=is_single)
  facts = _prove(mask, region)
  shape = np.broadcast_shapes(shape, facts.shape)
  return np.broadcast_to(facts.classes, shape).copy()


def _is_open(mask: Mask) -> bool:
  """Does it hold what cannot be looked at?"""
  from attn.masks.combine import Unknown

  leaves = jax.tree.leaves(mask, is_leaf=lambda x: isinstance(x, Unknown))
  return any(is_traced(x) or isinstance(x, Unknown) for x in leaves)


def _prove(mask: Mask, region: Region) -> Facts:
  """Facts of a mask that is open; of its parts that are not, all facts."""
  if _is_open(mask):
    return mask._facts(region, _prove)
  classes = _exact(mask, region)
  return exactly(classes != EMPTY, classes == FULL)


def _look(mask: Mask, region: Region) -> Facts:
  """Facts that do not need to look at entries."""
  return mask._facts(region, _look)


def _exact(mask: Mask, region: Region) -> np.ndarray:
  """int8 classes that broadcast to the region, of a mask that is not open."""
  mask = jax.tree.map(_as_numpy, mask)
  facts = _look(mask, region)
  shape = np.broadcast_shapes(facts.shape, region.shape)
  classes = np.broadcast_to(facts.classes, shape).copy()
  rest = ~np.broadcast_to(facts.settled, shape)
  if rest.any():
    classes[rest] = _settle(mask, region.listed(rest))
  return classes


def _as_numpy(leaf: Array) -> np.ndarray | Array:
  if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
    return leaf  # a PRNG key; NumPy has none
  return np.asarray(leaf)


def _settle(mask: Mask, region: Region) -> np.ndarray:
  """Classes of a list of blocks, from their entries where need be."""
  blocks = region.q_first.size
  # seen[x, i]: has block i an entry that is x?
  seen = np.zeros((2, blocks), bool)
  stack = [
    (np.arange(blocks)[i : i + _TOGETHER], region[i : i + _TOGETHER])
    for i in range(0, blocks, _TOGETHER)
  ]
  while stack:
    owner, parts = stack.pop()
    unsettled = ~seen[:, owner].all(0)
    owner, parts = owner[unsettled], parts[unsettled]
    if not owner.size:
      continue
    facts = _look(mask, parts)
    yes, no, settled = (
      np.broadcast_to(x, owner.shape)
      for x in (facts.has_true, facts.has_false, facts.settled)
    )
    rest = ~settled
    sides = (parts.q_last - parts.q_first, parts.k_last - parts.k_first)
    small = rest & (np.maximum(*sides) < _SMALL)
    for chosen, entries in (
      (slice(None), (yes, no)),
      (rest & ~small, _corners(mask, parts[rest & ~small])),
      (small, _entries(mask, parts[small])),
    ):
      for x, has in enumerate(reversed(entries)):
        seen[x, owner[chosen][has]] = True
    stack += _cut(owner[rest & ~small], parts[rest & ~small])
  return np.where(seen[1], np.where(seen[0], PARTIAL, FULL), EMPTY)


def _corners(mask: Mask, parts: Region) -> tuple[np.ndarray, np.ndarray]:
  """Whether True, and False, is at a corner or in the middle of each."""
  q_middle = (parts.q_first + parts.q_last) // 2
  k_middle = (parts.k_first + parts.k_last) // 2
  q = np.stack([parts.q_first, q_middle, parts.q_last], -1)
  k = np.stack([parts.k_first, k_middle, parts.k_last], -1)
  return _written(mask, parts, q, k)


def _entries(mask: Mask, parts: Region) -> tuple[np.ndarray, np.ndarray]:
  """Whether True, and False, is anywhere in each."""
  q = span(parts.q_first, parts.q_last, width=_SMALL)
  k = span(parts.k_first, parts.k_last, width=_SMALL)
  return _written(mask, parts, q, k)


def _written(
  mask: Mask, parts: Region, q: np.ndarray, k: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Any True, any False among queries [M, ...] and keys [M, ...]."""
  if not q.size:
    return np.zeros(0, bool), np.zeros(0, bool)
  shape = (*q.shape, k.shape[-1])
  b, n = parts.b[:, None, None], parts.n[:, None, None]
  indices: Any = (b, n, q[:, :, None], k[:, None, :])
  values = np.broadcast_to(np.asarray(mask(*indices)), shape)
  values = values.reshape(len(values), -1)
  return np.asarray(values.any(axis=1)), np.asarray((~values).any(axis=1))


def _cut(owner: np.ndarray, parts: Region) -> list[tuple[np.ndarray, Region]]:
  """Cut rectangles in two along each side that is not small."""
  middles, long = [], []
  for first, last in (
    (parts.q_first, parts.q_last),
    (parts.k_first, parts.k_last),
  ):
    middles.append((first + last) // 2)
    long.append(last - first >= _SMALL)
  quarters = []
  for q_upper in (False, True):
    for k_upper in (False, True):
      exists = (long[0] | (not q_upper)) & (long[1] | (not k_upper))
      q_first, q_last = _half(
        parts.q_first, middles[0], parts.q_last, long[0], q_upper
      )
      k_first, k_last = _half(
        parts.k_first, middles[1], parts.k_last, long[1], k_upper
      )
      quarter = Region(parts.b, parts.n, q_first, q_last, k_first, k_last)
      quarters.append((owner[exists], quarter[exists]))
  return quarters


def _half(
  first: np.ndarray,
  middle: np.ndarray,
  last: np.ndarray,
  long: np.ndarray,
  upper: bool,
) -> tuple[np.ndarray, np.ndarray]:
  """The lower or upper half, or all of what is not long."""
  if upper:
    return np.where(long, middle + np.int32(1), first), last
  return first, np.where(long, middle, last)
