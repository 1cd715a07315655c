"""The forward pass of one lane: softmax carried along from tile to tile."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from attn.backends import loops, tiles
from attn.backends.lanes import Lane
from attn.backends.problem import Floats, Others, Problem

Array = jax.Array


class Output(NamedTuple):
  """What the forward pass leaves for the user and for the derivative.

  Attributes:
    context: [..., Hv] in the dtype of computation; NaN where a row is poisoned.
    residual: [...], logarithm of the softmax's denominator.
    shift: [...], subtracted from the scores of a row: its maximum; +inf where
      the row has no weights, because it sees no key or is poisoned.
    inverse: [...], 1 / Σ exp(score - shift); 0 where there are no weights.
  """

  context: Array
  residual: Array
  shift: Array
  inverse: Array


def forward(
  problem: Problem, floats: Floats, others: Others, lane: Lane
) -> Output:
  """Attention of one lane.

  Args:
    problem: The static part of the call.
    floats: Its float arrays.
    others: Its other arrays.
    lane: One lane cut out of them, marked.

  Returns:
    The output, [rows, G * block_q, ...].
  """
  rows, dtype = lane.query_t.shape[::2], problem.compute_dtype
  ones = jnp.ones((problem.plan.block_k, 1), dtype)

  def visit(tile: tiles.Tile, state: Any) -> Any:
    total, context, top = state
    scores = tiles.visible_scores(problem, floats, others, lane, tile)
    new_top = jnp.maximum(top, scores.max(-1))
    # A row that has seen no key yet: -inf - -inf would be NaN.
    shift = jnp.where(new_top == -jnp.inf, 0, new_top)
    weights = jnp.exp(scores - shift[:, None])
    shrink = jnp.exp(top - shift)
    total = total * shrink + tiles.product(weights, ones)[:, 0]
    kept = tiles.kept_in(problem, lane, tile)
    weights = weights if kept is None else weights * kept
    part = tiles.product(weights, tiles.at(lane.value, tile.j))
    return total, context * shrink[:, None] + part, new_top

  start = (
    jnp.zeros(rows[1], dtype),
    jnp.zeros((rows[1], lane.value.shape[-1]), dtype),
    jnp.full(rows[1], -jnp.inf, dtype),
  )
  total, context, top = loops.map_rows(problem, lane, visit, start)
  if lane.sink is not None:
    sink = jnp.repeat(lane.sink, problem.plan.block_q)
    new_top = jnp.maximum(top, sink)
    shift = jnp.where(new_top == -jnp.inf, 0, new_top)
    shrink = jnp.exp(top - shift)
    total = total * shrink + jnp.exp(sink - shift)
    context, top = context * shrink[..., None], new_top
  return _normalized(total, context, top)


def _normalized(total: Array, context: Array, top: Array) -> Output:
  empty = total == 0
  # By comparison, since a NaN compares as False.
  poisoned = ~((total < jnp.inf) & (top < jnp.inf))
  inverse = jnp.where(empty | poisoned, 0, 1 / jnp.where(empty, 1, total))
  residual = jnp.log(jnp.where(empty, 1, total)) + top
  context = jnp.where(empty[..., None], 0, context * inverse[..., None])
  return Output(
    context=jnp.where(poisoned[..., None], jnp.nan, context),
    residual=jnp.where(poisoned, jnp.nan, residual),
    shift=jnp.where(empty | poisoned, jnp.inf, top),
    inverse=inverse,
  )
