"""A toy language whose best possible loss is known: nonsense with a memory.

    Nora hugs a drum. And Rob naps in town. She hums (where is Rob? In town,
    who has the drum? Nora!) We miss Nora.

Each story is short, original and drawn at random, and its later words depend
on earlier ones far away: the pronoun on the first name, the closing bracket on
the opening one, every answer on the facts.  Whoever remembers them is certain;
whoever does not has to guess.

The trick: the same program writes and scores.  `_tell` is the grammar, and it
speaks to a narrator in three words:

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

import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

# The words of a class that is recalled differ in their first letters, so a
# fact is remembered, or not, at one character.
_PRONOUNS = {
  **dict.fromkeys(('Emma', 'Lea', 'Mia', 'Nora'), 'She'),
  **dict.fromkeys(('Ben', 'Dan', 'Rob', 'Tom'), 'He'),
}
_NAMES = tuple(_PRONOUNS)
_THINGS = ('bun', 'cup', 'drum', 'hat', 'kite', 'map', 'pie', 'wig')
_PLACES = ('bed', 'fog', 'hay', 'love', 'mud', 'rain', 'space', 'town')
_HOLDS = ('bites', 'drops', 'hides', 'hugs', 'kicks', 'licks', 'rubs', 'tugs')
_STAYS = ('naps', 'sings', 'sits', 'waits')
_OPENINGS = {' asks "': '"', ' hums (': ')', ' reads [': ']'}
_FAREWELLS = ('We hug ', 'We love ', 'We miss ')

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


def write_story(rng: np.random.Generator) -> Story:
  """Draws a story.

  Args:
    rng: The only source of chance.

  Returns:
    A story of the language, with the probability it was drawn with.

  Example:
    >>> print(write_story(np.random.default_rng(4)).text, end='')
    Tom naps in town. And Emma kicks a hat. He reads [where is Tom? In town!] \
We love Tom.
  """
  writer = _Writer(rng)
  _tell(writer)
  return writer.story()


def score_story(text: str) -> Story:
  """Reads a story, and says what each of its characters costs.

  Args:
    text: A whole story, with its final newline.

  Returns:
    The story: what `write_story` returned if it wrote this text.

  Raises:
    ValueError: if the text is not a story, with the position of the first
      character that no story could have there, and what one could have.

  Example:
    >>> story = write_story(np.random.default_rng(4))
    >>> bool((score_story(story.text).nats == story.nats).all())
    True
    >>> score_story('Mia hugs a dog.')
    Traceback (most recent call last):
      ...
    ValueError: text is not a story: at position 12 expected 'rum', got 'og.'
  """
  reader = _Reader(text)
  _tell(reader)
  reader.finish()
  return reader.story()


def stories(seed: int, first: int, count: int) -> list[Story]:
  """Stories number first to first + count - 1 of a seed.

  Args:
    seed: Names an endless sequence of stories; at least 0.
    first: The number of the first story wanted; at least 0.
    count: How many; at least 0.

  Returns:
    The stories. Story i of a seed is the same whatever the range asked for.

  Raises:
    ValueError: if an argument is negative.

  Example:
    >>> stories(0, 5, 2)[1].text == stories(0, 6, 1)[0].text
    True
  """
  for name, value in (('seed', seed), ('first', first), ('count', count)):
    if value < 0:
      raise ValueError(f'{name} must be at least 0, got {value}')
  return [
    write_story(np.random.default_rng([seed, i]))
    for i in range(first, first + count)
  ]


def alphabet() -> str:
  r"""Every character that a story may contain, sorted, each once.

  Returns:
    The characters, the newline first.

  Example:
    >>> len(alphabet()), alphabet()[:4]
    (46, '\n !"')
  """
  return _survey()[0]


def longest_story() -> int:
  """A length that no story exceeds, its newline included.

  Returns:
    The length.

  Example:
    >>> longest_story() < 256
    True
  """
  return _survey()[1]


class _Fact(NamedTuple):
  """What a story says of somebody: what they have, or where they are."""

  name: str
  word: str

  @property
  def questions(self) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Question → answer, and what a forgetful reader might answer."""
    if self.word in _THINGS:
      return {
        f'what has {self.name}? A ': (self.word, _THINGS),
        f'who has the {self.word}? ': (self.name, _NAMES),
      }
    return {
      f'where is {self.name}? In ': (self.word, _PLACES),
      f'who is in {self.word}? ': (self.name, _NAMES),
    }


def _tell(narrator: '_Narrator') -> None:
  """The grammar: tells one story to the narrator."""
  hero = narrator.choose(_NAMES)
  holds = {f' {verb} a ': 0.5 / len(_HOLDS) for verb in _HOLDS}
  stays = {f' {verb} in ': 0.5 / len(_STAYS) for verb in _STAYS}
  has = narrator.choose(holds | stays) in holds
  first = _Fact(hero, narrator.choose(_THINGS if has else _PLACES))
  narrator.say('. And ')
  friend = narrator.choose(tuple(name for name in _NAMES if name != hero))
  # The friend has a fact of the other kind: no story has two of a kind.
  narrator.choose(tuple(stays if has else holds))
  second = _Fact(friend, narrator.choose(_PLACES if has else _THINGS))
  narrator.say('. ')
  narrator.recall(_PRONOUNS[hero], ('She', 'He'))
  closing = _OPENINGS[narrator.choose(tuple(_OPENINGS))]
  _ask(narrator, (first, second))
  narrator.recall(closing, tuple(_OPENINGS.values()))
  narrator.say(' ')
  narrator.choose(_FAREWELLS)
  narrator.recall(hero, _NAMES)
  narrator.say('.\n')


def _ask(narrator: '_Narrator', facts: tuple[_Fact, _Fact]) -> None:
  """One or two questions, each about another fact, and their answers."""
  asked = narrator.choose([q for fact in facts for q in fact.questions])
  (fact,) = (fact for fact in facts if asked in fact.questions)
  narrator.recall(*fact.questions[asked])
  if narrator.choose((', ', '!')) == '!':
    return
  (other,) = (other for other in facts if other is not fact)
  asked = narrator.choose(tuple(other.questions))
  narrator.recall(*other.questions[asked])
  narrator.say('!')


class _Narrator(Protocol):
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


class _Recorder:
  """The half of a narrator that writers and readers share: the books."""

  def __init__(self) -> None:
    self._text: list[str] = []
    self._nats: list[float] = []
    self._branches: list[int] = []

  def say(self, text: str) -> None:
    self._record(text, (0.0,) * len(text), (0,) * len(text))

  def choose(self, options: Options) -> str:
    choice = _choice(options)
    text = self._pick(choice)
    self._record(text, choice.nats[text], (0,) * len(text))
    return text

  def recall(self, answer: str, among: tuple[str, ...]) -> None:
    self._record(answer, (0.0,) * len(answer), _branches(answer, among))

  def story(self) -> Story:
    return Story(
      ''.join(self._text),
      np.array(self._nats, np.float64),
      np.array(self._branches, np.int8),
    )

  def _pick(self, choice: _Choice) -> str:
    raise NotImplementedError

  def _record(
    self, text: str, nats: tuple[float, ...], branches: tuple[int, ...]
  ) -> None:
    self._text.append(text)
    self._nats.extend(nats)
    self._branches.extend(branches)


class _Writer(_Recorder):
  """Settles a choice by a random draw."""

  def __init__(self, rng: np.random.Generator) -> None:
    super().__init__()
    self._rng = rng

  def _pick(self, choice: _Choice) -> str:
    # The last bound is 1 up to rounding: a draw beyond it is its option's.
    bounds = choice.cumulative[:-1]
    return choice.options[bisect.bisect_right(bounds, self._rng.random())]


class _Reader(_Recorder):
  """Settles a choice by what the text says."""

  def __init__(self, text: str) -> None:
    super().__init__()
    self._source = text

  def finish(self) -> None:
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


class _Surveyor:
  """Hears every word that might be said, and counts the longest."""

  def __init__(self, rng: np.random.Generator) -> None:
    self.characters: set[str] = set()
    self.length = 0
    self._rng = rng

  def say(self, text: str) -> None:
    self.recall(text, (text,))

  def choose(self, options: Options) -> str:
    words = tuple(options)
    self.recall(words[0], words)
    return words[self._rng.integers(len(words))]

  def recall(self, answer: str, among: tuple[str, ...]) -> None:
    self.characters.update(answer, *among)
    self.length += max(map(len, among))


@functools.cache
def _survey() -> tuple[str, int]:
  """The alphabet, and a bound on the length."""
  # Every word of a class is counted on every walk, so the walks need to meet
  # only each shape of story: two kinds of hero, one or two questions, four
  # ways to ask.
  rng = np.random.default_rng(0)
  walks = [_Surveyor(rng) for _ in range(1000)]
  for surveyor in walks:
    _tell(surveyor)
  characters = set().union(*(surveyor.characters for surveyor in walks))
  return ''.join(sorted(characters)), max(walk.length for walk in walks)
