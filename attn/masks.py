"""Who may attend to whom.

A mask is a value: a small immutable object, and a JAX pytree whose numbers are
static and whose arrays are leaves, so that it passes through `jit`, `vmap`,
`grad` and `scan`.  Its definition is element-wise,

    mask(b, n, q, k) -> bool      batch b, head n, query q, key k

and masks combine with `&`, `|` and `~`:

    >>> print((causal() & sliding_window(2, 0)).draw(5, 5))
    1 0 0 0 0
    1 1 0 0 0
    1 1 1 0 0
    0 1 1 1 0
    0 0 1 1 1

True means may attend.  A mask is never a float and never added to anything;
what is added to scores is called bias.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# What a mask fixes: batch size, heads, query length, key length; None where any
# size will do.
Extents = tuple[int | None, int | None, int | None, int | None]


class Mask:
  """Base of every mask: a boolean function of (b, n, q, k)."""

  @property
  def extents(self) -> Extents:
    """Sizes of (batch, heads, queries, keys) that the mask's arrays fix."""
    return (None, None, None, None)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """May query q attend to key k, in head n of batch element b?

    Args:
      b: int32, index of the batch element, flat over all batch axes.
      n: int32, index of the query head.
      q: int32, index of the query.
      k: int32, index of the key.

    Returns:
      bool, of the shape that the four broadcast to.
    """
    raise TypeError(f'{type(self).__name__} does not define a mask')

  def dense(self, num_queries: int, num_keys: int) -> Array:
    """The mask written out.

    Args:
      num_queries: T.
      num_keys: S.

    Returns:
      bool[T, S], or bool[B, N, T, S] with B or N of 1 where the mask does not
      depend on it.

    Raises:
      ValueError: if the mask's arrays are for other lengths.
    """
    batch, heads, *lengths = self.extents
    for wanted, size, name in zip(
      lengths, (num_queries, num_keys), ('num_queries', 'num_keys')
    ):
      if wanted is not None and wanted != size:
        raise ValueError(
          f'{name}: got {size}, but the arrays of the mask are for {wanted}'
        )
    written = self._dense(
      1 if batch is None else batch,
      1 if heads is None else heads,
      num_queries,
      num_keys,
    )
    return written[0, 0] if batch is None and heads is None else written

  def draw(self, num_queries: int, num_keys: int) -> str:
    """The mask as rows of 1s and 0s, of the first batch element and head."""
    written = np.asarray(self.dense(num_queries, num_keys))
    rows = written if written.ndim == 2 else written[0, 0]
    return '\n'.join(' '.join('01'[int(x)] for x in row) for row in rows)

  def _dense(self, batch: int, heads: int, num_q: int, num_k: int) -> Array:
    ranges = jnp.ogrid[:batch, :heads, :num_q, :num_k]
    b, n, q, k = (x.astype(jnp.int32) for x in ranges)
    return jnp.broadcast_to(self(b, n, q, k), (batch, heads, num_q, num_k))

  def __and__(self, other: 'Mask') -> 'Mask':
    return And(self, other) if isinstance(other, Mask) else NotImplemented

  def __or__(self, other: 'Mask') -> 'Mask':
    return Or(self, other) if isinstance(other, Mask) else NotImplemented

  def __invert__(self) -> 'Mask':
    return Not(self)


def _mask(
  *,
  arrays: tuple[str, ...] = (),
  parts: tuple[str, ...] = (),
  numbers: tuple[str, ...] = (),
) -> Any:
  """Class decorator: an immutable pytree, `arrays` its leaves."""

  def decorate(cls: type) -> type:
    # Arrays have no truth value to compare by: such masks compare by identity.
    cls = dataclasses.dataclass(frozen=True, eq=not arrays)(cls)
    return jax.tree_util.register_dataclass(cls, arrays + parts, numbers)

  return decorate


@_mask(numbers=('offset',))
class Causal(Mask):
  """See `causal`."""

  offset: int

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Key k is not after query q."""
    return k <= q + self.offset


@_mask(numbers=('left', 'right'))
class SlidingWindow(Mask):
  """See `sliding_window`."""

  left: int
  right: int

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Key k is near query q."""
    return (q - self.left <= k) & (k <= q + self.right)


@_mask(arrays=('key_lengths', 'query_lengths'))
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
    allowed = jnp.ones((), bool)
    for lengths, index in ((self.key_lengths, k), (self.query_lengths, q)):
      if lengths is not None:
        allowed = allowed & (index < lengths.reshape(-1)[b].astype(jnp.int32))
    return allowed


@_mask(arrays=('query_ids', 'key_ids'))
class Segments(Mask):
  """See `segments`."""

  query_ids: Array
  key_ids: Array

  @property
  def extents(self) -> Extents:
    """Lengths of the ids, and their batch where they have one."""
    batch = None
    if self.query_ids.ndim > 1 or self.key_ids.ndim > 1:
      batch = max(self._rows(self.query_ids), self._rows(self.key_ids))
    return (batch, None, self.query_ids.shape[-1], self.key_ids.shape[-1])

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Query and key belong to the same segment."""
    query_id = self._look_up(self.query_ids, b, q)
    return query_id == self._look_up(self.key_ids, b, k)

  def _rows(self, ids: Array) -> int:
    return math.prod(ids.shape[:-1])

  def _look_up(self, ids: Array, b: Array, index: Array) -> Array:
    if ids.ndim == 1:
      return ids[index]
    return ids.reshape(self._rows(ids), ids.shape[-1])[b, index]


@_mask(arrays=('array',))
class Dense(Mask):
  """See `dense`."""

  array: Array

  @property
  def extents(self) -> Extents:
    """The axes of the array that are longer than 1."""
    sizes = (1,) * (4 - self.array.ndim) + self.array.shape
    b, n, q, k = (None if size == 1 else size for size in sizes)
    return (b, n, q, k)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Look the answer up."""
    full = self.array.reshape((1,) * (4 - self.array.ndim) + self.array.shape)
    index = [0 if size == 1 else i for size, i in zip(full.shape, (b, n, q, k))]
    return full[tuple(index)]

  def _dense(self, batch: int, heads: int, num_q: int, num_k: int) -> Array:
    return jnp.broadcast_to(self.array, (batch, heads, num_q, num_k))


@_mask(parts=('left', 'right'))
class And(Mask):
  """Both masks allow it."""

  left: Mask
  right: Mask

  @property
  def extents(self) -> Extents:
    """What either mask fixes."""
    return _join(self.left.extents, self.right.extents)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Both masks allow it."""
    return self.left(b, n, q, k) & self.right(b, n, q, k)

  def _dense(self, batch: int, heads: int, num_q: int, num_k: int) -> Array:
    size = (batch, heads, num_q, num_k)
    return self.left._dense(*size) & self.right._dense(*size)


@_mask(parts=('left', 'right'))
class Or(Mask):
  """Either mask allows it."""

  left: Mask
  right: Mask

  @property
  def extents(self) -> Extents:
    """What either mask fixes."""
    return _join(self.left.extents, self.right.extents)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Either mask allows it."""
    return self.left(b, n, q, k) | self.right(b, n, q, k)

  def _dense(self, batch: int, heads: int, num_q: int, num_k: int) -> Array:
    size = (batch, heads, num_q, num_k)
    return self.left._dense(*size) | self.right._dense(*size)


@_mask(parts=('inner',))
class Not(Mask):
  """The mask forbids it."""

  inner: Mask

  @property
  def extents(self) -> Extents:
    """What the mask fixes."""
    return self.inner.extents

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """The mask forbids it."""
    return ~self.inner(b, n, q, k)

  def _dense(self, batch: int, heads: int, num_q: int, num_k: int) -> Array:
    return ~self.inner._dense(batch, heads, num_q, num_k)


def causal(offset: int = 0) -> Mask:
  """No token sees the future.

    k <= q + offset

  With as many queries as keys, offset 0 lets each token see itself and what
  came before.  When T queries continue a sequence whose S keys include them,
  the offset is S - T: query 0 is token S - T.

    >>> print(causal().draw(4, 4))
    1 0 0 0
    1 1 0 0
    1 1 1 0
    1 1 1 1
    >>> print(causal(offset=2).draw(2, 4))
    1 1 1 0
    1 1 1 1

  Args:
    offset: How many keys after its own index a query still sees.

  Returns:
    A mask, without arrays.

  References:
    Vaswani et al., 2017, section 3.2.3. https://arxiv.org/abs/1706.03762
  """
  return Causal(offset)


def sliding_window(left: int, right: int) -> Mask:
  """Each token sees its neighbours only.

    q - left <= k <= q + right

  The token itself is not counted: `sliding_window(W - 1, 0)` sees W keys, which
  Mistral calls a window of W.

    >>> print(sliding_window(1, 1).draw(4, 4))
    1 1 0 0
    1 1 1 0
    0 1 1 1
    0 0 1 1

  Args:
    left: How many earlier keys are seen, at least 0.
    right: How many later keys are seen, at least 0.

  Returns:
    A mask, without arrays.

  Raises:
    ValueError: if left or right is negative.

  References:
    Beltagy et al., 2020 (Longformer). https://arxiv.org/abs/2004.05150
    Jiang et al., 2023 (Mistral). https://arxiv.org/abs/2310.06825
  """
  for name, value in (('left', left), ('right', right)):
    if value < 0:
      raise ValueError(f'{name}: got {value}, wanted at least 0')
  return SlidingWindow(left, right)


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
    key_lengths = _integers('key_lengths', key_lengths)
  if query_lengths is not None:
    query_lengths = _integers('query_lengths', query_lengths)
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
  query_ids = _integers('query_ids', query_ids)
  key_ids = query_ids if key_ids is None else _integers('key_ids', key_ids)
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
  array = jnp.asarray(array)
  if array.dtype != jnp.bool_:
    raise TypeError(
      f'array: got dtype {array.dtype}, wanted bool (True = may attend)'
    )
  if array.ndim > 4:
    raise ValueError(
      f'array: got shape {array.shape}, wanted at most [B, N, T, S]'
    )
  return Dense(array)


def _join(one: Extents, other: Extents) -> Extents:
  names = ('batch sizes', 'numbers of heads', 'query lengths', 'key lengths')
  for name, x, y in zip(names, one, other):
    if x is not None and y is not None and x != y:
      raise ValueError(f'mask: got parts for different {name}, {x} and {y}')
  b, n, q, k = (y if x is None else x for x, y in zip(one, other))
  return (b, n, q, k)


def _integers(name: str, x: Array) -> Array:
  x = jnp.asarray(x)
  if not jnp.issubdtype(x.dtype, jnp.integer):
    raise TypeError(f'{name}: got dtype {x.dtype}, wanted integers')
  return x
