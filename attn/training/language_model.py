"""A causal language model on batches: its loss, and how good it is."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attn.modules import CausalLM
from attn.training.batches import Batch, Validation
from attn.training.devices import beside, mesh_of, using
from attn.training.rows import sum_over_rows

Array = jax.Array


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


def init(model: CausalLM, rng: Array) -> Any:
  """Fresh parameters."""
  return model.init(rng, jnp.zeros((1, 1), jnp.int32))['params']


def nats(
  model: CausalLM, params: Any, batch: Batch, rng: Array | None
) -> Array:
  """-log p of each target, float32[B, T].

  Args:
    model: The model.
    params: Its parameters.
    batch: What it reads and predicts.
    rng: Of the dropout; None for none.

  Returns:
    Those of targets that do not count as well.
  """
  return _nats(_logits(model, params, batch, rng), batch)


def make_eval_step(model: CausalLM) -> Callable[[Any, Batch], Sums]:
  """The compiled evaluation of one batch: (params, batch) -> sums."""

  def step(params: Any, batch: Batch) -> Sums:
    return sum_over_rows(functools.partial(_eval_step, model), params, batch)

  return jax.jit(step)


def evaluate(
  eval_step: Callable[[Any, Batch], Sums], params: Any, validation: Validation
) -> dict[str, float]:
  """Judge a model by a validation split.

  Args:
    eval_step: From `make_eval_step`.
    params: The model's parameters.
    validation: The split.

  Returns:
    loss, in nats per token, and bits_per_byte of the text; where the split
    knows its floor also floor, gap (loss - floor), far_fact_accuracy and
    far_fact_chance.
  """
  mesh = mesh_of(params)
  with using(mesh):
    made = [
      jax.device_get(eval_step(params, beside(batch, mesh, len(batch.inputs))))
      for batch in validation.batches
    ]
  # Summed in float64: a split may hold a million tokens.
  sums = np.sum(np.array(made, np.float64), axis=0)
  total, tokens, far_correct, far = sums.tolist()
  loss = total / tokens
  results = {
    'loss': loss,
    'bits_per_byte': loss / math.log(2) * validation.tokens_per_byte,
  }
  if validation.floor is not None:
    results['floor'] = validation.floor
    results['gap'] = loss - validation.floor
  if validation.chance is not None:
    results['far_fact_accuracy'] = far_correct / far
    results['far_fact_chance'] = validation.chance
  return results


def _eval_step(model: CausalLM, params: Any, batch: Batch) -> Sums:
  logits = _logits(model, params, batch, None)
  correct = logits.argmax(-1) == batch.targets
  return Sums(
    nats=(_nats(logits, batch) * batch.weights).sum(),
    tokens=batch.weights.sum(),
    far_correct=(correct & batch.far).sum().astype(jnp.float32),
    far=batch.far.sum().astype(jnp.float32),
  )


def _logits(
  model: CausalLM, params: Any, batch: Batch, rng: Array | None
) -> Array:
  logits = model.apply(
    {'params': params},
    batch.inputs,
    segment_ids=batch.segment_ids,
    positions=batch.positions,
    part=batch.part,
    deterministic=rng is None,
    rngs=None if rng is None else {'dropout': rng},
  )
  return jnp.asarray(logits)


def _nats(logits: Array, batch: Batch) -> Array:
  return optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
