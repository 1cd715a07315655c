"""What a run needs to know of its task; everything else is the task's own.

`loop` trains any task.  There are two: `language_task` and `translation_task`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from attn.training.run_directory import RunDirectory

Array = jax.Array


class Batch(Protocol):
  """A NamedTuple of arrays, the first axis of each the rows.

  Attributes:
    weights: float32[B, T], how much the loss of a target counts.
  """

  @property
  def weights(self) -> np.ndarray:
    """See the class."""
    ...


class Alignment(NamedTuple):
  """Who looked at whom in one sentence and its translation.

  Attributes:
    source: S tokens, as they are shown.
    target: T tokens that the model wrote.
    weights: float[T, S].
    gold: (source place, target place) pairs, if they are known.
  """

  source: tuple[str, ...]
  target: tuple[str, ...]
  weights: np.ndarray
  gold: frozenset[tuple[int, int]] | None


class Exhibits(NamedTuple):
  """What a trained model has to show.

  Attributes:
    samples: Texts that it wrote.
    text: What it read; empty if there is nothing to point at.
    weights: float[L, N, T, T], who attends to whom in the text.
    marked: Places in the text where a far fact has to be remembered.
    alignments: Of translations.
    results: What was measured once, now that the run has ended.
  """

  samples: list[str]
  text: str = ''
  weights: np.ndarray = np.zeros((0, 0, 0, 0), np.float32)
  marked: tuple[int, ...] = ()
  alignments: tuple[Alignment, ...] = ()
  results: Mapping[str, float] = MappingProxyType({})


class Task(Protocol):
  """A model, what it learns from, and how it is judged."""

  @property
  def floor(self) -> float | None:
    """The least possible loss, in nats per token, if it is known."""
    ...

  @property
  def unit(self) -> str:
    """What a token is, in a word."""
    ...

  def init(self, rng: Array) -> Any:
    """Fresh parameters."""
    ...

  def train_batch(self, index: int, rows: slice = ...) -> Batch:
    """Batch number index, made from its number alone, or some of its rows."""
    ...

  def nats(self, params: Any, batch: Any, rng: Array | None) -> Array:
    """-log p of each target, float32[B, T]; without rng nothing is dropped."""
    ...

  def flops_per_token(self, params: Any) -> float | None:
    """Operations of a training step for each token; None if not counted."""
    ...

  def evaluate(self, params: Any) -> dict[str, float]:
    """What is measured between steps; `loss` is one of it."""
    ...

  def observe(self, params: Any) -> dict[str, float]:
    """What else there is to see between steps, and judges nothing."""
    ...

  def save(self, run: RunDirectory) -> None:
    """Keep what `sample.py` needs beside the config and the parameters."""
    ...

  def exhibit(self, run: RunDirectory, params: Any) -> Exhibits:
    """Write figures, and tell what a page and a summary should show."""
    ...
