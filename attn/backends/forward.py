"""The forward pass of one lane: softmax carried along from tile to tile."""

from collections.abc import Callable
from typing import NamedTuple

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
    weights: [B, K, G * T, S], 0 in rows that have none; where a few small heads
      are computed at once, for the derivative.  Else None.
  """

  context: Array
  residual: Array
  shift: Array
  inverse: Array
  weights: Array | None = None


class State(NamedTuple):
  """Softmax on its way through the keys.

  Attributes:
    total: [...], Σ exp(score - top) of the keys seen so far.
    context: [..., Hv], Σ exp(score - top) value.
    top: [...], their largest score; -inf before any was seen.
  """

  total: Array
  context: Array
  top: Array


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
  start = start_of_row(problem, lane)
  visit = visit_tile(problem, floats, others, lane)
  state = loops.map_rows(problem, lane, visit, lambda i: start)
  return finish(problem, lane, state)


def start_of_row(problem: Problem, lane: Lane) -> State:
  """The state of a row of tiles of which no key was seen."""
  size, dtype = lane.query_t.shape[2], problem.compute_dtype
  return State(
    total=jnp.zeros(size, dtype),
    context=jnp.zeros((size, lane.value.shape[-1]), dtype),
    top=jnp.full(size, -jnp.inf, dtype),
  )


def visit_tile(
  problem: Problem, floats: Floats, others: Others, lane: Lane
) -> Callable[[tiles.Tile, State], State]:
  """From a tile of a marked lane and the state of its row to the new state."""
  ones = jnp.ones((problem.plan.block_k, 1), problem.compute_dtype)

  def visit(tile: tiles.Tile, state: State) -> State:
    total, context, top = state
    scores = tiles.visible_scores(problem, floats, others, lane, tile)
    new_top = jnp.maximum(top, scores.max(-1))
    # A row that has seen no key yet: -inf - -inf would be NaN.
    shift = jnp.where(new_top == -jnp.inf, 0, new_top)
    weights = jnp.exp(scores - shift[:, None])
    shrink = jnp.exp(top - shift)
    total = total * shrink + tiles.product(weights, ones)[:, 0]
    kept = tiles.kept_in(problem, others, lane, tile)
    weights = weights if kept is None else weights * kept
    part = tiles.product(weights, tiles.at(lane.value, tile.j))
    return State(total, context * shrink[:, None] + part, new_top)

  return visit


def finish(problem: Problem, lane: Lane, state: State) -> Output:
  """The output of rows that have seen all keys; the sink is added here."""
  total, context, top = state
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
