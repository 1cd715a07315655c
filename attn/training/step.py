"""One step: the pure functions that are compiled."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from attn.modules import CausalLM
from attn.training.batches import Batch

Array = jax.Array


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


class Sums(NamedTuple):
  """What evaluation adds up over batches, float32[] each.

  Attributes:
    nats: -log p of the targets that count.
    tokens: How many there are.
    far_correct: Far facts of which the model's first guess is right.
    far: How many there are.
  """

  nats: Array
  tokens: Array
  far_correct: Array
  far: Array


def init_state(
  model: CausalLM, optimizer: optax.GradientTransformation, seed: int
) -> State:
  """Fresh parameters, the same for the same seed."""
  tokens = jnp.zeros((1, 1), jnp.int32)
  params = jax.jit(model.init)(jax.random.key(seed), tokens)['params']
  return State(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_train_step(
  model: CausalLM,
  optimizer: optax.GradientTransformation,
  seed: int,
  accumulate: int,
) -> Callable[[State, Batch], tuple[State, Array]]:
  """The compiled training step; it consumes the state it is given.

  Args:
    model: The model.
    optimizer: The optimiser.
    seed: Of the dropout, together with the step's number.
    accumulate: Parts into which a batch is cut, one gradient after the other,
      so that a large batch needs the memory of a small one.

  Returns:
    (state, batch) -> (state, loss), loss the mean nats per token.
  """
  step = functools.partial(_train_step, model, optimizer, seed, accumulate)
  return jax.jit(step, donate_argnums=0)


def make_eval_step(model: CausalLM) -> Callable[[Any, Batch], Sums]:
  """The compiled evaluation of one batch: (params, batch) -> sums."""
  return jax.jit(functools.partial(_eval_step, model))


def _train_step(
  model: CausalLM,
  optimizer: optax.GradientTransformation,
  seed: int,
  accumulate: int,
  state: State,
  batch: Batch,
) -> tuple[State, Array]:
  rng = jax.random.fold_in(jax.random.key(seed), state.step)

  def part_nats(params: Any, part: Batch, rng: Array) -> Array:
    logits = _apply(model, params, part, rng)
    return (_nats(logits, part) * part.weights).sum()

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
  return State(state.step + 1, params, opt_state), loss


def _eval_step(model: CausalLM, params: Any, batch: Batch) -> Sums:
  logits = _apply(model, params, batch, None)
  correct = logits.argmax(-1) == batch.targets
  return Sums(
    nats=(_nats(logits, batch) * batch.weights).sum(),
    tokens=batch.weights.sum(),
    far_correct=(correct & batch.far).sum().astype(jnp.float32),
    far=batch.far.sum().astype(jnp.float32),
  )


def _apply(
  model: CausalLM, params: Any, batch: Batch, rng: Array | None
) -> Array:
  logits = model.apply(
    {'params': params},
    batch.inputs,
    segment_ids=batch.segment_ids,
    positions=batch.positions,
    deterministic=rng is None,
    rngs=None if rng is None else {'dropout': rng},
  )
  return jnp.asarray(logits)


def _nats(logits: Array, batch: Batch) -> Array:
  return optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
