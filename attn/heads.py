"""Heads: one wide vector seen as several narrow ones, and back."""

import jax
import jax.numpy as jnp

Array = jax.Array


def split_heads(x: Array, num_heads: int) -> Array:
  """Cut the last axis into heads.

    out[..., n, h] = x[..., n H + h]

  Args:
    x: [..., D], D a multiple of num_heads.
    num_heads: N, at least 1.

  Returns:
    [..., N, H] with H = D / N, in the dtype of x.

  Raises:
    ValueError: if num_heads is below 1 or does not divide D.

  Example:
    >>> split_heads(jnp.arange(6), 2)
    Array([[0, 1, 2],
           [3, 4, 5]], dtype=int32)

  References:
    Vaswani et al., 2017, section 3.2.2. https://arxiv.org/abs/1706.03762
  """
  if x.ndim < 1 or num_heads < 1 or x.shape[-1] % num_heads:
    raise ValueError(
      f'num_heads: got {num_heads} for x of shape {x.shape}, wanted a divisor '
      'of the last axis'
    )
  return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)


def merge_heads(x: Array) -> Array:
  """Lay the heads side by side: the inverse of `split_heads`.

    out[..., n H + h] = x[..., n, h]

  Args:
    x: [..., N, H].

  Returns:
    [..., N H] in the dtype of x.

  Raises:
    ValueError: if x has fewer than two axes.

  Example:
    >>> merge_heads(jnp.array([[0, 1, 2], [3, 4, 5]]))
    Array([0, 1, 2, 3, 4, 5], dtype=int32)

  References:
    Vaswani et al., 2017, section 3.2.2. https://arxiv.org/abs/1706.03762
  """
  if x.ndim < 2:
    raise ValueError(f'x: got shape {x.shape}, wanted at least [N, H]')
  return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def repeat_kv(x: Array, groups: int) -> Array:
  """Give every query head a key/value head of its own.

    out[..., n, :] = x[..., n // groups, :]

  Grouped queries share key/value heads; this spells the sharing out, for
  implementations that want as many of one as of the other.

  Args:
    x: [..., K, H], keys or values.
    groups: G, query heads per key/value head, at least 1.

  Returns:
    [..., K G, H] in the dtype of x.

  Raises:
    ValueError: if groups is below 1 or x has fewer than two axes.

  Example:
    >>> repeat_kv(jnp.array([[1], [2]]), 2).ravel()
    Array([1, 1, 2, 2], dtype=int32)

  References:
    Ainslie et al., 2023. https://arxiv.org/abs/2305.13245
  """
  if groups < 1:
    raise ValueError(f'groups: got {groups}, wanted at least 1')
  if x.ndim < 2:
    raise ValueError(f'x: got shape {x.shape}, wanted at least [K, H]')
  return jnp.repeat(x, groups, axis=-2)
