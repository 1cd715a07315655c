"""Another mask for every head."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.masks.arguments import is_traced
from attn.masks.base import (
  Ask,
  Extents,
  Lengths,
  Mask,
  Shape,
  Start,
  value,
)
from attn.masks.combine import either, join
from attn.masks.facts import Facts, Region, numpy_or_jax

Array = jax.Array


@value(parts=('masks',))
class PerHead(Mask):
  """See `per_head`."""

  masks: tuple[Mask, ...]

  @property
  def extents(self) -> Extents:
    """What the masks fix, and as many heads as there are masks."""
    own: Extents = (None, len(self.masks), None, None)
    return functools.reduce(join, (x.extents for x in self.masks), own)

  @property
  def _lengths(self) -> Lengths:
    return tuple(x for mask in self.masks for x in mask._lengths)

  @property
  def starts_at_zero(self) -> tuple[bool, bool]:
    """Whether one of the masks does."""
    return either(*self.masks)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """The mask of head n allows it."""
    return self._pick(n, lambda mask: mask(b, n, q, k))

  def padded(self, num_queries: int, num_keys: int) -> Mask:
    """All masks padded."""
    return PerHead(tuple(x.padded(num_queries, num_keys) for x in self.masks))

  @property
  def _choices(self) -> tuple[list[Mask], np.ndarray]:
    """The different masks, and which of them each head has."""
    different = list(dict.fromkeys(self.masks))
    which = [different.index(x) for x in self.masks]
    return different, np.array(which, np.int32)

  def _pick(self, n: Any, evaluate: Callable[[Mask], Array]) -> Array:
    """Evaluate the different masks, and take what head n has."""
    different, which = self._choices
    of_head = numpy_or_jax(n).asarray(which)[n]
    return functools.reduce(
      operator.or_,
      ((of_head == i) & evaluate(mask) for i, mask in enumerate(different)),
    )

  def _facts(self, region: Region, ask: Ask) -> Facts:
    different, which = self._choices
    of_head = which[region.n]
    chosen = [
      [(of_head == i) & x for x in ask(mask, region).answers]
      for i, mask in enumerate(different)
    ]
    return Facts(*(functools.reduce(operator.or_, x) for x in zip(*chosen)))

  def _dense(self, shape: Shape) -> Array:
    batch, _, num_queries, num_keys = shape

    def of_head(n: int, mask: Mask) -> Array:
      if mask.extents[1] is None:
        return mask._dense((batch, 1, num_queries, num_keys))
      return mask._dense(shape)[:, n : n + 1]

    return jnp.concatenate(
      [of_head(n, mask) for n, mask in enumerate(self.masks)], axis=1
    )

  def _tile(self, start: Start, size: tuple[int, int]) -> Array:
    n = start[1]
    if not is_traced(n):
      return self.masks[int(n)]._tile(start, size)
    return self._pick(n, lambda mask: mask._tile(start, size))


def per_head(masks: Sequence[Mask]) -> Mask:
  """Another mask for every head.

    masks[n](b, n, q, k)

  `draw` shows the first head; `dense` has an axis for them.

    >>> from attn.masks.positional import sliding_window
    >>> windows = per_head([sliding_window(w, 0) for w in (1, 2)])
    >>> print(windows.draw(4, 4))
    1 0 0 0
    1 1 0 0
    0 1 1 0
    0 0 1 1
    >>> windows.dense(4, 4).astype(int)[0, 1]
    Array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [1, 1, 1, 0],
           [0, 1, 1, 1]], dtype=int32)

  Args:
    masks: One for each of the N query heads.

  Returns:
    A mask, for N heads; the arrays of the masks are its arrays.

  Raises:
    TypeError: if masks is not a sequence of masks.
    ValueError: if there is none.

  References:
    Beltagy et al., 2020 (Longformer), section 3.1.
    https://arxiv.org/abs/2004.05150
  """
  if not isinstance(masks, Sequence):
    raise TypeError(f'masks: got {masks!r}, wanted a sequence of masks')
  for i, mask in enumerate(masks):
    if not isinstance(mask, Mask):
      raise TypeError(f'masks[{i}]: got {mask!r}, wanted a mask')
  if not masks:
    raise ValueError('masks: got none, wanted one for each head')
  return PerHead(tuple(masks))
