"""Pictures of translations: who looked at whom, and quality over length."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attn.training.artifacts import Path
from attn.training.figures import BLUE, BLUES, GREEN, GREY, INK, save
from attn.training.task import Alignment

# A cell of a matrix, and a letter beside it, in inches.
_CELL, _LETTER = 0.24, 0.085
_LINES = (BLUE, '#d9622b', GREEN, '#7a5195', '#8a6d1d', GREY)


def draw_alignments(path: Path, alignments: Sequence[Alignment]) -> None:
  """Draws each alignment as a matrix, with words on both axes.

  Args:
    path: The PNG to write; its folder exists.
    alignments: At least one; their gold links are framed.

  Raises:
    OSError: if the file cannot be written.
  """
  heights = [
    _CELL * len(each.target) + _LETTER * _longest(each.source) + 0.3
    for each in alignments
  ]
  width = max(
    _CELL * len(each.source) + _LETTER * _longest(each.target) + 0.3
    for each in alignments
  )
  figure = Figure(figsize=(width, sum(heights)))
  top = sum(heights)
  for each, height in zip(alignments, heights, strict=True):
    left = _LETTER * _longest(each.target) + 0.2
    across, down = _CELL * len(each.source), _CELL * len(each.target)
    bottom = top - height + 0.15
    box = (left / width, bottom / sum(heights))
    axes = figure.add_axes(
      (*box, across / width, max(down, _CELL) / sum(heights))
    )
    _draw_alignment(axes, each)
    top -= height
  save(figure, path, dpi=150)


def _longest(words: Sequence[str]) -> int:
  return max(map(len, words), default=1)


def _draw_alignment(axes: Any, alignment: Alignment) -> None:
  source, target = alignment.source, alignment.target
  if target:
    # Square roots, so that small weights are seen.
    tint = PowerNorm(0.5, 0, 1)
    axes.imshow(alignment.weights, cmap=BLUES, norm=tint, aspect='auto')
  axes.set_xticks(range(len(source)), source, rotation=90, fontsize=8)
  axes.set_yticks(range(len(target)), target, fontsize=8)
  axes.tick_params(
    top=True, labeltop=True, bottom=False, labelbottom=False, length=0
  )
  axes.tick_params(colors=INK)
  axes.spines[:].set_color(GREY)
  for s, t in alignment.gold or ():
    corner = (s - 0.42, t - 0.42)
    axes.add_patch(Rectangle(corner, 0.84, 0.84, fill=False, ec=GREEN, lw=1.2))


def draw_match_by_length(
  path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]
) -> None:
  """Draws how many sentences come out right, over their length.

  Args:
    path: The PNG to write; its folder exists.
    curves: Of each model, by name, what `translation_metrics.by_length` gives.

  Raises:
    OSError: if the file cannot be written.
  """
  figure = Figure(figsize=(8, 4.2), layout='constrained')
  axes = figure.subplots()
  for i, (name, curve) in enumerate(curves.items()):
    words = [point['words'] for point in curve]
    shares = [point['exact_match'] for point in curve]
    color = _LINES[i % len(_LINES)]
    axes.plot(words, shares, color=color, lw=2, marker='o', ms=4, label=name)
  axes.set_ylim(-0.03, 1.03)
  axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ['0%', '25%', '50%', '75%', '100%'])
  axes.set_xlabel('length of the source', fontsize=11, color=INK)
  axes.set_title('exact match', loc='left', fontsize=11, color=INK)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(GREY)
  axes.tick_params(colors=INK, labelsize=10)
  axes.grid(axis='y', color='#e6e9ec', lw=0.8)
  if len(curves) > 1:
    axes.legend(frameon=False, labelcolor=INK, fontsize=10)
  save(figure, path, dpi=150)
