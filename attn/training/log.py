"""What a run tells while it runs: to a person, to a file, to TensorBoard."""

import json
import time
from typing import Any

import rich.console
import rich.progress
import tensorboardX

from attn.training.run_directory import RunDirectory


class Log:
  """Three readers of the same numbers.

  On a terminal a progress bar, elsewhere plain lines; `metrics.jsonl`; and
  TensorBoard events.  A context manager.
  """

  def __init__(
    self, run: RunDirectory, steps: int, step: int, floor: float | None
  ) -> None:
    """Args: the run; its steps in all and done; the floor, if known."""
    self._steps = steps
    self._first_step = step
    self._floor = floor
    self._begin = time.monotonic()
    self._file = open(run.metrics, 'a', encoding='utf-8')  # noqa: SIM115
    self._events = tensorboardX.SummaryWriter(str(run.path / 'tensorboard'))
    self._console = rich.console.Console()
    self._bar = _make_bar(self._console)
    self._task = self._bar.add_task('', total=steps, completed=step, told='')
    self._validation = ''

  def __enter__(self) -> 'Log':
    """Start drawing the bar."""
    if self._console.is_terminal:
      self._bar.start()
    return self

  def __exit__(self, *_: object) -> None:
    """Close the files."""
    self._bar.stop()
    self._file.close()
    self._events.close()

  def train(self, line: dict[str, Any]) -> None:
    """Tell of training steps: step, seconds, loss, tokens_per_second."""
    self._write({'split': 'train', **line})
    told = f'loss {line["loss"]:.4f}'
    if self._floor is not None:
      told += f'  floor {self._floor:.4f}'
    told += f'{self._validation}  {line["tokens_per_second"]:,.0f} tokens/s'
    if self._console.is_terminal:
      self._bar.update(self._task, completed=line['step'], told=told)
    else:
      left = self._seconds_left(line['step'])
      self.say(f'step {line["step"]}/{self._steps}  {told}  {left} left')

  def validation(self, line: dict[str, Any]) -> None:
    """Tell of an evaluation: step, seconds, loss and what else is known."""
    self._write({'split': 'validation', **line})
    parts = [f'  validation {line["loss"]:.4f}']
    if 'gap' in line:
      parts.append(f'gap {line["gap"]:.4f}')
    if 'far_fact_accuracy' in line:
      parts.append(f'far facts {line["far_fact_accuracy"]:.1%}')
    self._validation = '  '.join(parts)

  def say(self, message: str) -> None:
    """Tell a person."""
    if self._console.is_terminal:
      self._console.print(message, highlight=False, markup=False)
    else:
      print(message, flush=True)

  def _write(self, line: dict[str, Any]) -> None:
    self._file.write(json.dumps(line) + '\n')
    self._file.flush()
    for name, value in line.items():
      if name not in ('step', 'split'):
        tag = f'{line["split"]}/{name}'
        self._events.add_scalar(tag, value, line['step'])

  def _seconds_left(self, step: int) -> str:
    done = max(step - self._first_step, 1)
    seconds = (time.monotonic() - self._begin) / done * (self._steps - step)
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


class Silence:
  """A `Log` that nobody reads."""

  def __enter__(self) -> 'Silence':
    """Do nothing."""
    return self

  def __exit__(self, *_: object) -> None:
    """Do nothing."""

  def train(self, line: dict[str, Any]) -> None:
    """Do nothing."""

  def validation(self, line: dict[str, Any]) -> None:
    """Do nothing."""

  def say(self, message: str) -> None:
    """Do nothing."""


def _make_bar(console: rich.console.Console) -> rich.progress.Progress:
  return rich.progress.Progress(
    rich.progress.MofNCompleteColumn(),
    rich.progress.BarColumn(bar_width=24),
    rich.progress.TextColumn('{task.fields[told]}'),
    rich.progress.TimeRemainingColumn(),
    console=console,
    transient=True,
  )
