"""Attention where a head is one small tile: nothing is carried along.

Maximum, exponential and sum stand beside each other, between two products of
all heads in the shape that XLA knows best, and it computes each in one go; a
lane at a time, cut for loops, short lengths took a quarter longer.

So few weights may be kept for the derivative.  With p the weights,

  residual_dot = Σ p s_dot,   p_dot = p (s_dot - residual_dot)
  context_dot  = Σ p_dot v + Σ p v_dot
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.backends.forward import Output
from attn.backends.lanes import clean, join, part_of
from attn.backends.problem import (
  Floats,
  Others,
  Problem,
  push_forward,
  scale_of,
)
from attn.backends.tiles import written_mask

Array = jax.Array


def at_once_mask(
  problem: Problem, floats: Floats, others: Others
) -> np.ndarray | None:
  """Who sees whom, where that is all there is to know of scores.

  Returns:
    bool[T, S]; None where `at_once` cannot serve.
  """
  plan = problem.plan
  extras = (floats.v, floats.sink, others.seeds, others.places)
  if problem.changes or any(x is not None for x in extras):
    return None
  whole = (problem.num_queries, problem.num_keys)
  if not plan.small or plan.undecided or whole != (plan.block_q, plan.block_k):
    return None
  if plan.full:
    return np.ones((plan.block_q, plan.block_k), bool)
  return written_mask(problem, others)


def at_once(
  problem: Problem,
  floats: Floats,
  others: Others,
  chunk: Array,
  mask: np.ndarray,
) -> Output:
  """Attention of the lanes of a chunk.

  Args:
    problem: The static part of the call.
    floats: Its float arrays.
    others: Its other arrays.
    chunk: Number of the chunk.
    mask: bool[T, S].

  Returns:
    The output, [lanes, 1, G * T, ...]; if there is one chunk, with weights.
  """
  groups, dtype = problem.groups, problem.compute_dtype
  query = part_of(problem, floats.query, chunk, 2, groups).astype(dtype)
  key, value, poison = (
    part_of(problem, x, chunk, 2, 1)
    for x in (floats.key, floats.value, others.poison)
  )
  # NaN and Inf become NaN in keys: their scores are, and whoever sees one.  In
  # values they become 0, for 0 * NaN is NaN.  Queries need no care: of one that
  # holds an Inf all scores are infinite, and the row is NaN.
  key = key.astype(dtype)
  key = key + 0 * key + poison[..., None]
  value = clean(value, problem, 0)
  scores = _scores(_rows(query * scale_of(problem, floats), groups), key)
  mask = np.tile(mask, (groups, 1))
  if not mask.all():
    scores = jnp.where(mask, scores, -jnp.inf)
  top = scores.max(-1, keepdims=True)
  weights = jnp.exp(scores - top)
  total = weights.sum(-1)
  context = _context(weights, value)
  output = _output(context, total, top[..., 0])
  shown = np.asarray(mask.any(-1))
  if not shown.all():
    output = _hide(output, shown)
  if problem.chunks == 1:
    inverse = output.inverse[..., None]
    weights = jnp.where(inverse > 0, weights * inverse, 0)
    return _of_lanes(problem, output)._replace(weights=weights)
  return _of_lanes(problem, output)


def tangent_at_once(
  problem: Problem, floats: Floats, output: Output, floats_dot: Floats
) -> tuple[Array, Array, Array]:
  """How the output moves along a tangent.

  Args:
    problem: The static part of the call, of which all is one chunk.
    floats: Its float arrays.
    output: The output of the forward pass, [B, T, N, ...], with weights.
    floats_dot: Tangents of `floats`; None for what does not move.

  Returns:
    Tangents of the context, [B, T, N, Hv], of the residual, [B, T, N], and of
    the weights.
  """
  weights: Any = output.weights
  moving = floats_dot.given

  def arrange(floats: Floats) -> tuple[Array, Array, Array]:
    query, key, value = (
      clean(x, problem, 0) for x in (floats.query, floats.key, floats.value)
    )
    query = query * scale_of(problem, floats)
    return _rows(query, problem.groups), key, value

  arranged, arranged_dot = push_forward(arrange, floats, floats_dot)
  query, key, value = arranged
  query_dot, key_dot, value_dot = arranged_dot
  scores_dot = jnp.zeros_like(weights)
  if 'query' in moving or 'scale' in moving:
    scores_dot += _scores(query_dot, key)
  if 'key' in moving:
    scores_dot += _scores(query, key_dot)
  residual_dot = (weights * scores_dot).sum(-1)
  weights_dot = weights * (scores_dot - residual_dot[..., None])
  context_dot = _context(weights_dot, value)
  if 'value' in moving:
    context_dot += _context(weights, value_dot)
  lanes = _of_lanes(problem, (context_dot, residual_dot))
  context_dot, residual_dot = (join(problem, x[None]) for x in lanes)
  # Selected rather than multiplied: what comes back for such a row may be NaN.
  live = output.inverse > 0
  context_dot = jnp.where(live[..., None], context_dot, 0)
  residual_dot = jnp.where(live, residual_dot, 0)
  return context_dot, residual_dot, weights_dot


def _of_lanes(problem: Problem, arrays: Any) -> Any:
  """[b, k, ...] → [lanes, 1, ...]."""
  lanes = problem.plan.chunk.lanes
  return jax.tree.map(lambda x: x.reshape(lanes, 1, *x.shape[2:]), arrays)


def _scores(rows: Array, key: Array) -> Array:
  return jnp.einsum('bkth,bskh->bkts', rows, key)


def _context(weights: Array, value: Array) -> Array:
  return jnp.einsum('bkts,bskh->bkth', weights, value)


def _rows(x: Array, groups: int) -> Array:
  """[b, T, k * G, ...] → [b, k, G * T, ...]."""
  batch, length, heads, *rest = x.shape
  x = x.reshape(batch, length, heads // groups, groups, *rest)
  x = jnp.moveaxis(x, 1, 3)
  return x.reshape(batch, heads // groups, groups * length, *rest)


def _output(context: Array, total: Array, top: Array) -> Output:
  finite = total < jnp.inf
  return Output(
    context=context * (1 / total)[..., None],
    residual=jnp.log(total) + top,
    shift=jnp.where(finite, top, jnp.inf),
    inverse=jnp.where(finite, 1 / total, 0),
  )


def _hide(output: Output, shown: np.ndarray) -> Output:
  """Rows that see nothing, as the pass that carries along leaves them."""
  return Output(
    context=jnp.where(shown[:, None], output.context, 0),
    residual=jnp.where(shown, output.residual, -jnp.inf),
    shift=jnp.where(shown, output.shift, jnp.inf),
    inverse=jnp.where(shown, output.inverse, 0),
  )
