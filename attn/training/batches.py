"""What a model trains on: rows of tokens, each with the token that follows.

A `Batch` is made from its number alone, so that a run which stopped at step
1234 goes on with batch 1234, whatever happened before.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import grain
import jax
import numpy as np

from attn.training import toy_language
from attn.training.narrators import Story
from attn.training.tokenizer import (
  CharTokenizer,
  Tokenizer,
  make_tokenizer,
)

# Seeds of the two splits: stories drawn from different seeds are independent.
_TRAIN, _VALIDATION = 0, 1

_ALL = slice(None)

# Batches on which it is tried how many stories fit.
_TRIALS = 50


class Batch(NamedTuple):
  """B rows of T tokens.

  Attributes:
    inputs: int32[B, T].
    targets: int32[B, T], the token after each input.
    segment_ids: int32[B, T], which story of the row; 0 is padding.  None where
      a row is one text, with padding at its end.
    positions: int32[B, T], place within the story; None likewise.
    weights: float32[B, T], 1 where the target counts, 0 in padding and where
      it is given.
    far: bool[B, T], where only a far fact can tell the target.
    part: int32[B, T], which part of what is trained on this is; None where
      nobody asks.
  """

  inputs: np.ndarray
  targets: np.ndarray
  segment_ids: np.ndarray | None
  positions: np.ndarray | None
  weights: np.ndarray
  far: np.ndarray
  part: np.ndarray | None = None


class Validation(NamedTuple):
  """The text a model is judged by.

  Attributes:
    batches: It, in batches.
    floor: The least possible loss on it, in nats per token; None if unknown.
    chance: Accuracy on far facts of one who knows the grammar and forgot the
      story; None where there are no far facts.
    tokens_per_byte: Of its text in UTF-8.
  """

  batches: list[Batch]
  floor: float | None
  chance: float | None
  tokens_per_byte: float


class ToyLanguage:
  r"""Batches of stories, packed several to a row, never cut.

  Example:
    >>> data = ToyLanguage(seed=0, batch_size=2, context=256)
    >>> batch = data.train_batch(7)
    >>> data.tokenizer.decode(batch.inputs[0, :4])  # newline starts a story
    '\nLea'
  """

  def __init__(
    self, seed: int, batch_size: int, context: int, given: int = 0
  ) -> None:
    """Make the stories of a seed ready.

    Args:
      seed: Of all stories.
      batch_size: B.
      context: T.
      given: How many tokens of every story are no targets, the newline before
        it included.

    Raises:
      ValueError: if context is shorter than a story may be, or given leaves a
        story without a target.
    """
    longest = toy_language.longest_story()
    if context < longest:
      raise ValueError(
        f'context: got {context}, wanted at least {longest}, the longest story'
      )
    self.tokenizer = CharTokenizer(toy_language.alphabet())
    self._seed = seed
    self._shape = (batch_size, context)
    # The target of token t is token t + 1.
    self._first = max(given - 1, 0)
    self._stories = self._most_that_fit(batch_size * context // longest)
    shortest = min(len(story.text) for story in self._draw(_TRAIN, 0))
    if self._first >= shortest:
      raise ValueError(
        f'given: got {given}, wanted at most {shortest}, a whole story'
      )

  def train_batch(self, index: int, rows: slice = _ALL) -> Batch:
    """Batch number index, or some of its rows: fresh stories, seen once."""
    batch = self._pack(self._draw(_TRAIN, index))[0]
    return jax.tree.map(lambda x: x[rows], batch)

  def validation(self, rows: int) -> Validation:
    """At least that many rows of stories that training never draws."""
    drawn = [
      self._draw(_VALIDATION, i) for i in range(-(-rows // self._shape[0]))
    ]
    packed = [self._pack(stories) for stories in drawn]
    stories = [story for _, placed in packed for story in placed]
    nats = np.concatenate([story.nats[self._first :] for story in stories])
    branches = np.concatenate(
      [story.branches[self._first :] for story in stories]
    )
    return Validation(
      batches=[batch for batch, _ in packed],
      floor=float(nats.mean()),
      chance=float((1 / branches[branches > 0]).mean()),
      tokens_per_byte=1.0,
    )

  def example(self) -> tuple[str, np.ndarray]:
    """Inputs of one validation story, and which targets are far facts."""
    story = self._draw(_VALIDATION, 0)[0]
    return '\n' + story.text[:-1], story.far

  def _draw(self, split: int, index: int) -> list[Story]:
    # A seed for each split: both count their stories from 0.
    return toy_language.stories(
      2 * self._seed + split, index * self._stories, self._stories
    )

  def _most_that_fit(self, least: int) -> int:
    """How many stories a batch holds, with none left over in any trial."""
    self._stories = 2 * least
    lengths = [
      [len(story.text) for story in self._draw(_TRAIN, i)]
      for i in range(_TRIALS)
    ]
    while self._stories > 1 and not all(
      None not in _first_fit(trial[: self._stories], *self._shape)
      for trial in lengths
    ):
      self._stories -= 1
    return self._stories

  def _pack(self, stories: list[Story]) -> tuple[Batch, list[Story]]:
    """The batch, and the stories that found room in it."""
    batch, placed = _empty_batch(self._shape), []
    segment_ids, positions = (np.zeros(self._shape, np.int32) for _ in range(2))
    used = np.zeros(self._shape[0], int)
    rows = _first_fit([len(story.text) for story in stories], *self._shape)
    for story, row in zip(stories, rows):
      if row is None:
        continue
      placed.append(story)
      length = len(story.text)
      place = (row, slice(used[row], used[row] + length))
      # The newline that ends a story also starts the next.
      tokens = self.tokenizer.encode('\n' + story.text)
      batch.inputs[place] = tokens[:-1]
      batch.targets[place] = tokens[1:]
      segment_ids[place] = segment_ids[row].max() + 1
      positions[place] = np.arange(length)
      batch.weights[place] = np.arange(length) >= self._first
      batch.far[place] = story.far & (np.arange(length) >= self._first)
      used[row] += length
    batch = batch._replace(segment_ids=segment_ids, positions=positions)
    return batch, placed


class Text:
  """Batches of windows of any text: 9/10 to train on, the end to validate.

  Attributes:
    tokenizer: Of the text.
    train_tokens: int32[...], what is trained on.
    validation_tokens: int32[...], the end.

  Example:
    >>> data = Text('abc' * 100, seed=0, batch_size=2, context=4)
    >>> batch = data.train_batch(0)
    >>> bool((batch.inputs[:, 1:] == batch.targets[:, :-1]).all())
    True
  """

  def __init__(
    self,
    text: str,
    seed: int,
    batch_size: int,
    context: int,
    given: int = 0,
    *,
    tokenizer: str | Tokenizer = 'characters',
    vocab_size: int = 0,
    parts: int = 0,
  ) -> None:
    """Make a text ready.

    Args:
      text: All of it.
      seed: Of the windows.
      batch_size: B.
      context: T.
      given: How many tokens of every window are no targets.
      tokenizer: One that is there already, or as `make_tokenizer` has it; 'bpe'
        counts pairs in what is trained on.
      vocab_size: Of 'bpe'.
      parts: Tell of each token which of so many parts of what is trained on it
        is in; 0 to say nothing.

    Raises:
      ValueError: if the text is too short for a window, or for a target, or as
        `make_tokenizer`.
    """
    cut = len(text) * 9 // 10
    known = text if tokenizer == 'characters' else text[:cut]
    if isinstance(tokenizer, str):
      tokenizer = make_tokenizer(tokenizer, known, vocab_size)
    self.tokenizer = tokenizer
    self.train_tokens = self.tokenizer.encode(text[:cut])
    self._end = text[cut:]
    self.validation_tokens = self.tokenizer.encode(self._end)
    self._first = max(given - 1, 0)
    self._seed = seed
    self._parts = parts
    self._shape = (batch_size, context)
    total = len(self.train_tokens) + len(self.validation_tokens)
    tokens = f'{total} {self.tokenizer.unit}s'
    if len(self.train_tokens) <= context:
      raise ValueError(
        f'text: got {tokens}, wanted more than '
        f'{math.ceil((context + 1) * 10 / 9)}, so that 9/10 of them hold one '
        f'context of {context} and the {self.tokenizer.unit} after it'
      )
    if len(self.validation_tokens) <= given:
      raise ValueError(
        f'text: got {tokens}, wanted at least {10 * (given + 1)},'
        f' so that 1/10 of them holds {given} that are given and one more'
      )

  def train_batch(self, index: int, rows: slice = _ALL) -> Batch:
    """Batch number index, or some of its rows: windows at random places."""
    rng = np.random.default_rng([self._seed, index])
    batch_size, context = self._shape
    length = len(self.train_tokens)
    starts = rng.integers(length - context, size=batch_size)[rows]
    batch = self._windows(self.train_tokens, starts, len(starts))
    if not self._parts:
      return batch
    places = starts[:, None] + np.arange(context)
    return batch._replace(
      part=(places * self._parts // length).astype(np.int32)
    )

  def validation(self, rows: int) -> Validation:
    """All of the end, in consecutive windows; rows says nothing here."""
    del rows
    batch_size, context = self._shape
    starts = np.arange(0, len(self.validation_tokens) - 1, context)
    batches = [
      self._windows(
        self.validation_tokens, starts[i : i + batch_size], batch_size
      )
      for i in range(0, len(starts), batch_size)
    ]
    return Validation(
      batches=batches,
      floor=None,
      chance=None,
      tokens_per_byte=len(self.validation_tokens) / len(self._end.encode()),
    )

  def example(self) -> tuple[str, np.ndarray]:
    """The first characters of the validation split; no far facts."""
    text = self._end[:120]
    while len(self.tokenizer.encode(text)) > self._shape[1]:
      text = text[:-1]
    return text, np.zeros(len(text), bool)

  def _windows(
    self, tokens: np.ndarray, starts: np.ndarray, rows: int
  ) -> Batch:
    # Each row is one text from its beginning: its mask need not be told.
    batch = _empty_batch((rows, self._shape[1]))
    for row, start in enumerate(starts):
      window = tokens[start : start + self._shape[1] + 1]
      place = (row, slice(0, len(window) - 1))
      batch.inputs[place] = window[:-1]
      batch.targets[place] = window[1:]
      batch.weights[row, self._first : len(window) - 1] = 1
    return batch


class Source(Protocol):
  """Whatever makes training batches from their numbers."""

  def train_batch(self, index: int, rows: slice = ...) -> Any:
    """Batch number index, or some of its rows."""
    ...


def iterate(
  source: Source,
  first: int,
  last: int,
  at_once: int = 1,
  rows: slice = _ALL,
) -> Iterator[Any]:
  """Training batches first to last - 1, made in a thread ahead of their use.

  Args:
    source: Makes them.
    first: Number of the first.
    last: Number of the first that is no longer wanted.
    at_once: Of how many steps an item is; divides last - first.
    rows: Which rows of each batch are wanted.

  Yields:
    Batches of arrays [at_once, ...].
  """

  def make(begin: int) -> Any:
    made = [source.train_batch(int(begin) + i, rows) for i in range(at_once)]
    return jax.tree.map(lambda *arrays: np.stack(arrays), *made)

  indices = grain.MapDataset.range(first, last, at_once)
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)
  return iter(indices.map(make).to_iter_dataset(options))


def _empty_batch(shape: tuple[int, int]) -> Batch:
  """Without segments and positions."""
  return Batch(
    inputs=np.zeros(shape, np.int32),
    targets=np.zeros(shape, np.int32),
    segment_ids=None,
    positions=None,
    weights=np.zeros(shape, np.float32),
    far=np.zeros(shape, bool),
  )


def _first_fit(lengths: list[int], rows: int, room: int) -> list[int | None]:
  """The row of each story: the longest first, each in the first with room.

  A story without room anywhere gets None.
  """
  free = [room] * rows
  places: list[int | None] = [None] * len(lengths)
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    for row in range(rows):
      if lengths[i] <= free[row]:
        places[i], free[row] = row, free[row] - lengths[i]
        break
  return places
