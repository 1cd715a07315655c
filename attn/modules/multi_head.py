"""Multi-head attention: self or cross, grouped queries, any mask, any mod."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.call import ScoreMod
from attn.dispatch import attention
from attn.heads import merge_heads, split_heads
from attn.masks import Mask
from attn.mods import compose
from attn.modules.linear import Linear
from attn.modules.relative_bias import RelativeBias
from attn.positions import apply_rope
from attn.weights import check_rate

Array = jax.Array


class MultiHeadAttention(nn.Module):
  """Project, split into heads, attend, merge, project.

    out = merge(attention(split(x W_query), split(c W_key), split(c W_value)))
          W_out,   c = source, or x itself

  Attributes:
    num_heads: N query heads.
    num_kv_heads: K key/value heads, a divisor of N; N if None.
    head_dim: H; D / N if None.
    rope_base: Rotate queries and keys by their positions, with this base; None
      for no rotation.
    qk_norm: Normalise queries and keys, each head by its root mean square.
    dropout_rate: Applied to the weights, with the 'dropout' rng.
    use_bias: Add a bias to the four projections.
    out_init: Initialiser of W_out.
    score_mod: As in `attn.attention`.
    relative_bias: A learned table of distances, applied after score_mod; None
      for none.
    sinks: Learn a score per head that belongs to no key and takes its share of
      the weight, from 0 on.
    implementation: As in `attn.attention`.
    capture_weights: Sow the weights, float[*B, N, T, S], as 'weights' into the
      'intermediates' collection.  A sink's share is missing from their sums.

  Raises:
    ValueError: if heads do not divide the width, key/value heads do not divide
      the query heads, or as `attn.attention`.

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = MultiHeadAttention(num_heads=4, num_kv_heads=2)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 8)

  References:
    Vaswani et al., 2017, section 3.2.2. https://arxiv.org/abs/1706.03762
    Ainslie et al., 2023 (grouped queries). https://arxiv.org/abs/2305.13245
    Henry et al., 2020 (qk-norm). https://arxiv.org/abs/2010.04245
    Xiao et al., 2023 (sinks). https://arxiv.org/abs/2309.17453
  """

  num_heads: int
  num_kv_heads: int | None = None
  head_dim: int | None = None
  rope_base: float | None = None
  qk_norm: bool = False
  dropout_rate: float = 0.0
  use_bias: bool = False
  out_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  score_mod: ScoreMod | None = None
  relative_bias: RelativeBias | None = None
  sinks: bool = False
  implementation: str | None = None
  capture_weights: bool = False

  @nn.compact
  def __call__(
    self,
    x: Array,
    source: Array | None = None,
    *,
    mask: Array | Mask | None = None,
    score_mod: ScoreMod | None = None,
    positions: Array | None = None,
    source_positions: Array | None = None,
    deterministic: bool = True,
  ) -> Array:
    """Attend from x to source.

    Args:
      x: float[*B, T, D].
      source: float[*B, S, Ds], where keys and values come from; x if None.
      mask: As in `attn.attention`.
      score_mod: As in `attn.attention`; applied after the layer's own.
      positions: int[*B, T] for the rotation; 0, 1, ... if None.
      source_positions: int[*B, S], likewise; positions where source is None.
      deterministic: Without dropout.

    Returns:
      float[*B, T, D].
    """
    check_rate('dropout_rate', self.dropout_rate)
    width, head_dim = x.shape[-1], self._head_dim(x.shape[-1])
    if source is None:
      source, source_positions = x, positions
    kv_heads = self._kv_heads()
    query = self._heads('query', x, self.num_heads, head_dim)
    key = self._heads('key', source, kv_heads, head_dim)
    value = self._heads('value', source, kv_heads, head_dim)
    if self.qk_norm:
      query = nn.RMSNorm(name='query_norm', dtype=x.dtype)(query)
      key = nn.RMSNorm(name='key_norm', dtype=x.dtype)(key)
    if self.rope_base is not None:
      query = _rotate(query, positions, self.rope_base)
      key = _rotate(key, source_positions, self.rope_base)
    drop = self.dropout_rate > 0 and not deterministic
    options = {
      'mask': mask,
      'score_mod': self._score_mod(score_mod),
      'sink': self._sink(),
      'implementation': self.implementation,
    }
    if self.capture_weights:
      weights = attention_weights(query, key, **options)
      self.sow('intermediates', 'weights', weights)
    context = attention(
      query,
      key,
      value,
      **options,
      dropout_rate=self.dropout_rate if drop else 0.0,
      rng=self.make_rng('dropout') if drop else None,
    )
    return Linear(
      width, use_bias=self.use_bias, kernel_init=self.out_init, name='out'
    )(merge_heads(context))

  def _kv_heads(self) -> int:
    kv_heads = (
      self.num_heads if self.num_kv_heads is None else self.num_kv_heads
    )
    if kv_heads < 1 or self.num_heads % kv_heads:
      raise ValueError(
        f'num_kv_heads: got {kv_heads}, wanted a divisor of num_heads '
        f'{self.num_heads}'
      )
    return kv_heads

  def _head_dim(self, width: int) -> int:
    if self.num_heads < 1:
      raise ValueError(f'num_heads: got {self.num_heads}, wanted at least 1')
    if self.head_dim is not None:
      return self.head_dim
    if width % self.num_heads:
      raise ValueError(
        f'num_heads: got {self.num_heads}, wanted a divisor of the width '
        f'{width}, or head_dim'
      )
    return width // self.num_heads

  def _score_mod(self, last: ScoreMod | None) -> ScoreMod | None:
    learned = self.relative_bias
    mods = [
      self.score_mod,
      None if learned is None else learned(self.num_heads),
      last,
    ]
    mods = [mod for mod in mods if mod is not None]
    return compose(*mods) if len(mods) > 1 else next(iter(mods), None)

  def _sink(self) -> Array | None:
    if not self.sinks:
      return None
    return self.param('sink', nn.initializers.zeros, (self.num_heads,))

  def _heads(self, name: str, x: Array, heads: int, head_dim: int) -> Array:
    x = Linear(heads * head_dim, use_bias=self.use_bias, name=name)(x)
    return split_heads(x, heads)


def attention_weights(query: Array, key: Array, **options: Any) -> Array:
  """Weights of `attn.attention`, float[*B, N, T, S], with its options."""
  # Where the values are the identity, the context is the weights.
  identity = jnp.eye(key.shape[-3], dtype=key.dtype)[:, None, :]
  identity = jnp.broadcast_to(identity, (*key.shape[:-1], key.shape[-3]))
  return jnp.moveaxis(attention(query, key, identity, **options), -2, -3)


def _rotate(x: Array, positions: Array | None, base: float) -> Array:
  """Rotate [*B, T, N, H] by positions [*B, T], the same in every head."""
  if positions is None:
    positions = jnp.arange(x.shape[-3])

  def rotate_head(head: Array) -> Array:
    return apply_rope(head, positions, base=base)

  return jax.vmap(rotate_head, in_axes=-2, out_axes=-2)(x)
