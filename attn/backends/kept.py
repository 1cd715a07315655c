"""Attention to keys and values that are known to be finite.

What a cache keeps is checked when it is kept.  `dense` would check it anew for
every token that is read, and that takes longer than the attention itself.
"""

import functools

import jax
import jax.numpy as jnp

from attn.backends.dense import modify
from attn.call import ScoreMod
from attn.precision import at_least_float32
from attn.scores import dot_product_scores
from attn.weights import softmax, weighted_sum

Array = jax.Array


def attend_to_finite(
  query: Array,
  key: Array,
  value: Array,
  *,
  spoiled: Array,
  mask: Array,
  scale: float | Array | None = None,
  score_mod: ScoreMod | None = None,
  sink: Array | None = None,
) -> Array:
  """What `attn.attention` returns, for keys and values that hold no NaN or Inf.

  Args:
    query: float[B, T, N, H].
    key: float[B, S, K, H]; finite.
    value: float[B, S, K, Hv]; finite.
    spoiled: bool[B, S], keys that were not finite before they were replaced: a
      query that may attend to one gives NaN.
    mask: bool[B, N or 1, T, S].
    scale: As in `attn.attention`.
    score_mod: Likewise.
    sink: Likewise.

  Returns:
    float[B, T, N, Hv] in the dtype of query.
  """
  batch, length, heads, _ = query.shape
  dtype = query.dtype
  wide = at_least_float32(dtype)

  # The queries that read the same keys are rows of one product, and batches and
  # heads one axis: XLA on a CPU copies keys that have two.
  def lanes(x: Array) -> Array:
    x = jnp.moveaxis(x, 2, 1).astype(wide)
    return x.reshape(-1, *x.shape[2:])

  key, value = lanes(key), lanes(value)
  query = lanes(query).reshape(len(key), -1, query.shape[-1])
  scores = jax.vmap(functools.partial(dot_product_scores, scale=scale))(
    query, key
  ).reshape(batch, heads, length, -1)
  if score_mod is not None:
    scores = _modified(score_mod, scores)
  # A score of -inf is as good as a mask.
  spoils = spoiled[:, None, None, :] & (scores != -jnp.inf)
  scores = jnp.where(spoils, jnp.nan, scores)
  if sink is not None:
    sink = sink[:, None]
  weights = softmax(scores, mask, sink=sink)
  context = weighted_sum(weights.reshape(*query.shape[:2], -1), value)
  context = context.reshape(batch, heads, length, -1)
  return jnp.moveaxis(context, 1, 2).astype(dtype)


def _modified(score_mod: ScoreMod, scores: Array) -> Array:
  b, n = (jnp.arange(size, dtype=jnp.int32) for size in scores.shape[:2])
  heads = jax.vmap(functools.partial(modify, score_mod), in_axes=(0, None, 0))
  return jax.vmap(heads, in_axes=(0, 0, None))(scores, b, n)
