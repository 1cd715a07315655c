"""Keys and values of all heads from one short vector a token."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.call import ScoreMod
from attn.dispatch import attention
from attn.heads import merge_heads, split_heads
from attn.masks import Mask
from attn.modules.cache import KeyValueCache
from attn.modules.calls import show_call, weights_of
from attn.modules.linear import Linear
from attn.modules.multi_head import rotate

Array = jax.Array

_UP = nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2))


class LatentAttention(nn.Module):
  """Multi-head latent attention: what is kept of a token is one short vector.

    c      = rmsnorm(x W_down)                                [S, R]
    key    = [c W_key; rotate(x W_place)],  value = c W_value  per head
    query  = [x W_query; rotate(x W_turn)]                     per head
    out    = merge(attention(query, key, value)) W_out

  With a cache, c and the rotated part, the same for all heads, are all that is
  kept.  They are then keys and values themselves, of a single head: W_key is
  multiplied into the queries, and W_value into the context.

  Attributes:
    num_heads: N, a divisor of D.
    latent_dim: R.
    rope_dim: Size of the part that is rotated; even.
    rope_base: Base of the rotation; None for no rotated part.
    out_init: Initialiser of W_out.
    score_mod: As in `attn.attention`.
    implementation: As in `attn.attention`.
    cache: As in `MultiHeadAttention`.
    capture_weights: As in `MultiHeadAttention`.

  Raises:
    ValueError: if num_heads does not divide the width.

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = LatentAttention(num_heads=2, latent_dim=3)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 8)

  References:
    DeepSeek-AI, 2024, section 2.1. https://arxiv.org/abs/2405.04434
  """

  num_heads: int
  latent_dim: int
  rope_dim: int = 16
  rope_base: float | None = None
  out_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  score_mod: ScoreMod | None = None
  implementation: str | None = None
  cache: KeyValueCache | None = None
  capture_weights: bool = False

  @nn.compact
  def __call__(
    self,
    x: Array,
    *,
    mask: Array | Mask | None = None,
    score_mod: ScoreMod | None = None,
    positions: Array | None = None,
    deterministic: bool = True,
  ) -> Array:
    """Attend among x; arguments as `MultiHeadAttention`.

    Weights are not dropped out.
    """
    del deterministic
    width, heads = x.shape[-1], self.num_heads
    if heads < 1 or width % heads:
      raise ValueError(
        f'num_heads: got {heads}, wanted a divisor of the width {width}'
      )
    if score_mod is not None:
      raise ValueError('score_mod: got one, wanted it as an attribute')
    query = split_heads(Linear(width, name='query')(x), heads)
    latent = Linear(self.latent_dim, name='down')(x)
    latent = nn.RMSNorm(name='down_norm', dtype=x.dtype)(latent)
    turn, place = self._rotated(x, positions)
    shape = (self.latent_dim, heads, width // heads)
    w_key = self.param('key', _UP, shape).astype(x.dtype)
    w_value = self.param('value', _UP, shape).astype(x.dtype)
    of_places, recalls = self.score_mod, False
    if self.cache is not None:
      recalled = self.cache(
        positions,
        {'latent': latent, 'place': place},
        num_heads=heads,
        mask=mask,
        score_mod=of_places,
      )
      mask, of_places = recalled.mask, recalled.score_mod
      latent, place = recalled.kept['latent'], recalled.kept['place']
      recalls = not self.cache.first
    if recalls:
      query = jnp.einsum('...nh,rnh->...nr', query, w_key)
      key = value = latent[..., None, :]
    else:
      # Fewer operations where many tokens ask.
      key = jnp.einsum('...r,rnh->...nh', latent, w_key)
      value = jnp.einsum('...r,rnh->...nh', latent, w_value)
      place = jnp.broadcast_to(place, (*key.shape[:-1], place.shape[-1]))
    asked = jnp.concatenate([query, turn], -1)
    told = jnp.concatenate([key, place], -1)
    options: dict[str, Any] = {
      'mask': mask,
      'score_mod': of_places,
      'scale': (width // heads + turn.shape[-1]) ** -0.5,
    }
    attend = functools.partial(
      attention, asked, told, implementation=self.implementation, **options
    )
    show_call(self, attend, asked, told, **options)
    if self.capture_weights:
      self.sow('intermediates', 'weights', weights_of(attend, key))
    context = attend(value)
    if recalls:
      context = jnp.einsum('...nr,rnh->...nh', context, w_value)
    out = Linear(width, kernel_init=self.out_init, name='out')
    return out(merge_heads(context))

  def _rotated(self, x: Array, positions: Array | None) -> tuple[Array, Array]:
    """Of queries [*B, T, N, Hr], of keys [*B, T, 1, Hr]; Hr 0 for none."""
    if self.rope_base is None:
      nothing = jnp.zeros((*x.shape[:-1], 1, 0), x.dtype)
      return jnp.repeat(nothing, self.num_heads, axis=-2), nothing
    turn = Linear(self.num_heads * self.rope_dim, name='turn')(x)
    turn = split_heads(turn, self.num_heads)
    place = Linear(self.rope_dim, name='place')(x)[..., None, :]
    return (
      rotate(turn, positions, self.rope_base),
      rotate(place, positions, self.rope_base),
    )
