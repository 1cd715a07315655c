"""A causal language model: what is the next token?"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn import masks
from attn.mods import Mod, alibi, compose, soft_cap
from attn.modules.block import FeedForward, TransformerBlock, make_norm
from attn.modules.causal_lm_config import CausalLMConfig
from attn.modules.linear import Linear
from attn.modules.multi_head import MultiHeadAttention
from attn.modules.relative_bias import RelativeBias
from attn.positions import sinusoidal_positions

Array = jax.Array


class CausalLM(nn.Module):
  """Embed, transform layer by layer, and score every word that may follow.

  Attributes:
    config: Its shape.
    capture_weights: Sow each layer's attention weights into 'intermediates'.

  Example:
    >>> config = CausalLMConfig(
    ...   vocab_size=11, context=8, num_layers=2, embed_dim=8, num_heads=2,
    ...   num_kv_heads=0, mlp_dim=16, attention='full', window=8,
    ...   positions='rotary', rope_base=1e4, norm='rmsnorm', activation='gelu',
    ...   qk_norm=True, tied_head=True, dropout_rate=0.0)
    >>> model, tokens = CausalLM(config), jnp.zeros((3, 5), jnp.int32)
    >>> model.apply(model.init(jax.random.key(0), tokens), tokens).shape
    (3, 5, 11)

  References:
    Radford et al., 2018. https://openai.com/index/language-unsupervised
  """

  config: CausalLMConfig
  capture_weights: bool = False

  @nn.compact
  def __call__(
    self,
    tokens: Array,
    *,
    segment_ids: Array | None = None,
    positions: Array | None = None,
    prefix_length: int | Array | None = None,
    deterministic: bool = True,
  ) -> Array:
    """Logits of the next token at every position.

    Args:
      tokens: int[B, T], T at most the context.
      segment_ids: int[B, T]; tokens see only their own segment.
      positions: int[B, T], place within the document; 0, 1, ... if None.
      prefix_length: In place of the config's; one number.
      deterministic: Without dropout.

    Returns:
      float32[B, T, V].

    Raises:
      ValueError: if T is more than the context.
    """
    config, length = self.config, tokens.shape[-1]
    if length > config.context:
      raise ValueError(
        f'tokens: got {length}, wanted at most the context, {config.context}'
      )
    if prefix_length is None:
      prefix_length = config.prefix_length
    mask = self._mask(segment_ids, positions, prefix_length)
    if positions is None:
      positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
    table = nn.Embed(
      config.vocab_size,
      config.embed_dim,
      embedding_init=nn.initializers.normal(0.02),
      name='embed',
    )
    x = table(tokens) + self._position_embeddings(positions)
    x = nn.Dropout(config.dropout_rate, deterministic=deterministic)(x)
    for layer in range(config.num_layers):
      x = self._block(layer)(
        x, mask=mask, positions=positions, deterministic=deterministic
      )
    x = make_norm(config.norm, 'final_norm', x.dtype)(x)
    if config.tied_head:
      flat = table.attend(x.reshape(-1, config.embed_dim))
      return flat.reshape(*tokens.shape, config.vocab_size)
    return Linear(config.vocab_size, name='head')(x)

  def _position_embeddings(self, positions: Array) -> Array:
    config = self.config
    match config.positions:
      case 'learned':
        return nn.Embed(
          config.context,
          config.embed_dim,
          embedding_init=nn.initializers.normal(0.02),
          name='position_embed',
        )(positions)
      case 'sinusoidal':
        return sinusoidal_positions(positions, config.embed_dim)
      case _:
        return jnp.zeros((), jnp.float32)

  def _mask(
    self,
    segment_ids: Array | None,
    positions: Array | None,
    prefix_length: int | Array,
  ) -> masks.Mask:
    config, mask = self.config, masks.causal()
    near = masks.sliding_window(config.window - 1, 0)
    match config.attention:
      case 'sliding_window':
        mask = mask & near
      case 'dilated':
        reach = (config.window - 1) * config.dilation
        near = masks.sliding_window(reach, 0)
        mask = mask & near & masks.dilated(config.dilation)
      case 'chunked':
        mask = mask & _chunks(config.chunk_size, positions)
      case 'global':
        mask = mask & (near | _global(config.global_tokens, positions))
      case 'prefix':
        mask = mask | _prefix(prefix_length, positions)
    if segment_ids is not None:
      mask = mask & masks.segments(segment_ids)
    return mask

  def _score_mod(self) -> Mod | None:
    config = self.config
    # A cap is for what queries and keys say, not for where they stand.
    mods = [soft_cap(config.soft_cap)] if config.soft_cap else []
    if config.positions == 'alibi':
      mods.append(alibi(config.num_heads))
    return compose(*mods) if mods else None

  def _relative_bias(self) -> RelativeBias | None:
    config = self.config
    if config.positions != 'relative_bias':
      return None
    return RelativeBias(
      config.relative_buckets,
      config.relative_max_distance,
      bidirectional=config.attention == 'prefix',
      parent=None,
    )

  def _block(self, layer: int) -> TransformerBlock:
    config = self.config
    # What a residual stream of L layers adds up should not grow with L.
    out_init = nn.initializers.normal(0.02 / (2 * config.num_layers) ** 0.5)
    attention = MultiHeadAttention(
      num_heads=config.num_heads,
      num_kv_heads=config.num_kv_heads or None,
      rope_base=config.rope_base if config.positions == 'rotary' else None,
      qk_norm=config.qk_norm,
      dropout_rate=config.dropout_rate,
      out_init=out_init,
      score_mod=self._score_mod(),
      relative_bias=self._relative_bias(),
      sinks=config.sinks,
      implementation=config.implementation,
      capture_weights=self.capture_weights,
      parent=None,
    )
    return TransformerBlock(
      attention=None if config.attention == 'none' else attention,
      feed_forward=FeedForward(
        config.mlp_dim, config.activation, out_init, parent=None
      ),
      norm=config.norm,
      dropout_rate=config.dropout_rate,
      name=f'block_{layer}',
    )


# Where positions are given, documents may begin anywhere in a row.


def _chunks(size: int, positions: Array | None) -> masks.Mask:
  if positions is None:
    return masks.chunked(size)
  return masks.segments(positions // size)


def _global(count: int, positions: Array | None) -> masks.Mask:
  if positions is None:
    return masks.global_tokens(count)
  first = positions < count
  seen, seeing = first[:, None, None, :], first[:, None, :, None]
  return masks.dense(seen) | masks.dense(seeing)


def _prefix(length: int | Array, positions: Array | None) -> masks.Mask:
  if positions is None:
    return masks.prefix(length)
  return masks.dense((positions < length)[:, None, None, :])
