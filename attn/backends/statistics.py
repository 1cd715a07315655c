"""Sums over weights that are never kept: loops over the tiles of the scores.

The forward pass leaves the softmax of each row: what is subtracted from its
scores and what multiplies their exponentials.  With these a tile of weights is
computed where it is needed, summed along its rows and columns, and forgotten.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from attn.backends import loops, tiles
from attn.backends.blockwise import attend
from attn.backends.dense import dense
from attn.backends.lanes import (
  Lane,
  cut,
  cut_rows,
  for_each_chunk,
  join,
  join_keys,
  over_lanes,
)
from attn.backends.plan import make_plan
from attn.backends.problem import Floats, Others, Problem, take_apart
from attn.call import Call

Array = jax.Array


class AttentionStatistics(NamedTuple):
  """What `attn.attention_statistics` returns.

  Attributes:
    entropy: [*B, T, N], of each row's weights, in nats.
    mass: [*B, S, N], what each key receives from all rows.
    top_weight: [*B, T, N], the largest weight of each row.
    top_key: int32[*B, T, N], the key that has it; -1 for none.
    residual: [*B, T, N], the logarithm of each softmax's denominator.
  """

  entropy: Array
  mass: Array
  top_weight: Array
  top_key: Array
  residual: Array


class _Rows(NamedTuple):
  """What is known of the rows of a lane when their weights are summed."""

  shift: Array
  inverse: Array
  poisoned: Array
  top_key: Array


def statistics(
  call: Call, sides: tuple[int, int] | None = None
) -> AttentionStatistics:
  """Statistics of all rows and keys, in memory proportional to T + S.

  Args:
    call: The call; its values matter only where they hold NaN or Inf.
    sides: Queries and keys of a tile; None for what is fastest.

  Returns:
    The statistics, [B, ...] in at least float32.
  """
  if 0 in call.sizes:
    return _of_nothing(call)
  problem, floats, others = take_apart(call, *make_plan(call, sides))
  return _statistics(problem, *_without_values(floats, others))


def _of_nothing(call: Call) -> AttentionStatistics:
  """No rows, or no keys to attend to."""
  batch, heads, num_queries, num_keys = call.sizes
  zeros = jnp.zeros((batch, num_queries, heads), call.compute_dtype)
  return AttentionStatistics(
    entropy=zeros,
    mass=jnp.zeros((batch, num_keys, heads), call.compute_dtype),
    top_weight=zeros,
    top_key=jnp.full(zeros.shape, -1, jnp.int32),
    residual=dense(call)[1],
  )


def _without_values(floats: Floats, others: Others) -> tuple[Floats, Others]:
  """Values of size 0, since no context is wanted; and whole keys poisoned.

  A loop without marks must not see the finite part of a key that holds a NaN:
  a score_mod could hide the score of the one and not that of the other.
  """
  whole = jnp.isfinite(floats.key).all(-1)
  poison = others.poison + jnp.where(whole, 0, jnp.nan).astype(
    others.poison.dtype
  )
  return (
    floats._replace(
      key=jnp.where(whole[..., None], floats.key, 0),
      value=floats.value[..., :0],
    ),
    others._replace(poison=poison),
  )


@functools.partial(jax.jit, static_argnums=0)
def _statistics(
  problem: Problem, floats: Floats, others: Others
) -> AttentionStatistics:
  output = attend(problem, floats, others)
  poisoned = jnp.isnan(output.residual)
  # A position has no derivative.
  top_key = _top_keys(problem, jax.lax.stop_gradient(floats), others)
  top_key = jnp.where(poisoned, -1, top_key)
  rows = _Rows(output.shift, output.inverse, poisoned, top_key)
  problem = problem.derivative

  def chunk(number: Array) -> Any:
    lanes = cut(problem, floats, others, number, marked=False)
    of_chunk = _Rows(*(cut_rows(problem, x, number) for x in rows))
    of_lane = functools.partial(_sums, problem, floats, others)
    return over_lanes(of_lane)(lanes, of_chunk)

  if problem.chunks > 1:
    chunk = jax.checkpoint(chunk, prevent_cse=False)
  of_rows, mass = for_each_chunk(problem, chunk)
  entropy, top_weight = (
    jnp.where(poisoned, jnp.nan, join(problem, x)) for x in of_rows
  )
  return AttentionStatistics(
    entropy=entropy,
    mass=join_keys(problem, mass),
    top_weight=top_weight,
    top_key=top_key,
    residual=output.residual,
  )


def _top_keys(problem: Problem, floats: Floats, others: Others) -> Array:
  """Position of each row's largest score, -1 where all are hidden."""

  def chunk(number: Array) -> Array:
    lanes = cut(problem, floats, others, number, marked=False)
    return over_lanes(functools.partial(_top, problem, floats, others))(lanes)

  return join(problem, for_each_chunk(problem, chunk))


def _top(problem: Problem, floats: Floats, others: Others, lane: Lane) -> Array:
  """Of one lane, int32[rows, G * block_q]."""

  def visit(tile: tiles.Tile, state: Any) -> Any:
    top, top_key = state
    scores = tiles.visible_scores(problem, floats, others, lane, tile)
    highest = scores.max(-1)
    first = jax.lax.argmax(scores, 1, jnp.int32)
    first = first + tile.j * problem.plan.block_k
    # Tiles do not come in the order of their keys.
    earlier = (highest == top) & (first < top_key)
    better = (highest > top) | earlier
    return jnp.where(better, highest, top), jnp.where(better, first, top_key)

  row = lane.query_t.shape[2:]
  start = (
    jnp.full(row, -jnp.inf, problem.compute_dtype),
    jnp.full(row, problem.padded_keys, jnp.int32),
  )
  top, top_key = loops.map_rows(problem, lane, visit, lambda i: start)
  return jnp.where(top == -jnp.inf, -1, top_key)


def _sums(
  problem: Problem, floats: Floats, others: Others, lane: Lane, rows: _Rows
) -> Any:
  """Of one lane: (entropy, top weight) [rows, ...], and mass [columns, ...].

  A plain sum over tiles, so that its derivative needs none of them kept.
  """
  plan, dtype = problem.plan, problem.compute_dtype

  def visit(tile: tiles.Tile, _: None, __: None) -> Any:
    row = _Rows(*(tiles.at(x, tile.i)[:, None] for x in rows))
    scores = tiles.visible_scores(problem, floats, others, lane, tile)
    # Rows of padding have an inverse of 0, as those without weights.
    counted = (scores > -jnp.inf) & (scores < jnp.inf) & (row.inverse > 0)
    below_top = jnp.where(counted, scores - row.shift, 0)
    weights = jnp.where(counted, jnp.exp(below_top) * row.inverse, 0)
    # 0 log 0 is 0, and so is its part of the derivative.
    log_inverse = jnp.log(jnp.where(row.inverse > 0, row.inverse, 1))
    surprise = jnp.where(weights > 0, -(below_top + log_inverse), 0)
    keys = jnp.arange(plan.block_k, dtype=jnp.int32) + tile.j * plan.block_k
    top = jnp.where(keys == row.top_key, weights, 0)
    seen = scores != -jnp.inf
    received = jnp.where(row.poisoned & seen, jnp.nan, weights)
    received = received.reshape(problem.groups, plan.block_q, plan.block_k)
    mass = received.sum(1).reshape(-1)
    return ((weights * surprise).sum(-1), top.sum(-1)), mass

  def nothing(tile: tiles.Tile) -> None:
    del tile

  of_rows = jnp.zeros(rows.shift.shape, dtype)
  of_columns = jnp.zeros((plan.columns, problem.groups * plan.block_k), dtype)
  return loops.add_to_both(
    problem, lane, visit, nothing, nothing, (of_rows, of_rows), of_columns
  )
