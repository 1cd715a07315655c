"""A causal language model: what is the next token?"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn import masks
from attn.modules.attention_layers import (
  CachePlan,
  layer_mask,
  make_attention,
)
from attn.modules.block import FeedForward, TransformerBlock
from attn.modules.causal_lm_config import CausalLMConfig
from attn.modules.kneser_ney import KneserNey
from attn.modules.linear import Linear
from attn.modules.ngram_counts import COUNTS
from attn.modules.ngrams import NgramEmbed
from attn.modules.norms import make_norm
from attn.modules.sharding import constrain, divides
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
    cache: CachePlan | None = None,
    part: Array | None = None,
    deterministic: bool = True,
  ) -> Array:
    """Logits of the next token at every position.

    Args:
      tokens: int[B, T], T at most the context.
      segment_ids: int[B, T]; tokens see only their own segment.
      positions: int[B, T], place within the document; 0, 1, ... if None.
      prefix_length: In place of the config's; one number, or int[B].
      cache: Tokens read before are seen as well, and these are kept; apply with
        `mutable=['cache']`.  Positions count from the beginning of the text,
        and are -1 for padding.
      part: int[B, T], in training, the part of the text that each token is in:
        it was counted, and must not be looked at.
      deterministic: Without dropout.

    Returns:
      float32[B, T, V].

    Raises:
      ValueError: if T is more than the context.
    """
    config, length = self.config, tokens.shape[-1]
    if cache is None and length > config.context:
      raise ValueError(
        f'tokens: got {length}, wanted at most the context, {config.context}'
      )
    if prefix_length is None:
      prefix_length = config.prefix_length
    hidden = None if segment_ids is None else masks.segments(segment_ids)
    # A cache knows where in their text the tokens are; masks are of places.
    within = positions if cache is None else None
    if positions is None:
      positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
    if cache is not None and cache.first:
      hidden = masks.padding(positions.max(-1) + 1)
    table = nn.Embed(
      config.vocab_size,
      config.embed_dim,
      embedding_init=nn.initializers.normal(0.02),
      name='embed',
    )
    x = table(tokens)
    if config.embed_scale:
      x = x * jnp.asarray(config.embed_dim**0.5, x.dtype)
    x = x + self._position_embeddings(jnp.maximum(positions, 0))
    if config.ngrams:
      x = x + self._ngram_embed(cache)(tokens, positions)
    counted = None
    if config.counts:
      counted = self._counts(cache)(tokens, positions, part)
      x = x + Linear(config.embed_dim, name='counts_in')(counted[..., -1, :])
    if config.embed_norm:
      x = nn.RMSNorm(use_scale=False, name='embed_norm')(x)
    x = constrain(x, 'batch', 'length', None)
    x = nn.Dropout(config.dropout_rate, deterministic=deterministic)(x)
    for layer in range(config.num_layers):
      mask = layer_mask(config, layer, within, prefix_length)
      x = self._block(layer, cache)(
        x,
        mask=mask if hidden is None else mask & hidden,
        positions=positions,
        deterministic=deterministic,
      )
    x = make_norm(
      config.norm,
      'final_norm',
      x.dtype,
      epsilon=config.norm_epsilon,
      use_bias=config.norm_bias,
    )(x)
    if config.tied_head:
      flat = x if divides('length') else x.reshape(-1, config.embed_dim)
      logits = table.attend(flat).reshape(*tokens.shape, config.vocab_size)
    else:
      init = nn.initializers.lecun_normal()
      if config.zero_init:
        init = nn.initializers.zeros
      logits = Linear(config.vocab_size, kernel_init=init, name='head')(x)
    logits = constrain(logits, 'batch', 'length', 'vocab')
    if config.logit_cap:
      logits = config.logit_cap * jnp.tanh(logits / config.logit_cap)
    return logits if counted is None else logits + self._trusted(counted, x)

  def _trusted(self, counted: Array, x: Array) -> Array:
    """What was counted after each context, each length as far as x trusts it.

    At the start the longest is believed, and no other.
    """
    lengths = counted.shape[-2]
    init = nn.initializers.zeros
    trust = Linear(lengths, kernel_init=init, name='trust')(x)
    return jnp.einsum('btk,btkv->btv', trust.at[..., -1].add(1), counted)

  def _counts(self, cache: CachePlan | None) -> KneserNey:
    config = self.config
    return KneserNey(
      config.vocab_size,
      config.counts,
      config.count_rows,
      at_once=0 if cache is None else cache.at_once,
      first=cache is not None and cache.first,
      name=COUNTS,
    )

  def _ngram_embed(self, cache: CachePlan | None) -> NgramEmbed:
    config = self.config
    return NgramEmbed(
      config.embed_dim,
      config.ngrams,
      config.ngram_rows,
      config.ngram_dim,
      at_once=0 if cache is None else cache.at_once,
      first=cache is not None and cache.first,
      name='ngram_embed',
    )

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

  def _block(self, layer: int, cache: CachePlan | None) -> TransformerBlock:
    config = self.config
    # What a residual stream of L layers adds up should not grow with L.
    out_init = nn.initializers.normal(0.02 / (2 * config.num_layers) ** 0.5)
    if config.zero_init:
      out_init = nn.initializers.zeros
    kernel_init = nn.initializers.lecun_normal()
    if config.kernel_std:
      kernel_init = nn.initializers.normal(config.kernel_std)
    return TransformerBlock(
      attention=make_attention(
        config,
        layer,
        cache,
        kernel_init=kernel_init,
        out_init=out_init,
        capture_weights=self.capture_weights,
      ),
      feed_forward=FeedForward(
        config.mlp_dim,
        config.activation,
        kernel_init,
        out_init,
        config.mlp_bias,
        parent=None,
      ),
      norm=config.norm,
      dropout_rate=config.dropout_rate,
      norm_epsilon=config.norm_epsilon,
      norm_bias=config.norm_bias,
      post_norm=config.post_norm,
      name=f'block_{layer}',
    )
