"""One page about a run: what it learned, and who attends to whom.

The page is a single file that asks nobody for anything: style, script and
weights are part of it, and its content security policy forbids the rest.
"""

import base64
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attn.training.artifacts import (
  ACCURACIES,
  Path,
  accuracy_in,
  check_positions,
  check_weights,
  word_starts,
)
from attn.training.page import embed, escape, gaze_section, write_page
from attn.training.task import Alignment

# More points than a curve on a screen has pixels only make the file larger.
_MOST_POINTS = 2000

# What a small curve each is drawn of, and how it is called.
_COURSES = {
  'tokens_per_second': 'tokens a second',
  'learning_rate': 'learning rate',
  'gradient_norm': 'norm of the gradient',
}
_ENTROPY = 'attention_entropy/'
_SPOKEN = str.maketrans({'_': ' ', '/': ', '})

_SCRIPTS = (
  'report_chart.js',
  'report_courses.js',
  'report_gaze.js',
  'report_align.js',
  'report_main.js',
)


def write_report(
  path: Path,
  *,
  title: str,
  summary: Mapping[str, Any],
  history: Sequence[Mapping[str, Any]],
  floor: float | None,
  samples: Sequence[str],
  text: str,
  weights: np.ndarray,
  marked: Sequence[int],
  unit: str = 'character',
  alignments: Sequence[Alignment] = (),
) -> None:
  """Writes report.html: numbers, curve, samples, and a story to point at.

  Args:
    path: The file to write; its folder exists.
    title: The heading.
    summary: The numbers, or words, that the run ends with, by name.
    history: The lines of metrics.jsonl, each with `step`, `split` ('train' or
      'validation') and `loss` in nats per token, perhaps with `seconds`, one
      of `artifacts.ACCURACIES`, and what is drawn small: tokens_per_second,
      learning_rate, gradient_norm, attention_entropy/layer_1/head_1 ...
    floor: The least possible loss, in nats per token, if it is known.
    samples: Texts that the model wrote.
    text: The T characters that the model reads.
    weights: float[L, N, T, T]. Row t says whom character t attends to; what
      lies above the diagonal is not shown. They are rounded to 1/255. With
      no layer or head there is no story to point at.
    marked: Positions to underline: there the model predicts a far fact.
    unit: What a token is.
    alignments: Of translations, each shown as a matrix.

  Raises:
    ValueError: if weights do not fit the text, or a mark lies outside it.
    OSError: if the file cannot be written; an old one is left as it was.
  """
  weights = check_weights(text, weights, may_be_empty=True)
  check_positions('marked', marked, len(text))
  curves = {
    'train': _curve(history, 'train', 'loss'),
    'validation': _curve(history, 'validation', 'loss'),
    'accuracy': _curve(history, 'validation', accuracy_in(history)),
  }
  seconds = {line['step']: line.get('seconds') for line in history}
  steps = {step for curve in curves.values() for step, _ in curve}
  data = {
    'curves': curves,
    'seconds': {step: _finite(seconds[step]) for step in sorted(steps)},
    'floor': _finite(floor),
    'courses': _courses(history),
    'accuracyName': ACCURACIES[accuracy_in(history)],
    'unit': unit,
    # Characters one by one: for JavaScript some are two.
    'text': list(text),
    'words': word_starts(text),
    'layers': weights.shape[0],
    'heads': weights.shape[1],
    'weights': _encode(weights),
    'marked': sorted(map(int, marked)),
    'alignments': [_alignment(each) for each in alignments],
  }
  parts = {
    'title': escape(title),
    'summary': '\n'.join(
      f'<tr><th scope="row">{escape(name.replace("_", " "))}</th>'
      f'<td>{escape(_format(value))}</td></tr>'
      for name, value in summary.items()
    ),
    'gaze': gaze_section('character'),
    'samples': '\n'.join(
      f'<blockquote>{escape(sample)}</blockquote>' for sample in samples
    ),
    'samples_hidden': '' if samples else ' hidden',
    'data': embed(data),
  }
  write_page(
    path,
    'report.html.template',
    styles=['report.css'],
    scripts=_SCRIPTS,
    parts=parts,
  )


def _format(value: Any) -> str:
  """A number as one reads it: 1,234,567 or 0.4312."""
  if isinstance(value, numbers.Real) and not isinstance(value, bool):
    number = float(value)
    if isinstance(value, numbers.Integral) or abs(number) >= 1000:
      return f'{value:,.0f}'
    return f'{number:.4g}'
  return str(value)


def _curve(
  history: Sequence[Mapping[str, Any]], split: str, name: str
) -> list[tuple[int, float | None]]:
  """(step, value) pairs; None, which leaves a gap, for what is not finite."""
  lines = [h for h in history if h['split'] == split and name in h]
  # The last line, which the summary quotes, is kept.
  stride = math.ceil(len(lines) / _MOST_POINTS) or 1
  kept = lines[::-1][::stride][::-1]
  return [(int(line['step']), _finite(line[name])) for line in kept]


def _courses(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """What is drawn small: a title, and curves with their names."""
  courses = [
    {'title': title, 'curves': [{'name': title, 'points': points}]}
    for name, title in _COURSES.items()
    if (points := _curve(history, 'train', name))
  ]
  heads = dict.fromkeys(
    name for line in history for name in line if name.startswith(_ENTROPY)
  )
  if heads:
    curves = [
      {
        'name': name.removeprefix(_ENTROPY)
        .replace('_', ' ')
        .replace('/', ', '),
        'points': _curve(history, 'validation', name),
      }
      for name in heads
    ]
    title = 'entropy of attention, nats, of each head'
    courses.append({'title': title, 'curves': curves})
  return courses


def _finite(value: float | None) -> float | None:
  if value is None or not math.isfinite(value):
    return None
  return float(f'{value:.6g}')


def _alignment(alignment: Alignment) -> dict[str, Any]:
  """An alignment as the page's script reads it."""
  wanted = (len(alignment.target), len(alignment.source))
  if alignment.weights.shape != wanted:
    raise ValueError(
      f'alignments: got weights of shape {alignment.weights.shape}, wanted '
      f'{wanted}, for so many target and source words'
    )
  return {
    'source': list(alignment.source),
    'target': list(alignment.target),
    'weights': _as_bytes(alignment.weights),
    'gold': sorted(alignment.gold or ()),
  }


def _encode(weights: np.ndarray) -> str:
  """One byte a weight, the lower triangles row by row, as base64."""
  rows, columns = np.tril_indices(weights.shape[-1])
  return _as_bytes(weights[..., rows, columns])


def _as_bytes(weights: np.ndarray) -> str:
  """One byte a weight, as base64."""
  shares = np.nan_to_num(weights).clip(0, 1)
  bytes_ = np.rint(shares * 255).astype(np.uint8)
  return base64.b64encode(bytes_.tobytes()).decode()
