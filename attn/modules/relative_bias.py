"""A table of distances that a model learns."""

import flax.linen as nn

from attn.mods import Mod, relative_bias


class RelativeBias(nn.Module):
  """Relative positions: a learned number per head and range of distances.

    score + table[bucket(k - q), n]

  Given to several layers, one instance is one table, as T5 has it.

  Attributes:
    num_buckets: As in `attn.mods.relative_bias`.
    max_distance: As in `attn.mods.relative_bias`.
    bidirectional: As in `attn.mods.relative_bias`.

  Raises:
    ValueError: as `attn.mods.relative_bias`.

  Example:
    >>> import jax
    >>> table = RelativeBias(num_buckets=8)
    >>> parameters = table.init(jax.random.key(0), num_heads=3)
    >>> parameters['params']['table'].shape
    (8, 3)
    >>> table.apply(parameters, num_heads=3).extents  # for three heads
    (None, 3, None, None)

  References:
    Raffel et al., 2020 (T5), section 2.1. https://arxiv.org/abs/1910.10683
  """

  num_buckets: int = 32
  max_distance: int = 128
  bidirectional: bool = True

  @nn.compact
  def __call__(self, num_heads: int) -> Mod:
    """Args: num_heads N.  Returns: a score modification for N heads."""
    table = self.param(
      'table', nn.initializers.normal(0.02), (self.num_buckets, num_heads)
    )
    return relative_bias(
      table,
      bidirectional=self.bidirectional,
      max_distance=self.max_distance,
    )
