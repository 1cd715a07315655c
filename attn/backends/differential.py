"""How the raw scores of a tile move, before anything changes or hides them.

There are two kinds of raw scores, products of query and key and additive ones;
the derivative of what comes after them is the same.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from attn.backends import tiles
from attn.backends.additive import additive_tile
from attn.backends.lanes import Lane

Array = jax.Array


class Differential(NamedTuple):
  """Raw scores and their tangent, of any tile (i, j); keys first.

  Attributes:
    moving: From (i, j) to what moves, None for what does not.
    still: From (i, j) to what the derivative is taken at.
    pair: From these two to raw scores and their tangent, which is linear in
      what moves; both [block_k, G * block_q].
  """

  moving: Callable[[Array, Array], Any]
  still: Callable[[Array, Array], Any]
  pair: Callable[[Any, Any], tuple[Array, Array]]


def differential(lane: Lane, lane_dot: Lane) -> Differential:
  """How the raw scores of a lane move with it.

  Args:
    lane: The lane.
    lane_dot: Its tangent, None where nothing moves.

  Returns:
    The differential.
  """
  of_kind = _of_products if lane.v is None else _of_additive
  return of_kind(lane, lane_dot)


def _of_products(lane: Lane, lane_dot: Lane) -> Differential:
  query = jnp.swapaxes(lane.query_t, 1, 2)
  key_dot = (
    None if lane_dot.key_t is None else jnp.swapaxes(lane_dot.key_t, 1, 2)
  )

  def moving(i: Array, j: Array) -> Any:
    return pick(lane_dot.query_t, i), pick(key_dot, j)

  def still(i: Array, j: Array) -> Any:
    return pick(lane.query_t, i), pick(query, i), pick(lane.key_t, j)

  def pair(moving: Any, still: Any) -> tuple[Array, Array]:
    query_t_dot, key_dot = moving
    query_t, query, key_t = still
    raw_dot = jnp.zeros((key_t.shape[1], query.shape[0]), query.dtype)
    if query_t_dot is not None:
      raw_dot = tiles.contract(key_t, 0, query_t_dot, 0)
    if key_dot is not None:
      raw_dot += tiles.contract(key_dot, 1, query, 1)
    return tiles.contract(key_t, 0, query_t, 0), raw_dot

  return Differential(moving, still, pair)


def _of_additive(lane: Lane, lane_dot: Lane) -> Differential:
  def moving(i: Array, j: Array) -> Any:
    return pick(lane_dot.query_t, i), pick(lane_dot.key_t, j), lane_dot.v

  def still(i: Array, j: Array) -> Any:
    return pick(lane.query_t, i), pick(lane.key_t, j), lane.v

  def pair(moving: Any, still: Any) -> tuple[Array, Array]:
    moves = [k for k, x_dot in enumerate(moving) if x_dot is not None]

    def scores(*moved: Array) -> Array:
      inputs = list(still)
      for k, x in zip(moves, moved):
        inputs[k] = x
      query_t, key_t, v = inputs
      return additive_tile(key_t[:, :, None], query_t[:, None], v[:, None])

    if not moves:
      raw = scores()
      return raw, jnp.zeros_like(raw)
    primals, tangents = (tuple(x[k] for k in moves) for x in (still, moving))
    return jax.jvp(scores, primals, tangents)

  return Differential(moving, still, pair)


def pick(x: Array | None, index: Array) -> Array | None:
  """x[index], and None of None."""
  return None if x is None else tiles.at(x, index)
