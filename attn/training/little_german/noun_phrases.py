"""Noun phrases: gender, number and case; articles and adjective endings."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from attn.training.little_german import lexicon
from attn.training.little_german.drafts import VOWELS, Draft, Phrase

# Determiners, as often as they are drawn.
_SINGULAR = ('the',) * 10 + ('a',) * 5 + ('my',) * 3
_PLURAL = ('the',) * 10 + ('my',) * 3 + ('two', 'three')
_PLURALS, _NO = 0.3, 0.05


class Relative(Protocol):
  """A clause that belongs to a noun."""

  def write(self, draft: Draft) -> Phrase:
    """The clause with its commas."""
    ...


@dataclasses.dataclass(slots=True)
class NounPhrase:
  """What a noun phrase will be.

  Attributes:
    case: nominative, accusative or dative.
    noun: The noun; None for a pronoun.
    kind: person, animal, thing or place.
    plural: Its number.
    determiner: In English: the, a, my, no, two, three.
    adjectives: Stems, in order.
    relative: The clause that follows, or None.
    pronoun: German and English, if it is one.
  """

  case: str
  noun: lexicon.Noun | None
  kind: str = 'person'
  plural: bool = False
  determiner: str = 'the'
  adjectives: list[str] = dataclasses.field(default_factory=list)
  relative: Relative | None = None
  pronoun: tuple[str, str] = ('', '')

  @property
  def slot(self) -> str:
    """m, f or n, or p for any plural."""
    assert self.noun is not None
    return 'p' if self.plural else self.noun.gender

  @property
  def is_definite(self) -> bool:
    """Whether `nicht` may stand after it."""
    return self.noun is None or self.determiner in ('the', 'my')

  @property
  def shows_case(self) -> bool:
    """Whether nobody could take it for a subject."""
    return (
      self.noun is not None
      and not self.plural
      and self.noun.gender in ('m' if self.case == 'accusative' else 'mn')
    )

  def words_with(self, preposition: str) -> int:
    """German words of preposition, article and noun: 2 if `im` or `ins`."""
    key = (self.determiner, self.case, self.slot)
    return 3 - ((preposition, lexicon.DETERMINERS[key][0]) in _FUSED)

  def write(self, draft: Draft, preposition: str = '') -> Phrase:
    """The phrase, after a preposition if one is given.

    Args:
      draft: Where its words go.
      preposition: German: in, mit, hinter.

    Returns:
      The phrase; `in dem` is `im`, `in das` is `ins`.
    """
    if self.noun is None:
      number = draft.write(self.pronoun[0])
      return Phrase([number], [(self.pronoun[1], (number,))])
    word, ending = lexicon.DETERMINERS[self.determiner, self.case, self.slot]
    german, english = self._write_opening(draft, preposition, word)
    said = [lexicon.ADJECTIVES[stem] for stem in self.adjectives]
    said.append(self.noun.english_plural if self.plural else self.noun.english)
    article = self.determiner
    if article == 'a' and said[0][0] in VOWELS:
      article = 'an'
    english.append((article, (german[-1],)))
    words = [stem + ending for stem in self.adjectives]
    words.append(self._german_noun(self.noun))
    for word, translation in zip(words, said):
      number = draft.write(word)
      german.append(number)
      english.append((translation, (number,)))
    if self.relative is not None:
      clause = self.relative.write(draft)
      german += clause.german
      english += clause.english
    return Phrase(german, english)

  def _write_opening(
    self, draft: Draft, preposition: str, article: str
  ) -> Phrase:
    """Preposition and article; in English the preposition alone."""
    if not preposition:
      return Phrase([draft.write(article)], [])
    fused = _FUSED.get((preposition, article))
    german = [draft.write(fused or preposition)]
    if not fused:
      german.append(draft.write(article))
    into = preposition == 'in' and self.case == 'accusative'
    english = 'into' if into else _PREPOSITIONS[preposition]
    return Phrase(german, [(english, (german[0],))])

  def _german_noun(self, noun: lexicon.Noun) -> str:
    if not self.plural:
      return noun.singular
    return noun.dative_plural if self.case == 'dative' else noun.plural


_PREPOSITIONS = {'in': 'in', 'hinter': 'behind', 'mit': 'with'}
_FUSED = {('in', 'dem'): 'im', ('in', 'das'): 'ins'}


def draw_noun_phrase(
  draft: Draft, case: str, kinds: tuple[str, ...], *, may_be_no: bool = False
) -> NounPhrase:
  """A noun with its determiner, no adjective yet.

  Args:
    draft: Makes the choices.
    case: nominative, accusative or dative.
    kinds: Of nouns.
    may_be_no: Whether it may be `kein`.

  Returns:
    The phrase. Places are singular.
  """
  kind = draft.pick(kinds)
  noun = draft.pick(lexicon.NOUNS[kind])
  plural = kind != 'place' and draft.random() < _PLURALS
  if may_be_no and draft.random() < _NO:
    determiner = 'no'
  else:
    determiner = draft.pick(_PLURAL if plural else _SINGULAR)
  return NounPhrase(case, noun, kind, plural, determiner)


def draw_pronoun(draft: Draft, case: str) -> NounPhrase:
  """A pronoun.

  Args:
    draft: Makes the choice.
    case: nominative, accusative or dative.

  Returns:
    The phrase.
  """
  if case == 'nominative':
    german, english, plural = draft.pick(lexicon.SUBJECT_PRONOUNS)
  else:
    german, english = draft.pick(lexicon.OBJECT_PRONOUNS[case])
    plural = False
  return NounPhrase(case, None, plural=plural, pronoun=(german, english))
