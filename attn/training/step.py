"""Training steps: the pure function that is compiled, whatever the task."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from attn.modules.ngram_counts import apart
from attn.modules.sharding import DATA, ROWS
from attn.training.devices import (
  beside,
  divides_rows_alone,
  place,
  rows_here,
  shardings,
)
from attn.training.rows import over_rows

Array = jax.Array

# (params, batch, rng) -> -log p of each target, [B, T]; see `task.Task`.
Nats = Callable[[Any, Any, Array], Array]


class State(NamedTuple):
  """Everything that training changes.

  Attributes:
    step: int32[], how many steps were made.
    params: The model's parameters.
    opt_state: The optimiser's.
  """

  step: Array
  params: Any
  opt_state: Any


class Measured(NamedTuple):
  """What steps tell of themselves.

  Attributes:
    loss: float32[...], mean nats per token.
    gradient_norm: float32[...], before it is clipped.
  """

  loss: Array
  gradient_norm: Array


# (params, batch, rng) -> ((nats, gradient), tokens), each a sum over rows.
Total = Callable[[Any, Any, Array], tuple[tuple[Array, Any], Array]]

# (state, batches [K, ...]) -> (state, what was measured, [K]).
Steps = Callable[[State, Any], tuple[State, Measured]]


def init_state(
  init: Callable[[Array], Any],
  optimizer: optax.GradientTransformation,
  seed: int,
  mesh: Mesh | None = None,
) -> State:
  """Fresh parameters from `init`, the same for the same seed."""
  rng = jax.random.key(seed)
  if mesh is None or divides_rows_alone(mesh):
    return place(first_state(jax.jit(init), optimizer, rng), mesh)
  # Never whole on one device.
  make = functools.partial(first_state, init, optimizer)
  there = shardings(jax.eval_shape(make, rng), mesh)
  return jax.jit(make, out_shardings=there)(rng)


def first_state(
  init: Callable[[Array], Any],
  optimizer: optax.GradientTransformation,
  rng: Array,
) -> State:
  """The state before the first step."""
  params = init(rng)
  learned, _ = apart(params)
  return State(jnp.zeros((), jnp.int32), params, optimizer.init(learned))


def make_train_steps(
  nats: Nats,
  optimizer: optax.GradientTransformation,
  seed: int,
  accumulate: int,
  mesh: Mesh | None = None,
) -> Steps:
  """Several steps, compiled into one call; it consumes the state it is given.

  Between steps so short that starting them takes a part of their time.

  Args:
    nats: The loss of each target of a batch.
    optimizer: The optimiser.
    seed: Of the dropout, together with the step's number.
    accumulate: Parts into which a batch is cut, one gradient after the other,
      so that a large batch needs the memory of a small one.
    mesh: The devices that share the work; None for one.

  Returns:
    (state, batches) -> (state, what was measured): the batches of K steps are
    arrays [K, rows, ...], and so the measurements [K].
  """
  compiled = jit_train_steps(nats, optimizer, seed, accumulate, mesh)
  return compiled if mesh is None else _one_at_a_time(compiled, mesh)


def jit_train_steps(
  nats: Nats,
  optimizer: optax.GradientTransformation,
  seed: int,
  accumulate: int,
  mesh: Mesh | None = None,
) -> Any:
  """`make_train_steps` as a jitted function, of batches that are on the mesh.

  It can be lowered without arrays, and so without the devices' memory.
  """
  total = functools.partial(_total, nats, accumulate)
  if mesh is None:
    step = functools.partial(_train_step, total, optimizer, seed)
    return jax.jit(_several(step), donate_argnums=0)
  if divides_rows_alone(mesh):
    total = functools.partial(_total_of_all, total)
    step = functools.partial(_train_step, total, optimizer, seed)
    return jax.jit(_on_rows(_several(step), mesh), donate_argnums=0)
  step = functools.partial(_train_step, over_rows(total, mesh), optimizer, seed)

  def divided_step(state: State, batch: Any) -> tuple[State, Measured]:
    state, measured = step(state, batch)
    there = shardings(state, mesh)
    return jax.lax.with_sharding_constraint(state, there), measured

  return jax.jit(_several(divided_step), donate_argnums=0)


def _several(step: Callable[[State, Any], tuple[State, Measured]]) -> Steps:

  def steps(state: State, batches: Any) -> tuple[State, Measured]:
    if jax.tree.leaves(batches)[0].shape[0] > 1:
      return jax.lax.scan(step, state, batches)
    state, measured = step(state, jax.tree.map(lambda x: x[0], batches))
    return state, jax.tree.map(lambda x: x[None], measured)

  return steps


def _on_rows(steps: Steps, mesh: Mesh) -> Steps:
  """Whole steps on each device, which add up their gradients.

  Short steps are faster so than with `over_rows`: all that is said between
  devices is one sum.
  """
  whole, rows = PartitionSpec(), PartitionSpec(None, DATA)
  # Not checked: it does not see that equal sums make equal states.
  return jax.shard_map(
    steps,
    mesh=mesh,
    in_specs=(whole, rows),
    out_specs=(whole, whole),
    check_vma=False,
  )


def _one_at_a_time(compiled: Steps, mesh: Mesh) -> Steps:
  is_cpu = mesh.devices.flat[0].platform == 'cpu'

  def one_at_a_time(state: State, batches: Any) -> tuple[State, Measured]:
    rows = jax.tree.leaves(batches)[0].shape[1]
    rows *= _processes_that_share_rows(mesh)
    made = compiled(state, beside(batches, mesh, rows))
    # On a CPU a second call in flight can take the thread that a sum of the
    # first waits for, and both stand still.
    return jax.block_until_ready(made) if is_cpu else made

  return one_at_a_time


def _processes_that_share_rows(mesh: Mesh) -> int:
  """How often the rows of one process go into a batch."""
  parts = math.prod(mesh.shape[axis] for axis in ROWS)
  here = rows_here(mesh, parts)
  return parts // (here.stop - here.start)


def _train_step(
  total: Total,
  optimizer: optax.GradientTransformation,
  seed: int,
  state: State,
  batch: Any,
) -> tuple[State, Measured]:
  rng = jax.random.fold_in(jax.random.key(seed), state.step)
  sums, tokens = total(state.params, batch, rng)
  tokens = jnp.maximum(tokens, 1)
  loss, gradient = jax.tree.map(lambda x: x / tokens, sums)
  learned, counted = apart(state.params)
  updates, opt_state = optimizer.update(gradient, state.opt_state, learned)
  learned: Any = optax.apply_updates(learned, updates)
  params = {**learned, **counted}
  measured = Measured(loss, optax.tree.norm(gradient))
  return State(state.step + 1, params, opt_state), measured


def _total(
  nats: Nats, accumulate: int, params: Any, batch: Any, rng: Array
) -> tuple[tuple[Array, Any], Array]:
  """Nats and their gradient, summed over a batch, and its tokens."""
  learned, counted = apart(params)

  def part_nats(learned: Any, part: Any, rng: Array) -> Array:
    return (nats({**learned, **counted}, part, rng) * part.weights).sum()

  def add_part(carry: Any, part_and_rng: Any) -> tuple[Any, None]:
    here = jax.value_and_grad(part_nats)(learned, *part_and_rng)
    return jax.tree.map(jnp.add, carry, here), None

  if accumulate == 1:
    total = jax.value_and_grad(part_nats)(learned, batch, rng)
  else:
    parts = jax.tree.map(
      lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch
    )
    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, learned))
    rngs = jax.random.split(rng, accumulate)
    total, _ = jax.lax.scan(add_part, zero, (parts, rngs))
  return total, batch.weights.sum()


def _total_of_all(
  total: Total, params: Any, batch: Any, rng: Array
) -> tuple[tuple[Array, Any], Array]:
  """The same over all devices, inside `shard_map`."""
  rng = jax.random.fold_in(rng, jax.lax.axis_index(DATA))
  # As one array: each array would be a message of its own.
  flat, apart = ravel_pytree(total(params, batch, rng))
  return apart(jax.lax.psum(flat, DATA))
