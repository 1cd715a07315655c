"""What a clause says: who does what to whom, in so many words."""

from __future__ import annotations

from attn.training.little_german import lexicon
from attn.training.little_german.clauses import Clause, RelativeClause
from attn.training.little_german.drafts import Draft
from attn.training.little_german.noun_phrases import (
  NounPhrase,
  draw_noun_phrase,
  draw_pronoun,
)

# As often as they are drawn.
_TENSES = ('present',) * 4 + ('past',) * 2 + ('perfect',) * 3 + ('modal',) * 2
# Those with an object twice: they fit into fewer clauses.
_VERBS = lexicon.VERBS + tuple(
  verb for verb in lexicon.VERBS if verb.dative or verb.accusative
)
_SUBJECTS = ('person', 'person', 'animal')
_COMPANIONS = ('person', 'animal')
_SUBJECT_PRONOUNS, _OBJECT_PRONOUNS = 0.25, 0.15
_RELATIVES = 0.5
_FRONTED, _OBJECT_FRONTED = 0.5, 0.2

# A relative clause has a comma, a pronoun, a verb, and a comma at its end.
_SHORTEST_RELATIVE, _LONGEST_RELATIVE = 4, 9

_MODALS = tuple(lexicon.MODALS)
_FREQUENCIES = tuple(lexicon.FREQUENCIES)
_MANNERS = tuple(lexicon.MANNERS)
_STEMS = tuple(lexicon.ADJECTIVES)
# Nothing is big and small, or new and old, or tired twice.
_KIN = ({'klein', 'groß'}, {'alt', 'jung', 'neu'}, {'müd'})
_TIMES = {
  tense: tuple(
    german for german, (_, tenses) in lexicon.TIMES.items() if tense in tenses
  )
  for tense in ('present', 'past', 'perfect', 'modal')
}
_TIMES['zu'] = _TIMES['modal']

# Verbs with that object and no other, by its kind.
_WITH_ACCUSATIVE = {
  kind: tuple(v for v in lexicon.VERBS if kind in v.accusative and not v.dative)
  for kind in ('person', 'animal', 'thing')
}
_WITH_DATIVE = {
  kind: tuple(v for v in lexicon.VERBS if kind in v.dative and not v.accusative)
  for kind in ('person', 'animal')
}


def draw_clause(
  draft: Draft,
  words: int,
  order: str,
  verbs: tuple[lexicon.Verb, ...] = _VERBS,
) -> Clause:
  """A clause of about that many words, and seldom more.

  Args:
    draft: Makes the choices.
    words: How many German words are wanted, at least 3, or 2 in order zu,
      without comma and conjunction.
    order: second, inverted, final or zu.
    verbs: What the verb is drawn from.

  Returns:
    The clause.
  """
  subject = None
  if order != 'zu':
    subject = _draw_subject(draft, words)
  plural = subject is not None and subject.plural
  return _draw(draft, words, order, verbs, subject, plural, nests=True)


def _draw_subject(draft: Draft, words: int) -> NounPhrase:
  if words < 3 or draft.random() < _SUBJECT_PRONOUNS:
    return draw_pronoun(draft, 'nominative')
  return draw_noun_phrase(draft, 'nominative', _SUBJECTS, may_be_no=True)


def _draw(
  draft: Draft,
  words: int,
  order: str,
  verbs: tuple[lexicon.Verb, ...],
  subject: NounPhrase | None,
  plural: bool,
  *,
  nests: bool,
  gap: str = '',
) -> Clause:
  """The clause; gap is the case that a relative pronoun takes in it."""
  while True:
    verb = draft.pick(verbs)
    tense = 'zu' if order == 'zu' else draft.pick(_TENSES)
    spare = words - _words_needed(verb, tense, order, subject, gap)
    if spare >= 0:
      break
  clause = Clause(verb, tense, order, subject, plural)
  if tense == 'modal':
    clause.modal = draft.pick(_MODALS)
  for case in ('dative', 'accusative'):
    kinds = getattr(verb, case)
    if kinds and case != gap:
      setattr(clause, case, _draw_object(draft, clause, case, kinds))
      spare += getattr(clause, case).noun is None
  if nests and spare >= _SHORTEST_RELATIVE and draft.random() < _RELATIVES:
    spare -= _add_relative(draft, clause, spare)
  _fill(draft, clause, spare)
  return clause


def _words_needed(
  verb: lexicon.Verb,
  tense: str,
  order: str,
  subject: NounPhrase | None,
  gap: str,
) -> int:
  """Words of the shortest clause, each object a noun with its article."""
  objects = bool(verb.dative) + bool(verb.accusative)
  if gap in ('dative', 'accusative'):
    objects -= 1
  needed = 1 + 2 * objects
  if subject is not None:
    needed += 1 if subject.noun is None else 2
  if tense == 'zu':
    return needed + (not verb.particle)
  if tense in ('perfect', 'modal'):
    return needed + 1
  return needed + (bool(verb.particle) and order != 'final')


def _draw_object(
  draft: Draft, clause: Clause, case: str, kinds: tuple[str, ...]
) -> NounPhrase:
  # One pronoun at most, and it stands for people: gives him the hat.
  if kinds[0] == 'person' and draft.random() < _OBJECT_PRONOUNS:
    return draw_pronoun(draft, case)
  said_no = any(
    phrase is not None and phrase.determiner == 'no'
    for phrase in (clause.subject, clause.dative)
  )
  return draw_noun_phrase(draft, case, kinds, may_be_no=not said_no)


def _add_relative(draft: Draft, clause: Clause, spare: int) -> int:
  """Hang a relative clause on the subject or the last object.

  Returns:
    How many words it has; 0 where no noun can bear one.
  """
  last = clause.accusative or clause.dative
  bearers = [
    phrase
    for phrase in (clause.subject, last)
    if phrase is not None and phrase.noun is not None and _gaps(phrase)
  ]
  if not bearers:
    return 0
  bearer = draft.pick(bearers)
  room = min(spare, _LONGEST_RELATIVE) - _SHORTEST_RELATIVE
  words = _SHORTEST_RELATIVE + int(draft.random() * (room + 1))
  gaps = _gaps(bearer)
  if words == _SHORTEST_RELATIVE:  # no room for a subject of its own
    gaps = [gap for gap in gaps if gap == 'nominative']
    if not gaps:
      return 0
  bearer.relative = _draw_relative(draft, bearer, draft.pick(gaps), words - 3)
  return words


def _gaps(bearer: NounPhrase) -> list[str]:
  """What a relative pronoun may be for this noun, and nobody misreads."""
  gaps = [] if bearer.kind == 'thing' else ['nominative']
  if ('accusative', bearer.slot) in lexicon.RELATIVES:
    gaps.append('accusative')
  if bearer.kind in _WITH_DATIVE:
    gaps.append('dative')
  return gaps


def _draw_relative(
  draft: Draft, bearer: NounPhrase, gap: str, words: int
) -> RelativeClause:
  pronoun = lexicon.RELATIVES[gap, bearer.slot]
  english = 'who' if bearer.kind == 'person' else 'that'
  subject, plural, verbs = None, bearer.plural, _VERBS
  if gap != 'nominative':
    subject = _draw_subject(draft, words)
    plural = subject.plural
    with_gap = _WITH_ACCUSATIVE if gap == 'accusative' else _WITH_DATIVE
    verbs = with_gap[bearer.kind]
  clause = _draw(
    draft, words, 'final', verbs, subject, plural, nests=False, gap=gap
  )
  return RelativeClause(clause, pronoun, english)


def _fill(draft: Draft, clause: Clause, spare: int) -> None:
  """Adjectives, adverbs and the like, until the words are spent."""
  phrases = [
    phrase
    for phrase in (clause.subject, clause.dative, clause.accusative)
    if phrase is not None and phrase.noun is not None
  ]
  # What bears a relative clause ends the clause in English: sees the dog that
  # sleeps quietly says nothing of how it is seen.
  is_heavy = any(
    phrase.relative is not None
    for phrase in phrases
    if phrase is not clause.subject
  )
  extras: list[str | NounPhrase] = [*phrases, *phrases]
  if not is_heavy:
    extras += ['time', 'manner', 'companion', 'place']
  elif clause.order == 'second':
    extras.append('time')
  if clause.order != 'zu':
    extras += ['frequency', 'negation']
  while spare > 0 and extras:
    i = int(draft.random() * len(extras))
    extra, extras[i] = extras[i], extras[-1]
    extras.pop()
    if isinstance(extra, NounPhrase):
      spare -= _add_adjective(draft, extra)
    else:
      added, phrase = _ADDERS[extra](draft, clause, spare)
      spare -= added
      if phrase is not None:
        extras.append(phrase)
  _choose_front(draft, clause, is_heavy)


def _choose_front(draft: Draft, clause: Clause, is_heavy: bool) -> None:
  if clause.order != 'second':
    return
  if clause.time and (is_heavy or draft.random() < _FRONTED):
    clause.front = 'time'
  elif (
    clause.place is not None
    and clause.place.case == 'dative'
    and draft.random() < _FRONTED
  ):
    clause.front = 'place'
  elif draft.random() < _OBJECT_FRONTED:
    for case in ('dative', 'accusative'):
      phrase = getattr(clause, case)
      if phrase is not None and phrase.shows_case:
        clause.front = case


def _add_adjective(draft: Draft, phrase: NounPhrase) -> int:
  stem = draft.pick(_STEMS)
  if any({stem, other} <= kin for other in phrase.adjectives for kin in _KIN):
    return 0
  phrase.adjectives.append(stem)
  return 1


# What each of these returns: how many words it added, and a noun phrase that
# may take adjectives.
_Added = tuple[int, NounPhrase | None]


def _add_time(draft: Draft, clause: Clause, spare: int) -> _Added:
  time = draft.pick(_TIMES[clause.tense])
  if len(time) > spare:
    return 0, None
  clause.time = time
  return len(time), None


def _add_frequency(draft: Draft, clause: Clause, spare: int) -> _Added:
  del spare
  if clause.negated:
    return 0, None
  clause.frequency = draft.pick(_FREQUENCIES)
  return 1, None


def _add_manner(draft: Draft, clause: Clause, spare: int) -> _Added:
  del spare
  clause.manner = draft.pick(_MANNERS)
  return 1, None


def _add_negation(draft: Draft, clause: Clause, spare: int) -> _Added:
  """Nicht, where it denies the verb; muss nicht is need not, so no modal."""
  del draft, spare
  if clause.frequency or clause.tense == 'modal':
    return 0, None
  subject, objects = clause.subject, (clause.dative, clause.accusative)
  if subject is not None and subject.determiner == 'no':
    return 0, None
  if any(phrase and not phrase.is_definite for phrase in objects):
    return 0, None
  clause.negated = True
  return 1, None


def _add_companion(draft: Draft, clause: Clause, spare: int) -> _Added:
  if spare < 3:
    return 0, None
  clause.companion = draw_noun_phrase(draft, 'dative', _COMPANIONS)
  return 3, clause.companion


def _add_place(draft: Draft, clause: Clause, spare: int) -> _Added:
  into = clause.verb.direction and draft.random() < 0.5
  case = 'accusative' if into else 'dative'
  place = draw_noun_phrase(draft, case, ('place',))
  preposition = 'in' if into else draft.pick(('in', 'in', 'hinter'))
  words = place.words_with(preposition)
  if words > spare:
    return 0, None
  clause.place, clause.preposition = place, preposition
  return words, place


_ADDERS = {
  'time': _add_time,
  'frequency': _add_frequency,
  'manner': _add_manner,
  'companion': _add_companion,
  'place': _add_place,
  'negation': _add_negation,
}
