"""Pictures of a run: what it learned, and who attends to whom.

  draw_loss_curve      loss over the steps, beside the floor under any loss
  draw_attention_maps  every head's weights as a matrix, labelled by the text
  draw_gaze            the text itself, tinted by whom one character looks at

Those of translations are in `translation_figures`.

Figures are built without pyplot, so drawing one leaves no trace in the process,
and files appear whole or not at all.
"""

import functools
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from attn.training.artifacts import (
  ACCURACIES,
  Path,
  accuracy_in,
  check_positions,
  check_weights,
  replace_file,
  word_starts,
)

INK, GREY, PALE = '#22313f', '#8a949e', '#f3f5f7'
BLUE, LIGHT_BLUE, ORANGE, GREEN = '#2b6ca3', '#9cc3e3', '#d9622b', '#3c8d6e'
BLUES = LinearSegmentedColormap.from_list(
  'blues', ['#ffffff', '#7fb2db', BLUE, '#0c2b4a']
)
_AMBERS = LinearSegmentedColormap.from_list('ambers', ['#ffffff', '#f2a33a'])
# Square roots: a weight of 1 in 100, the most that a head which looks
# everywhere gives anyone, is still seen.
_TINT = PowerNorm(0.5, 0, 1)
_SIGNS = str.maketrans('\n\t', '⏎⇥')


def draw_loss_curve(
  path: Path,
  history: Sequence[Mapping[str, Any]],
  floor: float | None,
  unit: str = 'character',
) -> None:
  """Draws the losses of a run, and how often it knows a far fact.

  Args:
    path: The PNG to write; its folder exists.
    history: The lines of metrics.jsonl, each with `step`, `split` ('train' or
      'validation') and `loss` in nats per token, perhaps with
      one of `artifacts.ACCURACIES`. What is not finite leaves a gap.
    floor: The least possible loss, in nats per token, if it is known.
    unit: What a token is.

  Raises:
    OSError: if the file cannot be written.
  """
  train = _curve(history, 'train', 'loss')
  validation = _curve(history, 'validation', 'loss')
  name = accuracy_in(history)
  accuracy = _curve(history, 'validation', name)
  panels = 2 if accuracy.size else 1
  figure = Figure(figsize=(8, 4 + 1.5 * (panels - 1)), layout='constrained')
  all_axes = figure.subplots(
    panels, 1, sharex=True, squeeze=False, height_ratios=[3, 1][:panels]
  )[:, 0]
  _plot_losses(all_axes[0], train, validation, floor, unit)
  if accuracy.size:
    axes = all_axes[1]
    axes.plot(*accuracy, color=ORANGE, lw=2, marker='o', ms=4)
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks([0, 0.5, 1], ['0%', '50%', '100%'])
    told = f'{ACCURACIES[name]} {accuracy[1, -1]:.1%}'
    axes.set_title(told, loc='left', fontsize=11, color=ORANGE)
  for axes in all_axes:
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=10)
    axes.grid(axis='y', color='#e6e9ec', lw=0.8)
    axes.set_axisbelow(True)
  all_axes[-1].set_xlabel('step', fontsize=11, color=INK)
  all_axes[-1].xaxis.set_major_locator(MaxNLocator(7, integer=True))
  save(figure, path, dpi=150)


def draw_attention_maps(
  path: Path, text: str, weights: np.ndarray, marked: Sequence[int]
) -> None:
  """Draws every head's weights as a matrix: layers down, heads across.

  Args:
    path: The PNG to write; its folder exists.
    text: The T characters that the model reads.
    weights: float[L, N, T, T]. Row t says whom character t attends to; what
      lies above the diagonal is the future, and left blank.
    marked: Positions whose rows get a mark.

  Raises:
    ValueError: if weights do not fit the text, or a mark lies outside it.
    OSError: if the file cannot be written.
  """
  weights = check_weights(text, weights)
  check_positions('marked', marked, len(text))
  layers, heads, length, _ = weights.shape
  # In pixels. 20 megapixels are plenty, but characters need 7 a side: where
  # that would make more than 60, which viewers refuse, numbers replace them.
  ideal = math.sqrt(2e7 / (layers * heads)) / (length + 12)
  cell = min(max(ideal // 1, 7.0), 14.0) if ideal * 3**0.5 >= 7 else ideal
  side = cell * length
  size = min(max(0.04 * side, 11.0), 40.0)
  label, gap = max(1.6 * cell, 18.0), 1.5 * size
  pitch = np.array(
    [max(label + side + gap, 11 * size), size + side + label + 2 * gap]
  )
  width = max(heads * pitch[0] + gap, 34 * size)
  figure, axes = _page(width, layers * pitch[1] + 3.5 * size, dpi=72)
  _say(axes, gap, 2 * size, 'each row: whom one character attends to', size)
  _draw_scale(axes, width - gap - 9 * size, 1.3 * size, size, BLUES)
  past = np.tri(length, dtype=bool)
  for layer, head in np.ndindex(layers, heads):
    x, y = (head, layer) * pitch + (label + gap, 2 * gap + 3 * size)
    axes.imshow(
      np.ma.array(weights[layer, head], mask=~past),
      cmap=BLUES.with_extremes(bad=PALE),
      norm=_TINT,
      extent=(x, x + side, y + side, y),
      interpolation='nearest',
    )
    name = f'layer {layer + 1} head {head + 1}'
    _say(axes, x, y - 0.6 * size, name, size, weight='bold')
    _label_sides(axes, x, y, cell, text, frozenset(marked))
  save(figure, path, dpi=72)


def draw_gaze(
  path: Path, text: str, weights: np.ndarray, query: int, answer: str
) -> None:
  """Writes the text once per head, tinted by whom one character looks at.

  Args:
    path: The PNG to write; its folder exists.
    text: The T characters that the model reads.
    weights: float[L, N, T, T]. Row t says whom character t attends to.
    query: The position that looks; the text is written up to it.
    answer: What comes next, written behind the query; may be empty.

  Raises:
    ValueError: if weights do not fit the text, or query lies outside it.
    OSError: if the file cannot be written.
  """
  weights = check_weights(text, weights)
  check_positions('query', [query], len(text))
  layers, heads = weights.shape[:2]
  # In points: characters of 6 on lines of 15, below a heading.
  advance, line, left, top = 6.6, 16.0, 122.0, 44.0
  told = text[: query + 1] + answer
  places = _wrap(told, 66)
  height = line * max(places[:, 0].max() + 1, 2) + 12
  width = left + advance * max(places[:, 1].max() + 2, 58)
  figure, axes = _page(width, top + layers * heads * height, dpi=144)
  heading = 'Whom does each head look at?'
  if answer:
    short = answer if len(answer) <= 12 else f'{answer[:11]}…'
    heading = f'About to say “{short}”: whom does each head look at?'
  _say(axes, 14, 24, heading, 11, weight='bold')
  _draw_scale(axes, width - 84, 16, 8, _AMBERS)
  corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [advance, line - 2]
  for i, (layer, head) in enumerate(np.ndindex(layers, heads)):
    y = top + i * height
    axes.axhline(y - 3, color='#e6e9ec', lw=0.8)
    gaze = weights[layer, head, query, : query + 1]
    origins = places[:, ::-1] * [advance, line] + [left, y]
    axes.add_collection(
      PolyCollection(
        [origin + corners for origin in origins[: query + 1]],
        facecolors=_AMBERS(_TINT(np.nan_to_num(gaze))),
      )
    )
    _frame(axes, origins[query], advance, line - 2, INK)
    for t, (x, above) in enumerate(origins):
      style: dict[str, Any] = {'color': GREY if told[t] in '\n\t' else INK}
      if t > query:
        style = {'color': ORANGE, 'weight': 'bold'}
      if told[t] != ' ':
        _write(axes, x + advance / 2, above + 10.5, told[t], 10, **style)
    _say(axes, 14, y + 10.5, f'layer {layer + 1} head {head + 1}', 9.5)
    word, share = _favourite(text, gaze)
    _say(axes, 14, y + 25, f'“{word}” {share:.0%}', 8.5, color=GREY)
  save(figure, path, dpi=144)


def _curve(
  history: Sequence[Mapping[str, Any]], split: str, name: str
) -> np.ndarray:
  """float64[2, n]: steps and values of what a split measured."""
  pairs = [
    (entry['step'], entry[name])
    for entry in history
    if entry['split'] == split and name in entry
  ]
  return np.array(pairs, np.float64).reshape(-1, 2).T


def _plot_losses(
  axes: Axes,
  train: np.ndarray,
  validation: np.ndarray,
  floor: float | None,
  unit: str,
) -> None:
  # A line of one point would be invisible.
  marker = 'o' if train.shape[1] == 1 else None
  axes.plot(*train, color=LIGHT_BLUE, lw=1, marker=marker, ms=4, label='train')
  name = 'validation'
  if validation.size:
    name += f' {validation[1, -1]:.3f}'
  axes.plot(*validation, color=BLUE, lw=2.2, marker='o', ms=4.5, label=name)
  values = np.concatenate([train[1], validation[1]])
  if floor is not None:
    name = f'floor {floor:.3f}'
    axes.axhline(floor, color=GREEN, lw=1.5, ls=(0, (6, 4)), label=name)
    values = np.append(values, floor)
  values = values[np.isfinite(values)]
  if values.size and values.min() > 0:
    axes.set_yscale('log')
    margin = max((values.max() / values.min()) ** 0.05, 1.01)
    axes.set_ylim(values.min() / margin, values.max() * margin)
    axes.set_yticks(_log_ticks(*axes.get_ylim()))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:g}'))
  axes.set_ylabel(f'nats per {unit}', fontsize=11, color=INK)
  axes.legend(loc='upper right', frameon=False, labelcolor=INK, fontsize=11)


def _log_ticks(low: float, high: float) -> list[float]:
  """Round numbers within [low, high]: the coarsest that are at least four."""
  ticks = []
  for leading in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8)):
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    ticks = [digit * 10.0**e for e in decades for digit in leading]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) >= 4:
      return ticks
  return [y for y in MaxNLocator(5).tick_values(low, high) if low <= y <= high]


def _label_sides(
  axes: Axes, x: float, y: float, cell: float, text: str, marked: frozenset[int]
) -> None:
  """Names the rows and columns of the matrix whose corner is at (x, y)."""
  size = min(cell * 1.15, 12)
  below = y + cell * len(text) + size
  for t, character in enumerate(text):
    across, down = x + (t + 0.5) * cell, y + (t + 0.5) * cell
    style: dict[str, Any] = {}
    if t in marked:
      style = {'color': ORANGE, 'weight': 'bold'}
      _frame(axes, (x, down - cell / 2), (t + 1) * cell, cell, ORANGE)
      axes.plot(across + 1.1 * cell, down, '<', color=ORANGE, ms=0.6 * cell)
    if cell < 7:
      if t % math.ceil(60 / cell) == 0:
        _say(axes, x - 2, down + 5, str(t), 12, ha='right')
        _say(axes, across, below + 10, str(t), 12, ha='center')
    elif character != ' ' or t in marked:
      _write(axes, x - 0.8 * cell, down + 0.35 * size, character, size, **style)
      _write(axes, across, below, character, size, **style)


def _favourite(text: str, gaze: np.ndarray) -> tuple[str, float]:
  """The word that gets the most of a row of weights, and how much."""
  starts = word_starts(text[: len(gaze)])
  shares = np.add.reduceat(gaze, starts)
  best = int(np.nan_to_num(shares).argmax())
  end = [*starts, len(gaze)][best + 1]
  word = text[starts[best] : end].replace(' ', '␣')
  return word, float(shares[best])


def _wrap(text: str, columns: int) -> np.ndarray:
  """int[T, 2]: line and column of each character; words stay in one piece."""
  places, line, column = [], 0, 0
  for word in re.findall(r'\S+|\s', text):
    if column and column + len(word) > columns and not word.isspace():
      line, column = line + 1, 0
    for character in word:
      if column > columns:  # Room for the space that ends a full line.
        line, column = line + 1, 0
      places.append((line, column))
      column += 1
      # At the very start it only says that a story begins.
      if character == '\n' and len(places) > 1:
        line, column = line + 1, 0
  return np.array(places)


def _page(width: float, height: float, dpi: int) -> tuple[Figure, Axes]:
  """An empty page, in points from its top left corner."""
  figure = Figure(figsize=(width / 72, height / 72), dpi=dpi)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  # Images would narrow the limits to themselves.
  axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False, aspect='auto')
  return figure, axes


def _draw_scale(
  axes: Axes, x: float, y: float, size: float, tints: LinearSegmentedColormap
) -> None:
  """A strip from weight 0 to weight 1, of width 8 size with its labels."""
  strip = np.linspace(0, 1, 256)[None]
  extent = (x + size, x + 7 * size, y + size, y)
  axes.imshow(strip, cmap=tints, norm=_TINT, extent=extent, aspect='auto')
  _frame(axes, (x + size, y), 6 * size, size, GREY)
  _say(axes, x, y + 0.85 * size, '0', size, color=GREY)
  _say(axes, x + 7.4 * size, y + 0.85 * size, '1', size, color=GREY)


def _frame(
  axes: Axes, corner: Any, width: float, height: float, color: str
) -> None:
  axes.add_patch(Rectangle(corner, width, height, fill=False, ec=color, lw=0.8))


def _write(
  axes: Axes, x: float, y: float, character: str, size: float, **style: Any
) -> None:
  """One character, centred on x with its baseline at y."""
  character = character.replace(' ', '␣')
  _say(axes, x, y, character, size, 'DejaVu Sans Mono', ha='center', **style)


def _say(
  axes: Axes,
  x: float,
  y: float,
  text: str,
  size: float,
  family: str = 'DejaVu Sans',
  **style: Any,
) -> None:
  """Text with its baseline at y; what the font does not have is a box."""
  text = text.translate(_SIGNS)
  text = ''.join(c if _has_glyph(family, c) else '□' for c in text)
  style = {'color': INK, **style}
  # A dollar in a story is a dollar, not the start of a formula.
  axes.text(x, y, text, family=family, size=size, parse_math=False, **style)


@functools.cache
def _has_glyph(family: str, character: str) -> bool:
  return bool(_font(family).get_char_index(ord(character)))


@functools.cache
def _font(family: str) -> FT2Font:
  return FT2Font(findfont(FontProperties(family=family)))


def save(figure: Figure, path: Path, dpi: int) -> None:
  """Writes a figure, whole or not at all."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=dpi, facecolor='white')
  replace_file(path, buffer.getvalue())
