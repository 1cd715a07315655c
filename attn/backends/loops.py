"""Loops over the tiles of a lane."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn import masks
from attn.backends.lanes import Lane
from attn.backends.plan import Plan
from attn.backends.problem import Problem
from attn.backends.tiles import Tile

Array = jax.Array


def map_rows(
  problem: Problem,
  lane: Lane,
  visit: Callable[[Tile, Any], Any],
  start: Callable[[Array], Any],
) -> Any:
  """Carry a state through the tiles of each row of tiles.

  How many tiles a row has may be known only when the program runs, so there is
  a derivative in forward mode alone.

  Args:
    problem: The static part of the call.
    lane: The lane.
    visit: From a tile and the state of its row to the row's new state.
    start: From a row of tiles to its state before the first of them.

  Returns:
    The final states, [rows, ...].
  """
  row = _visit_row(problem, lane, visit)
  rows = problem.plan.rows
  if rows == 1:
    i = jnp.int32(0)
    return jax.tree.map(lambda x: x[None], row(i, start(i)))
  numbers = jnp.arange(rows, dtype=jnp.int32)
  return jax.lax.map(lambda i: row(i, start(i)), numbers)


def update_rows(
  problem: Problem, lane: Lane, visit: Callable[[Tile, Any], Any], states: Any
) -> Any:
  """As `map_rows`, from states [rows, ...], in the memory that holds these."""
  row = _visit_row(problem, lane, visit)

  def update(i: Array, states: Any) -> Any:
    new = row(i, jax.tree.map(lambda x: x[i], states))
    return jax.tree.map(lambda x, y: x.at[i].set(y), states, new)

  return jax.lax.fori_loop(0, problem.plan.rows, update, states)


def _visit_row(
  problem: Problem, lane: Lane, visit: Callable[[Tile, Any], Any]
) -> Callable[[Array, Any], Any]:
  """From a row of tiles and its state to the state after the last of them."""
  plan = problem.plan
  decided = None
  if plan.undecided:
    assert lane.classes is not None
    decided = _decided(plan, lane.classes)

  def row(i: Array, state: Any) -> Any:
    for listed, masked in ((plan.partial, True), (plan.full, False)):
      if listed:
        visit_as = functools.partial(_visit, visit, i, masked)
        state = _visit_listed(plan.rows, listed, visit_as, i, state)
    if decided is not None:
      state = _visit_decided(visit, i, decided, state)
    return state

  return row


def _visit(
  visit: Callable[[Tile, Any], Any],
  i: Array,
  masked: bool,
  j: Array,
  state: Any,
) -> Any:
  return visit(Tile(i, j, masked), state)


def _visit_listed(
  rows: int,
  listed: tuple[tuple[int, int], ...],
  visit: Callable[[Array, Any], Any],
  i: Array,
  state: Any,
) -> Any:
  """Visit the columns that are listed with row i."""
  of_rows = np.array(listed, np.int32)
  ends = np.searchsorted(of_rows[:, 0], np.arange(rows + 1)).astype(np.int32)
  columns = jnp.array(of_rows[:, 1])
  if (np.diff(ends) == 1).all():
    return visit(columns[i], state)
  first, end = (jnp.array(x)[i] for x in (ends[:-1], ends[1:]))
  return jax.lax.fori_loop(
    first, end, lambda at, state: visit(columns[at], state), state
  )


def _decided(plan: Plan, classes: Array) -> tuple[Array, Array, Array]:
  """Of each row: how many tiles are not empty, their columns, their classes."""
  listed = np.array(plan.undecided)
  table = jnp.full((plan.rows, plan.columns), masks.EMPTY, classes.dtype)
  table = table.at[listed[:, 0], listed[:, 1]].set(classes)
  empty = table == masks.EMPTY
  columns = jnp.argsort(empty, axis=1).astype(jnp.int32)
  kinds = jnp.take_along_axis(table, columns, 1)
  return (~empty).sum(1, dtype=jnp.int32), columns, kinds


def _visit_decided(
  visit: Callable[[Tile, Any], Any],
  i: Array,
  decided: tuple[Array, Array, Array],
  state: Any,
) -> Any:
  count, columns, kinds = (x[i] for x in decided)

  def step(at: Array, state: Any) -> Any:
    partial, full = (
      functools.partial(_visit, visit, i, masked) for masked in (True, False)
    )
    is_partial = kinds[at] == masks.PARTIAL
    return jax.lax.cond(is_partial, partial, full, columns[at], state)

  return jax.lax.fori_loop(0, count, step, state)


def add_to_rows(
  problem: Problem,
  lane: Lane,
  visit: Callable[[Tile, Any, Any], Any],
  moving: Callable[[Tile], Any],
  still: Callable[[Tile], Any],
  state: Any,
) -> Any:
  """Visit all tiles; each visit adds to the state of its row.

  Linear in what moves and in `state` if `visit` is, and nothing of a tile is
  kept for the transposed loop, which computes the tile again.

  Args:
    problem: The static part of the call.
    lane: The lane.
    visit: From a tile, what moves and what stands still to what is added to
      the row.
    moving: From a tile to those of its inputs that the derivative is along.
    still: From a tile, of which may be known only when the program runs whether
      it is masked, to its other inputs.
    state: Arrays [rows, ...].

  Returns:
    The final state.
  """

  def visit_rows(tile: Tile, moving: Any, still: Any) -> Any:
    return visit(tile, moving, still), ()

  return add_to_both(problem, lane, visit_rows, moving, still, state, ())[0]


def add_to_both(
  problem: Problem,
  lane: Lane,
  visit: Callable[[Tile, Any, Any], Any],
  moving: Callable[[Tile], Any],
  still: Callable[[Tile], Any],
  rows: Any,
  columns: Any,
) -> Any:
  """As `add_to_rows`; each visit adds also to the state of its column.

  Args:
    problem: The static part of the call.
    lane: The lane.
    visit: As in `add_to_rows`, to what is added to the row, and to the column.
    moving: As in `add_to_rows`.
    still: As in `add_to_rows`.
    rows: Arrays [rows, ...].
    columns: Arrays [columns, ...].

  Returns:
    The final rows and columns.
  """
  plan = problem.plan
  looped = plan.visited > 1
  start = (rows, columns)
  shapes = jax.tree.map(lambda x: x[0], start)

  def add(state: Any, tile: Tile, visit_one: Any) -> Any:
    def again(i: Array, j: Array, moving: Any) -> Any:
      return visit_one(i, j, moving, still(tile._replace(i=i, j=j)))

    # A loop itself keeps XLA from merging the two computations.
    again = jax.checkpoint(again, prevent_cse=not looped)
    added = again(tile.i, tile.j, moving(tile))
    rows, columns = (
      jax.tree.map(functools.partial(_add, i=index), *pair)
      for *pair, index in zip(state, added, (tile.i, tile.j))
    )
    return rows, columns

  def skip(i: Array, j: Array, moving: Any, still: Any) -> Any:
    del i, j, moving, still
    return jax.tree.map(jnp.zeros_like, shapes)

  def branch(masked: bool) -> Any:
    return lambda i, j, *inputs: visit(Tile(i, j, masked), *inputs)

  state = start
  for listed, masked in ((plan.partial, True), (plan.full, False)):
    if len(listed) == 1:
      i, j = (jnp.int32(x) for x in listed[0])
      state = add(state, Tile(i, j, masked), branch(masked))
    elif listed:

      def body(state: Any, ij: Array, masked: bool = masked) -> Any:
        return add(state, Tile(ij[0], ij[1], masked), branch(masked)), None

      state, _ = jax.lax.scan(body, state, jnp.array(listed, jnp.int32))
  if plan.undecided:
    assert lane.classes is not None
    state = _add_undecided(plan, lane.classes, add, skip, branch, state)
  return state


def _add_undecided(
  plan: Plan, classes: Array, add: Any, skip: Any, branch: Any, state: Any
) -> Any:
  order = {masks.EMPTY: skip}
  # Each branch computes its tile again by itself: what a `switch` keeps for its
  # derivative, a skipped tile must fill with zeros.
  for kind, masked in ((masks.PARTIAL, True), (masks.FULL, False)):
    order[kind] = jax.checkpoint(branch(masked), prevent_cse=False)
  branches = [order[key] for key in sorted(order)]

  def body(state: Any, x: tuple[Array, Array]) -> Any:
    ij, kind = x

    def visit_one(*inputs: Any) -> Any:
      return jax.lax.switch(kind.astype(jnp.int32), branches, *inputs)

    tile = Tile(ij[0], ij[1], kind == masks.PARTIAL)
    return add(state, tile, visit_one), None

  listed = jnp.array(plan.undecided, jnp.int32)
  return jax.lax.scan(body, state, (listed, classes))[0]


def _add(x: Array, new: Array, i: Array) -> Array:
  return x + new[None] if x.shape[0] == 1 else x.at[i].add(new)
