"""Masks that only ask how far query and key are apart, or where they are.

Their formulas hold for all whole numbers, also below 0, where `Mask.shift` may
bring them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from attn.masks.arguments import integers, is_array, look_up, whole
from attn.masks.base import Ask, Extents, Mask, value
from attn.masks.facts import Facts, Region, exactly

Array = jax.Array


@value(numbers=('offset',))
class Causal(Mask):
  """See `causal`."""

  offset: int

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Key k is not after query q."""
    # q + offset might not fit in an int32; k - q always does.
    return k - q <= self.offset

  def _facts(self, region: Region, ask: Ask) -> Facts:
    least, most = _distances(region)
    return exactly(least <= self.offset, most <= self.offset)


@value(arrays=('offset',))
class CausalArray(Mask):
  """See `causal`; the offset is a leaf."""

  offset: Array

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Key k is not after query q."""
    return k - q <= self.offset

  def _facts(self, region: Region, ask: Ask) -> Facts:
    least, most = _distances(region)
    return exactly(least <= self.offset, most <= self.offset)


@value(numbers=('left', 'right'))
class SlidingWindow(Mask):
  """See `sliding_window`."""

  left: int
  right: int

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Key k is near query q."""
    return (-self.left <= k - q) & (k - q <= self.right)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    least, most = _distances(region)
    some = (-self.left <= most) & (least <= self.right)
    return exactly(some, (-self.left <= least) & (most <= self.right))


@value(numbers=('step',))
class Dilated(Mask):
  """See `dilated`."""

  step: int

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Key k is a whole number of steps away."""
    return (k - q) % self.step == 0

  def _facts(self, region: Region, ask: Ask) -> Facts:
    least, most = _distances(region)
    # The last multiple that is not above `most`, and so the only one to try.
    some = most - most % self.step >= least
    return exactly(some, some & ((least == most) | (self.step == 1)))


@value(numbers=('size',))
class Chunked(Mask):
  """See `chunked`."""

  size: int

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Both are in the same chunk."""
    return q // self.size == k // self.size

  def _facts(self, region: Region, ask: Ask) -> Facts:
    q_first, q_last = region.q_first // self.size, region.q_last // self.size
    k_first, k_last = region.k_first // self.size, region.k_last // self.size
    some = (q_first <= k_last) & (k_first <= q_last)
    return exactly(some, some & (q_first == q_last) & (k_first == k_last))


@value(numbers=('length',))
class Prefix(Mask):
  """See `prefix`."""

  length: int

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Key k is among the first."""
    return k < self.length

  def _facts(self, region: Region, ask: Ask) -> Facts:
    return exactly(region.k_first < self.length, region.k_last < self.length)


@value(arrays=('length',))
class PrefixArray(Mask):
  """See `prefix`; the lengths are a leaf."""

  length: Array

  @property
  def extents(self) -> Extents:
    """One length per batch element, unless there is one for all."""
    return (self.length.size if self.length.ndim else None, None, None, None)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Key k is among the first."""
    return k < self._of(b)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    length = self._of(region.b)
    return exactly(region.k_first < length, region.k_last < length)

  def _of(self, b: Any) -> Any:
    if not self.length.ndim:
      return self.length
    return look_up(self.length.reshape(-1), (b,))


def causal(offset: int | Array = 0) -> Mask:
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
    offset: How many keys after its own index a query still sees.  A number is
      static; int[] is an array, which may be traced: one program then decodes
      at every position.

  Returns:
    A mask; without arrays, if offset is a number.

  Raises:
    TypeError: if offset is not an integer.
    ValueError: if it is an array with axes.

  References:
    Vaswani et al., 2017, section 3.2.3. https://arxiv.org/abs/1706.03762
  """
  if not is_array(offset):
    return Causal(whole('offset', offset))
  offset = integers('offset', offset, jnp.int32)
  if offset.ndim:
    raise ValueError(f'offset: got shape {offset.shape}, wanted one number')
  return CausalArray(offset)


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
    TypeError: if left or right is not an integer.
    ValueError: if left or right is negative.

  References:
    Beltagy et al., 2020 (Longformer). https://arxiv.org/abs/2004.05150
    Jiang et al., 2023 (Mistral). https://arxiv.org/abs/2310.06825
  """
  return SlidingWindow(whole('left', left, 0), whole('right', right, 0))


def dilated(step: int) -> Mask:
  """Each token sees those a whole number of steps away, before and after.

    (k - q) mod step = 0

    >>> print(dilated(2).draw(4, 5))
    1 0 1 0 1
    0 1 0 1 0
    1 0 1 0 1
    0 1 0 1 0

  With a window it is dilated sliding attention:

    >>> print((dilated(2) & sliding_window(2, 0)).draw(4, 5))
    1 0 0 0 0
    0 1 0 0 0
    1 0 1 0 0
    0 1 0 1 0

  Args:
    step: At least 1, which hides nothing.

  Returns:
    A mask, without arrays.

  Raises:
    TypeError: if step is not an integer.
    ValueError: if it is less than 1.

  References:
    Child et al., 2019 (Sparse Transformer), section 4.2, "strided".
    https://arxiv.org/abs/1904.10509
    Beltagy et al., 2020 (Longformer), figure 2c.
    https://arxiv.org/abs/2004.05150
  """
  return Dilated(whole('step', step, 1))


def chunked(size: int) -> Mask:
  """Tokens see those of their own chunk.

    q // size == k // size

    >>> print((chunked(2) & causal()).draw(5, 5))
    1 0 0 0 0
    1 1 0 0 0
    0 0 1 0 0
    0 0 1 1 0
    0 0 0 0 1

  Args:
    size: Tokens in a chunk, at least 1.

  Returns:
    A mask, without arrays.

  Raises:
    TypeError: if size is not an integer.
    ValueError: if it is less than 1.

  References:
    Meta, 2025 (Llama 4), "chunked attention".
    https://ai.meta.com/blog/llama-4-multimodal-intelligence/
  """
  return Chunked(whole('size', size, 1))


def prefix(length: int | Array) -> Mask:
  """Every query sees the first keys.

    k < length,  or  k < length[b]

  With `causal` it is a prefix language model: the prompt is read both ways.

    >>> print((prefix(2) | causal()).draw(4, 4))
    1 1 0 0
    1 1 0 0
    1 1 1 0
    1 1 1 1

  Args:
    length: How many keys.  A number, at least 0, is static; int[*B], one for
      each batch element, or int[], one for all, is an array.

  Returns:
    A mask; without arrays, if length is a number.

  Raises:
    TypeError: if length is not an integer, or integers.
    ValueError: if it is a negative number.

  References:
    Raffel et al., 2020 (T5), section 3.2.1. https://arxiv.org/abs/1910.10683
  """
  if not is_array(length):
    return Prefix(whole('length', length, 0))
  return PrefixArray(integers('length', length, jnp.int32))


def _distances(region: Region) -> tuple[Any, Any]:
  """The least and the most of k - q; all in between occur."""
  return region.k_first - region.q_last, region.k_last - region.q_first
