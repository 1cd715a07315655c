"""The end of a run: what it learned, in numbers, words and pictures."""

import json
import statistics
import time
from typing import Any

import jax

from attn.modules.ngram_counts import apart
from attn.training.artifacts import replace_file
from attn.training.config import Config
from attn.training.figures import draw_loss_curve
from attn.training.report import write_report
from attn.training.run_directory import RunDirectory
from attn.training.task import Task


def finish(
  config: Config,
  run: RunDirectory,
  task: Task,
  params: Any,
  started: float,
) -> dict[str, Any]:
  """Write samples, figures, the report and, last of all, the summary.

  Args:
    config: The experiment.
    run: Its directory, with all metrics.
    task: What was trained.
    params: Its final parameters.
    started: When the run started, on the monotonic clock.

  Returns:
    The summary.
  """
  history = run.read_metrics()
  summary = _summarise(config, history, params)
  run.figures.mkdir(exist_ok=True)
  draw_loss_curve(run.figures / 'loss.png', history, task.floor, unit=task.unit)
  exhibits = task.exhibit(run, params)
  summary |= exhibits.results
  samples = '\n'.join([*exhibits.samples, ''])
  replace_file(run.path / 'samples.txt', samples.encode())
  summary['seconds'] = round(time.monotonic() - started, 1)
  write_report(
    run.path / 'report.html',
    title=f'Run {run.path.name}',
    summary=summary,
    history=history,
    floor=task.floor,
    unit=task.unit,
    samples=exhibits.samples,
    text=exhibits.text,
    weights=exhibits.weights,
    marked=exhibits.marked,
    alignments=exhibits.alignments,
  )
  replace_file(run.summary, json.dumps(summary, indent=2).encode())
  print(_tell(run, summary, exhibits.samples, task.unit), flush=True)
  return summary


# Of which the summary tells the median, to so many digits.
_SPEEDS = {
  'tokens_per_second': None,
  'milliseconds_per_step': 1,
  'share_of_product_rate': 3,
}


def _summarise(
  config: Config, history: list[dict[str, Any]], params: Any
) -> dict[str, Any]:
  trained = [line for line in history if line['split'] == 'train']

  speeds = {}
  for name, digits in _SPEEDS.items():
    measured = [line[name] for line in trained if name in line]
    if measured:
      speeds[name] = round(statistics.median(measured), digits)
  last = [line for line in history if line['split'] == 'validation'][-1]
  judged = {
    name: value
    for name, value in last.items()
    if name not in ('step', 'seconds', 'split') and '/' not in name
  }
  return {
    'steps': config.steps,
    'seconds': 0.0,
    **speeds,
    'parameters': sum(x.size for x in jax.tree.leaves(apart(params)[0])),
    **judged,
  }


# What a run tells of itself, in this order, if it was measured.
_TOLD = {
  'loss': ('loss', '{loss:.4f} nats per {unit}'),
  'floor': ('floor', '{floor:.4f}'),
  'gap': ('gap', '{gap:.4f}'),
  'far_fact_accuracy': (
    'far-fact accuracy',
    '{far_fact_accuracy:.1%}  (by chance {far_fact_chance:.1%})',
  ),
  'exact_match': ('exact match', '{exact_match:.1%}'),
  'exact_match_long': ('  of long ones', '{exact_match_long:.1%}'),
  'exact_match_longer': ('  of longer ones', '{exact_match_longer:.1%}'),
  'bleu': ('BLEU', '{bleu:.1f}'),
  'alignment_error_rate': ('alignment error', '{alignment_error_rate:.3f}'),
}


def _tell(
  run: RunDirectory, summary: dict[str, Any], samples: list[str], unit: str
) -> str:
  lines = [
    '',
    f'{run.path} is finished: {summary["steps"]} steps, '
    f'{summary["seconds"]:.0f} s, '
    f'{summary["tokens_per_second"]:,} tokens/s',
  ]
  lines += [
    f'  {label:<19}{form.format(unit=unit, **summary)}'
    for name, (label, form) in _TOLD.items()
    if name in summary
  ]
  lines += [
    '',
    'samples:',
    *(f'  {sample}' for sample in samples),
    '',
    'wrote:',
  ]
  lines += [
    f'  {path}'
    for path in (
      *sorted(run.figures.glob('*.png')),
      run.path / 'report.html',
      run.path / 'samples.txt',
      run.metrics,
      run.summary,
    )
  ]
  return '\n'.join(lines)
