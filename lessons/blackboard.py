"""What every lesson shares: it finds `attn`, prints arrays, draws, saves.

Nothing here is about attention.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure

# Lessons run from a fresh checkout: an installed attn, if any, comes first.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))

INK, GREY = '#22313f', '#8a949e'
BLUE, ORANGE, GREEN = '#2b6ca3', '#d9622b', '#3c8d6e'


def title(text):
  """Print a heading."""
  print(f'\n{text}\n{"─" * len(text)}')


def show(label, x, rows=None, columns=None, digits=4):
  """Print a number, a vector or a matrix, with words beside it if given."""
  x = np.asarray(x, np.float64)
  x = np.round(x, digits) + 0.0  # Turns -0 into 0.
  width = max(digits + 6, *(len(word) + 2 for word in columns or ['']))

  def line(values):
    return ''.join(f'{value:{width}.{digits}f}' for value in values)

  if columns:
    print(f'{label:<16}' + ''.join(f'{word:>{width}}' for word in columns))
    label = ''
  if x.ndim < 2:
    print(f'{label:<16}{line(np.atleast_1d(x))}')
    return
  if label:
    print(label)
  for name, values in zip(rows or [''] * len(x), x):
    print(f'  {name:<14}{line(values)}')


def canvas(width, height, columns=1, **options):
  """A figure and its axes, all in the style of the lessons."""
  figure = Figure(figsize=(width, height), layout='constrained')
  figure.get_layout_engine().set(w_pad=0.15)
  all_axes = figure.subplots(1, columns, squeeze=False, **options)[0]
  for axes in all_axes:
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=11)
  return figure, all_axes


def caption(axes, heading='', x='', y=''):
  """Name a panel and its axes."""
  axes.set_title(heading, fontsize=13, color=INK, pad=12, loc='left')
  axes.set_xlabel(x, fontsize=12, color=INK)
  axes.set_ylabel(y, fontsize=12, color=INK)


def label(axes, x, y, text, color):
  """Write a line's name beside its last point."""
  axes.annotate(
    text,
    (x, y),
    xytext=(9, 0),
    textcoords='offset points',
    color=color,
    fontsize=12,
    va='center',
  )


def heat_map(axes, weights, words, heading, top=1.0, rows=None):
  """Weights as shades: row = query, column = key; rows are words too."""
  weights = np.asarray(weights)
  axes.pcolormesh(
    weights, cmap='Blues', vmin=0, vmax=top, edgecolors='white', linewidth=2
  )
  axes.set_aspect('equal')
  axes.invert_yaxis()
  axes.spines[:].set_visible(False)
  rows = words if rows is None else rows
  ticks = np.arange(len(words)) + 0.5
  axes.set_xticks(ticks, words, rotation=45, ha='right', rotation_mode='anchor')
  axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
  axes.tick_params(length=0)
  for (t, s), weight in np.ndenumerate(weights):
    if weight >= 0.005:
      axes.text(
        s + 0.5,
        t + 0.5,
        f'{weight:.2f}'.removeprefix('0'),
        color='white' if weight > 0.55 * top else INK,
        fontsize=10,
        ha='center',
        va='center',
      )
  caption(axes, heading, 'key: who is seen', 'query: who looks')


def save(figure, name):
  """Write a PNG to the folder that the command line names."""
  # In a notebook the command line belongs to the kernel.
  in_notebook = 'ipykernel' in sys.modules
  arguments = [] if in_notebook else sys.argv[1:]
  folder = pathlib.Path(arguments[0] if arguments else 'runs/lessons')
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / f'{name}.png'
  figure.savefig(path, dpi=150, bbox_inches='tight', pad_inches=0.15)
  print(f'\nfigure: {path}')
  if in_notebook:
    from IPython.display import Image, display

    display(Image(path, width=640))
