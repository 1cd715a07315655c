"""Every word of Little German, and every word of its English."""

import functools
from collections.abc import Iterable

from attn.training.little_german import lexicon

_FUNCTION_WORDS = """
und aber dass ob nicht zu in im ins hinter mit hat haben ist sind , .
"""
_ENGLISH_FUNCTION_WORDS = """
an who that and but whether not in into behind with has have does do did to , .
"""


@functools.cache
def source_words() -> tuple[str, ...]:
  """Every token a source may have.

  Returns:
    The tokens, sorted, each once.

  Example:
    >>> 'angerufen' in source_words(), len(source_words()) <= 300
    (True, True)
  """
  words = {*_FUNCTION_WORDS.split(), *lexicon.RELATIVES.values()}
  words |= {word for word, _ in lexicon.DETERMINERS.values()}
  endings = {ending for _, ending in lexicon.DETERMINERS.values()}
  words |= {stem + end for stem in lexicon.ADJECTIVES for end in endings}
  for kind, nouns in lexicon.NOUNS.items():
    for noun in nouns:
      words |= {noun.singular}
      if kind != 'place':
        words |= {noun.plural}
      if kind in ('person', 'animal'):  # no verb here has a thing in the dative
        words |= {noun.dative_plural}
  for verb in _verbs():
    words |= _german_forms(verb)
  for table in (lexicon.TIMES, lexicon.MODALS):
    words |= {word for words in table for word in words}
  for table in (lexicon.FREQUENCIES, lexicon.MANNERS, lexicon.SUBORDINATORS):
    words |= {*table}
  return tuple(sorted(words | {german for german, _ in _pronouns()}))


@functools.cache
def target_words() -> tuple[str, ...]:
  """Every token a translation may have.

  Returns:
    The tokens, sorted, each once.

  Example:
    >>> {'a', 'an', 'the'} <= set(target_words())
    True
  """
  words = {*_ENGLISH_FUNCTION_WORDS.split(), *lexicon.ADJECTIVES.values()}
  words |= {english for english, _, _ in lexicon.DETERMINERS}
  for kind, nouns in lexicon.NOUNS.items():
    for noun in nouns:
      words |= {noun.english}
      if kind != 'place':
        words |= {noun.english_plural}
  for verb in _verbs():
    words |= {verb.base, verb.third, verb.preterite, verb.perfect}
    words |= {verb.rest} - {''}
  for said, _ in lexicon.TIMES.values():
    words |= {*said}
  for singular, plural in lexicon.MODALS.values():
    words |= {*singular, *plural}
  for table in (lexicon.FREQUENCIES, lexicon.MANNERS, lexicon.SUBORDINATORS):
    words |= {*table.values()}
  return tuple(sorted(words | {english for _, english in _pronouns()}))


def _verbs() -> tuple[lexicon.Verb, ...]:
  return (*lexicon.VERBS, lexicon.SAY, lexicon.ASK, lexicon.HOPE)


def _german_forms(verb: lexicon.Verb) -> set[str]:
  finite = {verb.infinitive, verb.present, verb.past, verb.past_plural}
  forms = {verb.particle + form for form in (*finite, verb.participle)}
  if verb.particle:
    forms |= {verb.particle, *finite, *lexicon.with_zu(verb)}
  return forms


def _pronouns() -> Iterable[tuple[str, str]]:
  yield from ((german, said) for german, said, _ in lexicon.SUBJECT_PRONOUNS)
  for pronouns in lexicon.OBJECT_PRONOUNS.values():
    yield from pronouns
