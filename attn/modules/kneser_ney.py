"""What follows the last few tokens, as counted in a text."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.modules.ngram_counts import PAIRS, PARTS, ROOT
from attn.modules.recent import RecentTokens, mix

Array = jax.Array


class KneserNey(nn.Module):
  """log p(next token | the last k), k = 0, 1, ..., from counts alone.

    p_k(w) = (c(w) - d(c(w)) + γ p_{k-1}(w)) / Σ c,   γ = Σ_w d(c(w))

  with c the counts of what followed the last k tokens, and d what they are
  discounted by, for 1, 2 and more.  Below the longest k, c(w) is the number of
  different tokens before these k that w followed: "Francisco" is frequent, but
  after one word only.  Tokens after which nothing was counted change nothing.

  A text that was counted would be sure of itself.  So it is counted in parts,
  and a part is read by what the others say: as a text that is new.

  The tables are parameters, but nobody differentiates them; `count_ngrams`
  makes them.

  Attributes:
    vocab_size: V.
    longest: The most tokens looked back at.
    rows: Contexts there is room for.
    at_once: With a cache, the most tokens of a call; 0 for no cache.
    first: With a cache, whether nothing was read before.

  Example:
    >>> import numpy as np
    >>> from attn.modules import count_ngrams
    >>> text = np.array([0, 1, 2] * 5 + [0, 1, 0])
    >>> params = {'params': count_ngrams(text, 3, longest=2, rows=16)}
    >>> model = KneserNey(vocab_size=3, longest=2, rows=16)
    >>> log = model.apply(params, text[None, :2], jnp.array([[0, 1]]))
    >>> jnp.exp(log[0, 1, 2]).round(2)  # after 0, 1
    Array([0.17, 0.02, 0.81], dtype=float32)

  References:
    Kneser and Ney, 1995. https://doi.org/10.1109/ICASSP.1995.479394
    Chen and Goodman, 1999. https://doi.org/10.1006/csla.1999.0128
  """

  vocab_size: int
  longest: int
  rows: int
  at_once: int = 0
  first: bool = False

  @nn.compact
  def __call__(
    self, tokens: Array, positions: Array, part: Array | None = None
  ) -> Array:
    """Look up what followed.

    Args:
      tokens: int[B, T].
      positions: int[B, T], place within the document, from 0; -1 for padding.
      part: int[B, T], the part of the text, of PARTS, that is not looked at;
        None to look at all of it.

    Returns:
      float32[B, T, longest + 1, V].
    """
    contexts, first, followers, seen, ways, discounts = self._tables()
    known = jnp.asarray(tokens).astype(jnp.uint32) + 1
    recent = RecentTokens(
      self.longest - 1, self.at_once, self.first, name='recent'
    )
    before = [known, *recent(known, positions)]
    name = jnp.full_like(known, ROOT)
    # The counts of a part stand in a row.
    begin = 0 if part is None else part + 1
    begin = jnp.asarray(begin * seen.shape[1])[..., None]
    p = jnp.full((*known.shape, self.vocab_size), 1 / self.vocab_size)
    found = []
    for k in range(self.longest + 1):
      if k:
        name = mix(name, before[k - 1], k)
      row = jnp.minimum(jnp.searchsorted(contexts, name), self.rows - 1)
      is_there = (contexts[row] == name) & (positions >= k - 1)
      follows = _bits(followers[row], self.vocab_size) & is_there[..., None]
      place = begin + first[row][..., None] + _count_before(follows)
      # Where a document begins, what is known of the past is all of it.
      is_all = (positions < k) | (k == self.longest)
      counts = jnp.where(
        is_all[..., None], seen.ravel()[place], ways.ravel()[place]
      )
      counts = jnp.where(follows, counts.astype(jnp.float32), 0)
      p = _interpolate(p, counts, discounts[k])
      found.append(jnp.log(p))
    return jax.lax.stop_gradient(jnp.stack(found, -2))

  def _tables(self) -> list[Array]:
    def zeros(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
      return jnp.asarray(self.param(name, lambda _: jnp.zeros(shape, dtype)))

    counts, words = (PARTS + 1, PAIRS * self.rows), -(-self.vocab_size // 32)
    return [
      zeros('contexts', (self.rows,), jnp.uint32),
      zeros('first', (self.rows,), jnp.int32),
      zeros('followers', (self.rows, words), jnp.uint32),
      zeros('seen', counts, jnp.uint16),
      zeros('ways', counts, jnp.uint16),
      zeros('discounts', (self.longest + 1, 3), jnp.float32),
    ]


def _bits(words: Array, count: int) -> Array:
  """The lowest bits of words [..., count / 32], bool[..., count]."""
  places = jnp.arange(32, dtype=jnp.uint32)
  bits = (words[..., None] >> places) & 1
  return bits.reshape(*words.shape[:-1], -1)[..., :count] == 1


def _count_before(flags: Array) -> Array:
  """How many of flags [..., V] before each are true, int32[..., V]."""
  size = flags.shape[-1]
  # A product, since XLA's cumulative sum takes many times as long on a CPU.
  earlier = jnp.triu(jnp.ones((size, size), jnp.float32), 1)
  return (flags.astype(jnp.float32) @ earlier).astype(jnp.int32)


def _interpolate(p: Array, counts: Array, discounts: Array) -> Array:
  """From p of a shorter context to p of this one, [..., V]."""
  one, two, more = discounts
  less = jnp.where(counts >= 3, more, jnp.where(counts == 2, two, one))
  less = jnp.minimum(less, counts)
  total = counts.sum(-1, keepdims=True)
  mean = counts - less + less.sum(-1, keepdims=True) * p
  return jnp.where(total > 0, mean / jnp.maximum(total, 1), p)
