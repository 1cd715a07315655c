"""One step: the pure function that is compiled, whatever the task."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

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
  """What a step tells of itself.

  Attributes:
    loss: float32[], mean nats per token.
    gradient_norm: float32[], before it is clipped.
  """

  loss: Array
  gradient_norm: Array


def init_state(
  init: Callable[[Array], Any],
  optimizer: optax.GradientTransformation,
  seed: int,
) -> State:
  """Fresh parameters from `init`, the same for the same seed."""
  params = jax.jit(init)(jax.random.key(seed))
  return State(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_train_step(
  nats: Nats,
  optimizer: optax.GradientTransformation,
  seed: int,
  accumulate: int,
) -> Callable[[State, Any], tuple[State, Measured]]:
  """The compiled training step; it consumes the state it is given.

  Args:
    nats: The loss of each target of a batch.
    optimizer: The optimiser.
    seed: Of the dropout, together with the step's number.
    accumulate: Parts into which a batch is cut, one gradient after the other,
      so that a large batch needs the memory of a small one.

  Returns:
    (state, batch) -> (state, what was measured).
  """
  step = functools.partial(_train_step, nats, optimizer, seed, accumulate)
  return jax.jit(step, donate_argnums=0)


def _train_step(
  nats: Nats,
  optimizer: optax.GradientTransformation,
  seed: int,
  accumulate: int,
  state: State,
  batch: Any,
) -> tuple[State, Measured]:
  rng = jax.random.fold_in(jax.random.key(seed), state.step)

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
  tokens = jnp.maximum(batch.weights.sum(), 1)
  loss, gradient = jax.tree.map(lambda x: x / tokens, total)
  updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  measured = Measured(loss, optax.tree.norm(gradient))
  return State(state.step + 1, params, opt_state), measured
