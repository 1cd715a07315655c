"""Attention with one head, whole, in the order the textbook writes it.

Everything beyond this file, many heads, masks that are never built, linear
memory, computes the same thing faster.
"""

import jax
import jax.numpy as jnp

from attn.scores import dot_product_scores
from attn.weights import softmax, weighted_sum

Array = jax.Array


def self_attention(x: Array) -> tuple[Array, Array]:
  """Every token looks at every token: no weights to learn, no scale.

    weights = softmax(x xᵀ),  context = weights x

  Args:
    x: float[..., T, D].

  Returns:
    The context, float[..., T, D], and the weights, float[..., T, T], in the
    dtype of x.

  Raises:
    ValueError: if x has fewer than two axes.

  Example:
    >>> context, weights = self_attention(jnp.array([[0., 1.], [1., 0.]]))
    >>> weights.round(3)
    Array([[0.731, 0.269],
           [0.269, 0.731]], dtype=float32)
  """
  if x.ndim < 2:
    raise ValueError(f'x: got shape {x.shape}, wanted at least [T, D]')
  weights = softmax(dot_product_scores(x, x, scale=1.0))
  return weighted_sum(weights, x), weights


def single_head_attention(
  x: Array,
  w_query: Array,
  w_key: Array,
  w_value: Array,
  *,
  mask: Array | None = None,
) -> tuple[Array, Array]:
  """One head with trainable query, key and value projections.

    weights = softmax((x W_query) (x W_key)ᵀ / √H),  context = weights x W_value

  Args:
    x: float[..., T, D].
    w_query: float[D, H].
    w_key: float[D, H].
    w_value: float[D, Hv].
    mask: bool, broadcastable to [..., T, T].  True lets t attend to s.

  Returns:
    The context, float[..., T, Hv], and the weights, float[..., T, T], in the
    dtype of x.

  Raises:
    TypeError: if mask is not boolean.
    ValueError: if a projection does not fit x, or mask does not broadcast.

  Example:
    >>> x, one = jnp.array([[0., 1.], [1., 0.]]), jnp.eye(2)
    >>> causal = jnp.tril(jnp.ones((2, 2), bool))
    >>> context, weights = single_head_attention(x, one, one, one, mask=causal)
    >>> weights.round(2)
    Array([[1.  , 0.  ],
           [0.33, 0.67]], dtype=float32)

  References:
    Vaswani et al., 2017, section 3.2.1. https://arxiv.org/abs/1706.03762
  """
  if x.ndim < 2:
    raise ValueError(f'x: got shape {x.shape}, wanted at least [T, D]')
  projections = {'w_query': w_query, 'w_key': w_key, 'w_value': w_value}
  for name, w in projections.items():
    if w.ndim != 2 or w.shape[0] != x.shape[-1]:
      raise ValueError(
        f'{name}: got shape {w.shape}, wanted ({x.shape[-1]}, head size)'
      )
  query, key, value = (jnp.matmul(x, w) for w in projections.values())
  weights = softmax(dot_product_scores(query, key), mask)
  return weighted_sum(weights, value), weights
