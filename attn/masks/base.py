"""What every mask can do, whoever defines it."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from attn.masks import blocks, drawing
from attn.masks.arguments import whole
from attn.masks.facts import Facts, Region, unknown

Array = jax.Array

# What a mask fixes: batch size, heads, query length, key length; None where any
# size will do.
Extents = tuple[int | None, int | None, int | None, int | None]

# Query and key length that each array of a mask fixes.  They differ in length
# when they are padded.
Lengths = tuple[tuple[int | None, ...], ...]

# [B, N, T, S], to be written out.
Shape = tuple[int, int, int, int]
# Of a tile: batch element, head, first query, first key; any may be traced.
Start = tuple[Any, Any, Any, Any]

# How a mask made of others finds out about these.
Ask = Callable[['Mask', Region], Facts]


class Mask:
  """Base of every mask: a boolean function of (b, n, q, k).

  Made by the functions of `attn.masks`, combined by `&`, `|` and `~`.

  Example:
    >>> from attn import masks
    >>> past = masks.causal() & ~masks.sliding_window(1, 0)
    >>> print(past.draw(3, 3))
    0 0 0
    0 0 0
    1 0 0
    >>> past == masks.causal() & ~masks.sliding_window(1, 0)
    True
  """

  # Fields that are masks themselves; set by `value`.
  parts: ClassVar[tuple[str, ...]] = ()

  @property
  def extents(self) -> Extents:
    """Sizes of (batch, heads, queries, keys) that the mask's arrays fix."""
    return (None, None, None, None)

  @property
  def starts_at_zero(self) -> tuple[bool, bool]:
    """Whether queries, and keys, below 0 mean nothing to it; see `shift`."""
    return (self.extents[2] is not None, self.extents[3] is not None)

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
    batch, heads = self._check_lengths(num_queries, num_keys)
    size = (1 if batch is None else batch, 1 if heads is None else heads)
    written = self._dense((*size, num_queries, num_keys))
    return written[0, 0] if batch is None and heads is None else written

  def draw(self, num_queries: int, num_keys: int) -> str:
    """The mask as rows of 1s and 0s, of the first batch element and head."""
    return drawing.as_text(self.dense(num_queries, num_keys))

  def plot(self, num_queries: int, num_keys: int, ax: Any = None) -> Any:
    """The mask as a picture, of the first batch element and head.

    Args:
      num_queries: T.
      num_keys: S.
      ax: Axes of matplotlib to draw on; None for new ones.

    Returns:
      The axes; `ax.figure.savefig(path)` writes the picture.

    Raises:
      ImportError: if matplotlib is not installed.
      ValueError: if the mask's arrays are for other lengths.
    """
    return drawing.as_picture(self.dense(num_queries, num_keys), ax)

  def blocks(
    self, num_queries: int, num_keys: int, block_q: int, block_k: int
  ) -> np.ndarray | Array:
    """What each block of the mask holds, without writing the mask out.

    EMPTY, nothing; FULL, everything; PARTIAL, some of both.  Of blocks that
    reach over the end only the entries that exist count.

      >>> from attn import masks
      >>> masks.causal().blocks(6, 6, 2, 2)
      array([[1, 0, 0],
             [2, 1, 0],
             [2, 2, 1]], dtype=int8)

    Exact, unless an array of the mask is traced: then EMPTY and FULL still
    mean what they say, and PARTIAL may also stand for what is not known.

    Args:
      num_queries: T.
      num_keys: S.
      block_q: Queries in a block.
      block_k: Keys in a block.

    Returns:
      int8[ceil(T / block_q), ceil(S / block_k)], with axes [B, N] in front, as
      those of `dense`, if the mask depends on either.  A NumPy array, inside
      `jit` too; a JAX array if an array of the mask is traced.

    Raises:
      TypeError: if a size is not an integer.
      ValueError: if a block has no size, or the mask's arrays are for other
        lengths.
    """
    batch, heads = self._check_lengths(num_queries, num_keys)
    sizes = (num_queries, num_keys, block_q, block_k)
    if jax.tree.leaves(self):
      classes = blocks.classify(self, blocks.cut(batch, heads, *sizes))
    else:
      classes = blocks.remembered(self, batch, heads, *sizes).copy()
    return classes[0, 0] if batch is None and heads is None else classes

  def outline(
    self, num_queries: int, num_keys: int, block_q: int, block_k: int
  ) -> np.ndarray:
    """What can be said of each block without a look at the mask's arrays.

      >>> from attn import masks
      >>> ids = jnp.array([1, 1, 1, 1, 2, 2])
      >>> (masks.causal() & masks.segments(ids)).outline(6, 6, 2, 2)
      array([[[[1, 0, 0],
               [1, 1, 0],
               [1, 1, 1]]]], dtype=int8)

    Args:
      num_queries: T.
      num_keys: S.
      block_q: Queries in a block.
      block_k: Keys in a block.

    Returns:
      NumPy int8[1, N, ceil(T / block_q), ceil(S / block_k)], N of 1 unless the
      numbers of the mask make heads differ.  EMPTY and FULL are certain,
      whatever the arrays hold; PARTIAL may be anything.

    Raises:
      TypeError, ValueError: as `blocks`.
    """
    _, heads = self._check_lengths(num_queries, num_keys)
    sizes = (num_queries, num_keys, block_q, block_k)
    return blocks.outline(self, blocks.cut(None, heads, *sizes))

  def tile(
    self,
    b: Any,
    n: Any,
    query_start: Any,
    key_start: Any,
    block_q: int,
    block_k: int,
  ) -> Array:
    """The mask on one tile, as a backend computes with it.

    The tile may reach beyond the lengths only if the mask is `padded`; what it
    says there means nothing.

      >>> from attn import masks
      >>> masks.causal().tile(0, 0, 2, 1, 2, 3).astype(int)
      Array([[1, 1, 0],
             [1, 1, 1]], dtype=int32)

    Args:
      b: int32, index of the batch element; may be traced, as the next three.
      n: int32, index of the query head.
      query_start: int32, the tile's first query.
      key_start: int32, the tile's first key.
      block_q: Queries in the tile.
      block_k: Keys in the tile.

    Returns:
      bool[block_q, block_k].
    """
    return self._tile((b, n, query_start, key_start), (block_q, block_k))

  def padded(self, num_queries: int, num_keys: int) -> 'Mask':
    """The same mask, its arrays long enough for tiles up to these lengths.

    Args:
      num_queries: At least T.
      num_keys: At least S.

    Returns:
      A mask for `tile`; it may say anything where the first had no entries.
    """
    return self

  def shift(self, queries: int = 0, keys: int = 0) -> 'Mask':
    """The mask moved down by `queries` and right by `keys`.

      m.shift(a, c)(b, n, q, k) = m(b, n, q - a, k - c)

    With a or c negative it moves up or left: rows 0 to -a - 1 drop out.  What
    moves in from above or from the left:

    * A mask of numbers, such as `causal`, goes on by its formula.
    * If arrays say what its rows are (`segments`, `dense`, `from_fn`, and all
      that they are part of) there is nothing before row 0, and the rows that
      move in are not allowed; so for columns.

      >>> from attn import masks
      >>> ids = masks.segments(jnp.array([1, 1, 2]))
      >>> print(ids.shift(1, 1).draw(4, 4))
      0 0 0 0
      0 1 1 0
      0 1 1 0
      0 0 0 1

    Args:
      queries: Rows to move down.
      keys: Columns to move right.

    Returns:
      A mask; arrays for T and S become arrays for T + queries and S + keys.

    Raises:
      TypeError: if a distance is not an integer.
    """
    from attn.masks.combine import Shift

    queries, keys = whole('queries', queries), whole('keys', keys)
    return Shift(self, queries, keys) if queries or keys else self

  def __and__(self, other: 'Mask') -> 'Mask':
    from attn.masks.combine import And

    return And(self, other) if isinstance(other, Mask) else NotImplemented

  def __or__(self, other: 'Mask') -> 'Mask':
    from attn.masks.combine import Or

    return Or(self, other) if isinstance(other, Mask) else NotImplemented

  def __invert__(self) -> 'Mask':
    from attn.masks.combine import Not

    return Not(self)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    """What is known of rectangles without looking at all their entries.

    Args:
      region: The rectangles.
      ask: To be called with the masks that this one is made of.

    Returns:
      Facts that broadcast to the region; by default, that nothing is known.
      `blocks` then looks at entries.
    """
    batch, heads, _, _ = self.extents
    return unknown(
      np.broadcast_shapes(
        region.shape,
        () if batch is None else region.b.shape,
        () if heads is None else region.n.shape,
      )
    )

  @property
  def _lengths(self) -> Lengths:
    return (self.extents[2:],)

  def _dense(self, shape: Shape) -> Array:
    ranges = jnp.ogrid[tuple(slice(size) for size in shape)]
    b, n, q, k = (x.astype(jnp.int32) for x in ranges)
    return jnp.broadcast_to(self(b, n, q, k), shape)

  def _tile(self, start: Start, size: tuple[int, int]) -> Array:
    b, n, q, k = (jnp.asarray(x, jnp.int32) for x in start)
    q, k = (x + jnp.arange(s, dtype=jnp.int32) for x, s in zip((q, k), size))
    return jnp.broadcast_to(jnp.asarray(self(b, n, q[:, None], k)), size)

  def _check_lengths(
    self, num_queries: int, num_keys: int
  ) -> tuple[int | None, int | None]:
    """Check T and S; return the extents in batch and heads."""
    batch, heads, *lengths = self.extents
    for wanted, size, name in zip(
      lengths, (num_queries, num_keys), ('num_queries', 'num_keys')
    ):
      whole(name, size, 0)
      if wanted is not None and wanted != size:
        raise ValueError(
          f'{name}: got {size}, but the arrays of the mask are for {wanted}'
        )
    return batch, heads


_MaskT = typing.TypeVar('_MaskT', bound=Mask)


@typing.dataclass_transform(frozen_default=True)
def value(
  *,
  arrays: tuple[str, ...] = (),
  parts: tuple[str, ...] = (),
  numbers: tuple[str, ...] = (),
) -> Callable[[type[_MaskT]], type[_MaskT]]:
  """Make a class of masks immutable, and a pytree.

  Args:
    arrays: Fields that are arrays, or tuples of them: its leaves.
    parts: Fields that are masks, or tuples of them.
    numbers: The other fields, static and hashable.

  Returns:
    A class decorator.
  """

  def decorate(cls: type[_MaskT]) -> type[_MaskT]:
    # Arrays have no truth value to compare by: such masks compare by identity.
    cls = dataclasses.dataclass(frozen=True, eq=not arrays)(cls)
    cls.parts = parts
    as_pytree(cls, arrays + parts, numbers)
    return cls

  return decorate


def as_pytree(
  cls: type, data: tuple[str, ...], numbers: tuple[str, ...]
) -> None:
  """Register a dataclass as a pytree.

  Not by `jax.tree_util.register_dataclass`: to it objects of two classes whose
  static fields are equal have equal structures, so `jit` would run the program
  compiled for one on the other.

  Args:
    cls: The class.
    data: Fields that hold leaves.
    numbers: The static fields.
  """

  def flatten(x: Any) -> tuple[list[Any], tuple[Any, ...]]:
    children = [getattr(x, name) for name in data]
    return children, tuple(getattr(x, name) for name in numbers)

  def flatten_with_keys(x: Any) -> tuple[list[Any], tuple[Any, ...]]:
    children, static = flatten(x)
    keys = [jax.tree_util.GetAttrKey(name) for name in data]
    return list(zip(keys, children)), static

  def unflatten(static: tuple[Any, ...], children: Any) -> Any:
    return cls(**dict(zip(numbers, static)), **dict(zip(data, children)))

  jax.tree_util.register_pytree_with_keys(
    cls, flatten_with_keys, unflatten, flatten
  )


def is_single(x: Any) -> bool:
  """Is it a mask that is not made of other masks?"""
  return isinstance(x, Mask) and not x.parts
