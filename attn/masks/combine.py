"""Masks made of masks."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from attn.masks.base import (
  Ask,
  Extents,
  Lengths,
  Mask,
  Shape,
  Start,
  value,
)
from attn.masks.facts import Facts, Region, exactly, numpy_or_jax

Array = jax.Array


@value(parts=('left', 'right'))
class _Pair(Mask):
  """Two masks."""

  left: Mask
  right: Mask

  @property
  def extents(self) -> Extents:
    """What either mask fixes."""
    return join(self.left.extents, self.right.extents)

  @property
  def starts_at_zero(self) -> tuple[bool, bool]:
    """Whether either mask does."""
    return either(self.left, self.right)

  @property
  def _lengths(self) -> Lengths:
    return self.left._lengths + self.right._lengths

  def padded(self, num_queries: int, num_keys: int) -> Mask:
    """Both padded."""
    size = (num_queries, num_keys)
    return dataclasses.replace(
      self, left=self.left.padded(*size), right=self.right.padded(*size)
    )


@value(parts=('left', 'right'))
class And(_Pair):
  """Both masks allow it."""

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Both masks allow it."""
    return self.left(b, n, q, k) & self.right(b, n, q, k)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    return ask(self.left, region) & ask(self.right, region)

  def _dense(self, shape: Shape) -> Array:
    return self.left._dense(shape) & self.right._dense(shape)

  def _tile(self, start: Start, size: tuple[int, int]) -> Array:
    return self.left._tile(start, size) & self.right._tile(start, size)


@value(parts=('left', 'right'))
class Or(_Pair):
  """Either mask allows it."""

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Either mask allows it."""
    return self.left(b, n, q, k) | self.right(b, n, q, k)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    return ask(self.left, region) | ask(self.right, region)

  def _dense(self, shape: Shape) -> Array:
    return self.left._dense(shape) | self.right._dense(shape)

  def _tile(self, start: Start, size: tuple[int, int]) -> Array:
    return self.left._tile(start, size) | self.right._tile(start, size)


@value(parts=('inner',))
class Not(Mask):
  """The mask forbids it."""

  inner: Mask

  @property
  def extents(self) -> Extents:
    """What the mask fixes."""
    return self.inner.extents

  @property
  def _lengths(self) -> Lengths:
    return self.inner._lengths

  @property
  def starts_at_zero(self) -> tuple[bool, bool]:
    """Whether the mask does."""
    return self.inner.starts_at_zero

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """The mask forbids it."""
    return ~self.inner(b, n, q, k)

  def padded(self, num_queries: int, num_keys: int) -> Mask:
    """The mask padded."""
    return Not(self.inner.padded(num_queries, num_keys))

  def _facts(self, region: Region, ask: Ask) -> Facts:
    return ~ask(self.inner, region)

  def _dense(self, shape: Shape) -> Array:
    return ~self.inner._dense(shape)

  def _tile(self, start: Start, size: tuple[int, int]) -> Array:
    return ~self.inner._tile(start, size)


@value(parts=('inner',), numbers=('queries', 'keys'))
class Shift(Mask):
  """See `Mask.shift`."""

  inner: Mask
  queries: int
  keys: int

  @property
  def extents(self) -> Extents:
    """What the mask fixes, and how far it was moved."""
    b, n, *lengths = self.inner.extents
    q, k = self._move(lengths)
    return (b, n, q, k)

  @property
  def starts_at_zero(self) -> tuple[bool, bool]:
    """Whether the mask does."""
    return self.inner.starts_at_zero

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """The mask allows it so far up and to the left."""
    q, k = q - self.queries, k - self.keys
    array = numpy_or_jax(q, k)
    allowed = array.ones((), bool)
    rows, columns = self._moves_in
    if self._is_nowhere:
      return allowed & (q < q)
    if rows:
      q, allowed = array.maximum(q, 0), allowed & (q >= 0)
    if columns:
      k, allowed = array.maximum(k, 0), allowed & (k >= 0)
    return self.inner(b, n, q, k) & allowed

  def padded(self, num_queries: int, num_keys: int) -> Mask:
    """The mask padded, and moved."""
    size = (max(num_queries - self.queries, 0), max(num_keys - self.keys, 0))
    return Shift(self.inner.padded(*size), self.queries, self.keys)

  @property
  def _lengths(self) -> Lengths:
    return tuple(map(self._move, self.inner._lengths))

  def _move(self, lengths: Sequence[int | None]) -> tuple[int | None, ...]:
    moves = (self.queries, self.keys)
    pairs = zip(lengths, moves)
    return tuple(None if x is None else max(x + y, 0) for x, y in pairs)

  @property
  def _is_nowhere(self) -> bool:
    """Whether an array of what is moved has no entry to look at."""
    return any(0 in pair for pair in self.inner._lengths)

  @property
  def _moves_in(self) -> tuple[bool, bool]:
    """Whether rows, and columns, move in that the mask does not have."""
    rows, columns = self.inner.starts_at_zero
    return (rows and self.queries > 0, columns and self.keys > 0)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    moved = region.moved(self.queries, self.keys)
    if self._is_nowhere:
      return exactly(np.zeros(region.shape, bool), np.zeros((), bool))
    rows, columns = self._moves_in
    some, every = np.ones((), bool), np.ones((), bool)
    if rows:
      some, every = some & (moved.q_last >= 0), every & (moved.q_first >= 0)
    if columns:
      some, every = some & (moved.k_last >= 0), every & (moved.k_first >= 0)
    facts = ask(self.inner, moved.cropped(rows, columns))
    # What is left of a rectangle has the facts; the rest of it is False.
    return Facts(
      facts.can_true & some,
      facts.has_true & some,
      facts.can_false | ~every,
      facts.has_false | ~every,
    )

  def _tile(self, start: Start, size: tuple[int, int]) -> Array:
    if any(self._moves_in) or self._is_nowhere:
      return super()._tile(start, size)  # part of it is outside the mask
    b, n, q, k = start
    return self.inner._tile((b, n, q - self.queries, k - self.keys), size)


@value(numbers=('starts',))
class Unknown(Mask):
  """A mask of which nothing may be said but where it starts."""

  starts: tuple[bool, bool]

  @property
  def starts_at_zero(self) -> tuple[bool, bool]:
    """As that of the mask it stands for."""
    return self.starts


def join(one: Extents, other: Extents) -> Extents:
  """What either of two masks fixes.

  Args:
    one: Extents of one.
    other: Extents of the other.

  Returns:
    The extents of both.

  Raises:
    ValueError: if they fix different sizes.
  """
  names = ('batch sizes', 'numbers of heads', 'query lengths', 'key lengths')
  for name, x, y in zip(names, one, other):
    if x is not None and y is not None and x != y:
      raise ValueError(f'mask: got parts for different {name}, {x} and {y}')
  b, n, q, k = (y if x is None else x for x, y in zip(one, other))
  return (b, n, q, k)


def either(*masks: Mask) -> tuple[bool, bool]:
  """Whether one of them has nothing above row 0, or left of column 0."""
  rows, columns = zip(*(mask.starts_at_zero for mask in masks))
  return any(rows), any(columns)
