"""A sentence while it is written: German, and English that knows its origin."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

Option = TypeVar('Option')

# An English word, and the numbers of the German words that it comes from.
Linked = tuple[str, tuple[int, ...]]

VOWELS = 'aeiou'


class Phrase(NamedTuple):
  """A part of a sentence in both languages.

  Attributes:
    german: Numbers of words of the draft, in order.
    english: Words with the German ones that they come from, in order.
  """

  german: list[int]
  english: list[Linked]


class Draft:
  """Where words get their numbers, and choices are made.

  Word order is settled after words are: until then a German word is a number,
  and links point to numbers.

  Example:
    >>> draft = Draft(lambda: 0.5)
    >>> draft.write('ruft'), draft.write('an')
    (0, 1)
    >>> draft.pick(('heute', 'oft', 'immer'))
    'oft'
  """

  def __init__(self, random: Callable[[], float]) -> None:
    """Args: random draws from [0, 1)."""
    self.random = random
    self.words: list[str] = []
    # Commas that end a relative clause; before another mark there is none.
    self.closing: set[int] = set()

  def write(self, word: str) -> int:
    """A new German word; returns its number."""
    self.words.append(word)
    return len(self.words) - 1

  def pick(self, options: Sequence[Option]) -> Option:
    """One of the options, each as likely."""
    return options[int(self.random() * len(options))]

  def close(self) -> int:
    """The comma at the end of a relative clause."""
    comma = self.write(',')
    self.closing.add(comma)
    return comma

  def in_order(self, german: list[int]) -> list[int]:
    """The numbers without the commas that another mark swallows."""
    if not self.closing:
      return german
    return [
      number
      for number, following in zip(german, [*german[1:], -1])
      if number not in self.closing or self.words[following] not in ',.'
    ]
