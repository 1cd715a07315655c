"""Who tells and who reads the toy language: exact probabilities for both.

The trick: the same program writes and scores.  `_tell` in
`toy_language.py` is the grammar, and it speaks to a narrator in three words:

  say(text)              fixed text, probability 1
  choose(options)        one of some options, with a known probability
  recall(answer, among)  forced by the past, for a forgetful reader a guess

One narrator writes, and settles each choice by a random draw; another reads,
and settles it by looking at the text.  No option is a prefix of another, so
there is one way to read a text, and the probability of a character given all
before it is exact:

  p(c | prefix) = mass of options with prefix + c / mass of options with prefix

The mean of -log p over the characters is the entropy of the text: the floor
under the loss of any model.
"""

import abc
import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

Options = Sequence[str] | Mapping[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Story:
  """A story and what a reader who forgets nothing pays for it.

  Attributes:
    text: The story. It ends with a newline, the end-of-story character.
    nats: float64[len(text)]. -log p of each character given all before it in
      the story; their mean is the floor under any model's loss.
    branches: int8[len(text)]. 0, or at the first character that tells apart
      the candidates for a far fact, how many characters they leave open: a
      reader who knows the grammar but forgot the fact is right 1 time in so
      many.
  """

  text: str
  nats: np.ndarray
  branches: np.ndarray

  @property
  def far(self) -> np.ndarray:
    """bool[len(text)]: where a character is forced by a far fact."""
    return self.branches > 0


class Narrator(Protocol):
  """Whoever the grammar speaks to."""

  def say(self, text: str) -> None:
    """Fixed text."""
    ...

  def choose(self, options: Options) -> str:
    """One of the options (uniform, or text -> probability), returned."""
    ...

  def recall(self, answer: str, among: tuple[str, ...]) -> None:
    """Text forced by a far fact; without the fact, any of the candidates."""
    ...


class _Choice(NamedTuple):
  """What there is to know about a set of options, computed once."""

  options: tuple[str, ...]
  cumulative: tuple[float, ...]
  nats: dict[str, tuple[float, ...]]


def _choice(options: Options) -> _Choice:
  if isinstance(options, Mapping):
    return _weighted(tuple(options), tuple(options.values()))
  return _uniform(tuple(options))


@functools.cache
def _uniform(options: tuple[str, ...]) -> _Choice:
  return _weighted(options, (1 / max(len(options), 1),) * len(options))


@functools.cache
def _weighted(options: tuple[str, ...], masses: tuple[float, ...]) -> _Choice:
  _check_prefix_free(options)
  if min(masses) <= 0 or not math.isclose(math.fsum(masses), 1):
    raise ValueError(f'options must have probabilities, got {masses}')

  def mass(prefix: str) -> float:
    pairs = zip(options, masses)
    return math.fsum(m for option, m in pairs if option.startswith(prefix))

  nats = {
    option: tuple(
      math.log(mass(option[:i]) / mass(option[: i + 1]))
      for i in range(len(option))
    )
    for option in options
  }
  return _Choice(options, tuple(itertools.accumulate(masses)), nats)


def _check_prefix_free(options: tuple[str, ...]) -> None:
  if not options:
    raise ValueError('options must not be empty')
  # Sorted, a prefix stands directly before a text that continues it.
  for short, long in itertools.pairwise(sorted(options)):
    if long.startswith(short):
      raise ValueError(f'options must be prefix-free, got {short!r}, {long!r}')


@functools.cache
def _branches(answer: str, among: tuple[str, ...]) -> tuple[int, ...]:
  """How many characters the candidates leave open, 0 where only one."""
  _check_prefix_free(among)
  if answer not in among:
    raise ValueError(f'answer must be one of {among}, got {answer!r}')
  ways = [
    len({word[i] for word in among if word.startswith(answer[:i])})
    for i in range(len(answer))
  ]
  return tuple(n if n > 1 else 0 for n in ways)


class _Recorder(abc.ABC):
  """The half of a narrator that writers and readers share: the books."""

  def __init__(self) -> None:
    self._text: list[str] = []
    self._nats: list[float] = []
    self._branches: list[int] = []

  def say(self, text: str) -> None:
    """See `Narrator`."""
    self._record(text, (0.0,) * len(text), (0,) * len(text))

  def choose(self, options: Options) -> str:
    """See `Narrator`."""
    choice = _choice(options)
    text = self._pick(choice)
    self._record(text, choice.nats[text], (0,) * len(text))
    return text

  def recall(self, answer: str, among: tuple[str, ...]) -> None:
    """See `Narrator`."""
    self._record(answer, (0.0,) * len(answer), _branches(answer, among))

  def story(self) -> Story:
    """What was told so far."""
    return Story(
      ''.join(self._text),
      np.array(self._nats, np.float64),
      np.array(self._branches, np.int8),
    )

  @abc.abstractmethod
  def _pick(self, choice: _Choice) -> str:
    """Settle a choice."""

  def _record(
    self, text: str, nats: tuple[float, ...], branches: tuple[int, ...]
  ) -> None:
    self._text.append(text)
    self._nats.extend(nats)
    self._branches.extend(branches)


class Writer(_Recorder):
  """Settles a choice by a random draw."""

  def __init__(self, rng: np.random.Generator) -> None:
    super().__init__()
    self._rng = rng

  def _pick(self, choice: _Choice) -> str:
    # The last bound is 1 up to rounding: a draw beyond it is its option's.
    bounds = choice.cumulative[:-1]
    return choice.options[bisect.bisect_right(bounds, self._rng.random())]


class Reader(_Recorder):
  """Settles a choice by what the text says."""

  def __init__(self, text: str) -> None:
    super().__init__()
    self._source = text

  def finish(self) -> None:
    """Refuse a text that goes on after the story."""
    position = len(self._nats)
    if position != len(self._source):
      raise ValueError(
        f'text is not a story: at position {position} expected its end, '
        f'got {self._source[position : position + 20]!r}'
      )

  def _pick(self, choice: _Choice) -> str:
    for option in choice.options:
      if self._source.startswith(option, len(self._nats)):
        return option
    raise self._refusal(choice.options)

  def _record(
    self, text: str, nats: tuple[float, ...], branches: tuple[int, ...]
  ) -> None:
    if not self._source.startswith(text, len(self._nats)):
      raise self._refusal((text,))
    super()._record(text, nats, branches)

  def _refusal(self, options: tuple[str, ...]) -> ValueError:
    rest = self._source[len(self._nats) :]
    agreed = max(_common(option, rest) for option in options)
    ends = [
      option[agreed:] for option in options if option[:agreed] == rest[:agreed]
    ]
    return ValueError(
      f'text is not a story: at position {len(self._nats) + agreed} expected '
      f'{"one of " * (len(ends) > 1)}{", ".join(map(repr, ends))}, '
      f'got {rest[agreed : agreed + 20]!r}'
    )


def _common(one: str, other: str) -> int:
  """Length of the prefix that two texts share."""
  pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other))
  return sum(1 for _ in pairs)


class Surveyor:
  """Hears every word that might be said, and counts the longest."""

  def __init__(self, rng: np.random.Generator) -> None:
    self.characters: set[str] = set()
    self.length = 0
    self._rng = rng

  def say(self, text: str) -> None:
    """See `Narrator`."""
    self.recall(text, (text,))

  def choose(self, options: Options) -> str:
    """See `Narrator`."""
    words = tuple(options)
    self.recall(words[0], words)
    return words[self._rng.integers(len(words))]

  def recall(self, answer: str, among: tuple[str, ...]) -> None:
    """See `Narrator`."""
    self.characters.update(answer, *among)
    self.length += max(map(len, among))
