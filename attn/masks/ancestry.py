"""Masks of trees: a token sees those it descends from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.masks.arguments import array, integers, is_traced, look_up
from attn.masks.base import Ask, Extents, Mask, value
from attn.masks.facts import Facts, Region, at_most, numpy_or_jax, span

Array = jax.Array


@value(arrays=('place', 'last'))
class Tree(Mask):
  """See `tree`.

  Attributes:
    place: int32[T], where a token comes when the tree is walked depth first.
    last: int32[T], the last place among a token and its descendants.
  """

  place: Array
  last: Array

  @property
  def extents(self) -> Extents:
    """As many queries and keys as tokens."""
    return (None, None, self.place.size, self.place.size)

  def __call__(self, b: Array, n: Array, q: Array, k: Array) -> Array:
    """Query q is key k, or descends from it."""
    place = look_up(self.place, (q,))
    first, last = (look_up(x, (k,)) for x in (self.place, self.last))
    return (first <= place) & (place <= last)

  def padded(self, num_queries: int, num_keys: int) -> Mask:
    """The places padded."""
    rest = max(num_queries, num_keys) - self.place.size
    return Tree(
      *(jnp.pad(x, (0, max(rest, 0))) for x in (self.place, self.last))
    )

  def _facts(self, region: Region, ask: Ask) -> Facts:
    queries, keys = (
      span(first, last, numpy_or_jax(self.place))
      for first, last in (
        (region.q_first, region.q_last),
        (region.k_first, region.k_last),
      )
    )
    place = look_up(self.place, (queries,))
    first, last = (look_up(x, (keys,)) for x in (self.place, self.last))
    least, most = place.min(-1), place.max(-1)
    some = (first.min(-1) <= most) & (least <= last.max(-1))
    every = (first.max(-1) <= least) & (most <= last.min(-1))
    return at_most(some, every)


def tree(parents: Any) -> Mask:
  """Tokens see the tokens they descend from, and themselves.

    k = q,  or  k = parents[q],  or  k = parents[parents[q]],  ...

  A tree of guesses is judged in one pass: each branch reads as if it alone had
  been written.  Here token 0 goes on as 1 or as 3, and 1 as 2:

    >>> print(tree([-1, 0, 1, 0]).draw(4, 4))
    1 0 0 0
    1 1 0 0
    1 1 1 0
    1 0 0 1

  Where P tokens stand already in a cache, all see these:
  `prefix(P) | tree(parents).shift(keys=P)`.

  Args:
    parents: int[T], known when the mask is made: the index of each token's
      parent, which comes before it; -1 for a token that has none.

  Returns:
    A mask; its arrays are two numbers for each token.  Trees of equal size
    share a program.

  Raises:
    TypeError: if parents are not integers, or traced.
    ValueError: if parents do not have one axis, or one does not come before its
      child.

  References:
    Miao et al., 2024 (SpecInfer), section 4.1. https://arxiv.org/abs/2305.09781
    Cai et al., 2024 (Medusa), section 2.1.2. https://arxiv.org/abs/2401.10774
  """
  if is_traced(parents):
    raise TypeError('parents: got a traced array, wanted its values')
  given = np.asarray(parents)
  if given.size:
    given = np.asarray(integers('parents', given))
  if given.ndim != 1:
    raise ValueError(f'parents: got shape {given.shape}, wanted one axis')
  for child, parent in enumerate(given.tolist()):
    if not -1 <= parent < child:
      raise ValueError(
        f'parents[{child}]: got {parent}, wanted -1 or a token before {child}'
      )
  place, last = _walk(given.tolist())
  return Tree(array('place', place, jnp.int32), array('last', last, jnp.int32))


def _walk(parents: list[int]) -> tuple[list[int], list[int]]:
  """Places in depth-first order, and the last of every token's descendants."""
  tokens = len(parents)
  sizes = [1] * tokens
  for child in reversed(range(tokens)):
    if parents[child] >= 0:
      sizes[parents[child]] += sizes[child]
  place, free = [0] * tokens, [0] * tokens
  root = 0
  for child, parent in enumerate(parents):
    if parent < 0:
      place[child], root = root, root + sizes[child]
    else:
      place[child] = free[parent]
      free[parent] += sizes[child]
    free[child] = place[child] + 1
  return place, [first + size - 1 for first, size in zip(place, sizes)]
