"""Multi-head attention in two parts: what is kept, and who asks."""

import flax.linen as nn
import jax

from attn.dispatch import attention
from attn.heads import merge_heads, split_heads
from attn.masks import Mask
from attn.modules.calls import attention_weights
from attn.modules.linear import Linear
from attn.modules.multi_head import rotate
from attn.weights import check_rate

Array = jax.Array


class KeyValueAttention(nn.Module):
  """Keys and values made once, and attended to as often as one likes.

    keys, values = split(x W_key), split(x W_value)
    out          = merge(attention(split(y W_query), keys, values)) W_out

  The same numbers as `MultiHeadAttention`, for decoders: what a step may see is
  kept from step to step instead of being made again.

  Attributes:
    width: D of `out`.
    num_heads: N, a divisor of D.
    rope_base: Rotate queries and keys by their positions, with this base; None
      for no rotation.
    dropout_rate: Applied to the weights, with the 'dropout' rng.
    out_init: Initialiser of W_out.

  Raises:
    ValueError: if num_heads does not divide width, or as `attn.attention`.

  Example:
    >>> import jax.numpy as jnp
    >>> layer = KeyValueAttention(width=8, num_heads=4)
    >>> x, y = jnp.ones((2, 5, 8)), jnp.ones((2, 3, 8))
    >>> def both(layer, x, y):
    ...   return layer(y, *layer.keep(x))
    >>> out, _ = jax.eval_shape(lambda: layer.init_with_output(
    ...   jax.random.key(0), x, y, method=both))
    >>> out.shape
    (2, 3, 8)

  References:
    Vaswani et al., 2017, section 3.2.3. https://arxiv.org/abs/1706.03762
  """

  width: int
  num_heads: int
  rope_base: float | None = None
  dropout_rate: float = 0.0
  out_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  def setup(self) -> None:
    """The four projections."""
    check_rate('dropout_rate', self.dropout_rate)
    if self.num_heads < 1 or self.width % self.num_heads:
      raise ValueError(
        f'num_heads: got {self.num_heads}, wanted a divisor of the width '
        f'{self.width}'
      )
    self.query = Linear(self.width)
    self.key = Linear(self.width)
    self.value = Linear(self.width)
    self.out = Linear(self.width, kernel_init=self.out_init)

  def keep(
    self, x: Array, positions: Array | None = None
  ) -> tuple[Array, Array]:
    """Keys and values of tokens.

    Args:
      x: float[B, S, Dx].
      positions: int[B, S] for the rotation; 0, 1, ... if None.

    Returns:
      Two arrays float[B, S, N, H].
    """
    keys = split_heads(self.key(x), self.num_heads)
    values = split_heads(self.value(x), self.num_heads)
    return rotate(keys, positions, self.rope_base), values

  def __call__(
    self,
    y: Array,
    keys: Array,
    values: Array,
    *,
    mask: Array | Mask | None = None,
    positions: Array | None = None,
    deterministic: bool = True,
  ) -> Array:
    """Attend from y to what was kept.

    Args:
      y: float[B, T, Dy].
      keys: float[B, S, N, H].
      values: float[B, S, N, H].
      mask: As in `attn.attention`.
      positions: int[B, T] for the rotation; 0, 1, ... if None.
      deterministic: Without dropout.

    Returns:
      float[B, T, D].
    """
    drop = self.dropout_rate > 0 and not deterministic
    context = attention(
      self._queries(y, positions),
      keys,
      values,
      mask=mask,
      dropout_rate=self.dropout_rate if drop else 0.0,
      rng=self.make_rng('dropout') if drop else None,
    )
    return self.out(merge_heads(context))

  def weights(
    self,
    y: Array,
    keys: Array,
    *,
    mask: Array | Mask | None = None,
    positions: Array | None = None,
  ) -> Array:
    """The weights of `__call__` without dropout, float[B, N, T, S]."""
    return attention_weights(self._queries(y, positions), keys, mask=mask)

  def _queries(self, y: Array, positions: Array | None) -> Array:
    queries = split_heads(self.query(y), self.num_heads)
    return rotate(queries, positions, self.rope_base)
