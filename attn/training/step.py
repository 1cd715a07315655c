"""Training steps: the pure function that is compiled, whatever the task."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from attn.training.devices import DATA, everywhere

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


# (state, batches [K, ...]) -> (state, what was measured, [K]).
Steps = Callable[[State, Any], tuple[State, Measured]]


def init_state(
  init: Callable[[Array], Any],
  optimizer: optax.GradientTransformation,
  seed: int,
  mesh: Mesh | None = None,
) -> State:
  """Fresh parameters from `init`, the same for the same seed."""
  params = jax.jit(init)(jax.random.key(seed))
  state = State(jnp.zeros((), jnp.int32), params, optimizer.init(params))
  return everywhere(state, mesh)


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
    mesh: The devices that share the rows of each batch; None for one.

  Returns:
    (state, batches) -> (state, what was measured): the batches of K steps are
    arrays [K, rows, ...], and so the measurements [K].
  """
  axis = None if mesh is None else DATA
  step = functools.partial(_train_step, nats, optimizer, seed, accumulate, axis)

  def steps(state: State, batches: Any) -> tuple[State, Measured]:
    if jax.tree.leaves(batches)[0].shape[0] > 1:
      return jax.lax.scan(step, state, batches)
    state, measured = step(state, jax.tree.map(lambda x: x[0], batches))
    return state, jax.tree.map(lambda x: x[None], measured)

  if mesh is None:
    return jax.jit(steps, donate_argnums=0)
  return _on_mesh(steps, mesh)


def _on_mesh(steps: Steps, mesh: Mesh) -> Steps:
  whole, rows = PartitionSpec(), PartitionSpec(None, DATA)
  # Not checked: it does not see that equal sums make equal states.
  shared = jax.shard_map(
    steps,
    mesh=mesh,
    in_specs=(whole, rows),
    out_specs=(whole, whole),
    check_vma=False,
  )
  compiled = jax.jit(shared, donate_argnums=0)

  def one_at_a_time(state: State, batches: Any) -> tuple[State, Measured]:
    # On a CPU a second call in flight can take the thread that a sum of the
    # first waits for, and both stand still.
    return jax.block_until_ready(compiled(state, batches))

  return one_at_a_time


def _train_step(
  nats: Nats,
  optimizer: optax.GradientTransformation,
  seed: int,
  accumulate: int,
  axis: str | None,
  state: State,
  batch: Any,
) -> tuple[State, Measured]:
  rng = jax.random.fold_in(jax.random.key(seed), state.step)
  if axis is not None:
    rng = jax.random.fold_in(rng, jax.lax.axis_index(axis))

  def part_nats(params: Any, part: Any, rng: Array) -> Array:
    return (nats(params, part, rng) * part.weights).sum()

  def add_part(carry: Any, part_and_rng: Any) -> tuple[Any, None]:
    here = jax.value_and_grad(part_nats)(state.params, *part_and_rng)
    return jax.tree.map(jnp.add, carry, here), None

  if accumulate == 1:
    total = jax.value_and_grad(part_nats)(state.params, batch, rng)
  else:
    parts = jax.tree.map(
      lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch
    )
    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
    rngs = jax.random.split(rng, accumulate)
    total, _ = jax.lax.scan(add_part, zero, (parts, rngs))
  total, tokens = _add_up((total, batch.weights.sum()), axis)
  tokens = jnp.maximum(tokens, 1)
  loss, gradient = jax.tree.map(lambda x: x / tokens, total)
  updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  measured = Measured(loss, optax.tree.norm(gradient))
  return State(state.step + 1, params, opt_state), measured


def _add_up(tree: Any, axis: str | None) -> Any:
  """The sum over all devices."""
  if axis is None:
    return tree
  # As one array: each array would be a message of its own.
  flat, apart = ravel_pytree(tree)
  return apart(jax.lax.psum(flat, axis))
