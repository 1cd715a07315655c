"""The modules that lead up to multi-head attention, in the textbook's order.

Each adds one idea to the one before: trainable projections, a causal mask and
dropout on the weights, several heads side by side.  `MultiHeadAttention` does
in one projection what `StackedHeadsAttention` does in many.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn import masks
from attn.scores import dot_product_scores
from attn.weights import check_rate, dropout, softmax, weighted_sum

Array = jax.Array


class SelfAttention(nn.Module):
  """One head with trainable query, key and value; every token sees every token.

    context = softmax((x W_query) (x W_key)ᵀ / √H) (x W_value)

  Attributes:
    head_dim: H.
    use_bias: Add a bias to the three projections.

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = SelfAttention(head_dim=5)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 5)

  References:
    Vaswani et al., 2017, section 3.2.1. https://arxiv.org/abs/1706.03762
  """

  head_dim: int
  use_bias: bool = False

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Args: x: float[..., T, D].  Returns: float[..., T, H]."""
    query, key, value = _project(self.head_dim, self.use_bias, x)
    return weighted_sum(softmax(dot_product_scores(query, key)), value)


class CausalSelfAttention(nn.Module):
  """One head that cannot see the future, with dropout on its weights.

  Attributes:
    head_dim: H.
    dropout_rate: Applied to the weights, with the 'dropout' rng.
    use_bias: Add a bias to the three projections.

  Raises:
    ValueError: if dropout_rate is outside [0, 1].

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = CausalSelfAttention(head_dim=5, dropout_rate=0.5)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 5)

  References:
    Vaswani et al., 2017, section 3.2.3. https://arxiv.org/abs/1706.03762
  """

  head_dim: int
  dropout_rate: float = 0.0
  use_bias: bool = False

  @nn.compact
  def __call__(self, x: Array, deterministic: bool = True) -> Array:
    """Attend to the past.

    Args:
      x: float[..., T, D].
      deterministic: Without dropout.

    Returns:
      float[..., T, H].
    """
    check_rate('dropout_rate', self.dropout_rate)
    query, key, value = _project(self.head_dim, self.use_bias, x)
    mask = masks.causal().dense(x.shape[-2], x.shape[-2])
    weights = softmax(dot_product_scores(query, key), mask)
    if self.dropout_rate > 0 and not deterministic:
      weights = dropout(weights, self.dropout_rate, self.make_rng('dropout'))
    return weighted_sum(weights, value)


class StackedHeadsAttention(nn.Module):
  """Independent causal heads, their contexts side by side.

  Attributes:
    num_heads: N.
    head_dim: H.
    dropout_rate: Applied to the weights of each head.
    use_bias: Add a bias to the projections.

  Raises:
    ValueError: if num_heads is below 1, or dropout_rate outside [0, 1].

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = StackedHeadsAttention(num_heads=2, head_dim=5)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 10)

  References:
    Vaswani et al., 2017, section 3.2.2. https://arxiv.org/abs/1706.03762
  """

  num_heads: int
  head_dim: int
  dropout_rate: float = 0.0
  use_bias: bool = False

  @nn.compact
  def __call__(self, x: Array, deterministic: bool = True) -> Array:
    """Attend to the past, with every head.

    Args:
      x: float[..., T, D].
      deterministic: Without dropout.

    Returns:
      float[..., T, N H].
    """
    if self.num_heads < 1:
      raise ValueError(f'num_heads: got {self.num_heads}, wanted at least 1')
    contexts = [
      CausalSelfAttention(
        self.head_dim, self.dropout_rate, self.use_bias, name=f'head_{n}'
      )(x, deterministic)
      for n in range(self.num_heads)
    ]
    return jnp.concatenate(contexts, axis=-1)


def _project(head_dim: int, use_bias: bool, x: Array) -> tuple[Array, ...]:
  """Called inside a compact method: the three Dense become its children."""
  return tuple(
    nn.Dense(head_dim, use_bias=use_bias, dtype=x.dtype, name=name)(x)
    for name in ('query', 'key', 'value')
  )
