"""What figures and reports share: checks of what they show, and safe files."""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Path = str | os.PathLike[str]

# Shares that a run may measure beside its loss, and how they are called.
ACCURACIES = {
  'far_fact_accuracy': 'far facts known',
  'exact_match': 'exact match',
}


def accuracy_in(history: Sequence[Mapping[str, Any]]) -> str:
  """Which of `ACCURACIES` the lines of metrics.jsonl hold, or might hold."""
  measured = {name for line in history for name in line}
  return next((x for x in ACCURACIES if x in measured), next(iter(ACCURACIES)))


def check_weights(
  text: str, weights: np.ndarray, *, may_be_empty: bool = False
) -> np.ndarray:
  """Refuses weights that do not fit the text.

  Args:
    text: T characters.
    weights: float[L, N, T, T].
    may_be_empty: Whether there may be no layer, head or character.

  Returns:
    The weights as float32.

  Raises:
    ValueError: if the shape is another one, or an axis is empty and may not be.
  """
  length = len(text)
  if weights.ndim != 4 or weights.shape[2:] != (length, length):
    raise ValueError(
      f'weights: got shape {weights.shape}, wanted [layers, heads, {length}, '
      f'{length}] for a text of {length} characters'
    )
  if not weights.size and not may_be_empty:
    raise ValueError(
      f'weights: got shape {weights.shape}, wanted at least one layer, head '
      'and character'
    )
  return np.asarray(weights, np.float32)


def check_positions(name: str, positions: Sequence[int], length: int) -> None:
  """Refuses positions outside a text.

  Args:
    name: What to call them in the error.
    positions: Any integers.
    length: The length of the text.

  Raises:
    ValueError: if a position is negative, or not below length.
  """
  for position in positions:
    if not 0 <= position < length:
      raise ValueError(
        f'{name}: got {position}, wanted a position from 0 to {length - 1}'
      )


def word_starts(text: str) -> list[int]:
  """Where words begin; whatever is not of a word stands alone.

  Args:
    text: Any text.

  Returns:
    The positions, rising; from one to before the next is a word.

  Example:
    >>> word_starts('Dan: a bun')
    [0, 3, 4, 5, 6, 7]
  """
  return [match.start() for match in re.finditer(r'\w+|\W', text)]


def replace_file(path: Path, data: bytes) -> None:
  """Writes a file, which others see whole or as it was before.

  Args:
    path: The file; its folder exists.
    data: What it shall hold.

  Raises:
    OSError: if it cannot be written; the old file, if any, is untouched.
  """
  path = pathlib.Path(path)
  # In the same folder, since only within one file system is replacing atomic.
  # One fixed name: what an interrupted run left behind, the next one takes.
  temporary = path.with_name(f'.{path.name}.tmp')
  try:
    temporary.write_bytes(data)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
