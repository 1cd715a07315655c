"""Embeddings of the last few tokens together, beside that of the last alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.modules.linear import Linear
from attn.modules.recent import RecentTokens, mix

Array = jax.Array


class NgramEmbed(nn.Module):
  """What the 2, 3, ... tokens up to each place mean, from hashed tables.

    out[t] = [table_2[hash(x[t-1], x[t])]; ...; table_n[hash(x[t-n+1..t])]] W

  A layer of attention would need weights and products to find out which tokens
  came just before; a table is told.  N-grams that share a row share what they
  mean.

  Attributes:
    features: D.
    longest: n, at least 2.
    rows: Of each table.
    width: Of each row.
    at_once: With a cache, the most tokens of a call; 0 for no cache.
    first: With a cache, whether nothing was read before.

  Example:
    >>> tokens = jnp.array([[5, 1, 2, 3], [6, 1, 2, 3]])
    >>> embed = NgramEmbed(features=8, longest=3, rows=64, width=4)
    >>> positions = jnp.array([[0, 1, 2, 3]] * 2)
    >>> params = embed.init(jax.random.key(0), tokens, positions)
    >>> out = embed.apply(params, tokens, positions)
    >>> (out[0] == out[1]).all(-1)  # from the fourth on the same three tokens
    Array([False, False, False,  True], dtype=bool)

  References:
    Huang et al., 2025 (over-tokenized). https://arxiv.org/abs/2501.16975
    Svenstrup et al., 2017 (hash embeddings). https://arxiv.org/abs/1709.03933
  """

  features: int
  longest: int
  rows: int
  width: int
  at_once: int = 0
  first: bool = False

  @nn.compact
  def __call__(self, tokens: Array, positions: Array) -> Array:
    """Embed.

    Args:
      tokens: int[B, T].
      positions: int[B, T], place within the document, from 0; what stands
        before a document is not seen.  -1 for padding at the end.

    Returns:
      float[B, T, D].
    """
    # 0 stands before the beginning.
    known = tokens.astype(jnp.uint32) + 1
    recent = RecentTokens(
      self.longest - 1, self.at_once, self.first, name='recent'
    )
    before = recent(known, positions)
    mixed, found = known, []
    for n in range(2, self.longest + 1):
      mixed = mix(mixed, before[n - 2], n)
      table = nn.Embed(
        self.rows,
        self.width,
        embedding_init=nn.initializers.normal(0.3),
        name=f'table_{n}',
      )
      found.append(table((mixed % self.rows).astype(jnp.int32)))
    return Linear(self.features, name='out')(jnp.concatenate(found, -1))
