"""Keys and values of tokens that were read, kept for those that follow.

A cache has a fixed number of slots, so one compiled program serves every token.
The first `pinned` tokens keep a slot each, the others take turns.
"""

import functools
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
    finite: Name -> [B, S, ...], as the cache was given it, but 0 where a token
      has a NaN or Inf.
    spoiled: bool[B, S], which tokens these are; None where `finite` is as it
      was given.
    mask: Of the call.
    score_mod: Of the call.
  """

  finite: dict[str, Array]
  spoiled: Array | None
  mask: Array | Mask | None
  score_mod: ScoreMod | None

  @property
  def kept(self) -> dict[str, Array]:
    """Name -> [B, S, ...], NaN where a token has a NaN or Inf."""
    if self.spoiled is None:
      return self.finite
    return {
      name: jnp.where(_beside(self.spoiled, x), jnp.nan, x)
      for name, x in self.finite.items()
    }


class KeyValueCache(nn.Module):
  """A layer's memory of what it read; lives in the 'cache' collection.

  Masks and mods are asked about the places that tokens have in their text,
  wherever these are kept: so any of them serves, and an old token that a mask
  hides may lose its slot to a new one.

  Arrays with heads are kept with these first, [B K, S, H], in the order that
  products read them.  Whether a token is finite is found out when it is kept,
  once, and not whenever it is recalled.

  Attributes:
    slots: C, the most tokens that are kept.
    pinned: How many of them are the first of the text, which are never given
      up; fewer than slots.
    first: Whether nothing was read before: then tokens see each other as they
      do without a cache, and there may be more of them than slots.

  Example:
    >>> from attn import masks
    >>> read, follow = KeyValueCache(4, first=True), KeyValueCache(4)
    >>> asked = {'num_heads': 1, 'mask': masks.causal(), 'score_mod': None}
    >>> text, state = read.apply(
    ...   {}, jnp.arange(3)[None], {'key': jnp.ones((1, 3, 2))}, **asked,
    ...   mutable='cache')
    >>> text.kept['key'].shape  # what was read, as it came
    (1, 3, 2)
    >>> one, state = follow.apply(
    ...   state, jnp.array([[3]]), {'key': jnp.ones((1, 1, 2))}, **asked,
    ...   mutable='cache')
    >>> one.kept['key'].shape  # the next token sees all four slots
    (1, 4, 2)

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
    spoils = ~functools.reduce(jnp.logical_and, map(_is_finite, new.values()))
    finite = {
      name: self._keep(name, slots, jnp.where(_beside(spoils, x), 0, x))
      for name, x in new.items()
    }
    spoiled = self._keep('spoiled', slots, spoils)
    # From 1 on: 0 is a slot that is empty.
    held = self._keep('places', slots, positions.astype(jnp.int32) + 1) - 1
    if self.first:
      return Recalled(new, None, mask, score_mod)
    last = positions.max(-1, keepdims=True)
    # A later token is one that was taken back.
    held = jnp.where(held <= last, held, -1)
    if not isinstance(mask, Mask):
      raise TypeError(f'mask: got {type(mask).__name__}, wanted a mask object')
    if score_mod is not None:
      score_mod = _of_places(score_mod, positions, held)
    seen = _seen(mask, num_heads, positions, held)
    return Recalled(finite, spoiled, seen, score_mod)

  def _keep(self, name: str, slots: Array, x: Array) -> Array:
    """Write [B, T, ...] into the slots; all that is kept, [B, S, ...]."""
    batch, heads = len(x), x.shape[2:3] if x.ndim == 4 else ()
    if heads:
      # Heads are batches of products, and XLA copies what has two such axes.
      x = jnp.moveaxis(x, 2, 1).reshape(-1, x.shape[1], x.shape[3])
    shape = len(x), self.slots, *x.shape[2:]
    store = self.variable('cache', name, jnp.zeros, shape, x.dtype)
    if slots.shape == (1, 1):
      # A scatter of one row takes a loop on a CPU.
      store.value = jax.lax.dynamic_update_slice_in_dim(
        store.value, x, slots[0, 0], axis=1
      )
    else:
      rows = jnp.arange(len(x))[:, None]
      where = jnp.repeat(slots, len(x) // batch, axis=0)
      store.value = store.value.at[rows, where].set(x, mode='drop')
    if not heads:
      return store.value
    kept = store.value.reshape(batch, *heads, *store.value.shape[1:])
    return jnp.moveaxis(kept, 1, 2)

  def _slots(self, positions: Array) -> Array:
    """int32[B, T], where each token is kept; `slots` for nowhere."""
    turns = self.slots - self.pinned
    rolling = self.pinned + (positions - self.pinned) % turns
    slots = jnp.where(positions < self.pinned, positions, rolling)
    given_up = positions <= positions.max(-1, keepdims=True) - turns
    given_up &= positions >= self.pinned
    nowhere = given_up | (positions < 0)
    return jnp.where(nowhere, self.slots, slots).astype(jnp.int32)


def _is_finite(x: Array) -> Array:
  """bool[B, T], of [B, T, ...]."""
  return jnp.isfinite(x).all(tuple(range(2, x.ndim)))


def _beside(tokens: Array, x: Array) -> Array:
  """[B, S] with as many axes as x [B, S, ...]."""
  return tokens.reshape(tokens.shape + (1,) * (x.ndim - 2))


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
