"""How good translations are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU

Words = Sequence[str]
Links = frozenset[tuple[int, int]]

# A source word is linked to if it gets this part of what the favourite gets.
_LINKED = 0.5


def exact_match(written: Sequence[Words], wanted: Sequence[Words]) -> float:
  """Share of translations that are right to the last word.

  Args:
    written: Translations.
    wanted: The right ones.

  Returns:
    In [0, 1]; NaN if there are none.

  Example:
    >>> exact_match([('a', 'cat'), ('dogs',)], [('a', 'cat'), ('a', 'dog')])
    0.5
  """
  if not wanted:
    return float('nan')
  same = [tuple(x) == tuple(y) for x, y in zip(written, wanted, strict=True)]
  return sum(same) / len(same)


def bleu(written: Sequence[Words], wanted: Sequence[Words]) -> float:
  """BLEU of a whole set, of tokens as they are, by sacrebleu.

  Args:
    written: Translations.
    wanted: The right ones.

  Returns:
    In [0, 100].

  References:
    Papineni et al., 2002. https://aclanthology.org/P02-1040
  """
  lines = [' '.join(words) for words in written]
  right = [' '.join(words) for words in wanted]
  metric = BLEU(tokenize='none', force=True)
  return float(metric.corpus_score(lines, [right]).score)


def links(weights: np.ndarray) -> Links:
  """Which words an alignment joins.

  A target word is joined to the source word that it looks at most, and to any
  that gets at least half as much: some words come from two.

  Args:
    weights: float[T, S].

  Returns:
    (source place, target place) pairs.

  Example:
    >>> sorted(links(np.array([[0.5, 0.4, 0.1], [0.1, 0.1, 0.8]])))
    [(0, 0), (1, 0), (2, 1)]
  """
  most = weights.max(-1, keepdims=True, initial=0)
  joined = (weights >= _LINKED * most) & (most > 0)
  return frozenset((int(s), int(t)) for t, s in np.argwhere(joined))


def alignment_error_rate(
  found: Sequence[Links], gold: Sequence[Links]
) -> float:
  """1 - 2 |found & gold| / (|found| + |gold|), over all sentences together.

  Target words that come from nowhere are left out.

  Args:
    found: (source place, target place) pairs of each sentence.
    gold: The right ones.

  Returns:
    In [0, 1]; 0 if there are none.

  References:
    Och and Ney, 2003, section 5. https://aclanthology.org/J03-1002

  Example:
    >>> alignment_error_rate([{(0, 0), (1, 1)}], [{(0, 0), (2, 1)}])
    0.5
  """
  common = total = 0
  for here, right in zip(found, gold, strict=True):
    aligned = {t for _, t in right}
    judged = {link for link in here if link[1] in aligned}
    common += len(judged & right)
    total += len(judged) + len(right)
  return 1 - 2 * common / total if total else 0.0


def by_length(
  lengths: Sequence[int], right: Sequence[bool], width: int
) -> list[dict[str, Any]]:
  """Exact match of sentences of about the same length.

  Args:
    lengths: Words of each source.
    right: Whether its translation is.
    width: How many lengths are taken together.

  Returns:
    {'words': middle length, 'exact_match': share, 'count': sentences} of each
    group that has any, the shortest first.
  """
  groups: dict[int, list[bool]] = {}
  for length, is_right in zip(lengths, right, strict=True):
    groups.setdefault(length // width, []).append(is_right)
  return [
    {
      'words': group * width + (width - 1) / 2,
      'exact_match': sum(members) / len(members),
      'count': len(members),
    }
    for group, members in sorted(groups.items())
  ]
