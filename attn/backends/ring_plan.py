"""Which device of a ring holds which queries and keys, and what it visits.

The sequence is cut into as many parts as there are devices, or into twice as
many.  In order, device d of n holds part d: then a causal mask leaves the first
devices idle while the last one works in every step.  In zigzag order it holds
parts d and 2n - 1 - d, an early and a late one, and all have the same to do;
but a window that reached one neighbour now reaches two.  The cheaper is taken.

In step s a device has the keys of the device s places before it.  Its tiles
differ from its neighbour's, so their classes are data of the one program that
all run; a step in which no device has anything to do is left out of it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn import masks
from attn.backends.plan import (
  Chunk,
  Plan,
  candidates,
  cost_of_tiles,
  is_known,
  lanes_at_once,
  of_groups,
  queries_in,
  split,
)
from attn.call import Call
from attn.masks import blocks
from attn.masks.facts import Region, grid_between
from attn.masks.rows import has_rows

Array = jax.Array

# What a step costs besides its tiles, in the unit of `plan`'s: keys are sent.
_PER_STEP = 1e6
# Bringing queries, keys and values into zigzag order, and the context back.
_STEPS_OF_ZIGZAG = 2
# Of one device's memory larger tiles are a small part, of a ring's a large one.
_LARGEST_SIDE = 512


@dataclasses.dataclass(frozen=True)
class Ring:
  """How a sequence is dealt out; static, so that a program is compiled for it.

  Attributes:
    axis: Of the mesh.
    devices: Along that axis.
    parts: Parts of the sequence that each device holds: 1 in order, 2 in
      zigzag order.
    steps: Those in which some device may have something to do, ascending.
  """

  axis: str
  devices: int
  parts: int
  steps: tuple[int, ...] = ()

  @property
  def parts_of_devices(self) -> np.ndarray:
    """int[devices, parts], the parts that each device holds."""
    first = np.arange(self.devices)
    if self.parts == 1:
      return first[:, None]
    return np.stack([first, 2 * self.devices - 1 - first], 1)


@dataclasses.dataclass(frozen=True)
class Tiles:
  """The tiles along one side of all devices.

  Attributes:
    side: Of a tile.
    first: int32[devices, tiles], where each begins.
    end: int32[devices, tiles], where what it holds ends.
  """

  side: int
  first: np.ndarray
  end: np.ndarray


def tiles_of(ring: Ring, length: int, side: int) -> Tiles:
  """Cut each part of a sequence into tiles.

  Args:
    ring: How it is dealt out.
    length: Of the whole sequence.
    side: Of a tile.

  Returns:
    The tiles of each device, in the order in which it holds them.
  """
  part = length // (ring.devices * ring.parts)
  starts = ring.parts_of_devices[:, :, None] * part
  first = starts + np.arange(0, part, side)
  end = np.minimum(first + side, starts + part)
  shape = (ring.devices, -1)
  return Tiles(
    side=side,
    first=first.reshape(shape).astype(np.int32),
    end=end.reshape(shape).astype(np.int32),
  )


def make_ring_plan(
  call: Call,
  local: Call,
  axis: str,
  devices: int,
  *,
  sides: tuple[int, int] | None = None,
  parts: int | None = None,
) -> tuple[Ring, Plan, np.ndarray | Array | None]:
  """Choose an order and tiles for a call.

  Args:
    call: The whole call.
    local: The part of it that one device holds; its shapes are looked at.
    axis: Of the mesh.
    devices: Along that axis; they divide T and S.
    sides: Queries and keys of a tile, with one lane at a time; None for the
      cheapest.
    parts: 1 for queries and keys in order, 2 for zigzag; None for the cheaper.

  Returns:
    The ring; the plan of one device; and the class of each undecided tile,
    int8[devices, B|1, K|1, steps, tiles], None if all are full.
  """
  lengths = call.sizes[2:]
  fit = all(length % (2 * devices) == 0 for length in lengths)
  # In zigzag order their rows would be exchanged, which takes that memory anew.
  fit = fit and (is_known(call) or not has_rows(call.mask, lengths[0]))
  orders = [parts] if parts else [1, 2] if fit and devices > 1 else [1]
  found = []
  for order in orders:
    ring = Ring(axis, devices, order)
    part = (length // (devices * order) for length in lengths)
    for side_q, side_k in [sides] if sides else sides_of_tiles(call, *part):
      q_tiles = tiles_of(ring, lengths[0], side_q)
      k_tiles = tiles_of(ring, lengths[1], side_k)
      outline = _by_steps(ring, classify(call, q_tiles, k_tiles, outline=True))
      found.append((ring, q_tiles, k_tiles, np.asarray(outline)))
  costs = [_cost(call, ring, *grid) for ring, *grid in found]
  ring, q_tiles, k_tiles, outline = found[int(np.argmin(costs))]
  # [devices, steps, rows, columns]
  busy = (outline != masks.EMPTY).any((0, 1))
  steps = np.flatnonzero(busy.any((0, 2, 3))).tolist() or [0]
  ring = dataclasses.replace(ring, steps=tuple(steps))
  full = is_known(call) and bool((outline == masks.FULL).all())
  plan = plan_of_tiles(local, q_tiles, k_tiles, busy.any((0, 1)), full)
  plan = dataclasses.replace(plan, parts=ring.parts)
  if sides is not None:
    plan = _one_by_one(plan)
  if full:
    return ring, plan, None
  if is_known(call):
    exact = outline
  else:
    exact = _by_steps(ring, classify(call, q_tiles, k_tiles, outline=False))
  listed = np.array(plan.undecided, np.int32).reshape(-1, 2)
  exact = exact[:, :, :, np.array(steps)][..., listed[:, 0], listed[:, 1]]
  return ring, plan, _moveaxis(of_groups(call, exact), 2, 0)


def visits(
  ring: Ring, plan: Plan, classes: np.ndarray | Array | None
) -> np.ndarray:
  """Tiles of a head that each device computes in each step.

  Args:
    ring: As `make_ring_plan` gives it, and so the others.
    plan: Of a device.
    classes: Of its undecided tiles; not traced.

  Returns:
    float[devices, devices], the mean over batch elements and heads; a column
    of zeros for a step that is left out.
  """
  found = np.zeros((ring.devices, ring.devices))
  steps = list(ring.steps)
  if classes is None:
    found[:, steps] = plan.visited
  else:
    found[:, steps] = (np.asarray(classes) != masks.EMPTY).mean((1, 2)).sum(-1)
  return found


def sides_of_tiles(
  call: Call, num_queries: int, num_keys: int
) -> list[tuple[int, int]]:
  """Sides, in queries and keys, that cut parts of these lengths evenly."""
  groups = call.sizes[1] // call.key.shape[2]
  found = candidates(call)
  found = [x for x in found if max(x) <= _LARGEST_SIDE] or found
  pairs = (
    (split(num_queries, queries_in(q, groups))[1], split(num_keys, k)[1])
    for q, k in found
  )
  return list(dict.fromkeys(pairs))


def plan_of_tiles(
  local: Call, q_tiles: Tiles, k_tiles: Tiles, busy: np.ndarray, full: bool
) -> Plan:
  """The plan of each device.

  Args:
    local: What a device holds.
    q_tiles: Of the queries.
    k_tiles: Of the keys.
    busy: bool[rows, columns], where some device may have something to do.
    full: Whether the mask hides nothing, anywhere.

  Returns:
    A plan whose tiles are all full, or all undecided.
  """
  rows, columns = q_tiles.first.shape[1], k_tiles.first.shape[1]
  grid = (rows, columns, q_tiles.side, k_tiles.side)
  tiles = tuple((int(i), int(j)) for i, j in np.argwhere(busy))
  # Both ways alike: what the forward pass holds goes around as well.
  _, chunk = lanes_at_once(local, *grid)
  plan = Plan(
    block_q=q_tiles.side,
    block_k=k_tiles.side,
    rows=rows,
    columns=columns,
    full=tiles if full else (),
    partial=(),
    undecided=() if full else tiles,
    chunk=chunk,
    derivative_chunk=chunk,
  )
  return plan if full else _one_by_one(plan)


def _one_by_one(plan: Plan) -> Plan:
  alone = Chunk(1, 1)
  return dataclasses.replace(plan, chunk=alone, derivative_chunk=alone)


def classify(
  call: Call, q_tiles: Tiles, k_tiles: Tiles, *, outline: bool
) -> np.ndarray | Array:
  """Classes of the tiles of all devices.

  Args:
    call: The whole call.
    q_tiles: Of its queries.
    k_tiles: Of its keys.
    outline: Whether to say only what is part of the program.

  Returns:
    int8[B|1, N|1, devices, rows, devices, columns], by who holds the queries
    and who holds the keys.
  """
  sizes = q_tiles.first.shape + k_tiles.first.shape
  if call.mask is None:
    classes = np.full((1, 1, *sizes), masks.FULL, np.int8)
  else:
    unknown = outline and not is_known(call)
    region = _region(call, q_tiles, k_tiles, batch=not unknown)
    find = blocks.outline if unknown else blocks.classify
    classes = find(call.mask, region)
    # From the order of positions to that of the devices.
    rows, columns = (
      np.argsort(np.argsort(x.first, None)) for x in (q_tiles, k_tiles)
    )
    classes = classes[:, :, rows[:, None], columns]
    classes = classes.reshape(*classes.shape[:2], *sizes)
  ragged = k_tiles.end - k_tiles.first < k_tiles.side
  array = np if isinstance(classes, np.ndarray) else jnp
  partial = array.asarray(masks.PARTIAL, classes.dtype)
  return array.where((classes == masks.FULL) & ragged, partial, classes)


def _by_steps(ring: Ring, classes: np.ndarray | Array) -> np.ndarray | Array:
  """[B, N, devices, rows, devices, columns] → [B, N, devices, steps, ...]."""
  devices = np.arange(ring.devices)
  source = (devices[:, None] - devices) % ring.devices
  # Indices with a slice between them come out in front.
  classes = classes[:, :, devices[:, None], :, source]
  return _moveaxis(classes, (0, 1), (2, 3))


def _moveaxis(x: np.ndarray | Array, source: Any, to: Any) -> Any:
  """By NumPy where x is NumPy's, so that it can still be looked at."""
  if isinstance(x, np.ndarray):
    return np.moveaxis(x, source, to)
  return jnp.moveaxis(x, source, to)


def _cost(
  call: Call, ring: Ring, q_tiles: Tiles, k_tiles: Tiles, outline: np.ndarray
) -> float:
  """Estimated nanoseconds for a head."""
  groups = call.sizes[1] // call.key.shape[2]
  costs = cost_of_tiles(outline, groups * q_tiles.side * k_tiles.side)
  # All wait for the one that has the most to do.
  steps = costs.sum((2, 3)).max(0)
  overhead = np.count_nonzero(steps) + _STEPS_OF_ZIGZAG * (ring.parts - 1)
  return float(steps.sum() + _PER_STEP * overhead)


def _region(
  call: Call, q_tiles: Tiles, k_tiles: Tiles, *, batch: bool
) -> Region:
  """All tiles in the order of their positions, as a grid."""
  assert call.mask is not None
  elements, heads = call.mask.extents[:2]
  queries, keys = (
    (np.sort(x.first, None), np.sort(x.end, None) - np.int32(1))
    for x in (q_tiles, k_tiles)
  )
  return grid_between(
    elements if batch and elements is not None else 1,
    1 if heads is None else heads,
    queries,
    keys,
  )
