"""A sequence, what it becomes, and which part comes from which."""

from typing import NamedTuple


class Pair(NamedTuple):
  """A source and its translation.

  Attributes:
    source: Its tokens: words and marks, or the characters of a date.
    target: The translation's.
    alignment: Gold links (source place, target place), counted from 0, without
      an end-of-sequence token; a place may have several links or none. None
      where nobody knows them.

  Example:
    >>> pair = Pair(('Hunde', 'singen'), ('dogs', 'sing'), frozenset({(0, 0)}))
    >>> [(pair.source[s], pair.target[t]) for s, t in pair.alignment]
    [('Hunde', 'dogs')]
  """

  source: tuple[str, ...]
  target: tuple[str, ...]
  alignment: frozenset[tuple[int, int]] | None
