"""Normalisation layers by name."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.precision import at_least_float32

Array = jax.Array

NORMS = ('layernorm', 'rmsnorm', 'rmsnorm1p')


class ZeroCentredRMSNorm(nn.Module):
  """RMSNorm whose scale is learned as its distance from 1.

    out = x / √(mean(x²) + epsilon) (1 + scale)

  Weight decay then draws it to 1, not to 0.

  Attributes:
    epsilon: Added to the mean.

  Example:
    >>> layer, x = ZeroCentredRMSNorm(), jnp.array([[3.0, 4.0]])
    >>> layer.apply(layer.init(jax.random.key(0), x), x).round(2)
    Array([[0.85, 1.13]], dtype=float32)

  References:
    Gemma, 2024. https://arxiv.org/abs/2403.08295
  """

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Args: x: float[..., D].  Returns: the same."""
    wide = at_least_float32(x.dtype)
    scale = self.param('scale', nn.initializers.zeros, (x.shape[-1],))
    norm = nn.RMSNorm(self.epsilon, use_scale=False, dtype=wide)
    normed = norm(x.astype(wide))
    return (normed * (1 + scale.astype(wide))).astype(x.dtype)


def make_norm(
  kind: str,
  name: str,
  dtype: jnp.dtype,
  *,
  epsilon: float = 1e-6,
  use_bias: bool = False,
) -> nn.Module:
  """A normalisation layer.

  Args:
    kind: 'layernorm', 'rmsnorm', or 'rmsnorm1p', which learns how far its scale
      is from 1.
    name: Of the layer.
    dtype: Of what comes out.
    epsilon: Added to the variance, or to the mean square.
    use_bias: Of 'layernorm'.

  Raises:
    ValueError: if kind is unknown, or has no bias and is to have one.
  """
  if use_bias and kind != 'layernorm':
    raise ValueError(f'use_bias: got {use_bias}, wanted False for {kind}')
  match kind:
    case 'layernorm':
      return nn.LayerNorm(epsilon, dtype, use_bias=use_bias, name=name)
    case 'rmsnorm':
      return nn.RMSNorm(epsilon, dtype, name=name)
    case 'rmsnorm1p':
      return ZeroCentredRMSNorm(epsilon, name=name)
    case _:
      raise ValueError(f'norm: got {kind!r}, wanted one of {NORMS}')
