"""Keys and values of tokens that were read, kept for those that follow.

A cache has a fixed number of slots, so one compiled program serves every token.
Which token a slot holds follows from how many were read, and is not stored: the
first `pinned` tokens keep a slot each, the others take turns.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.call import ScoreMod
from attn.masks import Mask

Array = jax.Array


class Recalled(NamedTuple):
  """What a call may attend to, its own tokens included.

  Attributes:
    kept: Name -> [B, S, ...], as the cache was given it.
    mask: Of the call.
    score_mod: Of the call.
  """

  kept: dict[str, Array]
  mask: Array | Mask | None
  score_mod: ScoreMod | None


class KeyValueCache(nn.Module):
  """A layer's memory of what it read; lives in the 'cache' collection.

  Masks and mods are asked about the places that tokens have in their text,
  wherever these are kept: so any of them serves, and an old token that a mask
  hides may lose its slot to a new one.

  Attributes:
    slots: C, the most tokens that are kept.
    pinned: How many of them are the first of the text, which are never given
      up; fewer than slots.
    first: Whether nothing was read before: then tokens see each other as they
      do without a cache, and there may be more of them than slots.

  References:
    Beltagy et al., 2020 (windows). https://arxiv.org/abs/2004.05150
    Xiao et al., 2023 (pinned tokens). https://arxiv.org/abs/2309.17453
  """

  slots: int
  pinned: int = 0
  first: bool = False

  @nn.compact
  def __call__(
    self,
    positions: Array | None,
    new: dict[str, Array],
    *,
    num_heads: int,
    mask: Array | Mask | None,
    score_mod: ScoreMod | None,
  ) -> Recalled:
    """Keep some tokens, and recall all that are kept.

    Args:
      positions: int[B, T], places in the text, one after the other; -1 for
        padding, which stands at the end and is not kept.  A single token is
        not padding.
      new: Name -> [B, T, ...], what is to be kept of each token.
      num_heads: N.
      mask: A mask object of places; where first, whatever `attention` takes.
      score_mod: As in `attn.attention`, of places.

    Returns:
      What `attention` needs for the T tokens.

    Raises:
      TypeError: if mask is no mask object, where not first.
      ValueError: if positions is None.
    """
    if positions is None:
      raise ValueError('positions: got none, wanted places: there is a cache')
    slots = self._slots(positions)
    kept = {}
    for name, x in new.items():
      shape = x.shape[0], self.slots, *x.shape[2:]
      store = self.variable('cache', name, jnp.zeros, shape, x.dtype)
      store.value = _write(store.value, slots, x)
      kept[name] = store.value
    if self.first:
      return Recalled(new, mask, score_mod)
    held = held_positions(self.slots, self.pinned, positions.max(-1) + 1)
    if not isinstance(mask, Mask):
      raise TypeError(f'mask: got {type(mask).__name__}, wanted a mask object')
    if score_mod is not None:
      score_mod = _of_places(score_mod, positions, held)
    return Recalled(kept, _seen(mask, num_heads, positions, held), score_mod)

  def _slots(self, positions: Array) -> Array:
    """int32[B, T], where each token is kept; `slots` for nowhere."""
    turns = self.slots - self.pinned
    rolling = self.pinned + (positions - self.pinned) % turns
    slots = jnp.where(positions < self.pinned, positions, rolling)
    given_up = positions <= positions.max(-1, keepdims=True) - turns
    given_up &= positions >= self.pinned
    nowhere = given_up | (positions < 0)
    return jnp.where(nowhere, self.slots, slots).astype(jnp.int32)


def held_positions(slots: int, pinned: int, lengths: Array) -> Array:
  """Which token each slot holds once so many were read.

  Args:
    slots: C.
    pinned: Of which so many for the first tokens.
    lengths: int[B], tokens read.

  Returns:
    int32[B, C], places in the text; -1 for a slot that is still empty.

  Example:
    >>> held_positions(4, 1, jnp.array([0, 3, 6]))
    Array([[-1, -1, -1, -1],
           [ 0,  1,  2, -1],
           [ 0,  4,  5,  3]], dtype=int32)
  """
  slot = jnp.arange(slots, dtype=jnp.int32)
  last = lengths.astype(jnp.int32)[:, None] - 1
  # The newest token whose turn falls on the slot.
  rolling = last - (last - slot) % (slots - pinned)
  newest = jnp.where(slot < pinned, slot, rolling)
  return jnp.where((newest <= last) & (newest >= slot), newest, -1)


def _write(store: Array, slots: Array, x: Array) -> Array:
  if slots.shape == (1, 1):
    start = 0, slots[0, 0], *(0 for _ in x.shape[2:])
    # A scatter of one row takes a loop on a CPU.
    return jax.lax.dynamic_update_slice(store, x, start)
  rows = jnp.arange(len(slots))[:, None]
  return store.at[rows, slots].set(x, mode='drop')


def _seen(mask: Mask, num_heads: int, queries: Array, keys: Array) -> Array:
  """bool[B, N or 1, T, S], of places queries [B, T] and keys [B, S]."""
  heads = num_heads if mask.extents[1] is not None else 1
  b = jnp.arange(len(queries), dtype=jnp.int32)[:, None, None, None]
  n = jnp.arange(heads, dtype=jnp.int32)[:, None, None]
  keys = keys[:, None, None, :]
  seen = mask(b, n, queries[:, None, :, None], keys) & (keys >= 0)
  shape = len(queries), heads, queries.shape[1], keys.shape[-1]
  return jnp.broadcast_to(seen, shape)


def _of_places(score_mod: ScoreMod, queries: Array, keys: Array) -> ScoreMod:
  def of_indices(score: Any, b: Any, n: Any, q: Any, k: Any) -> Any:
    return score_mod(score, b, n, queries[b, q], keys[b, k])

  return of_indices
