"""The last few tokens before each place, from the call or from a cache."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class RecentTokens(nn.Module):
  """Which tokens stand 1, 2, ... places before each.

  Attributes:
    most: How many places back.
    at_once: With a cache, the most tokens of a call; 0 for no cache.
    first: With a cache, whether nothing was read before.

  Example:
    >>> recent = RecentTokens(most=2)
    >>> tokens = jnp.array([[5, 6, 7]], jnp.uint32)
    >>> recent.apply({}, tokens, jnp.array([[0, 1, 2]]))
    [Array([[0, 5, 6]], dtype=uint32), Array([[0, 0, 5]], dtype=uint32)]
  """

  most: int
  at_once: int = 0
  first: bool = False

  @nn.compact
  def __call__(self, tokens: Array, positions: Array) -> list[Array]:
    """Look back.

    Args:
      tokens: uint32[B, T], from 1 on.
      positions: int[B, T], place within the document, from 0; what stands
        before a document is not seen.  -1 for padding at the end.

    Returns:
      uint32[B, T] for 1, 2, ... places back; 0 where there is none.
    """
    backs = range(1, self.most + 1)
    if self.at_once and not self.first:
      kept = self._keep(tokens, positions)
      slots = kept.shape[1]
      taken = [
        jnp.take_along_axis(kept, (positions - back) % slots, 1)
        for back in backs
      ]
    else:
      if self.at_once:
        self._keep(tokens, positions)
      length = tokens.shape[1]
      taken = [
        jnp.pad(tokens, ((0, 0), (back, 0)))[:, :length] for back in backs
      ]
    return [
      jnp.where(positions >= back, token, 0)
      for back, token in zip(backs, taken)
    ]

  def _keep(self, tokens: Array, positions: Array) -> Array:
    """Write the tokens down, each at its position modulo the slots."""
    # Enough that a call may be taken back and begun again.
    slots = self.most + self.at_once
    store = self.variable(
      'cache', 'tokens', jnp.zeros, (len(tokens), slots), jnp.uint32
    )
    last = positions.max(-1, keepdims=True)
    is_kept = (positions >= 0) & (positions > last - slots)
    place = jnp.where(is_kept, positions % slots, slots)
    rows = jnp.arange(len(tokens))[:, None]
    store.value = store.value.at[rows, place].set(tokens, mode='drop')
    return store.value


def mix(one: Any, other: Any, salt: int) -> Any:
  """A hash of two numbers, uint32; after the finaliser of MurmurHash3.

  Args:
    one: uint32[...], of NumPy or JAX.
    other: Likewise.
    salt: Another for each use.

  Returns:
    uint32[...].

  Example:
    >>> one, other = np.array([1, 2], np.uint32), np.array([3, 3], np.uint32)
    >>> bool((mix(one, other, 1) == mix(jnp.array(one), other, 1)).all())
    True
  """
  mixed = one ^ ((other + np.uint32(salt)) * np.uint32(0x9E3779B1))
  mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
  mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
  return mixed ^ (mixed >> np.uint32(16))
