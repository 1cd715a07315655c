"""Attention that is no softmax, and runs through the front door all the same.

Each is softmax attention of other scores: so any mask, linear memory and exact
gradients come with it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from attn.call import ScoreMod
from attn.dispatch import attention
from attn.masks import Mask
from attn.precision import at_least_float32

Array = jax.Array


def sigmoid_attention(
  query: Array,
  key: Array,
  value: Array,
  *,
  shift: float = 0.0,
  mask: Array | Mask | None = None,
  score_mod: ScoreMod | None = None,
  **options: Any,
) -> Array:
  """Each key is weighed for itself; weights need not sum to 1.

    weights = sigmoid(score_mod(scale query keyᵀ) + shift), where mask allows
    context = weights value

  Softmax of log sigmoid has the same weights but for their sum, which is what
  softmax divides by.

  Shapes: as `attn.attention`.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, H].
    value: float[*B, S, K, Hv].
    shift: Added to every score; -log S makes the weights of a row sum to about
      1 at first.
    mask: As in `attn.attention`.
    score_mod: As in `attn.attention`.
    **options: Of `attn.attention`: scale, dropout_rate, rng, implementation.

  Returns:
    The context, float[*B, T, N, Hv] in the dtype of query.

  Raises:
    TypeError, ValueError: as `attn.attention`.

  Example:
    >>> query, key = jnp.zeros((1, 1, 1)), jnp.zeros((2, 1, 1))
    >>> sigmoid_attention(query, key, jnp.full((2, 1, 1), 3.))  # 0.5 * 3 twice
    Array([[[3.]]], dtype=float32)

  References:
    Ramapuram et al., 2024. https://arxiv.org/abs/2409.04431
  """

  def log_weight(score: Any, b: Any, n: Any, q: Any, k: Any) -> Any:
    if score_mod is not None:
      score = score_mod(score, b, n, q, k)
    return jax.nn.log_sigmoid(score + shift)

  context, log_total = attention(
    query,
    key,
    value,
    mask=mask,
    score_mod=log_weight,
    return_residual=True,
    **options,
  )
  total = jnp.exp(log_total)[..., None]
  return (context.astype(total.dtype) * total).astype(query.dtype)


def linear_attention(
  query: Array,
  key: Array,
  value: Array,
  *,
  mask: Array | Mask | None = None,
  **options: Any,
) -> Array:
  """Weights proportional to a product of positive features.

    weights = feature(query) feature(key)ᵀ, where mask allows, over their sum
    context = weights value,               feature(x) = elu(x) + 1

  Softmax of the logarithm of products.  Under a causal mask what a row needs of
  all keys before fits in `state_of`, of one size whatever their number.

  Shapes: as `attn.attention`.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, H].
    value: float[*B, S, K, Hv].
    mask: As in `attn.attention`.
    **options: Of `attn.attention`: dropout_rate, rng, implementation.

  Returns:
    The context, float[*B, T, N, Hv] in the dtype of query.

  Raises:
    TypeError, ValueError: as `attn.attention`.

  Example:
    >>> query, key = jnp.zeros((1, 1, 1)), jnp.array([0., 2.])[:, None, None]
    >>> linear_attention(query, key, key)  # weights 1 and 3, of 4
    Array([[[1.5]]], dtype=float32)

  References:
    Katharopoulos et al., 2020. https://arxiv.org/abs/2006.16236
  """
  return attention(
    linear_features(query),
    linear_features(key),
    value,
    mask=mask,
    scale=1.0,
    score_mod=_log,
    **options,
  )


def linear_features(x: Array) -> Array:
  """What `linear_attention` multiplies: elu(x) + 1.

  Example:
    >>> linear_features(jnp.array([0., 2.]))
    Array([1., 3.], dtype=float32)
  """
  return (jax.nn.elu(x.astype(at_least_float32(x.dtype))) + 1).astype(x.dtype)


def _log(score: Any, b: Any, n: Any, q: Any, k: Any) -> Any:
  return jnp.log(score)
