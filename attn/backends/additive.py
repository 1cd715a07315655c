"""Scores by a small network instead of a product: v · tanh(query + key)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from attn.call import Call

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class AdditiveCall(Call):
  """A call whose query n and key score v[n] · tanh(query + key), unscaled.

  Attributes:
    v: float[N, H] in the dtype of computation.
  """

  v: Array


def additive_tile(x: Array, y: Array, v: Array) -> Array:
  """The scores of one tile, in memory proportional to it.

    scores = Σ_h v[h] tanh(x[h] + y[h])

  One h after the other, also in every derivative: nothing of [H, rows, columns]
  is ever there, since what a step needs it computes again.  One at a time is
  fastest as well: of a sum of two or more, XLA makes a loop over single numbers
  on a CPU, at eight times the cost.

  Args:
    x: float[H, rows, 1].
    y: float[H, 1, columns].
    v: float[H, rows, 1] or [H, 1, columns].

  Returns:
    float[rows, columns].
  """

  def add(scores: Array, of_h: Any) -> tuple[Array, None]:
    x, y, v = of_h
    return scores + v * jnp.tanh(x + y), None

  # A loop itself keeps XLA from merging the two computations.
  add = jax.checkpoint(add, prevent_cse=False)
  start = jnp.zeros((x.shape[1], y.shape[2]), x.dtype)
  return jax.lax.scan(add, start, (x, y, v))[0]
