"""Attention with every score written out: the specification.

One head is a dozen lines; the query heads that share a key/value head, the
key/value heads and the batches are three `jax.vmap`s.  It needs T×S numbers a
head.  Whatever another backend computes must equal this.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.backends.additive import AdditiveCall
from attn.call import Call, ScoreMod
from attn.masks.arguments import at_trace_time
from attn.scores import additive_scores, dot_product_scores
from attn.weights import dropout, log_normalizer, softmax, weighted_sum

Array = jax.Array


def dense(call: Call) -> tuple[Array, Array]:
  """Exact attention in memory proportional to T×S; serves every call.

  Args:
    call: The call.

  Returns:
    The context, [B, T, N, Hv] in the dtype of query, and the logarithm of each
    softmax's denominator, [B, T, N] in at least float32.
  """
  context, residual = _over_heads(call, _one_head)
  context = jnp.moveaxis(context, 1, 2).astype(call.query.dtype)
  return context, jnp.moveaxis(residual, 1, 2)


def dense_weights(call: Call) -> Array:
  """The weights that `dense` averages values with, before dropout.

  Args:
    call: The call.

  Returns:
    float[B, N, T, S] in at least float32.  A row that is NaN in the context is
    NaN at the keys that it may attend to, and 0 elsewhere.
  """
  return _over_heads(call, _weights_of_head)


def _over_heads(call: Call, one_head: Callable[..., Any]) -> Any:
  """Compute all heads of all batches; arrays [B, N, ...]."""
  batch, heads, num_queries, num_keys = call.sizes
  kv_heads = call.key.shape[2]
  grid = (batch, kv_heads, heads // max(kv_heads, 1))

  def heads_first(x: Array) -> Array:
    return jnp.moveaxis(x, 2, 1).astype(call.compute_dtype)

  def per_head(x: Any, *shape: int) -> Any:
    if x is None:
      return None
    return jnp.broadcast_to(x, (batch, heads, *shape)).reshape(*grid, *shape)

  mask = _written(call)
  v = call.v if isinstance(call, AdditiveCall) else None
  b, n = (x.astype(jnp.int32) for x in jnp.ogrid[:batch, :heads])
  attend = functools.partial(one_head, call)
  attend = jax.vmap(attend, in_axes=(0, None, None, 0, 0, 0, 0, 0, 0))
  out = jax.vmap(jax.vmap(attend))(
    per_head(heads_first(call.query), num_queries, call.query.shape[3]),
    heads_first(call.key),
    heads_first(call.value),
    per_head(v, *call.query.shape[3:]),
    per_head(call.bias, num_queries, num_keys),
    per_head(mask, num_queries, num_keys),
    per_head(call.sink),
    per_head(b),
    per_head(n),
  )
  return jax.tree.map(lambda x: x.reshape(batch, heads, *x.shape[3:]), out)


def _written(call: Call) -> Array | None:
  """The mask, [T, S] or [B, N, T, S]."""
  if call.mask is None:
    return None
  num_queries, num_keys = call.sizes[2:]
  if jax.tree.leaves(call.mask) or num_queries * num_keys > 2**16:
    return call.mask.dense(num_queries, num_keys)
  # As a small constant it costs a third of what comparing indices costs.
  with at_trace_time():
    written = np.asarray(call.mask.dense(num_queries, num_keys))
  # Outside: an array made there belongs to the mesh in use, if any.
  return jnp.asarray(written)


def _one_head(
  call: Call,
  query: Array,
  key: Array,
  value: Array,
  v: Array | None,
  bias: Array | None,
  mask: Array | None,
  sink: Array | None,
  b: Array,
  n: Array,
) -> tuple[Array, Array]:
  """Query [T, H], key [S, H], value [S, Hv] → context [T, Hv], residual [T]."""
  value, value_is_finite = _zero_unless_finite(value)
  scores, visible = _scores(
    call, query, key, value_is_finite, v, bias, mask, b, n
  )
  # Not by the maximum: from 64 keys on, XLA's on a CPU passes over NaN.
  poisoned = ~(visible < jnp.inf).all(-1)
  scores = jnp.where(poisoned[:, None], 0, scores)
  weights = softmax(scores, mask, sink=sink)
  residual = log_normalizer(scores, mask, sink=sink)
  if call.rng is not None:
    head_rng = jax.random.fold_in(jax.random.fold_in(call.rng, b), n)
    weights = dropout(weights, call.dropout_rate, head_rng)
  context = weighted_sum(weights, value)
  return (
    jnp.where(poisoned[:, None], jnp.nan, context),
    jnp.where(poisoned, jnp.nan, residual),
  )


def _weights_of_head(
  call: Call,
  query: Array,
  key: Array,
  value: Array,
  v: Array | None,
  bias: Array | None,
  mask: Array | None,
  sink: Array | None,
  b: Array,
  n: Array,
) -> Array:
  """Of the same arrays, weights [T, S]."""
  _, value_is_finite = _zero_unless_finite(value)
  scores, visible = _scores(
    call, query, key, value_is_finite, v, bias, mask, b, n
  )
  poisoned = ~(visible < jnp.inf).all(-1, keepdims=True)
  weights = softmax(jnp.where(poisoned, 0, scores), mask, sink=sink)
  return jnp.where(poisoned & (visible != -jnp.inf), jnp.nan, weights)


def _scores(
  call: Call,
  query: Array,
  key: Array,
  value_is_finite: Array,
  v: Array | None,
  bias: Array | None,
  mask: Array | None,
  b: Array,
  n: Array,
) -> tuple[Array, Array]:
  """Scores [T, S], NaN where poisoned; and the same, -inf where masked."""
  query, query_is_finite = _zero_unless_finite(query)
  key, key_is_finite = _zero_unless_finite(key)
  if v is None:
    scores = dot_product_scores(query, key, scale=call.scale)
  else:
    scores = additive_scores(query, key, None, None, v)
  finite = query_is_finite[:, None] & (key_is_finite & value_is_finite)
  if call.score_mod is not None:
    # A derivative that is NaN at a hidden score would pass through 0 * NaN.
    shown = finite if mask is None else finite & mask
    scores = modify(call.score_mod, jnp.where(shown, scores, 0), b, n)
  if bias is not None:
    scores = scores + bias.astype(scores.dtype)
  # A score of -inf is as good as a mask, also where the key is NaN.
  scores = jnp.where(finite | (scores == -jnp.inf), scores, jnp.nan)
  visible = scores if mask is None else jnp.where(mask, scores, -jnp.inf)
  return scores, visible


def _zero_unless_finite(x: Array) -> tuple[Array, Array]:
  """Replace the rows that hold a NaN or Inf by 0, and say which are whole.

  A masked NaN has weight 0, and 0 * NaN is NaN, forward and backward: it must
  not enter a product.  The rows that may attend to it are made NaN at the end.
  """
  finite = jnp.isfinite(x).all(-1)
  return jnp.where(finite[:, None], x, 0), finite


def modify(score_mod: ScoreMod, scores: Array, b: Array, n: Array) -> Array:
  """Each score of one head, [T, S], through the mod."""
  queries, keys = (jnp.arange(size, dtype=jnp.int32) for size in scores.shape)
  one_query = jax.vmap(score_mod, in_axes=(0, None, None, None, 0))
  all_queries = jax.vmap(one_query, in_axes=(0, None, None, 0, None))
  return all_queries(scores, b, n, queries, keys)
