"""Clauses: where German puts its words, and where English does.

    German  second    front  finite  subject  middle  rest of the verb
            inverted         finite  subject  middle  rest of the verb
            final                    subject  middle  rest of the verb  finite
            zu                                middle  infinitive with zu
    middle  pronoun object, time, frequency, dative, accusative, nicht, manner,
            companion, place
    English front  subject  auxiliary  not  frequency  verb  objects  manner
            companion  place  time

The front of a clause with its verb in second place is its subject, its time,
its place, or an object which shows by its case that it is none of these.
"""

from __future__ import annotations

import dataclasses

from attn.training.little_german import lexicon
from attn.training.little_german.drafts import Draft, Linked, Phrase
from attn.training.little_german.noun_phrases import NounPhrase


@dataclasses.dataclass(slots=True)
class Clause:
  """What a clause will be.

  Attributes:
    verb: The verb.
    tense: present, past, perfect, modal, or zu (none).
    order: second, inverted, final or zu.
    subject: None where a relative pronoun is it, or nobody.
    plural: Whether the subject is.
    modal: Singular and plural, if the tense is modal.
    dative: An object, or None.
    accusative: An object, or None.
    negated: Whether `nicht` stands in it.
    time: German words; () for none.
    frequency: German word, or ''.
    manner: German word, or ''.
    companion: Whom it is done with, or None.
    place: Where, or into what; or None.
    preposition: Of the place.
    front: What stands first in order second: subject, time, place, dative or
      accusative.
  """

  verb: lexicon.Verb
  tense: str
  order: str
  subject: NounPhrase | None
  plural: bool
  modal: tuple[str, str] = ('', '')
  dative: NounPhrase | None = None
  accusative: NounPhrase | None = None
  negated: bool = False
  time: tuple[str, ...] = ()
  frequency: str = ''
  manner: str = ''
  companion: NounPhrase | None = None
  place: NounPhrase | None = None
  preposition: str = 'in'
  front: str = 'subject'

  def write(self, draft: Draft) -> Phrase:
    """The clause, without commas and conjunction."""
    parts = self._write_parts(draft)
    verb = _write_verb(self, draft)
    middle: list[int] = []
    for name in self._middle():
      if name in parts:
        middle += parts[name].german
    if self.order == 'second':
      german = [*parts[self.front].german, verb.finite, *middle, *verb.right]
    elif self.order == 'inverted':
      german = [verb.finite, *middle, *verb.right]
    elif self.order == 'final':
      german = [*middle, *verb.right, verb.finite]
    else:
      german = [*middle, *verb.right]
    return Phrase(german, self._in_english(parts, verb))

  def _write_parts(self, draft: Draft) -> dict[str, Phrase]:
    """All but the verb, by name."""
    parts: dict[str, Phrase] = {}
    if self.subject is not None:
      parts['subject'] = self.subject.write(draft)
    if self.dative is not None:
      parts['dative'] = self.dative.write(draft)
    if self.accusative is not None:
      parts['accusative'] = self.accusative.write(draft)
    if self.time:
      german = [draft.write(word) for word in self.time]
      said = lexicon.TIMES[self.time][0]
      english = [(word, (n,)) for word, n in zip(said, german)]
      parts['time'] = Phrase(german, english)
    for name, word, said in (
      ('frequency', self.frequency, lexicon.FREQUENCIES),
      ('manner', self.manner, lexicon.MANNERS),
      ('nicht', 'nicht' * self.negated, _NOT),
    ):
      if word:
        number = draft.write(word)
        parts[name] = Phrase([number], [(said[word], (number,))])
    if self.companion is not None:
      parts['companion'] = self.companion.write(draft, 'mit')
    if self.place is not None:
      parts['place'] = self.place.write(draft, self.preposition)
    return parts

  def _middle(self) -> list[str]:
    """Names of what stands between the two places of the verb."""
    names: list[str] = list(_MIDDLE)
    for name, phrase in (
      ('dative', self.dative),
      ('accusative', self.accusative),
    ):
      if phrase is not None and phrase.noun is None:
        names.remove(name)
        names.insert(1, name)
    if self.order == 'second':
      names.remove(self.front)
    return names

  def _in_english(
    self, parts: dict[str, Phrase], verb: _WrittenVerb
  ) -> list[Linked]:
    english: list[Linked] = []
    if self.front in ('time', 'place'):
      english += parts.pop(self.front).english
    said = {name: phrase.english for name, phrase in parts.items()}
    english += said.get('subject', ())
    frequency = said.get('frequency', ())
    if len(verb.auxiliary) > 1:  # often wants to see, but can often see
      english += [*frequency, *verb.auxiliary, verb.main]
    else:
      english += verb.auxiliary
      english += [*said.get('nicht', ()), *frequency, verb.main]
    objects = [*said.get('dative', ()), *said.get('accusative', ())]
    last = self.accusative
    is_pronoun = last is not None and last.noun is None
    if is_pronoun and self.verb.rest_moves:  # calls him up
      english += [*objects, *verb.rest]
    else:
      english += [*verb.rest, *objects]
    for name in ('manner', 'companion', 'place', 'time'):
      english += said.get(name, ())
    return english


_NOT = {'nicht': 'not'}
_MIDDLE = (
  'subject',
  'time',
  'frequency',
  'dative',
  'accusative',
  'nicht',
  'manner',
  'companion',
  'place',
)


@dataclasses.dataclass(slots=True)
class RelativeClause:
  """A clause that says something of a noun.

  Attributes:
    clause: The clause, in order final, without what the pronoun stands for.
    pronoun: Its first word: der, die, das, den, dem, denen.
    english: who or that.
  """

  clause: Clause
  pronoun: str
  english: str

  def write(self, draft: Draft) -> Phrase:
    """The clause between its commas."""
    opening = [draft.write(','), draft.write(self.pronoun)]
    clause = self.clause.write(draft)
    return Phrase(
      [*opening, *clause.german, draft.close()],
      [(self.english, (opening[1],)), *clause.english],
    )


@dataclasses.dataclass(slots=True)
class _WrittenVerb:
  """The verb in both places where German has it, and in English.

  Attributes:
    finite: What agrees with the subject; -1 in order zu.
    right: What stands at the end, but for the finite verb.
    auxiliary: Before the verb: has, does, can, wants to, to.
    main: The verb.
    rest: up, at, asleep.
  """

  finite: int
  right: list[int]
  auxiliary: list[Linked]
  main: Linked
  rest: list[Linked]


def _write_verb(clause: Clause, draft: Draft) -> _WrittenVerb:
  verb, plural = clause.verb, clause.plural
  if clause.tense == 'zu':
    right = [draft.write(word) for word in lexicon.with_zu(verb)]
    auxiliary: list[Linked] = [('to', (right[0],))]
    return _with_rest(verb, -1, right, auxiliary, verb.base)
  if clause.tense == 'modal':
    finite = draft.write(clause.modal[plural])
    said = lexicon.MODALS[clause.modal][plural]
    right = [draft.write(verb.particle + verb.infinitive)]
    auxiliary = [(word, (finite,)) for word in said]
    return _with_rest(verb, finite, right, auxiliary, verb.base)
  if clause.tense == 'perfect':
    forms = ('ist', 'sind') if verb.moves else ('hat', 'haben')
    finite = draft.write(forms[plural])
    right = [draft.write(verb.particle + verb.participle)]
    auxiliary = [(('has', 'have')[plural], (finite,))]
    return _with_rest(verb, finite, right, auxiliary, verb.perfect)
  return _write_simple_verb(clause, draft)


def _with_rest(
  verb: lexicon.Verb,
  finite: int,
  right: list[int],
  auxiliary: list[Linked],
  main: str,
) -> _WrittenVerb:
  """All that means the verb is the last word on the right."""
  links = (right[-1],)
  rest = [(verb.rest, links)] if verb.rest else []
  return _WrittenVerb(finite, right, auxiliary, (main, links), rest)


def _write_simple_verb(clause: Clause, draft: Draft) -> _WrittenVerb:
  """Present or past: one word, or a stem and a particle far apart."""
  verb, plural = clause.verb, clause.plural
  if clause.tense == 'present':
    form = verb.infinitive if plural else verb.present
    said, does = (verb.third, verb.base)[plural], ('does', 'do')[plural]
  else:
    form = verb.past_plural if plural else verb.past
    said, does = verb.preterite, 'did'
  if clause.order == 'final' or not verb.particle:
    finite, right = draft.write(verb.particle + form), []
  else:
    finite = draft.write(form)
    right = [draft.write(verb.particle)]
  rest = [(verb.rest, tuple(right) or (finite,))] if verb.rest else []
  # Where English has a word for the particle, each comes from its own.
  links = (finite,) if verb.rest else (finite, *right)
  auxiliary: list[Linked] = []
  if clause.negated:
    auxiliary, said = [(does, (finite,))], verb.base
  return _WrittenVerb(finite, right, auxiliary, (said, links), rest)
