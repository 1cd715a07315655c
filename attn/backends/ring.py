"""Exact attention over a sequence that is dealt out to devices.

Each device holds a part of the queries, keys and values.  Keys and values go
around a ring; in step s a device computes its queries against the keys of the
device s places before it, tile by tile as `blockwise` does, and carries on the
softmax of the step before.  With m the largest score so far, l = Σ exp(s - m)
and c = Σ exp(s - m) v, keys that bring m', l', c' change them to

  top = max(m, m'),  l ← exp(m - top) l + exp(m' - top) l',  c likewise,

so that c / l, and the residual m + log l, are in the end those of all keys.
No device holds another's keys for longer than a step.  The derivative goes
around once more, with the gradients of keys and values beside them.

Masks, score_mod and dropout see the positions in the whole sequence.

References:
  Liu et al., 2023 (Ring Attention). https://arxiv.org/abs/2310.01889
  Brandon et al., 2023 (Striped Attention). https://arxiv.org/abs/2311.09431
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from attn.backends.forward import Output
from attn.backends.lanes import (
  Lane,
  cut,
  cut_rows,
  fill,
  over_lanes,
)
from attn.backends.layout import (
  Layout,
  first_of,
  on_devices,
  part_of,
  problem_of,
)
from attn.backends.plan import Plan, is_known
from attn.backends.problem import Floats, Others, Places, Problem, take_apart
from attn.backends.ring_lanes import (
  Moving,
  backward_around,
  forward_around,
  from_ring_order,
  moving_of,
  to_ring_order,
)
from attn.backends.ring_plan import Ring, make_ring_plan, tiles_of
from attn.call import Call
from attn.masks.rows import DenseRows, by_rows, map_rows

Array = jax.Array


def ring(
  call: Call,
  layout: Layout,
  *,
  sides: tuple[int, int] | None = None,
  parts: int | None = None,
) -> tuple[Array, Array]:
  """Exact attention over a sequence in parts.

  Args:
    call: The whole call.
    layout: How it is dealt out, evenly.
    sides: Queries and keys of a tile; None for what is fastest.
    parts: As in `make_ring_plan`.

  Returns:
    The context, [B, T, N, Hv] in the dtype of query, and the logarithm of each
    softmax's denominator, [B, T, N] in at least float32.
  """
  local = part_of(call, layout)
  ring, plan, classes = make_ring_plan(
    call, local, layout.sequence, layout.devices, sides=sides, parts=parts
  )
  problem, floats, others = _take_apart(call, local, plan, ring)
  others = others._replace(classes=classes)
  context, residual = _attend(problem, ring, layout, floats, others)
  return context.astype(call.query.dtype), residual


def _take_apart(
  call: Call, local: Call, plan: Plan, ring: Ring
) -> tuple[Problem, Floats, Others]:
  """What one device computes, and the arrays of all."""
  whole = dataclasses.replace(call, mask=None, bias=None)
  problem, floats, others = take_apart(whole, plan, None)
  # The last tile of a part may reach so far beyond the sequence.
  ends = [
    int(tiles_of(ring, length, side).first.max()) + side
    for length, side in zip(call.sizes[2:], (plan.block_q, plan.block_k))
  ]
  mask, bias = call.mask, call.bias
  if mask is not None:
    if not is_known(call):
      starts = tiles_of(ring, call.sizes[2], plan.block_q).first.reshape(-1)
      mask = by_rows(mask, call.sizes[2], starts)
    mask = mask.padded(*ends)
  if bias is not None and bias.shape[3] > 1:
    bias = jnp.pad(bias, [(0, 0)] * 3 + [(0, max(ends[1] - bias.shape[3], 0))])
  call = dataclasses.replace(call, mask=mask, bias=bias)
  return (
    problem_of(problem, call, local),
    floats._replace(bias=bias),
    others._replace(mask=jax.tree.leaves(mask)),
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _attend(
  problem: Problem, ring: Ring, layout: Layout, floats: Floats, others: Others
) -> tuple[Array, Array]:
  """Attention of all devices together."""

  def on_device(floats: Floats, others: Others) -> tuple[Array, Array]:
    others = others._replace(
      places=_places(problem, ring, layout),
      mask=_mask_rows(problem, ring, others.mask),
      classes=None if others.classes is None else others.classes[0],
    )
    floats = floats._replace(bias=_rows(problem, ring, floats.bias))
    return _differentiable(problem, ring, floats, others)

  rows = P(layout.batch, layout.sequence, layout.heads)
  axis = layout.sequence
  mask = jax.tree.unflatten(problem.mask, others.mask)
  specs: tuple[Any, Any] = (P(None, None, axis), P(axis))
  mask_specs = map_rows(lambda _: DenseRows(*specs), mask, lambda _: P())
  return on_devices(layout, on_device, (rows, rows), floats, others, mask_specs)


def _places(problem: Problem, ring: Ring, layout: Layout) -> Places:
  """Where this device's part is."""
  number = jax.lax.axis_index(ring.axis)
  q, k = (
    tiles_of(ring, length * ring.devices, side)
    for length, side in (
      (problem.num_queries, problem.plan.block_q),
      (problem.num_keys, problem.plan.block_k),
    )
  )
  b, n = first_of(layout, problem)
  return Places(
    b=b,
    n=n,
    q=jnp.array(q.first)[number],
    k=jnp.array(k.first)[number],
    k_end=jnp.array(k.end)[number],
  )


def _rows(problem: Problem, ring: Ring, x: Array | None) -> Array | None:
  """What the device's queries have, in whole tiles and the ring's order.

  Args:
    problem: What one device computes.
    ring: The ring.
    x: [B|1, N|1, T|1, S|1], of its queries in the order of the sequence.

  Returns:
    The same of as many queries as its tiles have.
  """
  if x is None or x.shape[2] == 1:
    return x
  batch, heads, rows, keys = x.shape
  x = x.reshape(batch, heads, ring.parts, rows // ring.parts, keys)
  padded = problem.padded_queries // ring.parts - x.shape[3]
  x = jnp.pad(x, [(0, 0), (0, 0), (0, 0), (0, padded), (0, 0)])
  return to_ring_order(ring, x.reshape(batch, heads, -1, keys), 2)


def _mask_rows(
  problem: Problem, ring: Ring, leaves: list[Array]
) -> list[Array]:
  """The arrays of a mask, of which some are rows of the device's queries."""

  def of_tiles(rows: DenseRows) -> DenseRows:
    array = _rows(problem, ring, rows.array)
    assert array is not None
    return DenseRows(array, rows.starts)

  mask = jax.tree.unflatten(problem.mask, leaves)
  return map_rows(of_tiles, mask, lambda x: x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _differentiable(
  problem: Problem, ring: Ring, floats: Floats, others: Others
) -> tuple[Array, Array]:
  output = _forward(problem, ring, floats, others)
  return output.context, output.residual


def _forward(
  problem: Problem, ring: Ring, floats: Floats, others: Others
) -> Output:
  def chunk(number: Array) -> Output:
    lanes = cut(problem, floats, others, number, marked=True)
    lanes = _in_ring_order(ring, lanes)
    around = functools.partial(forward_around, problem, ring, floats, others)
    return from_ring_order(ring, over_lanes(around)(lanes), 1)

  return fill(problem, chunk)


def _in_ring_order(ring: Ring, lanes: Lane) -> Lane:
  tiles = lanes.query_t, lanes.key_t, lanes.value
  query_t, key_t, value = to_ring_order(ring, tiles, 1)
  return lanes._replace(query_t=query_t, key_t=key_t, value=value)


def _forward_and_inputs(
  problem: Problem, ring: Ring, floats: Floats, others: Others
) -> Any:
  output = _forward(problem, ring, floats, others)
  return (output.context, output.residual), (floats, others, output)


def _backward(
  problem: Problem, ring: Ring, saved: Any, bars: tuple[Array, Array]
) -> tuple[Floats, None]:
  floats, others, output = saved

  def chunk(total: Floats, number: Array) -> tuple[Floats, None]:
    def lanes_of(floats: Floats) -> tuple[Moving, Lane]:
      lanes = cut(problem, floats, others, number, marked=False)
      lanes = _in_ring_order(ring, lanes)
      return moving_of(lanes), lanes

    _, transpose, lanes = jax.vjp(lanes_of, floats, has_aux=True)
    rows = jax.tree.map(lambda x: cut_rows(problem, x, number), (output, bars))
    around = functools.partial(
      backward_around, problem, ring, floats.score_mod, others
    )
    moving_bar, mod_bar = over_lanes(around)(
      lanes, *to_ring_order(ring, rows, 1)
    )
    floats_bar = transpose(moving_bar)[0]
    floats_bar = floats_bar._replace(score_mod=[x.sum(0) for x in mod_bar])
    return jax.tree.map(jnp.add, total, floats_bar), None

  zeros = jax.tree.map(jnp.zeros_like, floats)
  numbers = jnp.arange(problem.chunks, dtype=jnp.int32)
  if problem.chunks == 1:
    return chunk(zeros, numbers[0])
  return jax.lax.scan(chunk, zeros, numbers)


_differentiable.defvjp(_forward_and_inputs, _backward)
