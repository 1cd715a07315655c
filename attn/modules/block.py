"""One layer of a transformer: attend, then think, each around a residual."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.call import ScoreMod
from attn.masks import Mask
from attn.modules.linear import Linear
from attn.modules.sharding import constrain
from attn.weights import check_rate

Array = jax.Array

ACTIVATIONS = ('gelu', 'relu2', 'swiglu')
NORMS = ('layernorm', 'rmsnorm')

# What the axes of a residual stream count.
_TOKENS = ('batch', 'length', None)


class FeedForward(nn.Module):
  """Widen, bend, narrow: applied to each token alone.

    gelu, relu2:  out = activation(x W_in) W_out
    swiglu:       out = (silu(x W_gate) * x W_in) W_out

  relu2 is the square of the positive part.

  Attributes:
    mlp_dim: F, the width in between.
    activation: 'gelu', 'relu2' or 'swiglu'.
    kernel_init: Initialiser of W_in and W_gate.
    out_init: Initialiser of W_out.

  Raises:
    ValueError: if activation is unknown.

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = FeedForward(mlp_dim=32, activation='swiglu')
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 8)

  References:
    Vaswani et al., 2017, section 3.3. https://arxiv.org/abs/1706.03762
    Shazeer, 2020 (SwiGLU). https://arxiv.org/abs/2002.05202
    So et al., 2021 (ReLU²). https://arxiv.org/abs/2109.08668
  """

  mlp_dim: int
  activation: str = 'gelu'
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  out_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Args: x: float[..., D].  Returns: float[..., D]."""
    make = functools.partial(Linear, self.mlp_dim, kernel_init=self.kernel_init)
    hidden = constrain(make(name='in')(x), 'batch', 'length', 'hidden')
    match self.activation:
      case 'gelu':
        hidden = nn.gelu(hidden)
      case 'relu2':
        hidden = jnp.square(nn.relu(hidden))
      case 'swiglu':
        hidden = nn.silu(make(name='gate')(x)) * hidden
      case _:
        raise ValueError(
          f'activation: got {self.activation!r}, wanted one of {ACTIVATIONS}'
        )
    return Linear(x.shape[-1], kernel_init=self.out_init, name='out')(hidden)


class TransformerBlock(nn.Module):
  """Pre-norm attention and feed-forward, each added to what came in.

    x = x + attention(norm(x)),  out = x + feed_forward(norm(x))

  Attributes:
    attention: An attention module, called as `MultiHeadAttention` is; or None
      to leave it out.
    feed_forward: The feed-forward module.
    norm: 'layernorm' or 'rmsnorm'.
    dropout_rate: Applied to what is added, with the 'dropout' rng.

  Raises:
    ValueError: if norm is unknown, or dropout_rate outside [0, 1].

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> from attn.modules import MultiHeadAttention
    >>> layer = TransformerBlock(MultiHeadAttention(2), FeedForward(32))
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 8)

  References:
    Xiong et al., 2020 (pre-norm). https://arxiv.org/abs/2002.04745
    Zhang and Sennrich, 2019 (RMSNorm). https://arxiv.org/abs/1910.07467
  """

  attention: Any
  feed_forward: FeedForward
  norm: str = 'layernorm'
  dropout_rate: float = 0.0

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
    """Transform every token.

    Args:
      x: float[*B, T, D].
      mask: As in `attn.attention`.
      score_mod: As in `attn.attention`; applied after the layer's own.
      positions: int[*B, T], for rotary attention.
      deterministic: Without dropout.

    Returns:
      float[*B, T, D].
    """
    check_rate('dropout_rate', self.dropout_rate)
    drop = nn.Dropout(self.dropout_rate, deterministic=deterministic)
    if self.attention is not None:
      added = self.attention(
        make_norm(self.norm, 'attention_norm', x.dtype)(x),
        mask=mask,
        score_mod=score_mod,
        positions=positions,
        deterministic=deterministic,
      )
      x = constrain(x + drop(added), *_TOKENS)
    normed = make_norm(self.norm, 'feed_forward_norm', x.dtype)(x)
    return constrain(x + drop(self.feed_forward(normed)), *_TOKENS)


def make_norm(kind: str, name: str, dtype: jnp.dtype) -> nn.Module:
  """A normalisation layer: 'layernorm' (without bias) or 'rmsnorm'."""
  match kind:
    case 'layernorm':
      return nn.LayerNorm(use_bias=False, dtype=dtype, name=name)
    case 'rmsnorm':
      return nn.RMSNorm(dtype=dtype, name=name)
    case _:
      raise ValueError(f'norm: got {kind!r}, wanted one of {NORMS}')
