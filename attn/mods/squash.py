"""Mods of the score alone."""

import jax
import jax.numpy as jnp

from attn.mods.arguments import of_head, positive
from attn.mods.values import Mod

Array = jax.Array


def soft_cap(cap: float | Array) -> Mod:
  """Scores bend towards ±cap and never pass it.

    cap tanh(score / cap)

  Small scores stay as they are.  Put it before mods that tell of positions:
  after them it would cap what they say, too.

  Args:
    cap: Positive; one number, or float[N] for one per head.

  Returns:
    A mod; cap is its array, if it is one.

  Raises:
    TypeError: if cap is not a number or floats.
    ValueError: if cap is not positive, or an array of more than one axis.

  Example:
    >>> print(soft_cap(50.0).draw(1, 1, score=1e6))
    50.0000

  References:
    Bello et al., 2016, section A.1. https://arxiv.org/abs/1611.09940
    Gemma 2, 2024, section 2. https://arxiv.org/abs/2408.00118
  """
  return positive(_soft_cap, 'cap', cap)


def temperature(value: float | Array) -> Mod:
  """Sharper or softer attention.

    score / value

  Below 1 the largest score takes more of the weight, above 1 less.

  Args:
    value: Positive; one number, or float[N] for one per head.

  Returns:
    A mod; value is its array, if it is one.

  Raises:
    TypeError: if value is not a number or floats.
    ValueError: if value is not positive, or an array of more than one axis.

  Example:
    >>> print(temperature(0.5).draw(1, 1, score=3))
     6.0000

  References:
    Hinton et al., 2015, section 2. https://arxiv.org/abs/1503.02531
    Lin et al., 2018 (in attention). https://arxiv.org/abs/1808.07374
  """
  return positive(_temperature, 'value', value)


def _soft_cap(
  score: Array, b: Array, n: Array, q: Array, k: Array, *, cap: float | Array
) -> Array:
  cap = of_head(cap, n, score)
  return cap * jnp.tanh(score / cap)


def _temperature(
  score: Array, b: Array, n: Array, q: Array, k: Array, *, value: float | Array
) -> Array:
  return score / of_head(value, n, score)
