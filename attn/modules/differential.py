"""The difference of two attentions: what both see by chance cancels."""

import functools
import math
from collections.abc import Callable
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


class DifferentialAttention(nn.Module):
  """Two softmaxes a head; the second is taken away from the first.

    context = (softmax(q₁ k₁ᵀ / √h) - λ softmax(q₂ k₂ᵀ / √h)) v,    h = H / 2
    out     = merge((1 - λ₀) rmsnorm(context)) W_out
    λ       = exp(a₁·b₁) - exp(a₂·b₂) + λ₀

  a and b are learned and shared by the heads; λ₀ = 0.8 - 0.6 exp(-0.3 layer).

  Attributes:
    num_heads: N, a divisor of D whose heads are even.
    layer: The layer's number, from 0.
    rope_base: As in `MultiHeadAttention`.
    out_init: Initialiser of W_out.
    score_mod: As in `attn.attention`, of 2 N heads.
    implementation: As in `attn.attention`.
    cache: As in `MultiHeadAttention`.
    capture_weights: As in `MultiHeadAttention`; of a row they sum to 1 - λ.

  Raises:
    ValueError: if num_heads does not divide the width into even heads.

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = DifferentialAttention(num_heads=2)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 8)

  References:
    Ye et al., 2024. https://arxiv.org/abs/2410.05258
  """

  num_heads: int
  layer: int = 0
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
    if heads < 1 or width % (2 * heads):
      raise ValueError(
        f'num_heads: got {heads}, wanted an even head size of the width {width}'
      )
    if score_mod is not None:
      raise ValueError('score_mod: got one, wanted it as an attribute')
    query, key = (
      split_heads(Linear(width, name=name)(x), 2 * heads)
      for name in ('query', 'key')
    )
    value = split_heads(Linear(width, name='value')(x), heads)
    query = rotate(query, positions, self.rope_base)
    key = rotate(key, positions, self.rope_base)
    of_places = self.score_mod
    if self.cache is not None:
      recalled = self.cache(
        positions,
        {'key': key, 'value': value},
        num_heads=2 * heads,
        mask=mask,
        score_mod=of_places,
      )
      mask, of_places = recalled.mask, recalled.score_mod
      key, value = recalled.kept['key'], recalled.kept['value']
    options: dict[str, Any] = {'mask': mask, 'score_mod': of_places}
    both = functools.partial(
      attention, query, key, implementation=self.implementation, **options
    )
    share = self._share()
    attend = _difference(both, share)
    show_call(
      self, attend, query, key, kind='difference', number=share, **options
    )
    if self.capture_weights:
      self.sow('intermediates', 'weights', weights_of(attend, value))
    scale = 1 - self._first_share()
    context = nn.RMSNorm(name='norm', dtype=x.dtype)(attend(value)) * scale
    out = Linear(width, kernel_init=self.out_init, name='out')
    return out(merge_heads(context))

  def _first_share(self) -> float:
    return 0.8 - 0.6 * math.exp(-0.3 * self.layer)

  def _share(self) -> Array:
    """λ, how much of the second softmax is taken away."""
    size = (16,)
    a1, b1, a2, b2 = (
      self.param(name, nn.initializers.normal(0.1), size)
      for name in (
        'share_query_1',
        'share_key_1',
        'share_query_2',
        'share_key_2',
      )
    )
    return jnp.exp(a1 @ b1) - jnp.exp(a2 @ b2) + self._first_share()


def _difference(
  both: Callable[[Array], Array], share: Array
) -> Callable[[Array], Array]:
  def attend(value: Array) -> Array:
    # Heads 2 n and 2 n + 1 look at the same value.
    context = both(jnp.repeat(value, 2, axis=-2))
    first, second = context[..., ::2, :], context[..., 1::2, :]
    return first - share.astype(first.dtype) * second

  return attend
