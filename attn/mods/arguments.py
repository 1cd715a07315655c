"""What mods are given: numbers for each head, checked and looked up."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.mods.values import Mod, make

Array = jax.Array

_AXES = {1: '[N], one number per head', 2: '[num_buckets, N]'}


def positive(
  formula: Callable[..., Array],
  name: str,
  value: float | Array,
  *,
  most: float = math.inf,
) -> Mod:
  """A mod of one positive number, or of one for every head.

  Args:
    formula: Of the mod; takes the number by its name.
    name: Of the number.
    value: A number, or float[N].
    most: The largest it may be.

  Returns:
    The mod.

  Raises:
    TypeError: if value is not a number or floats.
    ValueError: if it is not positive or too large, or has too many axes.
  """
  # What jax holds may not be known yet, and is not waited for.
  if not isinstance(value, jax.Array):
    numbers = np.asarray(value)
    if numbers.dtype.kind not in 'fiu':
      raise TypeError(f'{name}: got {value!r}, wanted a number or floats')
    if not ((numbers > 0) & (numbers <= most) & (numbers < math.inf)).all():
      wanted = f'in (0, {most}]' if most < math.inf else 'above 0 and finite'
      raise ValueError(f'{name}: got {value}, wanted a number {wanted}')
    if not numbers.ndim:
      return make(formula, {name: float(numbers)})
  value = jnp.asarray(value)
  if not value.ndim and jnp.issubdtype(value.dtype, jnp.floating):
    return make(formula, {name: value})
  value = floats(name, value, 1)
  return make(formula, {name: value}, heads=value.size)


def floats(name: str, x: Any, ndim: int) -> Array:
  """An array with the heads on its last axis.

  Args:
    name: What to call it in an error.
    x: Anything that is an array.
    ndim: How many axes it must have.

  Returns:
    The array.

  Raises:
    TypeError: if it is not of floats.
    ValueError: if it is empty or has other axes.
  """
  x = jnp.asarray(x)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f'{name}: got dtype {x.dtype}, wanted a float dtype')
  if x.ndim != ndim or not x.size:
    raise ValueError(f'{name}: got shape {x.shape}, wanted {_AXES[ndim]}')
  return x


def of_head(x: float | Array, n: Array, score: Array) -> Array:
  """x[..., n], or x itself if it is one number, in the dtype of score.

  Found by comparison: the derivative is then a sum over the few heads.  That
  of an index is a scatter, slow everywhere and in no fixed order on a GPU.
  """
  x = jnp.asarray(x).astype(score.dtype)
  if not x.ndim:
    return x
  heads = jnp.arange(x.shape[-1], dtype=jnp.int32)
  return jnp.where(heads == n, x, 0).sum(-1)
