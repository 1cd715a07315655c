"""One tile of the scores, and the loops that visit tiles."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attn import masks
from attn.backends.lanes import Lane
from attn.backends.problem import Floats, Others, Problem
from attn.weights import keep

Array = jax.Array


class Tile(NamedTuple):
  """Where a tile is, and whether the mask must be evaluated in it.

  Attributes:
    i: int32, row of tiles.
    j: int32, column of tiles.
    masked: Static; False where the mask allows everything.
  """

  i: Array
  j: Array
  masked: bool


def visible_scores(
  problem: Problem, floats: Floats, others: Others, lane: Lane, tile: Tile
) -> Array:
  """Scores as softmax wants them: -inf where hidden, NaN where poisoned.

  Returns:
    [G * block_q, block_k].
  """
  raw = contract(at(lane.query_t, tile.i), 0, at(lane.key_t, tile.j), 0)
  scores = raw = raw.reshape(_shape(problem))
  allowed = allowed_in(problem, others, lane, tile)
  if problem.changes:
    poisoned = jnp.isnan(raw)
    scores = change(
      problem,
      others,
      lane,
      tile,
      allowed,
      jnp.where(poisoned, 0, raw),
      bias_in(problem, lane, lane.bias, tile),
      floats.score_mod,
    )
    # A score of -inf is as good as a mask, also where the key is NaN.
    scores = jnp.where(poisoned & (scores != -jnp.inf), jnp.nan, scores)
  if allowed is not None:
    scores = jnp.where(allowed, scores, -jnp.inf)
  return scores.reshape(-1, problem.plan.block_k)


def allowed_in(
  problem: Problem, others: Others, lane: Lane, tile: Tile
) -> Array | None:
  """What the mask allows, bool[G, block_q, block_k]; None for everything."""
  if not tile.masked:
    return None
  shape = _shape(problem)
  real = None
  if problem.padded_keys > problem.num_keys:
    real = jnp.broadcast_to(
      _indices(problem, tile)[1] < problem.num_keys, shape
    )
  mask = jax.tree.unflatten(problem.mask, others.mask)
  if mask is None:
    return real
  if problem.plan.small and not others.mask and mask.extents[1] is None:
    # As a constant it costs a third of what comparing indices costs.
    with jax.ensure_compile_time_eval():
      return jnp.asarray(np.asarray(mask.dense(*shape[1:])))[None]
  first = (tile.i * problem.plan.block_q, tile.j * problem.plan.block_k)
  of_heads = jax.vmap(lambda n: mask.tile(lane.b, n, *first, *shape[1:]))
  allowed = of_heads(lane.n)
  return allowed if real is None else allowed & real


def change(
  problem: Problem,
  others: Others,
  lane: Lane,
  tile: Tile,
  allowed: Array | None,
  scores: Array,
  bias: Array | None,
  mod_floats: list[Array],
) -> Array:
  """Apply score_mod and bias to scores [G, block_q, block_k]."""
  score_mod = problem.score_mod
  if score_mod is not None:
    if allowed is not None:
      # A derivative that is NaN at a hidden score would pass through 0 * NaN.
      scores = jnp.where(allowed, scores, 0)

    def modify(*args: Array) -> Array:
      return score_mod(mod_floats, others.score_mod, *args)

    of_query = jax.vmap(modify, in_axes=(0, None, None, None, 0))
    of_head = jax.vmap(of_query, in_axes=(0, None, None, 0, None))
    of_lane = jax.vmap(of_head, in_axes=(0, None, 0, None, None))
    scores = of_lane(scores, lane.b, lane.n, *_indices(problem, tile))
  return scores if bias is None else scores + bias.astype(scores.dtype)


def bias_in(
  problem: Problem, lane: Lane, bias: Array | None, tile: Tile
) -> Array | None:
  """The part of `bias` that belongs to a tile: [G|1, block_q|1, block_k|1]."""
  if bias is None:
    return None
  plan = problem.plan
  wanted = (1, *_shape(problem))
  starts = (lane.b, lane.n[0], tile.i * plan.block_q, tile.j * plan.block_k)
  sizes = [min(size, want) for size, want in zip(bias.shape, wanted)]
  starts = [
    start if size < have else jnp.int32(0)
    for start, size, have in zip(starts, sizes, bias.shape)
  ]
  return jax.lax.dynamic_slice(bias, starts, sizes)[0]


def kept_in(problem: Problem, lane: Lane, tile: Tile) -> Array | None:
  """Factors of dropout, [G * block_q, block_k]; None for no dropout."""
  if lane.seeds is None:
    return None
  rate = problem.dropout_rate
  indices = _indices(problem, tile)
  kept = jax.vmap(lambda seed: keep(seed, *indices, rate))(lane.seeds)
  scale = 0.0 if rate == 1 else 1 / (1 - rate)
  factors = jnp.where(kept, scale, 0).astype(problem.compute_dtype)
  return factors.reshape(-1, problem.plan.block_k)


def update_rows(
  problem: Problem, lane: Lane, visit: Callable[[Tile, Any], Any], state: Any
) -> Any:
  """Visit all tiles; each visit replaces the state of its row.

  Args:
    problem: The static part of the call.
    lane: The lane.
    visit: From a tile and the state of its row to the new state of the row.
    state: Arrays [rows, ...].

  Returns:
    The final state.
  """

  def replace(state: Any, i: Array, j: Array, visit_one: Any) -> Any:
    row = jax.tree.map(lambda x: at(x, i), state)
    row = visit_one(i, j, row)
    return jax.tree.map(lambda x, new: _put(x, new, i), state, row)

  def skip(i: Array, j: Array, row: Any) -> Any:
    del i, j
    return row

  def branch(masked: bool) -> Any:
    return lambda i, j, row: visit(Tile(i, j, masked), row)

  return _loop(problem, lane, replace, skip, branch, state)


def add_to_rows(
  problem: Problem,
  lane: Lane,
  visit: Callable[[Tile, Any], Any],
  inputs: Callable[[Array, Array], Any],
  state: Any,
) -> Any:
  """Visit all tiles; each visit adds to the state of its row.

  Linear in `inputs` and `state` if `visit` is, and nothing of a tile is kept
  for the transposed loop, which computes the tile again.

  Args:
    problem: The static part of the call.
    lane: The lane.
    visit: From a tile and its inputs to what is added to the row.
    inputs: From (i, j) to the inputs of a tile.
    state: Arrays [rows, ...].

  Returns:
    The final state.
  """

  def visit_rows(tile: Tile, inputs: Any) -> Any:
    return visit(tile, inputs), ()

  return add_to_both(problem, lane, visit_rows, inputs, state, ())[0]


def add_to_both(
  problem: Problem,
  lane: Lane,
  visit: Callable[[Tile, Any], Any],
  inputs: Callable[[Array, Array], Any],
  rows: Any,
  columns: Any,
) -> Any:
  """As `add_to_rows`; each visit adds also to the state of its column.

  Args:
    problem: The static part of the call.
    lane: The lane.
    visit: From a tile and its inputs to what is added to the row, and to the
      column.
    inputs: From (i, j) to the inputs of a tile.
    rows: Arrays [rows, ...].
    columns: Arrays [columns, ...].

  Returns:
    The final rows and columns.
  """
  looped = problem.plan.visited > 1
  state = (rows, columns)
  shapes = jax.tree.map(lambda x: x[0], state)

  def add(state: Any, i: Array, j: Array, visit_one: Any) -> Any:
    # A loop itself keeps XLA from merging the two computations.
    visit_one = jax.checkpoint(visit_one, prevent_cse=not looped)
    added = visit_one(i, j, inputs(i, j))
    rows, columns = (
      jax.tree.map(functools.partial(_add, i=index), *pair)
      for *pair, index in zip(state, added, (i, j))
    )
    return rows, columns

  def skip(i: Array, j: Array, _: Any) -> Any:
    del i, j
    return jax.tree.map(jnp.zeros_like, shapes)

  def branch(masked: bool) -> Any:
    return lambda i, j, x: visit(Tile(i, j, masked), x)

  return _loop(problem, lane, add, skip, branch, state)


def _loop(
  problem: Problem, lane: Lane, step: Any, skip: Any, branch: Any, state: Any
) -> Any:
  plan = problem.plan
  for listed, masked in ((plan.partial, True), (plan.full, False)):
    if len(listed) == 1:
      i, j = (jnp.int32(x) for x in listed[0])
      state = step(state, i, j, branch(masked))
    elif listed:

      def body(state: Any, ij: Array, masked: bool = masked) -> Any:
        return step(state, ij[0], ij[1], branch(masked)), None

      state, _ = jax.lax.scan(body, state, jnp.array(listed, jnp.int32))
  if plan.undecided:
    assert lane.classes is not None
    order = {masks.EMPTY: skip, masks.PARTIAL: branch(True)}
    order[masks.FULL] = branch(False)
    branches = [order[key] for key in sorted(order)]

    def chosen(state: Any, x: tuple[Array, Array]) -> Any:
      ij, kind = x

      def visit_one(i: Array, j: Array, row: Any) -> Any:
        return jax.lax.switch(kind.astype(jnp.int32), branches, i, j, row)

      return step(state, ij[0], ij[1], visit_one), None

    listed = jnp.array(plan.undecided, jnp.int32)
    state, _ = jax.lax.scan(chosen, state, (listed, lane.classes))
  return state


def contract(x: Array, x_axis: int, y: Array, y_axis: int) -> Array:
  """Sum over one axis of two matrices."""
  return jax.lax.dot_general(x, y, (((x_axis,), (y_axis,)), ((), ())))


def product(x: Array, y: Array) -> Array:
  """Matrix product."""
  return contract(x, 1, y, 0)


def at(x: Array, i: Array) -> Array:
  """x[i], a slice."""
  if x.shape[0] == 1:
    return x[0]
  return jax.lax.dynamic_index_in_dim(x, i, 0, keepdims=False)


def _put(x: Array, new: Array, i: Array) -> Array:
  if x.shape[0] == 1:
    return new[None]
  return jax.lax.dynamic_update_index_in_dim(x, new, i, 0)


def _add(x: Array, new: Array, i: Array) -> Array:
  return x + new[None] if x.shape[0] == 1 else x.at[i].add(new)


def _shape(problem: Problem) -> tuple[int, int, int]:
  return (problem.groups, problem.plan.block_q, problem.plan.block_k)


def _indices(problem: Problem, tile: Tile) -> tuple[Array, Array]:
  plan = problem.plan
  return (
    tile.i * plan.block_q + jnp.arange(plan.block_q, dtype=jnp.int32),
    tile.j * plan.block_k + jnp.arange(plan.block_k, dtype=jnp.int32),
  )
