"""Masks whose arrays say who may attend to whom."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.masks.arguments import array as as_array
from attn.masks.arguments import integers, look_up
from attn.masks.base import Ask, Extents, Mask, Shape, Start, value
from attn.masks.facts import (
  Facts,
  Region,
  exactly,
  numpy_or_jax,
  span,
)

Array = jax.Array

# Different ids compared at once when blocks are compared by their sets.
_IDS_TOGETHER = 4096
# Entries along an axis that are looked at at once.
_ENTRIES_TOGETHER = 64


@value(arrays=('key_lengths', 'query_lengths'))
class Padding(Mask):
  """See `padding`."""

  key_lengths: Array | None
  query_lengths: Array | None

  @property
  def extents(self) -> Extents:
    """One length per batch element."""
    given = [x for x in (self.key_lengths, self.query_lengths) if x is not None]
    return (max((x.size for x in given), default=None), None, None, None)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Neither query nor key is padding."""
    return self._are_real(b, q, k)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    return exactly(
      self._are_real(region.b, region.q_first, region.k_first),
      self._are_real(region.b, region.q_last, region.k_last),
    )

  def _are_real(self, b: Any, q: Any, k: Any) -> Any:
    allowed = numpy_or_jax(q, k).ones((), bool)
    for lengths, index in ((self.key_lengths, k), (self.query_lengths, q)):
      if lengths is not None:
        length = look_up(lengths.reshape(-1), (b,))
        allowed = allowed & (index < length.astype(np.int32))
    return allowed


@value(arrays=('query_ids', 'key_ids'))
class Segments(Mask):
  """See `segments`."""

  query_ids: Array
  key_ids: Array

  @property
  def extents(self) -> Extents:
    """Lengths of the ids, and their batch where they have one."""
    batch = None
    if self.query_ids.ndim > 1 or self.key_ids.ndim > 1:
      batch = max(len(_rows(self.query_ids)), len(_rows(self.key_ids)))
    return (batch, None, self.query_ids.shape[-1], self.key_ids.shape[-1])

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Query and key belong to the same segment."""
    return _of(self.query_ids, b, q) == _of(self.key_ids, b, k)

  def padded(self, num_queries: int, num_keys: int) -> Mask:
    """The ids padded."""
    return Segments(
      _pad(self.query_ids, {-1: num_queries}),
      _pad(self.key_ids, {-1: num_keys}),
    )

  def _facts(self, region: Region, ask: Ask) -> Facts:
    q_least, q_most = self._extremes(
      self.query_ids, region.b, region.q_first, region.q_last
    )
    k_least, k_most = self._extremes(
      self.key_ids, region.b, region.k_first, region.k_last
    )
    some = (q_least <= k_most) & (k_least <= q_most)
    # The extremes are ids themselves.
    shared = (q_least == k_least) | (q_least == k_most)
    shared = shared | (q_most == k_least) | (q_most == k_most)
    every = (q_least == q_most) & (k_least == k_most) & shared
    unsure = some & ~shared
    arrays = (self.query_ids, self.key_ids)
    if region.is_grid and numpy_or_jax(*arrays) is np and unsure.any():
      some = shared = shared | self._meet(region)
    return Facts(some, shared, ~every, ~every)

  def _extremes(
    self, ids: Any, b: np.ndarray, first: np.ndarray, last: np.ndarray
  ) -> tuple[Any, Any]:
    """The least and the largest id from first to last."""
    index = span(first, last, numpy_or_jax(ids))
    those = _of(ids, b[..., None], index)
    return those.min(-1), those.max(-1)

  def _meet(self, region: Region) -> np.ndarray:
    """Whether a block's queries and its keys have an id in common."""
    query_rows, key_rows = _rows(self.query_ids), _rows(self.key_ids)
    in_query = span(region.q_first.ravel(), region.q_last.ravel())
    in_key = span(region.k_first.ravel(), region.k_last.ravel())
    common = np.intersect1d(query_rows, key_rows)
    batch = max(len(query_rows), len(key_rows))
    meet = np.zeros((batch, 1, len(in_query), len(in_key)), bool)
    for first in range(0, common.size, _IDS_TOGETHER):
      ids = common[first : first + _IDS_TOGETHER]
      for b in range(batch):
        queries = _holders(ids, query_rows[b % len(query_rows)], in_query)
        keys = _holders(ids, key_rows[b % len(key_rows)], in_key)
        meet[b, 0] |= queries @ keys.T > 0
    return meet


@value(arrays=('array',))
class Dense(Mask):
  """See `dense`."""

  array: Array

  @property
  def extents(self) -> Extents:
    """The axes of the array that are longer than 1."""
    b, n, q, k = (None if size == 1 else size for size in self._full.shape)
    return (b, n, q, k)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Look the answer up."""
    sizes = self._full.shape
    return look_up(
      self._full,
      tuple(0 if size == 1 else i for size, i in zip(sizes, (b, n, q, k))),
    )

  def padded(self, num_queries: int, num_keys: int) -> Mask:
    """The array padded, where it is not the same for all."""
    # An axis of 1 would be the same for all.
    lengths = {-2: max(num_queries, 2), -1: max(num_keys, 2)}
    full = self._full
    lengths = {i: x for i, x in lengths.items() if full.shape[i] != 1}
    return Dense(_pad(full, lengths))

  def _facts(self, region: Region, ask: Ask) -> Facts:
    if not region.is_grid:
      # Its entries are as quick to look at.
      return super()._facts(region, ask)
    some = every = self._full
    for axis, first, last in (
      (2, region.q_first, region.q_last),
      (3, region.k_first, region.k_last),
    ):
      if some.shape[axis] != 1:
        first, last = first.ravel(), last.ravel()
        some = _reduced('any', some, axis, first, last)
        every = _reduced('all', every, axis, first, last)
    return exactly(some, every)

  def _dense(self, shape: Shape) -> Array:
    return jnp.broadcast_to(self.array, shape)

  def _tile(self, start: Start, size: tuple[int, int]) -> Array:
    have = self._full.shape
    first = [
      jnp.asarray(0 if length == 1 else x, jnp.int32)
      for length, x in zip(have, start)
    ]
    sizes = [min(length, x) for length, x in zip(have, (1, 1, *size))]
    cut = jax.lax.dynamic_slice(jnp.asarray(self._full), first, sizes)
    return jnp.broadcast_to(cut[0, 0], size)

  @property
  def _full(self) -> Array:
    """With all four axes."""
    return self.array.reshape((1,) * (4 - self.array.ndim) + self.array.shape)


def padding(
  key_lengths: Array | None = None, query_lengths: Array | None = None
) -> Mask:
  """Only the first tokens of each sequence are real.

    k < key_lengths[b]  and  q < query_lengths[b]

    >>> print(padding(jnp.array([2])).draw(3, 4))
    1 1 0 0
    1 1 0 0
    1 1 0 0

  Args:
    key_lengths: int[*B], or None if all keys are real.
    query_lengths: int[*B], or None if all queries are real.

  Returns:
    A mask; the lengths are its arrays.

  Raises:
    TypeError: if lengths are not integers.
    ValueError: if the two are for different batches.
  """
  if key_lengths is not None:
    key_lengths = integers('key_lengths', key_lengths)
  if query_lengths is not None:
    query_lengths = integers('query_lengths', query_lengths)
  if (
    key_lengths is not None
    and query_lengths is not None
    and key_lengths.size != query_lengths.size
  ):
    raise ValueError(
      f'query_lengths: got shape {query_lengths.shape}, wanted '
      f'{key_lengths.shape}, that of key_lengths'
    )
  return Padding(key_lengths, query_lengths)


def segments(query_ids: Array, key_ids: Array | None = None) -> Mask:
  """Tokens see tokens of their own segment: documents packed into one row.

    query_ids[b, q] == key_ids[b, k]

    >>> print(segments(jnp.array([1, 1, 2, 2])).draw(4, 4))
    1 1 0 0
    1 1 0 0
    0 0 1 1
    0 0 1 1

  Args:
    query_ids: int[*B, T].
    key_ids: int[*B, S]; query_ids if None.

  Returns:
    A mask; the ids are its arrays.

  Raises:
    TypeError: if ids are not integers.
    ValueError: if ids have no axis, or the batches of the two differ.

  References:
    Krell et al., 2021, section 3.2. https://arxiv.org/abs/2107.02027
  """
  query_ids = integers('query_ids', query_ids)
  key_ids = query_ids if key_ids is None else integers('key_ids', key_ids)
  for name, ids in (('query_ids', query_ids), ('key_ids', key_ids)):
    if ids.ndim < 1:
      raise ValueError(
        f'{name}: got shape {ids.shape}, wanted at least one axis'
      )
  both_batched = query_ids.ndim > 1 and key_ids.ndim > 1
  if both_batched and query_ids.shape[:-1] != key_ids.shape[:-1]:
    raise ValueError(
      f'key_ids: got shape {key_ids.shape}, wanted batch axes '
      f'{query_ids.shape[:-1]}, those of query_ids'
    )
  return Segments(query_ids, key_ids)


def dense(array: Array) -> Mask:
  """A mask that is already written out.

    array[b, n, q, k]

    >>> print(dense(jnp.array([[True, False], [True, True]])).draw(2, 2))
    1 0
    1 1

  Args:
    array: bool, broadcastable to [B, N, T, S]; B is flat over batch axes.

  Returns:
    A mask; the array is its only one.

  Raises:
    TypeError: if array is not boolean.
    ValueError: if array has more than four axes.
  """
  array = as_array('array', array)
  if array.dtype != jnp.bool_:
    raise TypeError(
      f'array: got dtype {array.dtype}, wanted bool (True = may attend)'
    )
  if array.ndim > 4:
    raise ValueError(
      f'array: got shape {array.shape}, wanted at most [B, N, T, S]'
    )
  return Dense(array)


def _rows(ids: Any) -> Any:
  """Ids with one batch axis."""
  return ids.reshape(math.prod(ids.shape[:-1]), ids.shape[-1])


def _of(ids: Any, b: Any, index: Any) -> Any:
  """The id of each index, in batch element b if ids have a batch."""
  if ids.ndim == 1:
    return look_up(ids, (index,))
  return look_up(_rows(ids), (b, index))


def _holders(ids: np.ndarray, row: np.ndarray, index: np.ndarray) -> np.ndarray:
  """float32[blocks, ids]: 1 where a block, row[index[i]], holds the id."""
  place = np.minimum(np.searchsorted(ids, row), ids.size - 1)
  block, column = np.nonzero((ids[place] == row)[index])
  holders = np.zeros((len(index), ids.size), np.float32)
  holders[block, place[index[block, column]]] = 1
  return holders


def _reduced(
  kind: str, x: Any, axis: int, first: np.ndarray, last: np.ndarray
) -> Any:
  """Any or all of one axis in pieces, each from first to last."""
  size = x.shape[axis]
  edges = np.linspace(0, size, len(first) + 1)
  if np.array_equal(first, edges[:-1]) and np.array_equal(last + 1, edges[1:]):
    shape = (*x.shape[:axis], len(first), -1, *x.shape[axis + 1 :])
    return getattr(x.reshape(shape), kind)(axis + 1)
  array = numpy_or_jax(x)
  if array is np or first.min() < 0 or last.max() >= size:
    pieces = array.take(x, span(first, last, array), axis, mode='clip')
    return getattr(pieces, kind)(axis + 1)
  # All pieces at once would be a copy of what may be most of the memory, and
  # so would be one piece of a long row.
  longest = int((last - first).max()) + 1
  width = min(longest, _ENTRIES_TOGETHER)
  sides = [-1 if i == axis else 1 for i in range(x.ndim)]
  nothing = kind == 'all'
  join = jnp.logical_and if kind == 'all' else jnp.logical_or

  def of_piece(edges: Array) -> Array:
    def add(i: Array, found: Array) -> Array:
      at = edges[0] + i * width
      start = jnp.minimum(at, size - width)
      piece = jax.lax.dynamic_slice_in_dim(x, start, width, axis)
      index = start + jnp.arange(width, dtype=jnp.int32)
      inside = ((index >= at) & (index <= edges[1])).reshape(sides)
      piece = jnp.where(inside, piece, nothing)
      return join(found, getattr(piece, kind)(axis))

    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    steps = -(-longest // width)
    return jax.lax.fori_loop(0, steps, add, jnp.full(shape, nothing))

  pieces = jax.lax.map(of_piece, jnp.stack([first, last], 1).astype(jnp.int32))
  return jnp.moveaxis(pieces, 0, axis)


def _pad(x: Array, lengths: dict[int, int]) -> Array:
  """Pad the end of some axes with 0, or False, to at least a length."""
  widths = [(0, 0)] * x.ndim
  for axis, length in lengths.items():
    widths[axis] = (0, max(length - x.shape[axis], 0))
  return jnp.pad(x, widths)
