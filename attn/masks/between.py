"""Masks between chunks: what one says of two chunks holds for their tokens."""

import dataclasses
from collections.abc import Sequence

import jax

from attn.masks.arguments import whole
from attn.masks.base import Ask, Extents, Lengths, Mask, value
from attn.masks.facts import Facts, Region
from attn.masks.positional import causal, chunked, prefix

Array = jax.Array


@value(parts=('inner',), numbers=('size',))
class BetweenChunks(Mask):
  """See `between_chunks`."""

  inner: Mask
  size: int

  @property
  def extents(self) -> Extents:
    """What the mask fixes, every length in tokens."""
    b, n, *lengths = self.inner.extents
    q, k = self._in_tokens(lengths)
    return (b, n, q, k)

  @property
  def _lengths(self) -> Lengths:
    return tuple(map(self._in_tokens, self.inner._lengths))

  def _in_tokens(self, chunks: Sequence[int | None]) -> tuple[int | None, ...]:
    return tuple(None if x is None else x * self.size for x in chunks)

  @property
  def starts_at_zero(self) -> tuple[bool, bool]:
    """Whether the mask does."""
    return self.inner.starts_at_zero

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """The mask lets the query's chunk see the key's."""
    return self.inner(b, n, q // self.size, k // self.size)

  def padded(self, num_queries: int, num_keys: int) -> Mask:
    """The mask padded, to whole chunks."""
    size = (-(-num_queries // self.size), -(-num_keys // self.size))
    return BetweenChunks(self.inner.padded(*size), self.size)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    # Every chunk from first to last has a token in the rectangle.
    chunks = dataclasses.replace(
      region,
      q_first=region.q_first // self.size,
      q_last=region.q_last // self.size,
      k_first=region.k_first // self.size,
      k_last=region.k_last // self.size,
    )
    return ask(self.inner, chunks)


def between_chunks(mask: Mask, size: int) -> Mask:
  """A mask that says of chunks, not of tokens, who sees whom.

    mask(b, n, q // size, k // size)

  Causal between chunks, where a chunk sees all of itself:

    >>> from attn.masks import causal, dense
    >>> print(between_chunks(causal(), 2).draw(6, 6))
    1 1 0 0 0 0
    1 1 0 0 0 0
    1 1 1 1 0 0
    1 1 1 1 0 0
    1 1 1 1 1 1
    1 1 1 1 1 1

  An array over chunks, such as BigBird's random one, needs (T / size)² entries:

    >>> import jax.numpy as jnp
    >>> layout = jnp.array([[True, False], [True, True]])
    >>> print(between_chunks(dense(layout), 2).draw(4, 4))
    1 1 0 0
    1 1 0 0
    1 1 1 1
    1 1 1 1

  Args:
    mask: Any mask, which takes chunks for tokens.
    size: Tokens in a chunk, at least 1.

  Returns:
    A mask; the arrays of mask are its arrays.  Where they fix C chunks, it is
    for C × size tokens.

  Raises:
    TypeError: if mask is not a mask, or size not an integer.
    ValueError: if size is less than 1.

  References:
    Zaheer et al., 2020 (BigBird), section 2. https://arxiv.org/abs/2007.14062
    Gray et al., 2017 (block-sparse layouts).
    https://cdn.openai.com/blocksparse/blocksparsepaper.pdf
  """
  if not isinstance(mask, Mask):
    raise TypeError(f'mask: got {mask!r}, wanted a mask')
  return BetweenChunks(mask, whole('size', size, 1))


def block_diffusion(length: int, size: int) -> Mask:
  """Noisy text beside its clean text: all blocks are denoised in one pass.

    noisy q sees noisy k of its own block, and clean k of blocks before
    clean q sees clean k of its own block, and of blocks before

  The first `length` tokens are the noisy text, the next `length` the clean one.

    >>> print(block_diffusion(4, 2).draw(8, 8))
    1 1 0 0 0 0 0 0
    1 1 0 0 0 0 0 0
    0 0 1 1 1 1 0 0
    0 0 1 1 1 1 0 0
    0 0 0 0 1 1 0 0
    0 0 0 0 1 1 0 0
    0 0 0 0 1 1 1 1
    0 0 0 0 1 1 1 1

  Args:
    length: Tokens of the text, a multiple of size.
    size: Tokens in a block, at least 1.

  Returns:
    A mask for 2 × length tokens, without arrays.

  Raises:
    TypeError: if length or size is not an integer.
    ValueError: if size is less than 1, or length not a multiple of it.

  References:
    Arriola et al., 2025, section 3.2. https://arxiv.org/abs/2503.09573
  """
  length, size = whole('length', length, 1), whole('size', size, 1)
  if length % size:
    raise ValueError(f'length: got {length}, wanted a multiple of size, {size}')
  clean = ~prefix(length)
  same_text = chunked(length)
  before = between_chunks(causal(-1), size).shift(keys=length) & ~same_text
  return chunked(size) | (
    clean & (before | (between_chunks(causal(), size) & same_text))
  )
