"""Masks that know how tokens are laid out: blocks, pictures, landmarks."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from attn.masks.arguments import LONGEST, whole, wholes
from attn.masks.base import Ask, Mask, value
from attn.masks.facts import Facts, Region, at_most, exactly, numpy_or_jax

Array = jax.Array


@value(numbers=('count',))
class GlobalTokens(Mask):
  """See `global_tokens`."""

  count: int

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Query or key is one of the first tokens."""
    return (q < self.count) | (k < self.count)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    some = (region.q_first < self.count) | (region.k_first < self.count)
    every = (region.q_last < self.count) | (region.k_last < self.count)
    return exactly(some, every)


@value(numbers=('positions',))
class GlobalPositions(Mask):
  """See `global_tokens`; positions in order, each once."""

  positions: tuple[int, ...]

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Query or key is at one of the positions."""
    return self._is_global(q) | self._is_global(k)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    q_some, q_every = self._count(region.q_first, region.q_last)
    k_some, k_every = self._count(region.k_first, region.k_last)
    return exactly(q_some | k_some, q_every | k_every)

  def _is_global(self, index: Any) -> Any:
    positions = np.array(self.positions, np.int32)
    return (numpy_or_jax(index).asarray(index)[..., None] == positions).any(-1)

  def _count(self, first: Any, last: Any) -> tuple[Any, Any]:
    """Are some, are all from first to last global?"""
    positions = np.array(self.positions, np.int32)
    before = np.searchsorted(positions, first)
    number = np.searchsorted(positions, last, side='right') - before
    return number > 0, number == last - first + 1


@value(numbers=('sizes', 'key_sizes'))
class BlockDiagonal(Mask):
  """See `block_diagonal`."""

  sizes: tuple[int, ...]
  key_sizes: tuple[int, ...]

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Both are in blocks of the same number."""
    query_block = _block(self.sizes, q)
    inside = (query_block >= 0) & (query_block < len(self.sizes))
    return inside & (query_block == _block(self.key_sizes, k))

  def _facts(self, region: Region, ask: Ask) -> Facts:
    q_first, q_last = (
      _block(self.sizes, x) for x in (region.q_first, region.q_last)
    )
    k_first, k_last = (
      _block(self.key_sizes, x) for x in (region.k_first, region.k_last)
    )
    # What is outside all blocks sees nothing.
    least, most = np.maximum(q_first, k_first), np.minimum(q_last, k_last)
    least, most = np.maximum(least, 0), np.minimum(most, len(self.sizes) - 1)
    some = least <= most
    every = some & (q_first == q_last) & (k_first == k_last)
    # Blocks between first and last may have no tokens to meet in.
    if 0 in (*self.sizes, *self.key_sizes):
      return at_most(some, every)
    return exactly(some, every)


@value(numbers=('height', 'width', 'radii'))
class Neighbourhood2D(Mask):
  """See `neighbourhood_2d`."""

  height: int
  width: int
  radii: tuple[int, int]

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Key k is a pixel near pixel q."""
    pixels = self.height * self.width
    rows = k // self.width - q // self.width
    columns = k % self.width - q % self.width
    near = (-self.radii[0] <= rows) & (rows <= self.radii[0])
    near = near & (-self.radii[1] <= columns) & (columns <= self.radii[1])
    return near & (q >= 0) & (q < pixels) & (k >= 0) & (k < pixels)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    of_q = _pixels(self.height, self.width, region.q_first, region.q_last)
    of_k = _pixels(self.height, self.width, region.k_first, region.k_last)
    some, every = of_q.some & of_k.some, of_q.every & of_k.every
    for radius, (q_least, q_most), (k_least, k_most) in (
      (self.radii[0], of_q.rows, of_k.rows),
      (self.radii[1], of_q.columns, of_k.columns),
    ):
      least, most = k_least - q_most, k_most - q_least
      some = some & (-radius <= most) & (least <= radius)
      every = every & (-radius <= least) & (most <= radius)
    return at_most(some, every)


@value(numbers=('height', 'width', 'sizes', 'shifts'))
class Windows2D(Mask):
  """See `windows_2d`."""

  height: int
  width: int
  sizes: tuple[int, int]
  shifts: tuple[int, int]

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Both pixels are in the same window."""
    pixels = self.height * self.width
    rows = self._window(0, q // self.width) == self._window(0, k // self.width)
    columns = self._window(1, q % self.width) == self._window(1, k % self.width)
    inside = (q >= 0) & (q < pixels) & (k >= 0) & (k < pixels)
    return rows & columns & inside

  def _facts(self, region: Region, ask: Ask) -> Facts:
    of_q = _pixels(self.height, self.width, region.q_first, region.q_last)
    of_k = _pixels(self.height, self.width, region.k_first, region.k_last)
    some, every = of_q.some & of_k.some, of_q.every & of_k.every
    for axis, (q_least, q_most), (k_least, k_most) in (
      (0, of_q.rows, of_k.rows),
      (1, of_q.columns, of_k.columns),
    ):
      q_least, q_most, k_least, k_most = (
        self._window(axis, x) for x in (q_least, q_most, k_least, k_most)
      )
      some = some & (q_least <= k_most) & (k_least <= q_most)
      every = every & (q_least == q_most) & (k_least == k_most)
      every = every & (q_least == k_least)
    return at_most(some, every)

  def _window(self, axis: int, index: Any) -> Any:
    """The window of a row, or of a column."""
    return (index - self.shifts[axis]) // self.sizes[axis]


class _Pixels(NamedTuple):
  """What a stretch of tokens may be: (least, most) of rows and of columns.

  Attributes:
    rows: The first and the last.
    columns: The least and the largest that may occur.
    some: Is any of the tokens in the picture?
    every: Are all of them?
  """

  rows: tuple[Any, Any]
  columns: tuple[Any, Any]
  some: Any
  every: Any


def _pixels(height: int, width: int, first: Any, last: Any) -> _Pixels:
  """The pixels from token `first` to token `last`."""
  rows = (first // width, last // width)
  whole_rows = rows[0] != rows[1]
  columns = (
    np.where(whole_rows, 0, first % width),
    np.where(whole_rows, width - 1, last % width),
  )
  some = (last >= 0) & (first < height * width)
  every = (first >= 0) & (last < height * width)
  return _Pixels(rows, columns, some, every)


def global_tokens(count: int | Sequence[int]) -> Mask:
  """Some tokens see all, and are seen by all.

    q < count  or  k < count

  With a window it is Longformer's mask; with random blocks, BigBird's.

    >>> print(global_tokens(1).draw(4, 4))
    1 1 1 1
    1 0 0 0
    1 0 0 0
    1 0 0 0
    >>> print(global_tokens([0, 3]).draw(4, 4))
    1 1 1 1
    1 0 0 1
    1 0 0 1
    1 1 1 1

  Args:
    count: How many of the first tokens; or a sequence of positions, of tokens
      anywhere.

  Returns:
    A mask, without arrays.

  Raises:
    TypeError: if count is neither an integer nor a sequence of integers.
    ValueError: if one is negative.

  References:
    Beltagy et al., 2020 (Longformer). https://arxiv.org/abs/2004.05150
    Zaheer et al., 2020 (BigBird). https://arxiv.org/abs/2007.14062
  """
  if isinstance(count, (Sequence, np.ndarray)):
    return GlobalPositions(tuple(sorted(set(wholes('count', count, 0)))))
  return GlobalTokens(whole('count', count, 0))


def block_diagonal(
  sizes: Sequence[int], key_sizes: Sequence[int] | None = None
) -> Mask:
  """Tokens see those of their own block, whose sizes are known beforehand.

    query q is in block i of sizes, and key k in block i of key_sizes

  Tokens after the last block see nothing and are not seen.

    >>> print(block_diagonal([1, 2]).draw(4, 4))
    1 0 0 0
    0 1 1 0
    0 1 1 0
    0 0 0 0
    >>> print(block_diagonal([1, 2], [2, 1]).draw(3, 3))
    1 1 0
    0 0 1
    0 0 1

  Args:
    sizes: Of each block, at least 0.
    key_sizes: Of each block among the keys; sizes if None.

  Returns:
    A mask, without arrays.  For sizes that change, see `segments`.

  Raises:
    TypeError: if sizes are not sequences of integers.
    ValueError: if one is negative, or there are more of one kind.
  """
  sizes = wholes('sizes', sizes, 0)
  key_sizes = sizes if key_sizes is None else wholes('key_sizes', key_sizes, 0)
  if len(sizes) != len(key_sizes):
    raise ValueError(
      f'key_sizes: got {len(key_sizes)}, wanted {len(sizes)}, as many as sizes'
    )
  for name, x in (('sizes', sizes), ('key_sizes', key_sizes)):
    if sum(x) > LONGEST:
      raise ValueError(f'{name}: got {sum(x)} in all, wanted at most {LONGEST}')
  return BlockDiagonal(sizes, key_sizes)


def neighbourhood_2d(
  height: int, width: int, radius: int | tuple[int, int]
) -> Mask:
  """Pixels see the pixels around them.

    |row(k) - row(q)| <= radius_y  and  |column(k) - column(q)| <= radius_x

  Tokens are the pixels row by row: row(q) = q // width.  At the border the
  window is cut off, as that of `sliding_window`; NATTEN's is moved inwards
  instead.  Nothing wraps around.  Tokens after the last pixel see nothing and
  are not seen; a token before the first is what `shift(1, 1)` is for.

    >>> print(neighbourhood_2d(2, 3, (0, 1)).draw(6, 6))
    1 1 0 0 0 0
    1 1 1 0 0 0
    0 1 1 0 0 0
    0 0 0 1 1 0
    0 0 0 1 1 1
    0 0 0 0 1 1

  Args:
    height: Rows of pixels, at least 1.
    width: Columns of pixels, at least 1.
    radius: How far a pixel sees, itself not counted, at least 0; or (radius_y,
      radius_x).

  Returns:
    A mask, without arrays.

  Raises:
    TypeError: if a size is not an integer.
    ValueError: if it is too small, or radius is not one or two.

  References:
    Hassani et al., 2023 (NATTEN). https://arxiv.org/abs/2204.07143
  """
  height, width = _picture(height, width)
  return Neighbourhood2D(height, width, _both('radius', radius, 0))


def windows_2d(
  height: int,
  width: int,
  size: int | tuple[int, int],
  shift: int | tuple[int, int] = 0,
) -> Mask:
  """Pixels see those of their own window, of windows side by side.

    (row(q) - shift_y) // size_y == (row(k) - shift_y) // size_y
    and the same of columns

  Tokens are the pixels row by row: row(q) = q // width.  With a shift of half a
  window it is Swin's second kind of layer: its windows begin so many pixels
  later, and what lies before them is a window cut off by the border (which the
  paper computes by a cyclic shift and hides by a mask).  Tokens after the last
  pixel see nothing and are not seen.

    >>> print(windows_2d(2, 3, 2).draw(6, 6))
    1 1 0 1 1 0
    1 1 0 1 1 0
    0 0 1 0 0 1
    1 1 0 1 1 0
    1 1 0 1 1 0
    0 0 1 0 0 1
    >>> print(windows_2d(1, 6, (1, 4), (0, 2)).draw(6, 6))
    1 1 0 0 0 0
    1 1 0 0 0 0
    0 0 1 1 1 1
    0 0 1 1 1 1
    0 0 1 1 1 1
    0 0 1 1 1 1

  Args:
    height: Rows of pixels, at least 1.
    width: Columns of pixels, at least 1.
    size: Of a window, at least 1; or (size_y, size_x).
    shift: How far the windows are moved down and right, at least 0; or
      (shift_y, shift_x).

  Returns:
    A mask, without arrays.

  Raises:
    TypeError: if a size is not an integer.
    ValueError: if it is too small, or size or shift is not one or two.

  References:
    Liu et al., 2021 (Swin), section 3.2. https://arxiv.org/abs/2103.14030
  """
  height, width = _picture(height, width)
  return Windows2D(
    height, width, _both('size', size, 1), _both('shift', shift, 0)
  )


def _picture(height: int, width: int) -> tuple[int, int]:
  height, width = whole('height', height, 1), whole('width', width, 1)
  if height * width > LONGEST:
    raise ValueError(
      f'height: got {height} rows of {width} pixels, wanted at most {LONGEST} '
      'pixels'
    )
  return height, width


def _both(name: str, given: Any, least: int) -> tuple[int, int]:
  """One number for both directions, or (y, x)."""
  pair = given if isinstance(given, Sequence) else (given, given)
  pair = wholes(name, pair, least)
  if len(pair) != 2:
    raise ValueError(f'{name}: got {given}, wanted one or ({name}_y, {name}_x)')
  return (pair[0], pair[1])


def _block(sizes: tuple[int, ...], index: Any) -> Any:
  """The block that an index is in: -1 before the first, len after the last."""
  starts = np.array([0, *itertools.accumulate(sizes)], np.int32)
  array = numpy_or_jax(index)
  if array is np:
    return np.searchsorted(starts, index, side='right') - 1
  # A loop would have to be run for every tile.
  found = array.searchsorted(
    array.asarray(starts), index, side='right', method='scan_unrolled'
  )
  return found - 1
