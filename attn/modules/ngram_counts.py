"""Counts of n-grams in a text, as tables of fixed size."""

import itertools
from collections.abc import Mapping
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from attn.modules.recent import mix

# What a model calls them, among its parameters.
COUNTS = 'counts'
# Parts of a text, each of which can be left out.
PARTS = 10
# Room for so many different followers, a context.
PAIRS = 3
# A vocabulary of more would take too long to go through, token by token.
MOST_TOKENS = 512
# The name of the context of no token.
ROOT = np.uint32(0)

_UNUSED = np.uint32(2**32 - 1)
_MOST = np.iinfo(np.uint16).max
# Where too few counts are there to tell.
_DISCOUNT = 0.5


def count_ngrams(
  tokens: np.ndarray, vocab_size: int, *, longest: int, rows: int
) -> dict[str, np.ndarray]:
  """The tables of `KneserNey`: what follows each context of a text.

  A context is known by a hash of 32 bits; two that share it share what follows.

  Args:
    tokens: int[...], a text.
    vocab_size: V.
    longest: The most tokens of a context.
    rows: Room for so many contexts; the rarest are left out, if need be.

  Returns:
    contexts: uint32[rows], the hash of each context, sorted.
    first: int32[rows], where the counts of its followers begin.
    followers: uint32[rows, V / 32], a bit for each token that follows it.
    seen: uint16[PARTS + 1, PAIRS rows], how often each did, in the whole text
      and in all of it but one part; 65,535 at most.
    ways: uint16[PARTS + 1, PAIRS rows], after how many different tokens before
      the context.
    discounts: float32[longest + 1, 3], by the length of a context, for counts
      of 1, 2 and more.

  Example:
    >>> tables = count_ngrams(np.array([0, 1, 0, 1, 1]), 2, longest=1, rows=4)
    >>> int(tables['seen'][0].sum())  # 5 tokens and 4 pairs
    9

  References:
    Chen and Goodman, 1999. https://doi.org/10.1006/csla.1999.0128
  """
  tokens = np.asarray(tokens)
  known = tokens.astype(np.uint32) + np.uint32(1)
  parts = np.arange(len(tokens)) * PARTS // len(tokens)
  names = [np.full(len(tokens), ROOT)]
  for k in range(1, longest + 1):
    names.append(mix(names[-1][1:], known[: len(known) - k], k))

  def count_after(k: int) -> _Order:
    return _count_after(names[k], tokens[k:], parts[k:], vocab_size)

  # Sorting is most of it, and NumPy sorts in several threads at once.
  with futures.ThreadPoolExecutor() as pool:
    orders = list(pool.map(count_after, range(longest + 1)))
    pairs = itertools.pairwise(orders)
    ways = list(pool.map(lambda pair: _count_ways(*pair), pairs))
  seen = [order.seen for order in orders]
  discounts = [_discounts(x[0]) for x in [*ways, seen[-1]]]
  ways.append(np.zeros_like(seen[-1]))
  return {
    **_tables(orders, seen, ways, vocab_size, rows),
    'discounts': np.array(discounts, np.float32),
  }


def apart(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """What of a model's parameters is learned, and what was counted.

  Example:
    >>> apart({'embed': 1, 'counts': 2})
    ({'embed': 1}, {'counts': 2})
  """
  learned = {name: x for name, x in params.items() if name != COUNTS}
  return learned, {name: x for name, x in params.items() if name == COUNTS}


class _Order(NamedTuple):
  """Contexts of k tokens.

  Attributes:
    contexts: uint32[C], their names.
    row: int[P], of each pair of a context and a follower, the context.
    token: int[P], the follower; pairs are in the order of row and token.
    pair: int[n - k], the pair at each place of the text from k on.
    place: int[P], a place of each pair.
    seen: int[PARTS + 1, P].
  """

  contexts: np.ndarray
  row: np.ndarray
  token: np.ndarray
  pair: np.ndarray
  place: np.ndarray
  seen: np.ndarray


def _count_after(
  names: np.ndarray, tokens: np.ndarray, parts: np.ndarray, vocab_size: int
) -> _Order:
  # One sort by both, in place of one for contexts and one for pairs.
  both = names.astype(np.uint64) * np.uint64(vocab_size) + tokens.astype(
    np.uint64
  )
  pairs, place, pair = np.unique(both, return_index=True, return_inverse=True)
  contexts, row = np.unique(names[place], return_inverse=True)
  of_parts = np.bincount(
    parts * len(pairs) + pair, minlength=PARTS * len(pairs)
  ).reshape(PARTS, len(pairs))
  whole = of_parts.sum(0, keepdims=True)
  seen = np.concatenate([whole, whole - of_parts])
  return _Order(contexts, row, tokens[place], pair, place, seen)


def _count_ways(shorter: _Order, longer: _Order) -> np.ndarray:
  """How many longer contexts each pair of a shorter one is seen in."""
  # A place counts from the end of its context: one token more, one place less.
  within = shorter.pair[longer.place + 1]
  return np.stack(
    [
      np.bincount(within[seen > 0], minlength=len(shorter.row))
      for seen in longer.seen
    ]
  )


def _tables(
  orders: list[_Order],
  seen: list[np.ndarray],
  ways: list[np.ndarray],
  vocab_size: int,
  rows: int,
) -> dict[str, np.ndarray]:
  """The most frequent contexts, by their names."""
  contexts = np.concatenate([order.contexts for order in orders])
  starts = np.cumsum([0, *(len(order.contexts) for order in orders)])
  row = np.concatenate([o.row + start for o, start in zip(orders, starts)])
  token = np.concatenate([order.token for order in orders])
  size = len(contexts)
  # Stable: of two that are as frequent, the shorter.
  often = np.bincount(row, np.concatenate([x[0] for x in seen]), size)
  kept = np.argsort(-often, kind='stable')[:rows]
  followed = np.bincount(row, minlength=size)
  kept = kept[np.cumsum(followed[kept]) <= PAIRS * rows]
  kept = kept[np.argsort(contexts[kept], kind='stable')]
  # Pairs in the order of the contexts that are kept.
  first = np.cumsum(followed) - followed
  ends = np.cumsum(followed[kept])
  pairs = np.arange(followed[kept].sum()) + np.repeat(
    first[kept] - ends + followed[kept], followed[kept]
  )
  where = np.repeat(np.arange(len(kept)), followed[kept])
  words = -(-vocab_size // 32)
  bits = np.bincount(
    where * words + token[pairs] // 32,
    2.0 ** (token[pairs] % 32),
    rows * words,
  )
  unused = (0, rows - len(kept))
  return {
    'contexts': np.pad(contexts[kept], unused, constant_values=_UNUSED),
    'first': np.pad(ends - followed[kept], unused).astype(np.int32),
    'followers': bits.astype(np.uint32).reshape(rows, words),
    'seen': _pick(seen, pairs, PAIRS * rows),
    'ways': _pick(ways, pairs, PAIRS * rows),
  }


def _pick(counts: list[np.ndarray], pairs: np.ndarray, size: int) -> np.ndarray:
  table = np.zeros((PARTS + 1, size), np.uint16)
  for i, of_part in enumerate(zip(*counts)):
    joined = np.minimum(np.concatenate(of_part), _MOST)
    table[i, : len(pairs)] = joined[pairs]
  return table


def _discounts(counts: np.ndarray) -> list[float]:
  """Of counts 1, 2 and more, as Chen and Goodman estimate them."""
  of = np.bincount(counts, minlength=5)[1:5].astype(float)
  if not (of > 0).all():
    return [_DISCOUNT] * 3
  y = of[0] / (of[0] + 2 * of[1])
  made = [k - (k + 1) * y * of[k] / of[k - 1] for k in (1, 2, 3)]
  return np.clip(made, 0, (1, 2, 3)).tolist()
