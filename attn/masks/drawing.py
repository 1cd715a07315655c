"""Masks for the eye."""

from typing import Any

import numpy as np


def as_text(written: Any) -> str:
  """Rows of 1s and 0s.

  Args:
    written: bool[T, S] or bool[B, N, T, S], of which the first is drawn.

  Returns:
    One line a query.
  """
  rows = _first(written)
  return '\n'.join(' '.join('01'[int(x)] for x in row) for row in rows)


def as_picture(written: Any, ax: Any) -> Any:
  """Dark where a query may attend to a key.

  Args:
    written: bool[T, S] or bool[B, N, T, S], of which the first is drawn.
    ax: Axes of matplotlib; None for new ones.

  Returns:
    The axes.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  try:
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator
  except ImportError as error:
    raise ImportError(
      'matplotlib: not installed, and Mask.plot draws with it; pip install '
      'matplotlib'
    ) from error
  if ax is None:
    _, ax = pyplot.subplots()
  cells = _first(written)
  ax.imshow(cells, cmap='Blues', vmin=0, vmax=1.25, interpolation='nearest')
  ax.set_xlabel('key')
  ax.set_ylabel('query')
  for axis in (ax.xaxis, ax.yaxis):
    axis.set_major_locator(MaxNLocator(integer=True))
  return ax


def _first(written: Any) -> np.ndarray:
  cells = np.asarray(written)
  return cells if cells.ndim == 2 else cells[0, 0]
