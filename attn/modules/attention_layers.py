"""From a config's words to the attention of each layer."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax

from attn import masks
from attn.mods import Mod, alibi, compose, soft_cap
from attn.modules.cache import KeyValueCache
from attn.modules.causal_lm_config import CausalLMConfig
from attn.modules.differential import DifferentialAttention
from attn.modules.latent import LatentAttention
from attn.modules.linearized import LinearAttention
from attn.modules.multi_head import SCORES, MultiHeadAttention
from attn.modules.relative_bias import RelativeBias

Array = jax.Array


class CachePlan(NamedTuple):
  """How a model keeps what it reads; all of it is static.

  Attributes:
    slots: The most tokens that any layer keeps; later ones take the place of
      the earliest.
    at_once: The most tokens that follow in one call.
    first: Whether this call begins the text.

  Example:
    >>> plan = CachePlan(slots=64, first=True)
    >>> plan._replace(first=False)  # for the tokens that follow
    CachePlan(slots=64, at_once=1, first=False)
  """

  slots: int
  at_once: int = 1
  first: bool = False


def layer_mask(
  config: CausalLMConfig,
  layer: int,
  positions: Array | None,
  prefix_length: int | Array,
) -> masks.Mask:
  """Who sees whom in a layer, packed documents apart.

  Args:
    config: The model's.
    layer: From 0.
    positions: int[B, T], places within documents that may begin anywhere in a
      row; None where each row is one document.
    prefix_length: Of 'prefix' attention.

  Returns:
    A mask.
  """
  mask, pattern = masks.causal(), _pattern(config, layer)
  near = masks.sliding_window(config.window - 1, 0)
  match pattern:
    case 'sliding_window':
      return mask & near
    case 'dilated':
      reach = (config.window - 1) * config.dilation
      near = masks.sliding_window(reach, 0)
      return mask & near & masks.dilated(config.dilation)
    case 'chunked':
      return mask & _chunks(config.chunk_size, positions)
    case 'global':
      return mask & (near | _global(config.global_tokens, positions))
    case 'prefix':
      return mask | _prefix(prefix_length, positions)
    case _:
      return mask


def make_attention(
  config: CausalLMConfig,
  layer: int,
  cache: CachePlan | None,
  *,
  kernel_init: nn.initializers.Initializer,
  out_init: nn.initializers.Initializer,
  capture_weights: bool,
) -> Any:
  """The attention of a layer; None where it is left out."""
  if config.pattern == 'none':
    return None
  common: dict[str, Any] = {
    'num_heads': config.num_heads,
    'rope_base': config.rope_base if config.positions == 'rotary' else None,
    'out_init': out_init,
    'implementation': config.implementation,
    'cache': None if cache is None else _make_cache(config, layer, cache),
    'capture_weights': capture_weights,
    'parent': None,
  }
  kind, score_mod = config.kind, _score_mod(config)
  match kind:
    case 'latent':
      width = config.latent_dim or 2 * config.embed_dim // config.num_heads
      return LatentAttention(latent_dim=width, score_mod=score_mod, **common)
    case 'differential':
      return DifferentialAttention(layer=layer, score_mod=score_mod, **common)
    case 'linear':
      return LinearAttention(**common)
    case _:
      return MultiHeadAttention(
        num_kv_heads=config.num_kv_heads or None,
        head_dim=config.head_dim or None,
        rope_scaling=config.rope_scaling,
        query_scalar=config.query_scalar or None,
        qk_norm=config.qk_norm,
        norm_epsilon=config.norm_epsilon,
        use_bias=config.attention_bias,
        score=kind if kind in SCORES else 'dot',
        shared_query_key=kind == 'symmetric',
        sigmoid_of=config.context if kind == 'sigmoid' else None,
        dropout_rate=config.dropout_rate,
        score_mod=score_mod,
        relative_bias=_relative_bias(config),
        sinks=config.sinks,
        kernel_init=kernel_init,
        **common,
      )


def _pattern(config: CausalLMConfig, layer: int) -> str:
  if config.pattern != 'alternating':
    return config.pattern
  sees_all = (layer + 1) % config.full_every == 0
  return 'full' if sees_all else 'sliding_window'


def _make_cache(
  config: CausalLMConfig, layer: int, plan: CachePlan
) -> KeyValueCache:
  """As many slots as the layer's mask can ask for."""
  pinned, reach = 0, plan.slots
  match _pattern(config, layer):
    case 'sliding_window':
      reach = config.window
    case 'dilated':
      reach = (config.window - 1) * config.dilation + 1
    case 'chunked':
      reach = config.chunk_size
    case 'global':
      pinned, reach = config.global_tokens, config.window
  slots = min(plan.slots, pinned + reach + plan.at_once - 1)
  return KeyValueCache(slots, min(pinned, slots - 1), plan.first, parent=None)


def _score_mod(config: CausalLMConfig) -> Mod | None:
  # A cap is for what queries and keys say, not for where they stand.
  mods = [soft_cap(config.soft_cap)] if config.soft_cap else []
  if config.positions == 'alibi':
    # Either softmax of a difference has heads of its own.
    pairs = 2 if config.kind == 'differential' else 1
    mods.append(alibi(pairs * config.num_heads))
  return compose(*mods) if mods else None


def _relative_bias(config: CausalLMConfig) -> RelativeBias | None:
  if config.positions != 'relative_bias':
    return None
  return RelativeBias(
    config.relative_buckets,
    config.relative_max_distance,
    bidirectional=config.pattern == 'prefix',
    parent=None,
  )


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
