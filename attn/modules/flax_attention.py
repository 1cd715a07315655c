"""Attention for the attention layers of Flax itself."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.call import ScoreMod
from attn.dispatch import attention
from attn.masks import Mask
from attn.modules.calls import attention_weights

Array = jax.Array


def attention_fn(
  query: Array,
  key: Array,
  value: Array,
  bias: Array | None = None,
  mask: Array | Mask | None = None,
  *,
  broadcast_dropout: bool = True,
  dropout_rng: Array | None = None,
  dropout_rate: float = 0.0,
  deterministic: bool = False,
  dtype: Any = None,
  precision: Any = None,
  module: Any = None,
  force_fp32_for_softmax: bool = True,
  einsum_dot_general: Callable[..., Array] | None = None,
  qk_attn_weights_einsum: Callable[..., Array] | None = None,
  attn_weights_value_einsum: Callable[..., Array] | None = None,
  is_causal: bool = False,
  scale: float | Array | None = None,
  local_window_size: int | tuple[int, int] | None = None,
  score_mod: ScoreMod | None = None,
  sink: Array | None = None,
  implementation: str | None = None,
) -> Array:
  """`attn.attention`, called as Flax calls its `attention_fn`.

    nn.MultiHeadDotProductAttention(num_heads=8, attention_fn=attention_fn)
    nnx.MultiHeadAttention(8, 512, attention_fn=attention_fn, rngs=rngs)

  The keywords are those of `flax.linen.dot_product_attention` and of
  `flax.nnx.dot_product_attention`; the last five are those of `attn.attention`,
  to be set with `functools.partial(attention_fn, score_mod=...)`.

  The same numbers as Flax's, except that a query which may attend to nothing
  gives 0, where Flax takes the mean of all values.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, H].
    value: float[*B, S, K, Hv].
    bias: As in `attn.attention`.
    mask: As in `attn.attention`, or an array of numbers, as Flax makes them:
      all but 0 stand for True.
    broadcast_dropout: Must be False where weights are dropped: here each batch
      element and head drops its own.
    dropout_rng: A PRNG key; needed where weights are dropped.
    dropout_rate: As in `attn.attention`.
    deterministic: Without dropout.
    dtype: To compute in; that of the arrays if None.
    precision: Must be None; `jax.default_matmul_precision` sets it.
    module: Sow the weights, before dropout, as 'attention_weights' into the
      intermediates of this Linen or NNX module.
    force_fp32_for_softmax: It always is in at least float32.
    einsum_dot_general: Must be None.
    qk_attn_weights_einsum: Must be None.
    attn_weights_value_einsum: Must be None.
    is_causal: As in `attn.attention`.
    scale: As in `attn.attention`.
    local_window_size: As in `attn.attention`.
    score_mod: As in `attn.attention`.
    sink: As in `attn.attention`.
    implementation: As in `attn.attention`.

  Returns:
    The context, float[*B, T, N, Hv] in dtype.

  Raises:
    ValueError: if an argument asks for what is not done here, or as
      `attn.attention`.
    TypeError: as `attn.attention`.

  Example:
    >>> layer = nn.MultiHeadDotProductAttention(2, attention_fn=attention_fn)
    >>> x = jnp.ones((3, 5, 8))
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (3, 5, 8)
  """
  del force_fp32_for_softmax
  for name, argument in (
    ('precision', precision),
    ('einsum_dot_general', einsum_dot_general),
    ('qk_attn_weights_einsum', qk_attn_weights_einsum),
    ('attn_weights_value_einsum', attn_weights_value_einsum),
  ):
    if argument is not None:
      raise ValueError(f'{name}: got {argument!r}, wanted None')
  drops = dropout_rate > 0 and not deterministic
  if drops and broadcast_dropout:
    raise ValueError(
      'broadcast_dropout: got True, wanted False: each batch element and head '
      'drops its own weights'
    )
  if drops and dropout_rng is None:
    raise ValueError(
      f'dropout_rng: got None with dropout_rate {dropout_rate}, wanted a PRNG '
      'key'
    )
  if dtype is None:
    dtype = jnp.result_type(query, key, value)
  query, key, value = (x.astype(dtype) for x in (query, key, value))
  if mask is not None and not isinstance(mask, Mask):
    mask = jnp.asarray(mask).astype(bool)
  options: dict[str, Any] = {
    'bias': bias,
    'mask': mask,
    'is_causal': is_causal,
    'scale': scale,
    'local_window_size': local_window_size,
    'score_mod': score_mod,
    'sink': sink,
    'implementation': implementation,
  }
  if module is not None:
    _sow(module, attention_weights(query, key, **options))
  return attention(
    query,
    key,
    value,
    **options,
    dropout_rate=dropout_rate if drops else 0.0,
    rng=dropout_rng if drops else None,
  )


def _sow(module: Any, weights: Array) -> None:
  if isinstance(module, nn.Module):
    module.sow('intermediates', 'attention_weights', weights)
    return
  # Whoever has such a module has loaded NNX; others need not.
  from flax import nnx

  module.sow(nnx.Intermediate, 'attention_weights', weights)
