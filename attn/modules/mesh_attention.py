"""Attention on the mesh in use, if any."""

import math
from typing import Any

import jax

from attn.dispatch import attention
from attn.modules.sharding import SEQUENCE, axes_of, constrain
from attn.sharded import ring_attention

Array = jax.Array


def mesh_attention(
  query: Array,
  key: Array,
  value: Array,
  *,
  implementation: str | None = None,
  **options: Any,
) -> Array:
  """`attn.attention`, by `attn.ring_attention` where a mesh divides tokens.

  Where tokens are in parts, keys and values go around the devices that hold
  them.  They are gathered instead where an implementation is asked for, or the
  devices do not divide T and S.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, H].
    value: float[*B, S, K, Hv].
    implementation: As in `attn.attention`.
    **options: The other options of `attn.attention`.

  Returns:
    float[*B, T, N, Hv].

  Raises:
    TypeError, ValueError: as `attn.attention`.

  Example:
    >>> x = jax.numpy.ones((2, 3, 2, 4))  # batch, length, heads, head size
    >>> mesh_attention(x, x, x, is_causal=True).shape
    (2, 3, 2, 4)
  """
  is_divided = all(
    x.ndim > 2 and axes_of('length', x.shape[-3]) for x in (query, key)
  )
  if implementation is None and is_divided:
    return ring_attention(
      query,
      key,
      value,
      axis=SEQUENCE,
      batch_axes=axes_of('batch', math.prod(query.shape[:-3])),
      head_axes=axes_of('heads', key.shape[-2]),
      **options,
    )
  # Every query asks all keys.
  key, value = (
    constrain(x, 'batch', None, 'heads', None) for x in (key, value)
  )
  return attention(query, key, value, implementation=implementation, **options)
