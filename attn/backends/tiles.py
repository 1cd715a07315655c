"""One tile of the scores."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attn.backends.additive import additive_tile
from attn.backends.lanes import Lane
from attn.backends.problem import Floats, Others, Problem
from attn.masks.arguments import at_trace_time
from attn.weights import keep

Array = jax.Array


class Tile(NamedTuple):
  """Where a tile is, and whether the mask must be evaluated in it.

  Attributes:
    i: int32, row of tiles.
    j: int32, column of tiles.
    masked: False where the mask allows everything; a bool, or known only when
      the program runs.
  """

  i: Array
  j: Array
  masked: bool | Array


def visible_scores(
  problem: Problem, floats: Floats, others: Others, lane: Lane, tile: Tile
) -> Array:
  """Scores as softmax wants them: -inf where hidden, NaN where poisoned.

  Returns:
    [G * block_q, block_k].
  """
  scores = raw = _raw(lane, tile).reshape(_shape(problem))
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
      bias_in(problem, others, lane, lane.bias, tile),
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
  if isinstance(tile.masked, bool):
    return _evaluate(problem, others, lane, tile) if tile.masked else None
  shape = _shape(problem)

  def evaluate() -> Array:
    allowed = _evaluate(problem, others, lane, tile)
    return jnp.ones(shape, bool) if allowed is None else allowed

  return jax.lax.cond(tile.masked, evaluate, lambda: jnp.ones(shape, bool))


def _evaluate(
  problem: Problem, others: Others, lane: Lane, tile: Tile
) -> Array | None:
  shape = _shape(problem)
  real = None
  place = _place(problem, others, lane, tile)
  if problem.padded_keys > problem.num_keys:
    end = problem.num_keys
    if others.places is not None:
      end = others.places.k_end[tile.j]
    real = jnp.broadcast_to(_indices(problem, place)[1] < end, shape)
  mask = jax.tree.unflatten(problem.mask, others.mask)
  if mask is None:
    return real
  written = written_mask(problem, others)
  if written is not None:
    allowed = jnp.asarray(written)[None]
  else:
    first = (place.q, place.k)
    of_heads = jax.vmap(lambda n: mask.tile(place.b, n, *first, *shape[1:]))
    allowed = of_heads(place.n)
  return allowed if real is None else allowed & real


def written_mask(problem: Problem, others: Others) -> np.ndarray | None:
  """The mask of the only tile, if that is small and numbers tell all of it.

  As a constant it costs a third of what comparing indices costs.

  Returns:
    bool[block_q, block_k], or None.
  """
  mask = jax.tree.unflatten(problem.mask, others.mask)
  alone = others.places is None and not others.mask
  if mask is None or not (problem.plan.small and alone):
    return None
  if mask.extents[1] is not None:
    return None
  # As NumPy's: an array of JAX would belong to the mesh in use, if any.
  with at_trace_time():
    return np.asarray(mask.dense(*_shape(problem)[1:]))


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
    place = _place(problem, others, lane, tile)
    indices = _indices(problem, place)
    scores = of_lane(scores, place.b, place.n, *indices)
  return scores if bias is None else scores + bias.astype(scores.dtype)


def bias_in(
  problem: Problem,
  others: Others,
  lane: Lane,
  bias: Array | None,
  tile: Tile,
) -> Array | None:
  """The part of `bias` that belongs to a tile: [G|1, block_q|1, block_k|1]."""
  if bias is None:
    return None
  plan = problem.plan
  wanted = (1, *_shape(problem))
  # Of a part of a call it holds the part's queries, and the keys of the whole.
  k = _place(problem, others, lane, tile).k
  starts = (lane.b, lane.n[0], tile.i * plan.block_q, k)
  sizes = [min(size, want) for size, want in zip(bias.shape, wanted)]
  starts = [
    start if size < have else jnp.int32(0)
    for start, size, have in zip(starts, sizes, bias.shape)
  ]
  return jax.lax.dynamic_slice(bias, starts, sizes)[0]


def kept_in(
  problem: Problem, others: Others, lane: Lane, tile: Tile
) -> Array | None:
  """Factors of dropout, [G * block_q, block_k]; None for no dropout."""
  if lane.seeds is None:
    return None
  rate = problem.dropout_rate
  indices = _indices(problem, _place(problem, others, lane, tile))
  kept = jax.vmap(lambda seed: keep(seed, *indices, rate))(lane.seeds)
  scale = 0.0 if rate == 1 else 1 / (1 - rate)
  factors = jnp.where(kept, scale, 0).astype(problem.compute_dtype)
  return factors.reshape(-1, problem.plan.block_k)


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


def _raw(lane: Lane, tile: Tile) -> Array:
  """Scores before anything changes or hides them, [G * block_q, block_k]."""
  query_t, key_t = at(lane.query_t, tile.i), at(lane.key_t, tile.j)
  if lane.v is None:
    return contract(query_t, 0, key_t, 0)
  return additive_tile(query_t[:, :, None], key_t[:, None], lane.v[:, :, None])


def _shape(problem: Problem) -> tuple[int, int, int]:
  return (problem.groups, problem.plan.block_q, problem.plan.block_k)


class _Place(NamedTuple):
  """What masks and mods call a tile's batch element, heads, first indices."""

  b: Array
  n: Array
  q: Array
  k: Array


def _place(problem: Problem, others: Others, lane: Lane, tile: Tile) -> _Place:
  plan, places = problem.plan, others.places
  if places is None:
    q, k = tile.i * plan.block_q, tile.j * plan.block_k
    return _Place(lane.b, lane.n, q, k)
  b, n = lane.b + places.b, lane.n + places.n
  return _Place(b, n, places.q[tile.i], places.k[tile.j])


def _indices(problem: Problem, place: _Place) -> tuple[Array, Array]:
  plan = problem.plan
  return (
    place.q + jnp.arange(plan.block_q, dtype=jnp.int32),
    place.k + jnp.arange(plan.block_k, dtype=jnp.int32),
  )
