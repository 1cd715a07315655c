"""The affine map every module is made of, and several of one input at once."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from attn.modules.sharding import divides

Array = jax.Array

# Below, laying the weights side by side costs more than it saves.
_FEW_ROWS = 64


class Linear(nn.Module):
  """`nn.Dense` on one flat leading axis.

    out = x W + b

  The same numbers and parameters as `nn.Dense`.  XLA on a CPU turns the
  gradient of a product with two leading axes into strided copies; with one
  leading axis a training step takes half the time.

  Attributes:
    features: Width of the output.
    use_bias: Add b.
    kernel_init: Initialiser of W.

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = Linear(5)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 5)
  """

  features: int
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Args: x: float[..., D].  Returns: float[..., features]."""
    weights = LinearWeights(
      self.features, self.use_bias, self.kernel_init, name=None
    )
    nn.share_scope(self, weights)
    return side_by_side(x, [weights])[0]


class LinearWeights(nn.Module):
  """The parameters of a `Linear` of the same name.

  Attributes:
    features: As in `Linear`.
    use_bias: As in `Linear`.
    kernel_init: As in `Linear`.

  Example:
    >>> weights = LinearWeights(5)
    >>> params = weights.init(jax.random.key(0), jnp.ones((2, 3, 8)))
    >>> weights.apply(params, jnp.ones((2, 3, 8)))[0].shape
    (8, 5)
  """

  features: int
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array | None]:
    """Args: x: float[..., D].  Returns: W [D, features], and b or None."""
    kernel = self.param(
      'kernel', self.kernel_init, (x.shape[-1], self.features)
    )
    if not self.use_bias:
      return kernel, None
    return kernel, self.param('bias', nn.initializers.zeros, (self.features,))


def side_by_side(x: Array, maps: Sequence[LinearWeights]) -> list[Array]:
  """Several affine maps of one input, as one product.

    out[i] = x W[i] + b[i]

  Args:
    x: float[..., D].
    maps: Their weights.

  Returns:
    float[..., features of the map] of each.
  """
  kernels, biases = zip(*(weights(x) for weights in maps))
  # Tokens that devices share cannot be counted in one row with their batch.
  rows = x if divides('length') else x.reshape(-1, x.shape[-1])
  # Nor can heads that devices share be cut out of a joint product.
  apart = x.size // x.shape[-1] < _FEW_ROWS or divides('heads')
  if apart:
    outs = [rows @ kernel.astype(x.dtype) for kernel in kernels]
  else:
    joint = jnp.concatenate([kernel.astype(x.dtype) for kernel in kernels], 1)
    places = np.cumsum([weights.features for weights in maps])[:-1]
    outs = jnp.split(rows @ joint, places, -1)
  outs = [
    out if bias is None else out + bias.astype(x.dtype)
    for out, bias in zip(outs, biases)
  ]
  return [out.reshape(*x.shape[:-1], out.shape[-1]) for out in outs]
