"""One lane's way around a ring: forward, and back.

Queries stay where they are.  Keys and values go from device to device; what
softmax has summed up so far stays with the queries.  On the way back the
gradients of keys and values go along with them, and end where they belong.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attn import masks
from attn.backends import loops
from attn.backends.forward import (
  Output,
  State,
  finish,
  start_of_row,
  visit_tile,
)
from attn.backends.lanes import Lane
from attn.backends.problem import Floats, Others, Problem
from attn.backends.ring_plan import Ring, tiles_of
from attn.backends.tangent import normalized, tangent_of_lane

Array = jax.Array


def to_ring_order(ring: Ring, x: Any, axis: int) -> Any:
  """From the order of the sequence to that of the ring.

  Args:
    ring: How the sequence is dealt out.
    x: Arrays whose `axis` holds the parts of this device, one after the other.
    axis: Which one.

  Returns:
    Arrays of the same shapes.
  """
  if ring.parts == 1:
    return x
  send = functools.partial(_send_parts, ring)
  is_odd = jax.lax.axis_index(ring.axis) % 2 == 1

  def exchange(x: Array) -> Array:
    even, odd = jnp.split(x, 2, axis)
    even, odd = send(even, 0), send(odd, 1)
    pair = jnp.where(is_odd, odd, even), jnp.where(is_odd, even, odd)
    return jnp.concatenate(pair, axis)

  return jax.tree.map(exchange, x)


def from_ring_order(ring: Ring, x: Any, axis: int) -> Any:
  """The way back of `to_ring_order`."""
  if ring.parts == 1:
    return x
  send = functools.partial(_send_parts, ring, back=True)
  is_odd = jax.lax.axis_index(ring.axis) % 2 == 1

  def exchange(x: Array) -> Array:
    early, late = jnp.split(x, 2, axis)
    even, odd = jnp.where(is_odd, late, early), jnp.where(is_odd, early, late)
    return jnp.concatenate([send(even, 0), send(odd, 1)], axis)

  return jax.tree.map(exchange, x)


def _send_parts(
  ring: Ring, x: Array, which: int, *, back: bool = False
) -> Array:
  """Send parts 2d, or 2d + 1, from device d to who holds them in the ring."""
  holders = {
    part: device
    for device, parts in enumerate(ring.parts_of_devices.tolist())
    for part in parts
  }
  pairs = [(d, holders[2 * d + which]) for d in range(ring.devices)]
  pairs = [(to, d) for d, to in pairs] if back else pairs
  return jax.lax.ppermute(x, ring.axis, pairs)


def forward_around(
  problem: Problem, ring: Ring, floats: Floats, others: Others, lane: Lane
) -> Output:
  """Attention of one lane, whose keys go around.

  Args:
    problem: What one device computes.
    ring: The ring.
    floats: Its float arrays.
    others: Its other arrays; places as of its own keys.
    lane: One lane cut out of them, marked, in the order of the ring.

  Returns:
    The output, [rows, G * block_q, ...].
  """
  start = start_of_row(problem, lane)
  rows = problem.plan.rows
  state = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape)), start)

  def visit(at: Array, held: Any, state: State) -> Any:
    here, others_here = _at_step(problem, ring, others, lane, held, at)

    def work(state: State) -> State:
      visit = visit_tile(problem, floats, others_here, here)
      return loops.update_rows(problem, here, visit, state)

    return held, _unless_empty(here, work, state)

  _, state = _go_around(ring, visit, (lane.key_t, lane.value), state)
  return finish(problem, lane, state)


class Moving(NamedTuple):
  """What a lane is differentiated by, see `Lane`."""

  query_t: Array
  key_t: Array
  value: Array
  bias: Array | None
  sink: Array | None


def moving_of(lane: Lane) -> Moving:
  """The part of a lane, or of lanes, that one differentiates by."""
  return Moving(*(getattr(lane, name) for name in Moving._fields))


def backward_around(
  problem: Problem,
  ring: Ring,
  mod_floats: list[Array],
  others: Others,
  lane: Lane,
  output: Output,
  bars: tuple[Array, Array],
) -> tuple[Moving, list[Array]]:
  """Gradients of one lane, which go around with its keys.

  Args:
    problem: What one device computes.
    ring: The ring.
    mod_floats: Float arrays of the score_mod.
    others: The other arrays; places as of the device's own keys.
    lane: One lane, not marked, in the order of the ring.
    output: What `forward_around` gave.
    bars: Gradients of its context and residual.

  Returns:
    Gradients of the lane, and of mod_floats.
  """
  floats = _only_mods(mod_floats)
  lane_without_sink = lane._replace(sink=None)
  stay = lane.query_t, lane.bias, mod_floats

  def visit(at: Array, held: Any, state: Any) -> Any:
    key_value, key_value_bar = held
    here, others_here = _at_step(
      problem, ring, others, lane_without_sink, key_value, at
    )

    def along(moving: Any) -> tuple[Array, Array]:
      (query_dot, bias_dot, mod_dot), (key_dot, value_dot) = moving
      lane_dot = _nothing_moves()._replace(
        query_t=query_dot, bias=bias_dot, key_t=key_dot, value=value_dot
      )
      return tangent_of_lane(
        problem,
        floats,
        others_here,
        _only_mods(mod_dot),
        here,
        lane_dot,
        output,
      )

    def work(state: Any) -> Any:
      moving = ((here.query_t, here.bias, mod_floats), key_value)
      return jax.tree.map(jnp.add, state, _transpose(along, moving, bars))

    state, key_value_bar = _unless_empty(here, work, (state, key_value_bar))
    return (key_value, key_value_bar), state

  key_value = lane.key_t, lane.value
  zeros = functools.partial(jax.tree.map, jnp.zeros_like)
  (_, key_value_bar), state = _go_around(
    ring, visit, (key_value, zeros(key_value)), zeros(stay)
  )
  key_bar, value_bar = key_value_bar
  query_bar, bias_bar, mod_bar = state
  sink_bar = _sink_bar(problem, lane, output, bars)
  return Moving(query_bar, key_bar, value_bar, bias_bar, sink_bar), mod_bar


def _sink_bar(
  problem: Problem, lane: Lane, output: Output, bars: tuple[Array, Array]
) -> Array | None:
  """Gradient of the sinks, which go around with nobody."""
  if lane.sink is None:
    return None
  context, residual = output.context, output.residual

  def along(sink_dot: Array) -> tuple[Array, Array]:
    lane_dot = _nothing_moves()._replace(sink=sink_dot)
    zeros = jnp.zeros_like(residual), jnp.zeros_like(context)
    return normalized(problem, lane, lane_dot, output, *zeros)

  return _transpose(along, lane.sink, bars)


def _transpose(along: Callable[[Any], Any], moving: Any, bars: Any) -> Any:
  """The transpose of a linear function, applied to `bars`."""

  # Its value is of no use, and costs as much as the transpose.
  @jax.custom_jvp
  def still(moving: Any) -> Any:
    del moving
    return jax.tree.map(jnp.zeros_like, bars)

  @still.defjvp
  def _(primals: Any, tangents: Any) -> Any:
    return still(*primals), along(*tangents)

  _, transpose = jax.vjp(still, moving)
  return transpose(bars)[0]


def _go_around(
  ring: Ring,
  visit: Callable[[Any, Any, Any], tuple[Any, Any]],
  held: Any,
  state: Any,
) -> tuple[Any, Any]:
  """Carry a state through the steps of a ring.

  Args:
    ring: The ring.
    visit: From the number of a step among those of the ring, what is held then
      and the state, to what is sent on and the state after it.
    held: What the device holds before the first step, its own.
    state: The state then.

  Returns:
    What it holds in the end, its own again, and the state.
  """
  held = _send(ring, held, ring.steps[0])
  jumps = np.diff([*ring.steps, ring.devices]).tolist()
  at = 0
  # Equal jumps are one loop, compiled once.
  for jump, run in itertools.groupby(jumps):
    count = len(list(run))

    def body(carry: Any, at: Array, jump: int = jump) -> Any:
      held, state = visit(at, *carry)
      return (_send(ring, held, jump), state), None

    numbers = jnp.arange(at, at + count, dtype=jnp.int32)
    if count == 1:
      (held, state), _ = body((held, state), numbers[0])
    else:
      (held, state), _ = jax.lax.scan(body, (held, state), numbers)
    at += count
  return held, state


def _send(ring: Ring, x: Any, distance: int) -> Any:
  """Send to the device so many places further on."""
  if distance % ring.devices == 0:
    return x
  pairs = [(d, (d + distance) % ring.devices) for d in range(ring.devices)]
  return jax.tree.map(lambda x: jax.lax.ppermute(x, ring.axis, pairs), x)


def _at_step(
  problem: Problem,
  ring: Ring,
  others: Others,
  lane: Lane,
  key_value: tuple[Array, Array],
  at: Array,
) -> tuple[Lane, Others]:
  """The lane with the keys of a step, and where these are."""
  key_t, value = key_value
  lane = lane._replace(key_t=key_t, value=value)
  if lane.classes is not None:
    lane = lane._replace(classes=lane.classes[at])
  steps = jnp.array(ring.steps, jnp.int32)
  source = (jax.lax.axis_index(ring.axis) - steps[at]) % ring.devices
  length = problem.num_keys * ring.devices
  tiles = tiles_of(ring, length, problem.plan.block_k)
  assert others.places is not None
  places = others.places._replace(
    k=jnp.array(tiles.first)[source], k_end=jnp.array(tiles.end)[source]
  )
  return lane, others._replace(places=places)


def _unless_empty(lane: Lane, work: Callable[[Any], Any], state: Any) -> Any:
  """A step in which all tiles are hidden costs nothing."""
  if lane.classes is None:
    return work(state)
  busy = (lane.classes != masks.EMPTY).any()
  return jax.lax.cond(busy, work, lambda state: state, state)


def _only_mods(mod_floats: list[Array]) -> Floats:
  nothing: dict[str, Any] = dict.fromkeys(Floats._fields)
  return Floats(**{**nothing, 'score_mod': mod_floats})


def _nothing_moves() -> Lane:
  nothing: dict[str, Any] = dict.fromkeys(Lane._fields)
  return Lane(**nothing)
