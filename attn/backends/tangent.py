"""The derivative of attention along a tangent, a loop over the same tiles.

With scores s, weights p = exp(s - residual) and context o = Σ p v,

  residual_dot = Σ p s_dot
  context_dot  = Σ p s_dot v + Σ p v_dot - residual_dot o

summed over keys.  It is linear in the tangents; JAX transposes it into

  v_bar = pᵀ o_bar,   s_bar = p (o_bar vᵀ - (o_bar·o) + residual_bar)

and so on, which is the backward pass of FlashAttention.
"""

from typing import Any

import jax
import jax.numpy as jnp

from attn.backends import loops, tiles
from attn.backends.differential import differential, pick
from attn.backends.forward import Output
from attn.backends.lanes import (
  Lane,
  cut,
  cut_rows,
  for_each_chunk,
  join,
  over_lanes,
)
from attn.backends.problem import Floats, Others, Problem, push_forward

Array = jax.Array


def tangent(
  problem: Problem,
  floats: Floats,
  others: Others,
  output: Output,
  floats_dot: Floats,
) -> tuple[Array, Array]:
  """How context and residual move.

  Args:
    problem: The static part of the call.
    floats: Its float arrays.
    others: Its other arrays.
    output: The output of the forward pass, [B, T, N, ...].
    floats_dot: Tangents of `floats`; None for what does not move.

  Returns:
    Tangents of the context, [B, T, N, Hv], and of the residual, [B, T, N].
  """
  problem = problem.derivative

  def chunk(number: Array, floats_dot: Floats) -> tuple[Array, Array]:
    lanes, lanes_dot = _cut_both(problem, floats, others, number, floats_dot)
    outputs = jax.tree.map(lambda x: cut_rows(problem, x, number), output)

    def of_lane(lane: Lane, lane_dot: Lane, output: Output) -> Any:
      return tangent_of_lane(
        problem, floats, others, floats_dot, lane, lane_dot, output
      )

    return over_lanes(of_lane)(lanes, lanes_dot, outputs)

  if problem.chunks > 1:
    chunk = jax.checkpoint(chunk, prevent_cse=False)
  context_dot, residual_dot = for_each_chunk(
    problem, lambda number: chunk(number, floats_dot)
  )
  return join(problem, context_dot), join(problem, residual_dot)


def _cut_both(
  problem: Problem,
  floats: Floats,
  others: Others,
  number: Array,
  floats_dot: Floats,
) -> tuple[Lane, Lane]:
  """Lanes and their tangents, None where nothing moves."""

  def arrange(floats: Floats) -> Lane:
    return cut(problem, floats, others, number, marked=False)

  lanes, lanes_dot = push_forward(arrange, floats, floats_dot)
  moves = {
    'query_t' if name in ('query', 'scale') else name
    for name in floats_dot.given
  }
  moves = {'key_t' if name == 'key' else name for name in moves}
  still = [name for name in Lane._fields if name not in moves]
  return lanes, lanes_dot._replace(**dict.fromkeys(still))


def tangent_of_lane(
  problem: Problem,
  floats: Floats,
  others: Others,
  floats_dot: Floats,
  lane: Lane,
  lane_dot: Lane,
  output: Output,
) -> tuple[Array, Array]:
  """Tangents of the context and residual of one lane."""
  rows, dtype = lane.query_t.shape[::2], problem.compute_dtype
  value_size = lane.value.shape[-1]
  # Tiles are computed with keys first here: then none of the products, forward
  # and transposed, sums over the first axis of a tile, which is slow on a CPU.
  raw = differential(lane, lane_dot)
  value_t = jnp.swapaxes(lane.value, 1, 2)

  def moving(tile: tiles.Tile) -> Any:
    return (
      raw.moving(tile.i, tile.j),
      pick(lane_dot.value, tile.j),
      tiles.bias_in(problem, others, lane, lane_dot.bias, tile),
      floats_dot.score_mod,
    )

  def still(tile: tiles.Tile) -> Any:
    # What is as large as all tiles is cut here: a visit that is chosen among
    # others would keep, for its derivative, the whole of what it reads.
    bias = tiles.bias_in(problem, others, lane, lane.bias, tile)
    allowed = tiles.allowed_in(problem, others, lane, tile)
    value, shift = tiles.at(value_t, tile.j), tiles.at(output.shift, tile.i)
    return raw.still(tile.i, tile.j), value, shift, bias, allowed

  def visit(tile: tiles.Tile, moving: Any, still: Any) -> Any:
    raw_moving, value_dot, *change_dot = moving
    raw_still, value_t, shift, bias, allowed = still
    pair = raw.pair(raw_moving, raw_still)
    allowed = allowed if tile.masked else None
    weights, scores_dot = _weights(
      *(problem, floats, others, lane, shift),
      *(tile, pair, bias, allowed, change_dot),
    )
    kept = tiles.kept_in(problem, others, lane, tile)
    moved = weights * scores_dot
    thinned, moved_kept = weights, moved
    if kept is not None:
      thinned, moved_kept = weights * kept.T, moved * kept.T
    total = moved.sum(0)  # a product would be transposed into an outer product
    context_t = tiles.product(value_t, moved_kept)
    context = jnp.zeros((rows[1], value_size), dtype)
    if value_dot is not None:
      context = tiles.contract(thinned, 0, value_dot, 0)
    return total, context, context_t

  start = (
    jnp.zeros(rows, dtype),
    jnp.zeros((*rows, value_size), dtype),
    jnp.zeros((rows[0], value_size, rows[1]), dtype),
  )
  total, context, context_t = loops.add_to_rows(
    problem, lane, visit, moving, still, start
  )
  context += jnp.swapaxes(context_t, 1, 2)
  return normalized(problem, lane, lane_dot, output, total, context)


def _weights(
  problem: Problem,
  floats: Floats,
  others: Others,
  lane: Lane,
  shift: Array,
  tile: tiles.Tile,
  pair: tuple[Array, Array],
  bias: Array | None,
  allowed: Array | None,
  change_dot: Any,
) -> tuple[Array, Array]:
  """exp(score - shift) of a tile, 0 where hidden, and the scores' tangent.

  Both are [block_k, G * block_q], as the scores and their tangent are.
  """
  flat = pair[0].shape
  grouped = (problem.plan.block_k, problem.groups, problem.plan.block_q)
  scores, scores_dot = (x.reshape(grouped) for x in pair)
  visible = None if allowed is None else jnp.moveaxis(allowed, 2, 0)
  if problem.changes:
    scores, scores_dot = _changed(
      problem,
      floats,
      others,
      lane,
      tile,
      bias,
      allowed,
      (scores, scores_dot),
      change_dot,
    )
    # The scores of a poisoned row may be anything; it sends no gradient.
    finite = scores < jnp.inf
    visible = finite if visible is None else visible & finite
    scores_dot = jnp.where(visible, scores_dot, 0)
  if visible is not None:
    scores = jnp.where(visible, scores, -jnp.inf)
  weights = jnp.exp(scores - shift.reshape(1, *grouped[1:]))
  return weights.reshape(flat), scores_dot.reshape(flat)


def _changed(
  problem: Problem,
  floats: Floats,
  others: Others,
  lane: Lane,
  tile: tiles.Tile,
  bias: Array | None,
  allowed: Array | None,
  pair: tuple[Array, Array],
  change_dot: Any,
) -> tuple[Array, Array]:
  """Scores after score_mod and bias, and their tangent; keys first."""
  scores, scores_dot = pair
  bias_dot, mod_dot = change_dot
  mod_dot = mod_dot or [None] * len(floats.score_mod)
  tangents = (
    scores_dot,
    _zeros_unless_given(bias, bias_dot),
    [_zeros_unless_given(*pair) for pair in zip(floats.score_mod, mod_dot)],
  )

  def changed(raw: Array, bias: Array | None, mod_floats: list[Array]) -> Array:
    raw = jnp.moveaxis(raw, 0, 2)
    scores = tiles.change(
      problem, others, lane, tile, allowed, raw, bias, mod_floats
    )
    return jnp.moveaxis(scores, 2, 0)

  return jax.jvp(changed, (scores, bias, floats.score_mod), tangents)


def normalized(
  problem: Problem,
  lane: Lane,
  lane_dot: Lane,
  output: Output,
  total: Array,
  context: Array,
) -> tuple[Array, Array]:
  """From Σ p s_dot and Σ p (s_dot v + v_dot) to the tangents of a lane."""
  dead = output.inverse == 0
  if lane.sink is not None and lane_dot.sink is not None:
    block_q = problem.plan.block_q
    sink_weight = jnp.exp(jnp.repeat(lane.sink, block_q) - output.shift)
    total = total + sink_weight * jnp.repeat(lane_dot.sink, block_q)
  # Selected rather than multiplied: what comes back for such a row may be NaN.
  residual_dot = jnp.where(dead, 0, total * output.inverse)
  mean = jnp.where(dead[..., None], 0, output.context)
  context_dot = context * output.inverse[..., None]
  # Spread out by a product, since sums by products are the fastest.
  spread = jnp.ones((1, mean.shape[-1]), mean.dtype)
  context_dot = context_dot - (residual_dot[..., None] @ spread) * mean
  return jnp.where(dead[..., None], 0, context_dot), residual_dot


def _zeros_unless_given(x: Array | None, x_dot: Array | None) -> Array | None:
  return jnp.zeros_like(x) if x is not None and x_dot is None else x_dot
