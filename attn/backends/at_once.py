"""The forward pass where a head is one small tile: nothing is carried along.

Maximum, exponential and sum stand beside each other, between two products of
all heads in the shape that XLA knows best, and it computes each in one go; a
lane at a time, cut for loops, short lengths took a quarter longer.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.backends.forward import Output
from attn.backends.lanes import part_of
from attn.backends.problem import Floats, Others, Problem
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
    The output, [lanes, 1, G * T, ...].
  """
  groups, dtype = problem.groups, problem.compute_dtype
  scale: Any = problem.scale if floats.scale is None else floats.scale
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
  value = jnp.where(jnp.isfinite(value), value, 0).astype(dtype)
  scores = jnp.einsum('bkth,bskh->bkts', _rows(query * scale, groups), key)
  mask = np.tile(mask, (groups, 1))
  if not mask.all():
    scores = jnp.where(mask, scores, -jnp.inf)
  top = scores.max(-1, keepdims=True)
  weights = jnp.exp(scores - top)
  total = weights.sum(-1)
  context = jnp.einsum('bkts,bskh->bkth', weights, value)
  output = _output(context, total, top[..., 0])
  shown = np.asarray(mask.any(-1))
  if not shown.all():
    output = _hide(output, shown)
  lanes = problem.plan.chunk.lanes
  return jax.tree.map(lambda x: x.reshape(lanes, 1, *x.shape[2:]), output)


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
  context, *rest = output
  nothing = (-jnp.inf, jnp.inf, 0)
  return Output(
    jnp.where(shown[:, None], context, 0),
    *(jnp.where(shown, x, gone) for x, gone in zip(rest, nothing)),
  )
