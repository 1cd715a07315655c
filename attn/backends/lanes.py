"""One key/value head of one batch element, with the query heads that read it.

Such a lane is the unit of work: its queries, keys and values are cut into
tiles, heads first.  Short lanes are computed many at once, long ones one after
the other, each sliced out of the arrays when its turn comes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from attn.backends.plan import Plan
from attn.backends.problem import Floats, Others, Problem, scale_of

Array = jax.Array


class Lane(NamedTuple):
  """The inputs of one lane.

  Attributes:
    b: int32, batch element.
    n: int32[G], query heads.
    query_t: [rows, H, G * block_q], scaled.
    key_t: [columns, H, block_k].
    value: [columns, block_k, Hv].
    v: [H, G * block_q], of the heads of the queries; None for products.
    bias: [1, G|1, T|1, S|1], or the bias of all lanes where one lane is
      computed at a time; None for no bias.
    sink: [G] or None.
    seeds: uint32[G, 2] or None.
    classes: int8[tiles] or None.
  """

  b: Array
  n: Array
  query_t: Array
  key_t: Array
  value: Array
  v: Array | None
  bias: Array | None
  sink: Array | None
  seeds: Array | None
  classes: Array | None


def for_each_chunk(problem: Problem, compute: Callable[[Array], Any]) -> Any:
  """Compute all lanes, one chunk after the other.

  Args:
    problem: What is computed.
    compute: From the number of a chunk to arrays [lanes of a chunk, ...].

  Returns:
    Arrays [chunks, lanes of a chunk, ...].
  """
  if problem.chunks == 1:
    return jax.tree.map(lambda x: x[None], compute(jnp.int32(0)))
  return jax.lax.map(compute, jnp.arange(problem.chunks, dtype=jnp.int32))


def fill(problem: Problem, compute: Callable[[Array], Any]) -> Any:
  """Compute all lanes, each chunk written where it belongs.

  As `for_each_chunk` and `join`, without the memory of all chunks together
  beside that of the result.

  Args:
    problem: What is computed.
    compute: From the number of a chunk to arrays [lanes of a chunk, rows,
      G * block_q, ...].

  Returns:
    Arrays [B, T, N, ...].
  """
  plan, groups = problem.plan, problem.groups
  alone = dataclasses.replace(
    problem,
    batch=plan.chunk.batch,
    heads=plan.chunk.heads * groups,
    kv_heads=plan.chunk.heads,
  )

  def part(number: Array) -> Any:
    return jax.tree.map(lambda x: join(alone, x[None]), compute(number))

  if problem.chunks == 1:
    return part(jnp.int32(0))

  def write(number: Array, whole: Any) -> Any:
    first_b, first_head = _first(problem, number)

    def one(whole: Array, part: Array) -> Array:
      start = (first_b, 0, first_head * groups, *[0] * (whole.ndim - 3))
      return jax.lax.dynamic_update_slice(whole, part, start)

    return jax.tree.map(one, whole, part(number))

  def empty(x: Any) -> Array:
    shape = (problem.batch, x.shape[1], problem.heads, *x.shape[3:])
    return jnp.zeros(shape, x.dtype)

  shapes = jax.eval_shape(part, jnp.int32(0))
  start = jax.tree.map(empty, shapes)
  return jax.lax.fori_loop(0, problem.chunks, write, start)


def cut(
  problem: Problem,
  floats: Floats,
  others: Others,
  chunk: Array,
  *,
  marked: bool,
) -> Lane:
  """Slice the lanes of a chunk out of the arrays.

  NaN and Inf become 0, because 0 * NaN is NaN: they may not enter the product
  of a weight of 0.

  Args:
    problem: What is computed.
    floats: Its float arrays.
    others: Its other arrays.
    chunk: Number of the chunk.
    marked: NaN in a query, a key or the key of a value instead, so that all
      scores of these are NaN, and rows that see them.

  Returns:
    A `Lane` whose arrays have one more axis in front, of lanes.
  """
  plan, groups = problem.plan, problem.groups
  first_b, first_head = _first(problem, chunk)
  lanes = jnp.arange(plan.chunk.lanes, dtype=jnp.int32)
  heads = (first_head + lanes % plan.chunk.heads) * groups

  def heads_of(x: Array | None, axis: int, group: int) -> Any:
    return None if x is None else _heads_of(problem, x, chunk, axis, group)

  scale = scale_of(problem, floats)
  fill = jnp.nan if marked else 0

  def key_tiles(x: Array) -> Array:
    return _tiles(plan, heads_of(x, 2, 1)[:, 0], 1, plan.columns, plan.block_k)

  query = clean(heads_of(floats.query, 2, groups), problem, fill) * scale
  key = clean(key_tiles(floats.key), problem, fill)
  poison = key_tiles(others.poison)
  if marked:
    key = key + poison[..., None]
  elif problem.changes:
    # What a score_mod hides of a NaN, it saw as a score of 0.
    key = jnp.where(jnp.isnan(poison)[..., None], 0, key)
  sink = None if floats.sink is None else floats.sink[None]
  v = None
  if floats.v is not None:
    v = clean(heads_of(floats.v[None], 1, groups), problem, fill)
    v = jnp.swapaxes(v, 1, 2)
  classes = heads_of(others.classes, 1, 1)
  if floats.bias is None:
    bias = None
  elif lanes.size == 1 and others.places is None:
    bias = floats.bias[None]
  else:
    bias = heads_of(floats.bias, 1, groups)[:, None]
  return Lane(
    b=first_b + lanes // plan.chunk.heads,
    n=heads[:, None] + jnp.arange(groups, dtype=jnp.int32),
    # Products over the first axis of both are the fastest on a CPU.
    query_t=jnp.swapaxes(_query_tiles(problem, query), 2, 3),
    key_t=jnp.swapaxes(key, 2, 3),
    value=clean(key_tiles(floats.value), problem, 0),
    v=None if v is None else jnp.repeat(v, plan.block_q, 2),
    bias=bias,
    sink=heads_of(sink, 1, groups),
    seeds=heads_of(others.seeds, 1, groups),
    classes=None if classes is None else classes[:, 0],
  )


def cut_rows(problem: Problem, x: Array, chunk: Array) -> Array:
  """Slice what the forward pass left for the rows of a chunk.

  Args:
    problem: What is computed.
    x: [B, T, N, ...].
    chunk: Number of the chunk.

  Returns:
    [lanes, rows, G * block_q, ...].
  """
  x = _heads_of(problem, x, chunk, 2, problem.groups)
  return _query_tiles(problem, x)


def join(problem: Problem, x: Array) -> Array:
  """Put the rows of all lanes back in their places.

  Args:
    problem: What was computed.
    x: [chunks, lanes of a chunk, rows, G * block_q, ...].

  Returns:
    [B, T, N, ...].
  """
  return _join(problem, x, problem.plan.block_q, problem.num_queries)


def join_keys(problem: Problem, x: Array) -> Array:
  """Put what all lanes say of their keys in its place.

  Args:
    problem: What was computed.
    x: [chunks, lanes of a chunk, columns, G * block_k, ...].

  Returns:
    [B, S, N, ...].
  """
  return _join(problem, x, problem.plan.block_k, problem.num_keys)


def _join(problem: Problem, x: Array, side: int, length: int) -> Array:
  plan = problem.plan
  tiles, rest = x.shape[2], x.shape[4:]
  x = x.reshape(
    _batch_chunks(problem),
    _head_chunks(problem),
    *plan.chunk,
    tiles,
    problem.groups,
    side,
    *rest,
  )
  x = jnp.moveaxis(x, (0, 2, 4, 6, 1, 3, 5), range(7))
  parts = plan.parts
  shape = (problem.heads, *rest)
  x = x.reshape(problem.batch, parts, tiles * side // parts, *shape)
  x = x[:, :, : length // parts]
  return x.reshape(problem.batch, length, *shape)


def over_lanes(function: Callable[..., Any]) -> Callable[..., Any]:
  """Map over the lanes of a chunk; a single lane goes without the axis."""

  def mapped(*args: Any) -> Any:
    if jax.tree.leaves(args)[0].shape[0] > 1:
      return jax.vmap(function)(*args)
    out = function(*jax.tree.map(lambda x: x[0], args))
    return jax.tree.map(lambda x: x[None], out)

  return mapped


def _batch_chunks(problem: Problem) -> int:
  return problem.batch // problem.plan.chunk.batch


def _head_chunks(problem: Problem) -> int:
  return problem.kv_heads // problem.plan.chunk.heads


def _first(problem: Problem, chunk: Array) -> tuple[Array, Array]:
  """First batch element and first key/value head of a chunk."""
  plan, per_batch = problem.plan, _head_chunks(problem)
  return (
    chunk // per_batch * plan.chunk.batch,
    chunk % per_batch * plan.chunk.heads,
  )


def _heads_of(
  problem: Problem, x: Array, chunk: Array, heads_axis: int, group: int
) -> Array:
  """[B|1, ..., heads|1, ...] → [lanes, group|1, ...]."""
  sizes = problem.plan.chunk
  x = part_of(problem, x, chunk, heads_axis, group)
  shared = _is_shared(problem, x, heads_axis, group)
  x = jnp.moveaxis(x, heads_axis, 1)
  heads = (1, 1) if shared else (sizes[1], group)
  x = x.reshape(x.shape[0], *heads, *x.shape[2:])
  x = jnp.broadcast_to(x, (*sizes, *x.shape[2:]))
  return x.reshape(sizes[0] * sizes[1], *x.shape[2:])


def part_of(
  problem: Problem, x: Array, chunk: Array, heads_axis: int, group: int
) -> Array:
  """What a chunk has of x, [B|1, ..., heads|1, ...], axes as they are.

  Args:
    problem: What is computed.
    x: An array.
    chunk: Number of the chunk.
    heads_axis: Which axis counts heads.
    group: How many of them share a key/value head.
  """
  sizes = problem.plan.chunk
  first_b, first_head = _first(problem, chunk)
  if problem.batch > 1 and x.shape[0] > 1:
    x = _slice(x, first_b, sizes[0], 0)
  if not _is_shared(problem, x, heads_axis, group):
    x = _slice(x, first_head * group, sizes[1] * group, heads_axis)
  return x


def _is_shared(problem: Problem, x: Array, heads_axis: int, group: int) -> bool:
  """Whether one stands for all heads."""
  return x.shape[heads_axis] == 1 < problem.kv_heads * group


def _query_tiles(problem: Problem, x: Array) -> Array:
  """[lanes, G, T, ...] → [lanes, rows, G * block_q, ...]."""
  plan = problem.plan
  x = jnp.moveaxis(_tiles(plan, x, 2, plan.rows, plan.block_q), 2, 1)
  rows = problem.groups * plan.block_q
  return x.reshape(*x.shape[:2], rows, *x.shape[4:])


def _slice(x: Array, start: Array, size: int, axis: int) -> Array:
  if size == x.shape[axis]:
    return x
  return jax.lax.dynamic_slice_in_dim(x, start, size, axis)


def clean(x: Array, problem: Problem, fill: float) -> Array:
  """In the dtype of computation, `fill` in place of NaN and Inf.

  Args:
    x: [..., H].
    problem: What is computed.
    fill: A number; all of the H where scores are changed.

  Returns:
    An array of the same shape.
  """
  x = x.astype(problem.compute_dtype)
  finite = jnp.isfinite(x)
  if problem.changes:
    finite = finite.all(-1, keepdims=True)
  return jnp.where(finite, x, fill)


def _tiles(plan: Plan, x: Array, axis: int, count: int, size: int) -> Array:
  parts, length = plan.parts, x.shape[axis] // plan.parts
  before, after = x.shape[:axis], x.shape[axis + 1 :]
  widths = [(0, 0)] * (x.ndim + 1)
  widths[axis + 1] = (0, count * size // parts - length)
  x = jnp.pad(x.reshape(*before, parts, length, *after), widths)
  return x.reshape(*before, count, size, *after)
