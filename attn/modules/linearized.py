"""Attention whose memory of the past does not grow."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.heads import merge_heads, split_heads
from attn.masks import Mask
from attn.modules.cache import KeyValueCache
from attn.modules.calls import show_call, weights_of
from attn.modules.linear import Linear
from attn.modules.multi_head import rotate
from attn.precision import at_least_float32
from attn.variants import linear_attention, linear_features

Array = jax.Array


class LinearAttention(nn.Module):
  """Weights proportional to feature(query) · feature(key); see there.

  Without a cache it is `attn.linear_attention`, under any mask.  With one,
  each token sees all before, whatever the mask; of these only sums are kept:

    products = Σ_s feature(key[s]) value[s]ᵀ,   total = Σ_s feature(key[s])
    context  = feature(query) products / (feature(query) · total)

  Attributes:
    num_heads: N, a divisor of D.
    rope_base: Rotate queries and keys, before their features; None for none.
    out_init: Initialiser of W_out.
    implementation: As in `attn.attention`.
    cache: Whether something was read before; of its slots none is needed.
    capture_weights: As in `MultiHeadAttention`; not with a cache.

  Raises:
    ValueError: if num_heads does not divide the width.

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = LinearAttention(num_heads=2)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 8)

  References:
    Katharopoulos et al., 2020. https://arxiv.org/abs/2006.16236
  """

  num_heads: int
  rope_base: float | None = None
  out_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  implementation: str | None = None
  cache: KeyValueCache | None = None
  capture_weights: bool = False

  @nn.compact
  def __call__(
    self,
    x: Array,
    *,
    mask: Array | Mask | None = None,
    score_mod: None = None,
    positions: Array | None = None,
    deterministic: bool = True,
  ) -> Array:
    """Attend among x; arguments as `MultiHeadAttention`.

    There is no score to modify, and weights are not dropped out.
    """
    del deterministic
    if score_mod is not None:
      raise ValueError(f'score_mod: got {score_mod}, wanted none')
    width, heads = x.shape[-1], self.num_heads
    if heads < 1 or width % heads:
      raise ValueError(
        f'num_heads: got {heads}, wanted a divisor of the width {width}'
      )
    query, key, value = (
      split_heads(Linear(width, name=name)(x), heads)
      for name in ('query', 'key', 'value')
    )
    query = rotate(query, positions, self.rope_base)
    key = rotate(key, positions, self.rope_base)
    if self.cache is None:
      attend = functools.partial(
        linear_attention,
        query,
        key,
        mask=mask,
        implementation=self.implementation,
      )
      features = linear_features(query), linear_features(key)
      show_call(self, attend, *features, kind='linear', scale=1.0, mask=mask)
      if self.capture_weights:
        self.sow('intermediates', 'weights', weights_of(attend, key))
      context = attend(value)
    else:
      context = self._continued(query, key, value, positions)
    out = Linear(width, kernel_init=self.out_init, name='out')
    return out(merge_heads(context))

  def _continued(
    self, query: Array, key: Array, value: Array, positions: Array | None
  ) -> Array:
    """What follows sees all that was read, and is read itself."""
    if positions is None:
      raise ValueError('positions: got none, wanted places: there is a cache')
    dtype, wide = query.dtype, at_least_float32(query.dtype)
    query, key = (linear_features(x.astype(wide)) for x in (query, key))
    key = jnp.where((positions >= 0)[..., None, None], key, 0)
    value = value.astype(wide)
    sizes = key.shape[:-3], key.shape[-2:], value.shape[-1:]
    shape = tuple(size for part in sizes for size in part)
    products = self.variable('cache', 'products', jnp.zeros, shape, wide)
    total = self.variable('cache', 'total', jnp.zeros, shape[:-1], wide)
    length = query.shape[-3]
    scores = jnp.einsum('...tnh,...snh->...nts', query, key)
    scores = jnp.where(jnp.tri(length, dtype=bool), scores, 0)
    context = jnp.einsum('...nts,...snv->...tnv', scores, value)
    context += jnp.einsum('...tnh,...nhv->...tnv', query, products.value)
    sums = jnp.moveaxis(scores.sum(-1), -2, -1)
    sums += jnp.einsum('...tnh,...nh->...tn', query, total.value)
    products.value += jnp.einsum('...snh,...snv->...nhv', key, value)
    total.value += key.sum(-3)
    return (context / sums[..., None]).astype(dtype)
