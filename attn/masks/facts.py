"""What can be known of many rectangles of a mask without writing them out.

Of each rectangle four things are asked, and each may go unanswered; so the
answers of parts combine to answers of the whole, never wrong, sometimes none.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EMPTY = 0
"""Of a block of a mask: nothing in it is allowed."""

PARTIAL = 1
"""Of a block of a mask: some of it is allowed, and some is not."""

FULL = 2
"""Of a block of a mask: all of it is allowed."""


def numpy_or_jax(*values: Any) -> Any:
  """The library that computes with these: NumPy unless one belongs to JAX."""
  return jnp if any(isinstance(x, jax.Array) for x in values) else np


@dataclasses.dataclass(frozen=True)
class Facts:
  """What is known of the entries in each of many rectangles.

  NumPy or JAX arrays of bool, that broadcast; none is ever wrong.

  Attributes:
    can_true: False proves that no entry is True: the rectangle is empty.
    has_true: True proves that some entry is True.
    can_false: False proves that no entry is False: the rectangle is full.
    has_false: True proves that some entry is False.
  """

  can_true: Any
  has_true: Any
  can_false: Any
  has_false: Any

  def __and__(self, other: 'Facts') -> 'Facts':
    # A True of one is a True of both only where the other is full.
    here = self.has_true & ~other.can_false
    there = other.has_true & ~self.can_false
    return Facts(
      self.can_true & other.can_true,
      here | there,
      self.can_false | other.can_false,
      self.has_false | other.has_false,
    )

  def __or__(self, other: 'Facts') -> 'Facts':
    return ~(~self & ~other)

  def __invert__(self) -> 'Facts':
    return Facts(self.can_false, self.has_false, self.can_true, self.has_true)

  @property
  def answers(self) -> tuple[Any, Any, Any, Any]:
    """The four."""
    return (self.can_true, self.has_true, self.can_false, self.has_false)

  @property
  def shape(self) -> tuple[int, ...]:
    """What the four broadcast to."""
    return np.broadcast_shapes(*(np.shape(x) for x in self.answers))

  @property
  def classes(self) -> Any:
    """int8: EMPTY or FULL where that is proved, else PARTIAL."""
    array = numpy_or_jax(self.can_true, self.can_false)
    rest = array.where(self.can_false, PARTIAL, FULL)
    return array.where(self.can_true, rest, EMPTY).astype(np.int8)

  @property
  def settled(self) -> Any:
    """Is the class proved?"""
    mixed = self.has_true & self.has_false
    return ~self.can_true | ~self.can_false | mixed


def exactly(some: Any, every: Any) -> Facts:
  """All is known: some entry is True, every entry is."""
  return Facts(some, some, ~every, ~every)


def at_most(some: Any, every: Any) -> Facts:
  """Where not `some`, nothing is True; where `every`, everything is."""
  return Facts(some, every, ~every, ~some)


def unknown(shape: tuple[int, ...] = ()) -> Facts:
  """Nothing is known."""
  yes, no = np.ones(shape, bool), np.zeros(shape, bool)
  return Facts(yes, no, yes, no)


@dataclasses.dataclass(frozen=True)
class Region:
  """Rectangles of queries and keys, by the first and last index of each.

  Arrays of int32 that broadcast; either a list, all of shape [M], or a grid:
  b [B, 1, 1, 1], n [1, N, 1, 1], queries [1, 1, rows, 1], keys
  [1, 1, 1, columns].  No rectangle is empty.
  """

  b: np.ndarray
  n: np.ndarray
  q_first: np.ndarray
  q_last: np.ndarray
  k_first: np.ndarray
  k_last: np.ndarray

  @property
  def is_grid(self) -> bool:
    """Is it a grid, and not a list?"""
    return self.q_first.ndim == 4

  @property
  def shape(self) -> tuple[int, ...]:
    """What queries and keys broadcast to."""
    return np.broadcast_shapes(self.q_first.shape, self.k_first.shape)

  def moved(self, queries: int, keys: int) -> 'Region':
    """The region so many queries and keys earlier."""
    return dataclasses.replace(
      self,
      q_first=self.q_first - np.int32(queries),
      q_last=self.q_last - np.int32(queries),
      k_first=self.k_first - np.int32(keys),
      k_last=self.k_last - np.int32(keys),
    )

  def cropped(self, rows: bool, columns: bool) -> 'Region':
    """What is not above row 0, and not left of column 0.

    Args:
      rows: Whether to crop what is above.
      columns: Whether to crop what is to the left.

    Returns:
      The region; of a rectangle that is all outside, something inside.
    """

    def crop(x: np.ndarray, wanted: bool) -> np.ndarray:
      return np.maximum(x, np.int32(0)) if wanted else x

    return dataclasses.replace(
      self,
      q_first=crop(self.q_first, rows),
      q_last=crop(self.q_last, rows),
      k_first=crop(self.k_first, columns),
      k_last=crop(self.k_last, columns),
    )

  def listed(self, chosen: np.ndarray) -> 'Region':
    """Those rectangles where `chosen` is True, as a list.

    Args:
      chosen: bool, for one batch element or head if they do not differ.

    Returns:
      A list; of the first batch element or head, then.
    """
    size = tuple(slice(x) for x in chosen.shape)
    return Region(
      *(np.broadcast_to(x[size], chosen.shape)[chosen] for x in self._arrays())
    )

  def __getitem__(self, index: Any) -> 'Region':
    return Region(*(x[index] for x in self._arrays()))

  def _arrays(self) -> tuple[np.ndarray, ...]:
    return (
      *(self.b, self.n),
      *(self.q_first, self.q_last, self.k_first, self.k_last),
    )


def grid(
  batch: int,
  heads: int,
  num_queries: int,
  num_keys: int,
  block_q: int,
  block_k: int,
) -> Region:
  """All blocks of a mask; the last of a row or column may be smaller."""
  q = np.arange(0, num_queries, block_q, dtype=np.int32)
  k = np.arange(0, num_keys, block_k, dtype=np.int32)
  q_last = np.minimum(q + np.int32(block_q - 1), np.int32(num_queries - 1))
  k_last = np.minimum(k + np.int32(block_k - 1), np.int32(num_keys - 1))
  return grid_between(batch, heads, (q, q_last), (k, k_last))


def grid_between(
  batch: int,
  heads: int,
  queries: tuple[np.ndarray, np.ndarray],
  keys: tuple[np.ndarray, np.ndarray],
) -> Region:
  """A grid by the first and last index of its rows, and of its columns."""
  b, n = (x.astype(np.int32) for x in np.ogrid[:batch, :heads])
  q_first, q_last = (x[None, None, :, None] for x in queries)
  k_first, k_last = (x[None, None, None, :] for x in keys)
  b, n = b[..., None, None], n[..., None, None]
  return Region(b, n, q_first, q_last, k_first, k_last)


def span(
  first: np.ndarray,
  last: np.ndarray,
  array: Any = np,
  width: int | None = None,
) -> Any:
  """Indices [..., width] from first to last; of a shorter one, last repeats."""
  if width is None:
    width = int((last - first).max(initial=-1)) + 1
  index = first[..., None] + array.arange(width, dtype=np.int32)
  return array.minimum(index, last[..., None])
