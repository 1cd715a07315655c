"""What a translation model trains on: batches of pairs of like length.

A `PairBatch` is made from its number alone, so that a run which stopped at
step 1234 goes on with batch 1234, whatever happened before.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from attn.training.pair_buckets import Bucket
from attn.training.pair_sources import (
  Dates,
  Lines,
  LittleGerman,
  PairSource,
  place_of,
)
from attn.training.pairs import Pair
from attn.training.word_tokenizer import BOS, EOS, PAD, WordTokenizer


class PairBatch(NamedTuple):
  """B pairs, each padded to S and T.

  Attributes:
    source: int32[B, S].
    source_mask: bool[B, S], False in padding.
    inputs: int32[B, T], the target after a beginning of sequence.
    targets: int32[B, T], the target before an end of sequence.
    weights: float32[B, T], 1 where the target counts, 0 in padding.
  """

  source: np.ndarray
  source_mask: np.ndarray
  inputs: np.ndarray
  targets: np.ndarray
  weights: np.ndarray


class TranslationData:
  """Pairs to train on, to validate and to test with, and their tokens.

  Attributes:
    source_tokenizer: Of sources.
    target_tokenizer: Of targets.
    buckets: The shapes of training batches, shortest first: few, so that few
      programs are compiled. Each has as many rows as `batch_tokens` allow,
      so a step costs about the same in all of them.
    limit: The shape that holds every pair, the longer ones too: the most that
      a model has to take is its source_length and target_length.

  Example:
    >>> data = TranslationData.little_german(seed=0, batch_tokens=1000)
    >>> [bucket.source_length for bucket in data.buckets]
    [8, 16, 27, 42, 60]
    >>> batch = data.train_batch(7)
    >>> batch.source.shape, batch.targets.shape
    ((29, 16), (29, 18))
    >>> print(*data.target_tokenizer.decode(batch.targets[0]))
    today a brother who came quickly has always carried the book .
  """

  def __init__(self, source: PairSource) -> None:
    """Data from anywhere; `little_german`, `dates`, `file` are at hand."""
    self._source = source
    self.buckets = source.buckets
    self.limit = source.limit
    self.source_tokenizer, self.target_tokenizer = (
      WordTokenizer(sorted(words), source.unit)
      for words in source.vocabularies()
    )

  @classmethod
  def little_german(
    cls,
    seed: int,
    batch_tokens: int,
    *,
    min_words: int = 4,
    max_words: int = 60,
  ) -> 'TranslationData':
    """Sentences of a small German and their English, every one seen once.

    Args:
      seed: Of all sentences.
      batch_tokens: The most tokens in a batch, sources and targets together,
        padding included: B (S + T).
      min_words: The fewest tokens of a source; at least 4.
      max_words: The most; `longer` pairs have up to half as many again.

    Returns:
      The data.

    Raises:
      ValueError: if an argument is out of range, or batch_tokens is too few
        for the longest pair.
    """
    return cls(
      LittleGerman(seed, batch_tokens, min_words=min_words, max_words=max_words)
    )

  @classmethod
  def dates(cls, seed: int, batch_tokens: int) -> 'TranslationData':
    """Written dates and their ISO form, by character.

    Args:
      seed: Of all dates.
      batch_tokens: As of `little_german`.

    Returns:
      The data.

    Raises:
      ValueError: if batch_tokens is too few for the longest pair.
    """
    return cls(Dates(seed, batch_tokens))

  @classmethod
  def file(
    cls,
    path: str | os.PathLike[str],
    seed: int,
    batch_tokens: int,
    *,
    max_words: int,
    unit: str = 'word',
  ) -> 'TranslationData':
    """Lines of a file, source TAB target; see `read_parallel_text`.

    Args:
      path: The file.
      seed: Of the order of lines.
      batch_tokens: As of `little_german`.
      max_words: The most tokens of a source, and of a target.
      unit: What a token is: word or character.

    Returns:
      The data.

    Raises:
      UserError: if the file cannot serve; names the line.
      ValueError: if batch_tokens is too few for max_words.
    """
    return cls(Lines(path, seed, batch_tokens, max_words=max_words, unit=unit))

  def train_batch(self, index: int, rows: slice = slice(None)) -> PairBatch:
    """Batch number index, or some of its rows, in the shape of a bucket."""
    batch = self._fill(*self._source.train(index))
    return jax.tree.map(lambda x: x[rows], batch)

  def validation(self, count: int) -> list[Pair]:
    """At most so many pairs, none of them trained on."""
    return self._source.pairs('validation', count)

  def test(self, count: int) -> list[Pair]:
    """At most so many pairs, neither trained on nor in validation."""
    return self._source.pairs('test', count)

  def longer(self, count: int) -> list[Pair]:
    """At most so many pairs, longer than any that is trained on.

    Returns:
      Pairs of up to 1.5 times the length; none where the data has none.
    """
    return self._source.pairs('longer', count)

  def batches(
    self, pairs: Sequence[Pair]
  ) -> Iterator[tuple[list[int], PairBatch]]:
    """The pairs, short ones first, in batches of one static shape.

    So one compiled program serves them all, and a search among short ones ends
    early.

    Args:
      pairs: Any number of pairs.

    Yields:
      Which pairs, and their batch: row i is pair number i of the list. Rows
      that are left over are padding, with weights of 0.

    Raises:
      UserError: if a pair is longer than the limit.
    """
    shapes = (*self.buckets, self.limit)
    source = max((len(pair.source) for pair in pairs), default=0)
    target = max((len(pair.target) for pair in pairs), default=0)
    bucket = shapes[place_of(shapes, source, target)]
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].source))
    for i in range(0, len(order), bucket.rows):
      chosen = order[i : i + bucket.rows]
      yield chosen, self._fill(bucket, [pairs[n] for n in chosen])

  def _fill(self, bucket: Bucket, pairs: Sequence[Pair]) -> PairBatch:
    """A batch in that shape; rows without a pair are padding."""
    sources = [self.source_tokenizer.tokens(pair.source) for pair in pairs]
    targets = [self.target_tokenizer.tokens(pair.target) for pair in pairs]
    source, source_mask = _pad(sources, bucket.rows, bucket.source_length)
    shape = (bucket.rows, bucket.target_length)
    inputs, _ = _pad([[BOS, *tokens] for tokens in targets], *shape)
    outputs, counts = _pad([[*tokens, EOS] for tokens in targets], *shape)
    return PairBatch(
      source, source_mask, inputs, outputs, counts.astype(np.float32)
    )


def _pad(
  sequences: Sequence[Sequence[int]], rows: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
  """int32[rows, length] and where it is no padding, bool of the same shape."""
  # One list and one array: many times quicker than an array for every row.
  flat: list[int] = []
  for tokens in sequences:
    flat += tokens
    flat += [PAD] * (length - len(tokens))
  flat += [PAD] * (length * (rows - len(sequences)))
  ends = [len(tokens) for tokens in sequences] + [0] * (rows - len(sequences))
  mask = np.arange(length) < np.array(ends, np.int32)[:, None]
  return np.array(flat, np.int32).reshape(rows, length), mask
