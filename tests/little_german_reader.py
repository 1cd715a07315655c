"""A reader of Little German: all that a sentence can mean, from its words.

It shares the lists of words with the generator, and nothing else.  Every
function goes from a place in the sentence to all the (next place, meaning)
that the grammar allows there: articles and endings that fit a case, a finite
verb that agrees and stands in its place, the objects that the verb takes, a
middle field in order.  A sentence that is not grammatical has no meaning; and
if every sentence has one, translations are functions of their sources.
"""

from attn.training.little_german import lexicon

_VERBS = (*lexicon.VERBS, lexicon.SAY, lexicon.ASK, lexicon.HOPE)
_KINDS = {noun: kind for kind, ns in lexicon.NOUNS.items() for noun in ns}

# Word -> readings: a case (n, a, d) and a gender, or p for plural.
_THE = {'der': 'nm df', 'die': 'nf af np ap', 'das': 'nn an', 'den': 'am dp'}
_THE['dem'] = 'dm dn'
_EIN = {'': 'nm nn an', 'e': 'nf af np ap', 'en': 'am dp', 'em': 'dm dn'}
_EIN['er'] = 'df'
_WHO = {'der': 'nm df', 'die': 'nf np', 'das': 'nn', 'den': 'am'}
_WHO |= {'dem': 'dm dn', 'denen': 'dp'}
_NUMBERS = {'zwei': 'two', 'drei': 'three'}
_SUBJECTS = {'er': ('he', 's'), 'wir': ('we', 'p'), 'sie': ('she they', 'sp')}
_OBJECTS = {'ihn': ('a', 'him'), 'ihm': ('d', 'him'), 'ihr': ('d', 'her')}
_OBJECTS |= {'ihnen': ('d', 'them'), 'uns': ('ad', 'us')}
_REPORTS = {'sagen': ('dass',), 'fragen': ('ob',), 'hoffen': ('dass', 'zu')}
_SAID = {**lexicon.SUBORDINATORS, 'dass': 'that', 'ob': 'whether'}
_AUXILIARIES = {'hat': (False, 's'), 'haben': (False, 'p')}
_AUXILIARIES |= {'ist': (True, 's'), 'sind': (True, 'p')}
_MODALS = {
  form: (said, 'sp'[plural])
  for forms, both in lexicon.MODALS.items()
  for plural, (form, said) in enumerate(zip(forms, both))
}
_MIDDLE = 'subject,pronoun,time,often,dative,accusative,not,manner,with,place'
_ORDER = {name: rank for rank, name in enumerate(_MIDDLE.split(','))}
_ADVERBS = {
  **{words: ('time', [*said]) for words, (said, _) in lexicon.TIMES.items()},
  **{(w,): ('often', [said]) for w, said in lexicon.FREQUENCIES.items()},
  **{(w,): ('manner', [said]) for w, said in lexicon.MANNERS.items()},
  ('nicht',): ('not', ['not']),
}


def _finite(verb):
  """(form, s or p, tense, English) in the third person."""
  yield verb.present, 's', 'present', verb.third
  yield verb.infinitive, 'p', 'present', verb.base
  yield verb.past, 's', 'past', verb.preterite
  yield verb.past_plural, 'p', 'past', verb.preterite


def translations(words):
  """All that a sentence can mean: a set of tuples of English words."""
  words = (*words, *('',) * 3)
  found = set()
  for place, english in _main(words, 0):
    if words[place : place + 2] == ('.', ''):
      found.add((*english, '.'))
  return found


# Clauses in chains.


def _main(words, i):
  """Clauses, the first with its verb in second place."""
  if words[i] in lexicon.SUBORDINATORS:
    for j, first in _final_chain(words, i + 1):
      if words[j] == ',':
        for k, second in _tail(words, j + 1, 'inverted'):
          yield k, [_SAID[words[i]], *first, ',', *second]
  else:
    yield from _tail(words, i, 'second')


def _final_chain(words, i):
  yield from _tail(words, i, 'final')


def _tail(words, i, order):
  """A clause in that order, and whatever hangs on it to the right."""
  for j, english, verb in _clause(words, i, order):
    yield from _go_on(words, j, english, order, verb)


def _go_on(words, i, english, order, verb):
  yield i, english
  after = _final_chain if order == 'final' else _main
  comma = words[i] == ','
  if words[i + comma] == 'und':
    for j, more in after(words, i + comma + 1):
      yield j, [*english, 'and', *more]
  if not comma:
    return
  word = words[i + 1]
  if word == 'aber':
    for j, more in after(words, i + 2):
      yield j, [*english, 'but', *more]
  if word in _SAID:
    if word in ('dass', 'ob') and word not in _REPORTS.get(verb, ()):
      return
    for j, more in _final_chain(words, i + 2):
      yield from _go_on(words, j, [*english, _SAID[word], *more], order, '')
  if verb == 'hoffen':
    for j, more, _ in _clause(words, i + 1, 'zu'):
      yield from _go_on(words, j, [*english, *more], order, '')


# One clause.


def _clause(words, i, order, gap=''):
  """(next place, English, infinitive); gap: what a relative pronoun is."""
  if order == 'second':
    for j, front in _part(words, i):
      for k, middle in _parts(words, j + 1):
        for end, verb in _right(words, k, words[j]):
          yield from _meaning(end, [front], middle, verb, order, gap)
  elif order == 'inverted':
    for k, middle in _parts(words, i + 1):
      for end, verb in _right(words, k, words[i]):
        yield from _meaning(end, [], middle, verb, order, gap)
  else:
    for k, middle in _parts(words, i):
      for end, verb in (_with_zu if order == 'zu' else _last)(words, k):
        yield from _meaning(end, [], middle, verb, order, gap)


def _right(words, i, finite):
  """(next place, (verb, number, tense, helpers, English)): apart."""
  if finite in _AUXILIARIES or finite in _MODALS:
    yield from ((i + 1, verb) for verb in _compound(words[i], finite))
  for verb in _VERBS:
    for form, number, tense, said in _finite(verb):
      if form == finite and verb.particle in ('', words[i]):
        end = i + bool(verb.particle)
        yield end, (verb, number, tense, [], said)


def _last(words, i):
  """The verb at the end of a clause, in one word or two."""
  if words[i + 1] in _AUXILIARIES or words[i + 1] in _MODALS:
    yield from ((i + 2, verb) for verb in _compound(words[i], words[i + 1]))
  for verb in _VERBS:
    for form, number, tense, said in _finite(verb):
      if verb.particle + form == words[i]:
        yield i + 1, (verb, number, tense, [], said)


def _compound(word, finite):
  for verb in _VERBS:
    moves, number = _AUXILIARIES.get(finite, (None, ''))
    if word == verb.particle + verb.participle and moves == verb.moves:
      helper = 'has' if number == 's' else 'have'
      yield verb, number, 'perfect', [helper], verb.perfect
    if word == verb.particle + verb.infinitive and finite in _MODALS:
      said, number = _MODALS[finite]
      yield verb, number, 'modal', [*said], verb.base


def _with_zu(words, i):
  for verb in _VERBS:
    form = lexicon.with_zu(verb)
    if words[i : i + len(form)] == form:
      yield i + len(form), (verb, '', 'zu', ['to'], verb.base)


def _meaning(end, front, middle, verb, order, gap):
  """The clause in English, if its parts are what the verb wants."""
  verb, number, tense, helpers, said = verb
  wanted = ['subject'] * (order != 'zu')
  wanted += [case for case in ('dative', 'accusative') if getattr(verb, case)]
  if gap:
    role = {'n': 'subject', 'd': 'dative', 'a': 'accusative'}[gap[0]]
    if role not in wanted or (
      role == 'subject' and number != ('p' if gap[1] == 'p' else 's')
    ):
      return
    wanted.remove(role)
  parts, ranks, pronoun = {}, [], False
  for place, (name, readings, english) in enumerate([*front, *middle]):
    rank = name
    if name in ('noun', 'pronoun', 'person'):
      role = _role(wanted, readings)
      if role is None:
        return
      wanted.remove(role)
      if role == 'subject':
        if number not in ''.join(reading[1] for reading in readings):
          return
        if name == 'person':
          english = [english[0].split()[-1 if number == 'p' else 0]]
      rank = 'pronoun' if name == 'pronoun' else role
      pronoun |= (name, role) == ('pronoun', 'accusative')
      name = role
    if name in parts or (front and place == 0 and name not in _FRONTS):
      return
    parts[name] = english
    if place >= len(front):
      ranks.append(_ORDER[rank])
  if wanted or ranks != sorted(ranks):
    return
  if front and front[0][0] == 'place' and 'into' in parts['place']:
    return
  first = _front_of(front, parts)
  english = _in_english(parts, first, (verb, number, tense, helpers, said))
  if pronoun and verb.rest in ('up', 'back'):  # calls him up
    at = english.index(verb.rest)
    english[at : at + 2] = english[at + 1], english[at]
  yield end, english, verb.infinitive


_FRONTS = ('subject', 'time', 'place', 'dative', 'accusative')


def _role(wanted, readings):
  cases = {'subject': 'n', 'dative': 'd', 'accusative': 'a'}
  for role in wanted:
    if cases[role] in {reading[0] for reading in readings}:
      return role
  return None


def _front_of(front, parts):
  name = front[0][0] if front else ''
  return parts.pop(name) if name in ('time', 'place') else []


def _in_english(parts, first, verb):
  verb, number, tense, helpers, said = verb
  if 'not' in parts and tense in ('present', 'past'):
    does = 'did' if tense == 'past' else {'s': 'does', 'p': 'do'}[number]
    helpers, said = [does], verb.base
  often = parts.get('often', [])
  head = [*helpers, *parts.get('not', []), *often, said]
  if helpers[1:]:  # often wants to see
    head = [*often, *helpers, said]
  english = [*first, *parts.get('subject', []), *head]
  english += [verb.rest] if verb.rest else []
  for name in ('dative', 'accusative', 'manner', 'with', 'place', 'time'):
    english += parts.get(name, [])
  return english


# Parts of a clause.


def _parts(words, i):
  """(next place, list of parts)."""
  yield i, []
  for j, part in _part(words, i):
    for k, more in _parts(words, j):
      yield k, [part, *more]


def _part(words, i):
  """(next place, (name, readings, English))."""
  for adverb, (name, said) in _ADVERBS.items():
    if words[i : i + len(adverb)] == adverb:
      yield i + len(adverb), (name, (), said)
  if words[i] in _SUBJECTS:
    said, numbers = _SUBJECTS[words[i]]
    yield i + 1, ('person', ['n' + n for n in numbers], [said])
  if words[i] in _OBJECTS:
    cases, said = _OBJECTS[words[i]]
    yield i + 1, ('pronoun', [case + ' ' for case in cases], [said])
  if words[i] in ('im', 'ins'):
    apart = ('in', {'im': 'dem', 'ins': 'das'}[words[i]])
    words = (*words[:i], *apart, *words[i + 1 :])
    for j, part in _part(words, i):
      yield j - 1, part
    return
  if words[i] in ('in', 'hinter', 'mit'):
    yield from _after_preposition(words, i)
  for j, readings, said, _ in _noun(words, i):
    numbers = {r: r[0] + ('p' if r[1] == 'p' else 's') for r in readings}
    yield j, ('noun', [*numbers.values()], said)


def _after_preposition(words, i):
  for j, readings, said, kind in _noun(words, i + 1):
    cases = {reading[0] for reading in readings}
    if words[i] == 'mit' and 'd' in cases and kind != 'place':
      yield j, ('with', (), ['with', *said])
    if words[i] != 'mit' and 'd' in cases and kind == 'place':
      preposition = {'in': 'in', 'hinter': 'behind'}[words[i]]
      yield j, ('place', (), [preposition, *said])
    if words[i] == 'in' and 'a' in cases and kind == 'place':
      yield j, ('place', (), ['into', *said])


def _noun(words, i):
  """(next place, readings, English, kind), with a relative clause or not."""
  article = words[i]
  for said, all_readings, endings_of in _articles(article):
    adjectives, j = [], i + 1
    endings = set()
    while (known := _adjective(words[j])) is not None:
      adjectives.append(known[0])
      endings.add(known[1])
      j += 1
    for noun, kind in _KINDS.items():
      readings = [
        r
        for r in all_readings
        if words[j] == _form(noun, r) and endings <= {endings_of(r)}
      ]
      if not readings:
        continue
      plural = readings[0][1] == 'p'
      spoken = [*adjectives, noun.english_plural if plural else noun.english]
      the = 'an' if said == 'a' and spoken[0][0] in 'aeiou' else said
      yield j + 1, readings, [the, *spoken], kind
      if words[j + 1] == ',':
        slot = {reading[1] for reading in readings}
        for k, more in _relative(words, j + 2, slot, kind):
          yield k, readings, [the, *spoken, *more], kind


def _relative(words, i, slots, kind):
  for gap in _WHO.get(words[i], '').split():
    if gap[1] in slots:
      for j, english, _ in _clause(words, i + 1, 'final', gap):
        more = ['who' if kind == 'person' else 'that', *english]
        if words[j] == ',':
          yield j + 1, more
        if words[j] in (',', '.'):  # one mark may end two clauses
          yield j, more


def _articles(word):
  """(English, readings, which ending an adjective has in a reading)."""
  if word in _THE:
    yield 'the', _THE[word].split(), _after_the
  if word in _NUMBERS:
    strong = {'np': 'e', 'ap': 'e', 'dp': 'en'}
    yield _NUMBERS[word], [*strong], strong.get
  for stem, said in (('ein', 'a'), ('kein', 'no'), ('mein', 'my')):
    if word.startswith(stem) and word[len(stem) :] in _EIN:
      readings = _EIN[word[len(stem) :]].split()
      if stem == 'ein':
        readings = [reading for reading in readings if reading[1] != 'p']
      yield said, readings, _after_ein


def _after_the(reading):
  weak = reading[0] == 'd' or reading[1] == 'p' or reading == 'am'
  return 'en' if weak else 'e'


def _after_ein(reading):
  bare = {'nm': 'er', 'nn': 'es', 'an': 'es'}
  return bare.get(reading) or _after_the(reading)


def _adjective(word):
  for stem, said in lexicon.ADJECTIVES.items():
    if word.startswith(stem) and word[len(stem) :] in ('e', 'en', 'er', 'es'):
      return said, word[len(stem) :]
  return None


def _form(noun, reading):
  if reading[1] != 'p':
    return noun.singular if reading[1] == noun.gender else None
  return noun.dative_plural if reading[0] == 'd' else noun.plural
