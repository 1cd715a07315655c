"""What masks are given: whole numbers and arrays of them, checked."""

import contextlib
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from attn.masks.facts import numpy_or_jax

Array = jax.Array

# Positions are int32: no distance is longer, so a window that would be is cut.
LONGEST = 2**31 - 1


def whole(name: str, value: Any, least: int | None = None) -> int:
  """An integer, static.

  Args:
    name: What to call it in an error.
    value: An integer of any kind but bool.
    least: The least that will do.

  Returns:
    The integer; where int32 cannot hold it, the nearest that int32 can.

  Raises:
    TypeError: if value is not an integer.
    ValueError: if value is less than `least`.
  """
  try:
    number = operator.index(value)
  except TypeError:
    number = None
  if number is None or isinstance(value, (bool, np.bool_)):
    raise TypeError(f'{name}: got {value!r}, wanted an integer')
  if least is not None and number < least:
    raise ValueError(f'{name}: got {value}, wanted at least {least}')
  return max(-LONGEST, min(number, LONGEST))


def wholes(name: str, values: Any, least: int) -> tuple[int, ...]:
  """A sequence of integers, static.

  Args:
    name: What to call it in an error.
    values: A sequence of integers.
    least: The least that each may be.

  Returns:
    The integers.

  Raises:
    TypeError: if values is not a sequence of integers.
    ValueError: if one is less than `least`.
  """
  if isinstance(values, np.ndarray):
    values = values.tolist()
  if not isinstance(values, Sequence) or isinstance(values, str):
    raise TypeError(f'{name}: got {values!r}, wanted a sequence of integers')
  return tuple(whole(f'{name}[{i}]', x, least) for i, x in enumerate(values))


def is_array(value: Any) -> bool:
  """Is it an array, and so a leaf, and not a static number?"""
  return isinstance(value, (jax.Array, np.ndarray))


def is_traced(x: Any) -> bool:
  """Is its value not known yet?"""
  return isinstance(x, Tracer)


def array(name: str, x: Any, dtype: Any = None) -> Array:
  """An array that jit can see through if its caller could.

  Inside jit, jax.numpy would make a tracer even of a NumPy array, and of a
  tracer no block can be ruled out before the program runs.

  Args:
    name: What to call it in an error.
    x: Anything that is an array.
    dtype: What it shall be converted to; None to leave it.

  Returns:
    The array; concrete if x was.

  Raises:
    TypeError: if x is not an array.
  """
  if is_traced(x):
    return x if dtype is None else x.astype(dtype)
  try:
    with at_trace_time():
      return jnp.asarray(x, dtype)
  except (TypeError, ValueError) as error:
    raise TypeError(f'{name}: got {x!r}, wanted an array') from error


@contextlib.contextmanager
def at_trace_time() -> Iterator[None]:
  """What is computed here is a constant of the program that is traced.

  So it is inside of `shard_map` as well, where JAX would else divide it.
  """
  nowhere = jax.sharding.AbstractMesh((), ())
  with jax.ensure_compile_time_eval(), jax.sharding.use_abstract_mesh(nowhere):
    yield


def integers(name: str, x: Any, dtype: Any = None) -> Array:
  """An array of integers.

  Args:
    name: What to call it in an error.
    x: Anything that is an array.
    dtype: What it shall be converted to; None to leave it.

  Returns:
    The array; concrete if x was.

  Raises:
    TypeError: if x is not an array of integers.
  """
  x = array(name, x)
  if not jnp.issubdtype(x.dtype, jnp.integer):
    raise TypeError(f'{name}: got dtype {x.dtype}, wanted integers')
  return array(name, x, dtype)


def look_up(x: Any, index: Any) -> Any:
  """x[index], by NumPy if both are NumPy's: either alone may be a tracer.

  Args:
    x: An array.
    index: Whole numbers, as many as x has axes.

  Returns:
    An array of the shape that the indices broadcast to.
  """
  return numpy_or_jax(x, *index).asarray(x)[index]
