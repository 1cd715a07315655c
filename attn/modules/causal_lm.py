"""A causal language model: what is the next token?"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn import masks
from attn.modules.block import (
  ACTIVATIONS,
  NORMS,
  FeedForward,
  TransformerBlock,
  make_norm,
)
from attn.modules.linear import Linear
from attn.modules.multi_head import MultiHeadAttention
from attn.positions import sinusoidal_positions

Array = jax.Array

ATTENTIONS = ('full', 'sliding_window', 'none')
POSITIONS = ('learned', 'sinusoidal', 'rotary', 'none')


@dataclasses.dataclass(frozen=True)
class CausalLMConfig:
  """Everything that shapes a `CausalLM`.

  Attributes:
    vocab_size: V.
    context: The most tokens seen at once; learned positions go no further.
    num_layers: L.
    embed_dim: D.
    num_heads: N, a divisor of D.
    num_kv_heads: K, a divisor of N; 0 stands for N.
    mlp_dim: F.
    attention: 'full', 'sliding_window', or 'none' to leave it out.
    window: Keys that a sliding window sees, the token itself included.
    positions: 'learned', 'sinusoidal', 'rotary' or 'none'.
    rope_base: Base of the rotary angles.
    norm: 'layernorm' or 'rmsnorm'.
    activation: 'gelu', 'relu2' or 'swiglu'.
    qk_norm: Normalise queries and keys.
    tied_head: The embedding table is also the vocabulary head.
    dropout_rate: On the embeddings, on attention weights and on what each half
      of a block adds.
  """

  vocab_size: int
  context: int
  num_layers: int
  embed_dim: int
  num_heads: int
  num_kv_heads: int
  mlp_dim: int
  attention: str
  window: int
  positions: str
  rope_base: float
  norm: str
  activation: str
  qk_norm: bool
  tied_head: bool
  dropout_rate: float

  def __post_init__(self) -> None:
    for name in (
      'vocab_size',
      'context',
      'num_layers',
      'embed_dim',
      'num_heads',
      'mlp_dim',
      'window',
    ):
      if getattr(self, name) < 1:
        raise ValueError(
          f'{name}: got {getattr(self, name)}, wanted at least 1'
        )
    if self.embed_dim % self.num_heads:
      raise ValueError(
        f'num_heads: got {self.num_heads}, wanted a divisor of embed_dim '
        f'{self.embed_dim}'
      )
    if self.num_kv_heads < 0 or self.num_heads % (self.num_kv_heads or 1):
      raise ValueError(
        f'num_kv_heads: got {self.num_kv_heads}, wanted 0 or a divisor of '
        f'num_heads {self.num_heads}'
      )
    if not 0 <= self.dropout_rate < 1:
      raise ValueError(
        f'dropout_rate: got {self.dropout_rate}, wanted a rate in [0, 1)'
      )
    for name, known in (
      ('attention', ATTENTIONS),
      ('positions', POSITIONS),
      ('norm', NORMS),
      ('activation', ACTIVATIONS),
    ):
      if getattr(self, name) not in known:
        raise ValueError(
          f'{name}: got {getattr(self, name)!r}, wanted one of {known}'
        )
    if self.positions == 'sinusoidal' and self.embed_dim % 2:
      raise ValueError(
        f'embed_dim: got {self.embed_dim}, wanted an even width for sinusoidal '
        'positions'
      )
    if self.positions == 'rotary' and (self.embed_dim // self.num_heads) % 2:
      raise ValueError(
        f'num_heads: got {self.num_heads}, wanted an even head size for rotary '
        f'positions (embed_dim is {self.embed_dim})'
      )
    if self.positions == 'rotary' and not 0 < self.rope_base < math.inf:
      raise ValueError(
        f'rope_base: got {self.rope_base}, wanted a positive number'
      )


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
    deterministic: bool = True,
  ) -> Array:
    """Logits of the next token at every position.

    Args:
      tokens: int[B, T], T at most the context.
      segment_ids: int[B, T]; tokens see only their own segment.
      positions: int[B, T]; 0, 1, ... if None.
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
    mask = self._mask(segment_ids)
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

  def _mask(self, segment_ids: Array | None) -> masks.Mask:
    mask = masks.causal()
    if self.config.attention == 'sliding_window':
      mask = mask & masks.sliding_window(self.config.window - 1, 0)
    if segment_ids is not None:
      mask = mask & masks.segments(segment_ids)
    return mask

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
