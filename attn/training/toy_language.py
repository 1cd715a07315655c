"""A toy language whose best possible loss is known: nonsense with a memory.

    Nora hugs a drum. And Rob naps in town. She hums (where is Rob? In town,
    who has the drum? Nora!) We miss Nora.

Each story is short, original and drawn at random, and its later words depend
on earlier ones far away: the pronoun on the first name, the closing bracket on
the opening one, every answer on the facts.  Whoever remembers them is certain;
whoever does not has to guess.

The same program, `_tell`, writes the stories and scores them: `narrators.py`
says how.
"""

import functools
from typing import NamedTuple

import numpy as np

from attn.training.narrators import Narrator, Reader, Story, Surveyor, Writer

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
  writer = Writer(rng)
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
  reader = Reader(text)
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


def _tell(narrator: Narrator) -> None:
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


def _ask(narrator: Narrator, facts: tuple[_Fact, _Fact]) -> None:
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


@functools.cache
def _survey() -> tuple[str, int]:
  """The alphabet, and a bound on the length."""
  # Every word of a class is counted on every walk, so the walks need to meet
  # only each shape of story: two kinds of hero, one or two questions, four
  # ways to ask.
  rng = np.random.default_rng(0)
  walks = [Surveyor(rng) for _ in range(1000)]
  for surveyor in walks:
    _tell(surveyor)
  characters = set().union(*(surveyor.characters for surveyor in walks))
  return ''.join(sorted(characters)), max(walk.length for walk in walks)
