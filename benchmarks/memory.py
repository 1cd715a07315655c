"""Does a long run need more memory?  python -m benchmarks.memory.

A small model is trained for ten thousand steps in a process of its own, with an
evaluation and a checkpoint every fifty; what the process holds after a hundred
steps is compared with what it holds at the end.
"""

import contextlib
import multiprocessing
import pathlib
import tempfile
import time
from typing import Any

from absl import flags

from attn.training import command_line
from attn.training.config import Config
from attn.training.errors import UserError
from attn.training.loop import train
from attn.training.run_directory import RunDirectory
from benchmarks import machine, results
from configs import tiny

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'memory.json'


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_integer(
    'early', 100, 'Steps after which it is first looked at.', lower_bound=1
  )
  flags.DEFINE_integer('steps', 10_000, 'Steps in all.', lower_bound=1)
  flags.DEFINE_string(
    'out',
    str(_RESULTS),
    "Where the figures are kept as JSON; '' for nowhere.",
  )


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  out = results.destination(values.out or None, None)
  with tempfile.TemporaryDirectory() as folder:
    held = watch(make_config(values.steps, values.early), folder)
  early = next((size for step, size in held if step >= values.early), None)
  if early is None or len(held) < 2:
    raise UserError('--steps: the run was over before it was looked at twice')
  last = held[-1][1]
  growth = last / early - 1
  record = {
    'machine': machine.describe(),
    'held': held,
    'early': early,
    'last': last,
    'growth': growth,
  }
  if out is not None:
    results.update(out, 'memory', {'tiny': record})
  print(
    f'after {values.early} steps {early / 1e6:.1f} MB, after {held[-1][0]} '
    f'{last / 1e6:.1f} MB: growth {growth:.2%}'
  )


def make_config(steps: int, early: int) -> Config:
  """A small model that does everything before it is looked at."""
  config: Config = tiny.get_config()
  config.update(steps=steps, batch_size=2)
  config.model.update(embed_dim=16, mlp_dim=16)
  often = max(early // 2, 1)
  config.eval.update(every=often, rows=2, log_every=max(often // 2, 1))
  config.checkpoint.every = often
  return config


def watch(config: Config, folder: str) -> list[tuple[int, int]]:
  """Train, and look every fifth of a second.

  Returns:
    (step, bytes that the process holds), of the steps between the first and
    the last that were told of.

  Raises:
    UserError: if the run fails.
  """
  context = multiprocessing.get_context('spawn')
  process = context.Process(target=train, args=(config, folder + '/run'))
  process.start()
  held: list[tuple[int, int]] = []
  run = RunDirectory(pathlib.Path(folder, 'run'))
  while process.is_alive():
    time.sleep(0.2)
    step = _last_step(run)
    size = machine.held_bytes(process.pid)
    # Pictures are drawn after the last step, in memory of their own.
    if size is not None and 0 < step < config.steps:
      held.append((step, size))
  process.join()
  if process.exitcode != 0:
    raise UserError(f'the run ended with status {process.exitcode}, wanted 0')
  return held


def _last_step(run: RunDirectory) -> int:
  lines: list[dict[str, Any]] = []
  # A line may just be written.
  with contextlib.suppress(ValueError):
    lines = run.read_metrics()
  return lines[-1]['step'] if lines else 0


if __name__ == '__main__':
  command_line.run(main, define_flags)
