"""The dtype to compute in."""

from typing import Any

import jax.numpy as jnp


def at_least_float32(dtype: Any) -> Any:
  """Float64 for float64, float32 for everything narrower and for integers.

  Args:
    dtype: Any dtype.

  Returns:
    float32 or float64.

  Example:
    >>> at_least_float32(jnp.bfloat16)
    dtype('float32')
  """
  wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
  return jnp.dtype(wide)
