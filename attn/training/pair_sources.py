"""Where pairs come from: two endless generators, and files of lines.

Each tells the batch of a number from nothing but its seed and the number.
"""

import collections
import os
import random
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from attn.training import dates
from attn.training.errors import UserError
from attn.training.little_german import sentences, vocabulary
from attn.training.pair_buckets import Bucket, choose_buckets, make_bucket
from attn.training.pairs import Pair
from attn.training.parallel_text import read_parallel_text

# Splits of a seed are drawn from seeds of their own.
_SEEDS = {'train': 0, 'validation': 1, 'test': 2, 'longer': 3}


class PairSource(Protocol):
  """What `TranslationData` makes batches of.

  Attributes:
    unit: What a token is: word or character.
    buckets: Shapes of training batches, shortest first.
    limit: The shape that holds every pair there is.
  """

  unit: str
  buckets: tuple[Bucket, ...]
  limit: Bucket

  def vocabularies(self) -> tuple[Iterable[str], Iterable[str]]:
    """Tokens of sources, and of targets."""
    ...

  def train(self, index: int) -> tuple[Bucket, Sequence[Pair]]:
    """The pairs of training batch number index, and its shape."""
    ...

  def pairs(self, split: str, count: int) -> list[Pair]:
    """At most so many pairs of validation, test or longer."""
    ...


class LittleGerman:
  """Sentences of `little_german`, every one seen once.

  A batch holds sentences of one bucket.  Buckets come as often as their
  sentences do where lengths are drawn freely, so that over many batches the
  lengths are as `sentence_pair` draws them.
  """

  unit = 'word'

  def __init__(
    self,
    seed: int,
    batch_tokens: int,
    *,
    min_words: int = 4,
    max_words: int = 60,
  ) -> None:
    """Args as of `TranslationData.little_german`."""
    if not 4 <= min_words <= max_words:
      raise ValueError(
        f'min_words: got {min_words}, wanted 4 to max_words, {max_words}'
      )
    self._seed = seed
    self._words = (min_words, max_words)
    more = sentences.MORE
    shares = {(n, n + more): 1 / n for n in range(min_words, max_words + 1)}
    self.buckets = choose_buckets(shares, batch_tokens)
    self._least = [
      min_words,
      *(bucket.source_length + 1 for bucket in self.buckets[:-1]),
    ]
    longest = max_words * 3 // 2
    self.limit = make_bucket(longest, longest + more + 1, batch_tokens)
    self._bounds = _bounds(
      sum(shares[n, n + more] for n in range(least, bucket.source_length + 1))
      / bucket.rows
      for least, bucket in zip(self._least, self.buckets)
    )

  def vocabularies(self) -> tuple[Iterable[str], Iterable[str]]:
    """See `PairSource`."""
    return vocabulary.source_words(), vocabulary.target_words()

  def train(self, index: int) -> tuple[Bucket, Sequence[Pair]]:
    """See `PairSource`."""
    draw = random.Random(f'bucket {self._seed} {index}').random()
    place = int(np.searchsorted(self._bounds, draw, side='right'))
    bucket = self.buckets[place]
    first = index * self.buckets[0].rows
    return bucket, [
      self._draw('train', number, self._least[place], bucket.source_length)
      for number in range(first, first + bucket.rows)
    ]

  def pairs(self, split: str, count: int) -> list[Pair]:
    """See `PairSource`."""
    least, most = self._words
    if split == 'longer':
      least, most = most + 1, self.limit.source_length
    return [self._draw(split, number, least, most) for number in range(count)]

  def _draw(self, split: str, number: int, least: int, most: int) -> Pair:
    return sentences.sentence_pair(
      len(_SEEDS) * self._seed + _SEEDS[split],
      number,
      min_words=least,
      max_words=most,
      # None in training is as long as those that are longer.
      split=None if split == 'longer' else split,
    )


class Dates:
  """Written dates, all in one shape; there are no longer ones."""

  unit = 'character'

  def __init__(self, seed: int, batch_tokens: int) -> None:
    """Args as of `TranslationData.dates`."""
    self._seed = seed
    iso = len('2021-03-03')
    self.limit = make_bucket(dates.longest_date(), iso + 1, batch_tokens)
    self.buckets = (self.limit,)

  def vocabularies(self) -> tuple[Iterable[str], Iterable[str]]:
    """See `PairSource`."""
    return dates.source_characters(), dates.target_characters()

  def train(self, index: int) -> tuple[Bucket, Sequence[Pair]]:
    """See `PairSource`."""
    rows = self.limit.rows
    return self.limit, [
      self._draw('train', number)
      for number in range(index * rows, (index + 1) * rows)
    ]

  def pairs(self, split: str, count: int) -> list[Pair]:
    """See `PairSource`."""
    if split == 'longer':
      return []
    return [self._draw(split, number) for number in range(count)]

  def _draw(self, split: str, number: int) -> Pair:
    seed = len(_SEEDS) * self._seed + _SEEDS[split]
    return dates.date_pair(seed, number, split=split)


class Lines:
  """Lines of a file, in epochs: every line once, then again in other order."""

  def __init__(
    self,
    path: str | os.PathLike[str],
    seed: int,
    batch_tokens: int,
    *,
    max_words: int,
    unit: str = 'word',
  ) -> None:
    """Args as of `TranslationData.file`."""
    self.unit = unit
    self.limit = make_bucket(max_words, max_words + 1, batch_tokens)
    self._text = read_parallel_text(path, max_words=max_words, unit=unit)
    self._seed = seed
    lengths = [(len(p.source), len(p.target)) for p in self._text.train]
    self.buckets = choose_buckets(collections.Counter(lengths), batch_tokens)
    members: list[list[int]] = [[] for _ in self.buckets]
    for line, pair_lengths in enumerate(lengths):
      members[place_of(self.buckets, *pair_lengths)].append(line)
    self._members = [np.array(lines) for lines in members]
    self._epoch: tuple[int, list[tuple[Bucket, np.ndarray]]] = (-1, [])

  @property
  def epoch_batches(self) -> int:
    """How many batches hold every line once."""
    return sum(
      -(-len(lines) // bucket.rows)
      for lines, bucket in zip(self._members, self.buckets)
    )

  def vocabularies(self) -> tuple[Iterable[str], Iterable[str]]:
    """See `PairSource`; of the lines to train on."""
    train = self._text.train
    return (
      {word for pair in train for word in pair.source},
      {word for pair in train for word in pair.target},
    )

  def train(self, index: int) -> tuple[Bucket, Sequence[Pair]]:
    """See `PairSource`; the last batch of a bucket may be short of pairs."""
    epoch, place = divmod(index, self.epoch_batches)
    known, batches = self._epoch
    if known != epoch:
      batches = self._shuffle(epoch)
      self._epoch = (epoch, batches)
    bucket, lines = batches[place]
    return bucket, [self._text.train[line] for line in lines.tolist()]

  def pairs(self, split: str, count: int) -> list[Pair]:
    """See `PairSource`; the first ones."""
    if split == 'longer':
      return []
    return getattr(self._text, split)[:count]

  def _shuffle(self, epoch: int) -> list[tuple[Bucket, np.ndarray]]:
    rng = np.random.default_rng([self._seed, epoch])
    batches = []
    for bucket, lines in zip(self.buckets, self._members):
      shuffled = rng.permutation(lines)
      batches += [
        (bucket, shuffled[i : i + bucket.rows])
        for i in range(0, len(shuffled), bucket.rows)
      ]
    return [batches[i] for i in rng.permutation(len(batches))]


def place_of(buckets: Sequence[Bucket], source: int, target: int) -> int:
  """The place of the first bucket that holds a pair of these lengths.

  Args:
    buckets: Shortest first.
    source: Tokens of the source.
    target: Tokens of the target, without an end of sequence.

  Returns:
    The place.

  Raises:
    UserError: if none does; names the limit.

  Example:
    >>> place_of((Bucket(3, 4, 2), Bucket(5, 6, 1)), 4, 2)
    1
  """
  for place, bucket in enumerate(buckets):
    if bucket.holds(source, target):
      return place
  last = buckets[-1]
  for name, length, limit in (
    ('source', source, last.source_length),
    ('target', target, last.target_length - 1),
  ):
    if length > limit:
      raise UserError(
        f'{name}: got {length} tokens, more than the limit of {limit}'
      )
  raise AssertionError('what is within both limits has room in the last')


def _bounds(weights: Iterable[float]) -> np.ndarray:
  """Where, in [0, 1), the share of each ends; the last at infinity."""
  bounds = np.cumsum(list(weights))
  bounds /= bounds[-1]
  bounds[-1] = np.inf
  return bounds
