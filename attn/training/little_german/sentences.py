"""Sentences of Little German: clauses in chains, as long as wanted."""

import random
import zlib

from attn.training.little_german import lexicon
from attn.training.little_german.choices import draw_clause
from attn.training.little_german.drafts import Draft, Linked, Phrase
from attn.training.pairs import Pair

SPLITS = ('train', 'validation', 'test')

# A sentence belongs to a split by its words alone: of 16, one is kept for
# validation and one for the test.
_PARTS = 16

# No clause of several is wanted shorter; up to _ONE it stays whole, above _MANY
# it never does.
_SHORTEST, _ONE, _MANY = 4, 8, 14
_FRONTED = 0.2

# English needs more words now and then (does not, wants to, falls asleep): no
# translation has more than max_words and these.
MORE = 1

_SUBORDINATORS = tuple(lexicon.SUBORDINATORS)
_LINKS = ((('und', 'and'),), ((',', ''), ('aber', 'but')))


def sentence_pair(
  seed: int,
  number: int,
  *,
  min_words: int = 4,
  max_words: int = 60,
  split: str | None = None,
) -> Pair:
  """A sentence and its translation.

  Words and marks are tokens. German nouns begin with a capital letter,
  everything else is in lower case, the first word too.  The translation is a
  function of the source.  The length is drawn so that short, middling and
  long sentences share the words: p(n) is about proportional to 1 / n.

  Args:
    seed: Names an endless sequence of sentences; at least 0.
    number: Which of them; at least 0.
    min_words: The least number of source tokens; at least 4.
    max_words: The greatest; at least min_words. A translation has at most
      one token more.
    split: Only sentences that belong to it: train (14 of 16), validation or
      test (one of 16 each), so that none of one is in another; None for any.

  Returns:
    The pair, with its gold alignment: always the same for the same arguments.

  Raises:
    ValueError: if an argument is out of its range.

  Example:
    >>> pair = sentence_pair(0, 21, max_words=14)
    >>> print(*pair.source)
    die Frauen rufen die Schwestern , die kommen , an .
    >>> print(*pair.target)
    the women call up the sisters who come .
    >>> [pair.source[s] for s, t in sorted(pair.alignment) if t in (2, 3)]
    ['rufen', 'an']
  """
  _check(seed, number, min_words, max_words, split)
  chance = random.Random(f'{seed} {number}').random
  while True:
    pair = _draw_pair(Draft(chance), _draw_length(chance, min_words, max_words))
    if not min_words <= len(pair.source) <= max_words:
      continue
    if len(pair.target) > max_words + MORE:
      continue
    if split is None or _split_of(pair.source) == split:
      return pair


def _check(
  seed: int, number: int, min_words: int, max_words: int, split: str | None
) -> None:
  for name, value, least in (
    ('seed', seed, 0),
    ('number', number, 0),
    ('min_words', min_words, 4),
    ('max_words', max_words, min_words),
  ):
    if value < least:
      raise ValueError(f'{name}: got {value}, wanted at least {least}')
  if split is not None and split not in SPLITS:
    raise ValueError(
      f'split: got {split!r}, wanted None or one of {", ".join(SPLITS)}'
    )


def _draw_length(chance, min_words: int, max_words: int) -> int:
  """A whole number n of the range, with p(n) proportional to 1 / n."""
  return int(min_words * ((max_words + 1) / min_words) ** chance())


def _split_of(source: tuple[str, ...]) -> str:
  part = zlib.crc32(' '.join(source).encode()) % _PARTS
  return {0: 'validation', 1: 'test'}.get(part, 'train')


def _draw_pair(draft: Draft, words: int) -> Pair:
  """A sentence of about that many words."""
  return as_pair(draft, _chain(draft, words - 1, 'second'))


def as_pair(draft: Draft, body: Phrase) -> Pair:
  """What was written as a sentence: word order is settled, and so are links.

  Args:
    draft: Where the words of the body are.
    body: All of the sentence but its full stop.

  Returns:
    The pair.
  """
  stop = draft.write('.')
  order = draft.in_order([*body.german, stop])
  places = [0] * len(draft.words)
  for place, number in enumerate(order):
    places[number] = place
  english = [*body.english, ('.', (stop,))]
  # Lists first: they are quicker to go through than generators.
  links = [
    (places[number], target)
    for target, (_, numbers) in enumerate(english)
    for number in numbers
  ]
  return Pair(
    tuple([draft.words[number] for number in order]),
    tuple([word for word, _ in english]),
    frozenset(links),
  )


def _chain(draft: Draft, words: int, order: str) -> Phrase:
  """Clauses, of which the first has that order."""
  if words <= _ONE or (words <= _MANY and draft.random() < 0.5):
    return draw_clause(draft, words, order).write(draft)
  ways = [_coordinate, _subordinate, _report, _intend]
  if order == 'second' and draft.random() < _FRONTED:
    return _front(draft, words)
  return draft.pick(ways)(draft, words, order)


def _cut(draft: Draft, words: int, links: int) -> tuple[int, int]:
  """Cuts words, less those that link the parts, in two."""
  room = words - links - 2 * _SHORTEST
  first = _SHORTEST + int(draft.random() * (room + 1))
  return first, words - links - first


def _coordinate(draft: Draft, words: int, order: str) -> Phrase:
  """A und B; A, aber B."""
  link = draft.pick(_LINKS)
  first, second = _cut(draft, words, len(link))
  left = _chain(draft, first, order)
  middle = _write(draft, *link)
  # In a subordinate clause both verbs are final, else both are second.
  right = _chain(draft, second, 'final' if order == 'final' else 'second')
  return _joined(left, middle, right)


def _subordinate(draft: Draft, words: int, order: str) -> Phrase:
  """A, weil B."""
  first, second = _cut(draft, words, 2)
  left = _chain(draft, first, order)
  return _joined(left, _reason(draft, second))


def _reason(draft: Draft, words: int) -> Phrase:
  """Weil A, with both its commas."""
  word = draft.pick(_SUBORDINATORS)
  link = _write(draft, (',', ''), (word, lexicon.SUBORDINATORS[word]))
  return _joined(link, _chain(draft, words, 'final'), _end(draft))


def _front(draft: Draft, words: int) -> Phrase:
  """Weil A, B: then the finite verb of B comes before its subject."""
  first, second = _cut(draft, words, 2)
  word = draft.pick(_SUBORDINATORS)
  opening = _write(draft, (word, lexicon.SUBORDINATORS[word]))
  left = _chain(draft, first, 'final')
  comma = _write(draft, (',', ','))
  return _joined(opening, left, comma, _chain(draft, second, 'inverted'))


def _report(draft: Draft, words: int, order: str) -> Phrase:
  """Says, dass A; asks, ob A; hopes, dass A."""
  verb = draft.pick((lexicon.SAY, lexicon.ASK, lexicon.HOPE))
  word = ('ob', 'whether') if verb is lexicon.ASK else ('dass', 'that')
  first = _short(draft, words - 2)
  left = draw_clause(draft, first, order, (verb,)).write(draft)
  link = _write(draft, (',', ''), word)
  right = _chain(draft, words - 2 - first, 'final')
  return _joined(left, link, right, _end(draft))


def _intend(draft: Draft, words: int, order: str) -> Phrase:
  """Hopes, A zu tun; for long sentences, weil B."""
  first = _short(draft, words - 1)
  left = draw_clause(draft, first, order, (lexicon.HOPE,)).write(draft)
  comma = _write(draft, (',', ''))
  rest = words - 1 - first
  is_long = rest > _MANY
  second = _short(draft, rest - 2) if is_long else rest
  right = draw_clause(draft, second, 'zu').write(draft)
  phrase = _joined(left, comma, right, _end(draft))
  return (
    _joined(phrase, _reason(draft, rest - second - 2)) if is_long else phrase
  )


def _short(draft: Draft, words: int) -> int:
  """Words of a short clause that leaves enough of them for another."""
  longest = min(_ONE, words - _SHORTEST)
  return _SHORTEST + int(draft.random() * (longest - _SHORTEST + 1))


def _write(draft: Draft, *words: tuple[str, str]) -> Phrase:
  """German words and what each means, '' for nothing."""
  german: list[int] = []
  english: list[Linked] = []
  for word, said in words:
    german.append(draft.write(word))
    if said:
      english.append((said, (german[-1],)))
  return Phrase(german, english)


def _end(draft: Draft) -> Phrase:
  """The end of a subordinate clause."""
  return Phrase([draft.close()], [])


def _joined(*phrases: Phrase) -> Phrase:
  german: list[int] = []
  english: list[Linked] = []
  for phrase in phrases:
    german += phrase.german
    english += phrase.english
  return Phrase(german, english)
