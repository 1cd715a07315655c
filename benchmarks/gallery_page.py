"""The page of the gallery: docs/gallery.md, and its pictures."""

import pathlib
import textwrap
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks.catalogue import SUBJECTS, Entry, Size
from benchmarks.catalogue.entry import LINEAR

_DRAWN = Size(length=64, head_size=16)
# Pixels for each weight.
_MAGNIFIED = 3
_COLUMNS = 9

_INTRODUCTION = """\
# Gallery

<!-- Written by `python -m benchmarks.gallery`, not by hand. -->

{count} ways of attending. Each picture shows the weights of one head, a row for
each of {length} queries: computed by the very lines below it, each row relative
to its largest weight, negative weights in red. Where positions alone decide,
all products of query and key are 0; elsewhere every picture has the same
queries and keys, so that they compare with the first.

Each entry is tested against a plain NumPy definition in float64, forward and
gradient (`tests/gallery_test.py`). Its memory is proportional to T + S, forward
and backward, unless it says otherwise.

- **blocks**: those visited of all, at T = S = {costed[length]:,},
  {costed[heads]} heads of {costed[head_size]}, as `attn.explain` tells.
  What a mask hides is skipped by whole tiles, so a pattern finer than a tile
  (strided, axial, a graph) saves little.
- **GFLOP**: of the matrix products of one forward pass there; full attention
  has {full:,.1f}.
- **times dense**: how many times as fast as the same call with every score
  written out, at T = S = {timed[length]:,}, {timed[heads]} heads of
  {timed[head_size]}, float32. Medians of {rounds} paired rounds, with quartiles
  in `benchmarks/results/gallery.json`. Below 1 dense is faster.

{machine}.
"""


def write(folder: pathlib.Path, found: Mapping[str, Any]) -> None:
  """Draw all entries and write the page.

  Args:
    folder: For gallery.md, gallery.png, and gallery/, of a picture for each.
    found: Records by entry, as `benchmarks.gallery` makes them.
  """
  pictures = folder / 'gallery'
  pictures.mkdir(parents=True, exist_ok=True)
  drawn = {x.name: (x, draw(x)) for y in SUBJECTS.values() for x in y}
  from matplotlib import image

  for old in pictures.glob('*.png'):
    if old.stem not in drawn:
      old.unlink()
  for name, (_, pixels) in drawn.items():
    image.imsave(
      pictures / f'{name}.png',
      np.kron(pixels, np.ones((_MAGNIFIED, _MAGNIFIED, 1), np.uint8)),
      pil_kwargs={'optimize': True},
    )
  _draw_sheet(folder / 'gallery.png', list(drawn.values()))
  (folder / 'gallery.md').write_text(render(found))


def draw(entry: Entry) -> np.ndarray:
  """The weights of an entry's first head: those of a value that is one-hot.

  Args:
    entry: The entry.

  Returns:
    uint8[T, S, 3].
  """
  length, size = _DRAWN.length, _DRAWN.head_size
  shape = (1, length, _DRAWN.heads, size)
  if entry.draw_scores:
    # Neighbours are alike, so that there is something to see.
    steps = np.random.default_rng(3).normal(size=(2, *shape))
    walks = np.cumsum(steps, axis=2)
    walks = walks - walks.mean(2, keepdims=True)
    query, key = 1.5 * walks / walks.std((2, 4), keepdims=True)
  else:
    query = key = np.zeros(shape)
  value = np.broadcast_to(np.eye(length)[:, None], (1, length, 2, length))
  arrays = (jnp.asarray(x, jnp.float32) for x in (query, key, value))
  with jax.numpy_dtype_promotion('standard'):
    context = entry.attend(*arrays, **entry.at(_DRAWN))
  weights = np.asarray(context)[0, :, 0]
  largest = np.abs(weights).max(-1, keepdims=True)
  return _colours(weights / np.where(largest == 0, 1, largest))


def render(found: Mapping[str, Any]) -> str:
  """The page.

  Args:
    found: Records by entry; an entry without one has no figures.

  Returns:
    Markdown.
  """
  entries = [x for y in SUBJECTS.values() for x in y]
  records = [found[x.name] for x in entries if x.name in found]
  measured = next(x for x in records if x['cost'])
  lines = [
    _INTRODUCTION.format(
      count=len(entries),
      length=_DRAWN.length,
      costed=measured['costed'],
      full=measured['cost']['flops_of_full'] / 1e9,
      timed=measured['timed'],
      rounds=measured['times_dense']['forward']['count'],
      machine=machine.summary(measured['machine']),
    )
  ]
  lines += _table(found)
  for subject, entries in SUBJECTS.items():
    lines += [f'## {subject}', '']
    for entry in entries:
      lines += _section(entry, found.get(entry.name))
  return '\n'.join(lines).rstrip() + '\n'


def figures_of(record: Mapping[str, Any]) -> str:
  """One entry's figures as text."""
  cost, times = record['cost'], record['times_dense']
  if not cost:
    return 'all blocks, written out'
  visited, blocks = cost['blocks_visited'], cost['blocks']
  shape = ' × '.join(str(x) for x in cost['block_shape'])
  return (
    f'{visited:,} of {blocks:,} blocks of {shape} ({visited / blocks:.0%}); '
    f'{cost["flops"] / 1e9:,.1f} GFLOP; {times["forward"]["median"]:.1f} times '
    f'dense, {times["with_gradient"]["median"]:.1f} with the gradient'
  )


def _table(found: Mapping[str, Any]) -> list[str]:
  lines = [
    '| | blocks | GFLOP | times dense | with the gradient |',
    '|---|---|---|---|---|',
  ]
  for entries in SUBJECTS.values():
    for entry in entries:
      record = found.get(entry.name)
      cells = [f'[{entry.title}](#{_anchor(entry.title)})']
      if record is None or not record['cost']:
        cells += ['written out', '', '', '']
      else:
        cost, times = record['cost'], record['times_dense']
        cells += [
          f'{cost["blocks_visited"] / cost["blocks"]:.1%}',
          f'{cost["flops"] / 1e9:,.1f}',
          f'{times["forward"]["median"]:.1f}',
          f'{times["with_gradient"]["median"]:.1f}',
        ]
      lines.append(f'| {" | ".join(cells)} |')
  return [*lines, '']


def _section(entry: Entry, record: Mapping[str, Any] | None) -> list[str]:
  papers = ', '.join(f'[{text}]({url})' for text, url in entry.papers)
  lines = [
    f'### {entry.title}',
    '',
    f'![{entry.title}](gallery/{entry.name}.png)',
    '',
    f'{entry.idea} {papers}.',
    '',
    '```text',
    entry.formula,
    '```',
    '',
    '```python',
    entry.code,
    '```',
    '',
  ]
  notes = []
  if record is not None:
    if record['given']:
      given = ', '.join(f'{k} = {_text(x)}' for k, x in record['given'].items())
      notes.append(f'T = {record["costed"]["length"]:,}, {given}')
    notes.append(figures_of(record))
  if entry.memory != LINEAR:
    notes.append(f'memory {entry.memory}')
  return [*lines, '. '.join(_upper(x) for x in notes) + '.', '']


def _text(x: Any) -> str:
  return f'{x:g}' if isinstance(x, float) else str(x)


def _upper(text: str) -> str:
  return text[:1].upper() + text[1:]


def _anchor(title: str) -> str:
  """What GitHub and MkDocs make of a heading."""
  kept = (x for x in title.lower() if x.isalnum() or x in ' -_')
  return ''.join(kept).replace(' ', '-')


def _colours(weights: np.ndarray) -> np.ndarray:
  """uint8 RGB of numbers from -1 to 1: red, white, blue."""
  import matplotlib

  blue, red = (matplotlib.colormaps[x] for x in ('Blues', 'Reds'))
  positive = weights[..., None] >= 0
  rgba = np.where(positive, blue(weights), red(-weights))
  rgba = np.where(weights[..., None] == 0, 1.0, rgba)
  return (255 * rgba[..., :3]).round().astype(np.uint8)


def _draw_sheet(
  path: pathlib.Path, drawn: list[tuple[Entry, np.ndarray]]
) -> None:
  """All pictures on one."""
  from matplotlib import patches, pyplot

  rows = -(-len(drawn) // _COLUMNS)
  figure, axes = pyplot.subplots(
    *(rows, _COLUMNS), figsize=(1.25 * _COLUMNS, 1.55 * rows)
  )
  for ax in axes.flat:
    ax.set_axis_off()
  for ax, (entry, pixels) in zip(axes.flat, drawn):
    ax.imshow(pixels, interpolation='nearest')
    ax.add_patch(
      patches.Rectangle(
        (0, 0), 1, 1, transform=ax.transAxes, fill=False, lw=0.5
      )
    )
    title = textwrap.fill(entry.title.partition(' (')[0], 22)
    ax.set_title(title, fontsize=6)
  figure.tight_layout(pad=0.4)
  figure.savefig(path, dpi=90)
  pyplot.close(figure)
