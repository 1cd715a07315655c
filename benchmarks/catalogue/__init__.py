"""What the gallery shows: one function for each way of attending.

The body of each function is what the page prints, what is drawn, measured and
tested; so they take their arguments without a word on types.
"""

from benchmarks.catalogue import (
  changes,
  distances,
  lines,
  pictures,
  texts,
  weights,
)
from benchmarks.catalogue.entry import Entry, Size, gather

# By the heading that they stand under, in the order of the page.
SUBJECTS: dict[str, tuple[Entry, ...]] = {
  'Masks along a line': gather(lines),
  'Masks of texts': gather(texts),
  'Masks of pictures and graphs': gather(pictures),
  'Scores changed by distance': gather(distances),
  'Scores changed otherwise': gather(changes),
  'Other weights': gather(weights),
}

ENTRIES: dict[str, Entry] = {
  entry.name: entry for entries in SUBJECTS.values() for entry in entries
}

__all__ = ['ENTRIES', 'SUBJECTS', 'Entry', 'Size']
