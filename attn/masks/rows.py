"""Masks that are written out, dealt out by rows.

An array of T×S is as large as all scores of a head.  Where queries are in
parts, a device needs the rows of its own queries alone.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.masks.arrays import Dense
from attn.masks.base import Extents, Mask, Start, value
from attn.masks.combine import And, Not, Or, Shift
from attn.masks.heads import PerHead

Array = jax.Array


@value(arrays=('array', 'starts'))
class DenseRows(Mask):
  """Rows of a `dense` mask, as tiles of a device want them.

  Only for `tile`, at the start of one of these rows of tiles, and for queries
  in them.

  Attributes:
    array: bool[B|1, N|1, rows * block_q, S|1].
    starts: int32[rows], the first query of each row of tiles.
  """

  array: Array
  starts: Array

  @property
  def extents(self) -> Extents:
    """Those of the whole, as far as a part tells."""
    b, n, _, k = (None if size == 1 else size for size in self.array.shape)
    return (b, n, None, k)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Look the answer up."""
    block_q = self.array.shape[2] // self.starts.size
    within = jnp.asarray(q)[..., None] - self.starts
    row = ((within >= 0) & (within < block_q)).argmax(-1).astype(jnp.int32)
    return Dense(self.array)(b, n, row * block_q + q - self.starts[row], k)

  def padded(self, num_queries: int, num_keys: int) -> Mask:
    """The array padded along the keys."""
    padded: Any = Dense(self.array).padded(0, num_keys)
    return DenseRows(padded.array, self.starts)

  def _tile(self, start: Start, size: tuple[int, int]) -> Array:
    b, n, q, k = start
    row = jnp.argmax(self.starts == q).astype(jnp.int32)
    return Dense(self.array)._tile((b, n, row * size[0], k), size)


def over_dense(
  mask: Mask, num_queries: int, replace: Callable[[Dense], Mask]
) -> Mask:
  """Replace what has a row for each query.

  What is shifted along the queries is left: its rows are not those of the
  queries, and so parts of it would not be those of a device's queries.

  Args:
    mask: Any mask.
    num_queries: T.
    replace: From a mask that is an array of T rows to another.

  Returns:
    The mask, with others in the place of these.
  """
  if isinstance(mask, Dense):
    shape = mask.array.shape
    is_divided = len(shape) > 1 and shape[-2] == num_queries > 1
    return replace(mask) if is_divided else mask
  is_moved = isinstance(mask, Shift) and mask.queries != 0
  if is_moved or not isinstance(mask, And | Or | Not | PerHead | Shift):
    return mask
  again = functools.partial(
    over_dense, num_queries=num_queries, replace=replace
  )
  parts = {}
  for name in mask.parts:
    part = getattr(mask, name)
    parts[name] = (
      tuple(map(again, part)) if type(part) is tuple else again(part)
    )
  return dataclasses.replace(mask, **parts)


def has_rows(mask: Mask | None, num_queries: int) -> bool:
  """Whether it holds an array with a row for each of so many queries."""
  found: list[Mask] = []

  def see(mask: Dense) -> Mask:
    found.append(mask)
    return mask

  if mask is not None:
    over_dense(mask, num_queries, see)
  return bool(found)


def by_rows(mask: Mask, num_queries: int, starts: np.ndarray) -> Mask:
  """A mask whose arrays of T rows can be dealt out, with their tiles.

  Args:
    mask: Any mask.
    num_queries: T.
    starts: int32[devices * rows], the first query of every row of tiles.

  Returns:
    The mask, `DenseRows` in it.
  """

  def replace(mask: Dense) -> Mask:
    shape = (1,) * (4 - mask.array.ndim) + mask.array.shape
    return DenseRows(mask.array.reshape(shape), jnp.asarray(starts))

  return over_dense(mask, num_queries, replace)


def map_rows(function: Callable[[DenseRows], Any], mask: Any, rest: Any) -> Any:
  """Change every `DenseRows` in a mask.

  Args:
    function: From one to what stands in its place.
    mask: A mask, or None.
    rest: From any other array to what stands in its place.

  Returns:
    Leaves of the whole, in the order of those of the mask.
  """
  changed = jax.tree.map(
    lambda x: function(x) if isinstance(x, DenseRows) else rest(x),
    mask,
    is_leaf=lambda x: isinstance(x, DenseRows),
  )
  return jax.tree.leaves(changed)
