"""Text as it is produced: whole characters, and nothing of what ends it."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

# What a decoder writes in place of half a character.
_BROKEN = '\ufffd'


def stream_text(
  tokens: Iterable[np.ndarray],
  decode: Callable[[Sequence[int]], str],
  stops: Sequence[str] = (),
) -> Iterator[str]:
  """Decode tokens as they come.

  Args:
    tokens: int[n], a few at a time.
    decode: All tokens so far -> text.
    stops: The text ends before the first of these; none is empty.

  Yields:
    Pieces of the text.  What might become a stop, or another character, is
    held back until it is decided.

  Example:
    >>> pieces = [np.array([7, 8]), np.array([0, 9])]
    >>> list(stream_text(pieces, lambda x: ''.join(map(str, x)), ['09']))
    ['78']
  """
  seen: list[int] = []
  said = ''
  for piece in tokens:
    seen += piece.tolist()
    text = decode(seen)
    ends = [text.find(stop) for stop in stops]
    end = min((end for end in ends if end >= 0), default=None)
    if end is not None:
      if text[len(said) : end]:
        yield text[len(said) : end]
      return
    text = text[: len(text) - _undecided(text, stops)]
    if len(text) > len(said):
      yield text[len(said) :]
      said = text
  rest = decode(seen)[len(said) :]
  if rest:
    yield rest


def until(
  tokens: Iterable[np.ndarray], ends: Sequence[int]
) -> Iterator[np.ndarray]:
  """Tokens up to the first that ends a text, which is left out.

  Example:
    >>> [x.tolist() for x in until([np.array([7, 8]), np.array([9, 7])], [9])]
    [[7, 8], []]
  """
  for piece in tokens:
    found = np.flatnonzero(np.isin(piece, ends))
    if len(found):
      yield piece[: found[0]]
      return
    yield piece


def _undecided(text: str, stops: Sequence[str]) -> int:
  """How many characters at the end may change or begin a stop."""
  whole = text.rstrip(_BROKEN)
  longest = max(map(len, stops), default=1) - 1
  for length in range(min(longest, len(whole)), 0, -1):
    if any(stop.startswith(whole[-length:]) for stop in stops):
      return len(text) - len(whole) + length
  return len(text) - len(whole)
