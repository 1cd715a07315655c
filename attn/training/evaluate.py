"""How good is a model?  One number beside the best there could be."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from attn.training.batches import Batch, Validation
from attn.training.step import Sums


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
  # Summed in float64: a split may hold a million tokens.
  sums = np.sum(
    [
      np.array(jax.device_get(eval_step(params, batch)), np.float64)
      for batch in validation.batches
    ],
    axis=0,
  )
  nats, tokens, far_correct, far = sums.tolist()
  loss = nats / tokens
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
