"""Runs that are killed, and must end as if they had not been.

  python -m benchmarks.kills --kills=200

A short run is killed by SIGKILL at random moments, from its start to past its
end, and started again, until it is finished; then the next one.  Each must end
with the same bits as a run that nobody killed.
"""

import multiprocessing
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from absl import flags

from attn.training import command_line
from attn.training.config import Config
from attn.training.errors import UserError
from attn.training.loop import train
from attn.training.run_directory import RunDirectory
from attn.training.trained import load_language
from benchmarks import machine, results
from configs import tiny

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'kills.json'


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_integer('kills', 200, 'How many.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Of the moments.')
  flags.DEFINE_string(
    'out',
    None,
    'Where what was found is kept as JSON. By default '
    'benchmarks/results/kills.json, and nowhere for fewer than 100 kills.',
  )


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  out = results.destination(
    values.out, _RESULTS if values.kills >= 100 else None
  )
  with tempfile.TemporaryDirectory() as folder:
    found = soak(values.kills, values.seed, pathlib.Path(folder))
  if out is not None:
    record = {'machine': machine.describe(), **found}
    results.update(out, 'kills', {'tiny': record})
  print(
    '{kills} kills, {runs} runs, {checkpoints} of the kills after a first '
    'checkpoint; all resumed, all ended with the same bits'.format(**found)
  )


def make_config() -> Config:
  """A few steps of a small model, with dropout: its randomness must return."""
  config: Config = tiny.get_config()
  config.update(steps=24, batch_size=2)
  config.model.update(num_layers=1, embed_dim=8, mlp_dim=8, dropout_rate=0.1)
  config.eval.update(every=6, rows=2, log_every=2)
  config.checkpoint.every = 4
  return config


def soak(kills: int, seed: int, folder: pathlib.Path) -> dict[str, Any]:
  """Kill so many times.

  Args:
    kills: How many.
    seed: Of the moments.
    folder: Scratch.

  Returns:
    What was found.

  Raises:
    UserError: if a run fails for itself, or ends with other bits.
  """
  # A process that has imported everything, and is forked for each run.
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(['attn.training.loop'])
  start = _Starter(context, folder)
  # Compiled programs are kept between runs; the first is not timed.
  start(folder / 'compiling').join()
  begin = time.monotonic()
  _check(start(folder / 'undisturbed'))
  whole = time.monotonic() - begin
  expected = final(folder / 'undisturbed')
  moments, done, runs, late = random.Random(seed), 0, 0, 0
  while done < kills:
    workdir = folder / f'run {runs}'
    while done < kills:
      process = start(workdir)
      process.join(moments.uniform(0, 1.1 * whole))
      if process.exitcode is not None:
        break
      process.kill()
      process.join()
      if process.exitcode == -signal.SIGKILL:
        done += 1
        late += any((workdir / 'checkpoints').glob('[0-9]*'))
      _progress(done, kills)
    else:
      process = start(workdir)
    _check(process)
    compare(expected, final(workdir), runs)
    runs += 1
  return {'kills': done, 'runs': runs, 'checkpoints': late}


def final(workdir: pathlib.Path) -> tuple[Any, list[Any]]:
  """The parameters that a run ended with, and what it measured at the end."""
  run = RunDirectory(workdir)
  lines = run.read_metrics()
  judged = [
    (line['step'], line['loss'])
    for line in lines
    if line['split'] == 'validation'
  ]
  return jax.device_get(load_language(run).params), judged


class _Starter:
  """Starts a run in a process of its own."""

  def __init__(self, context: Any, folder: pathlib.Path) -> None:
    self._context = context
    self._folder = folder

  def __call__(self, workdir: pathlib.Path) -> Any:
    arguments = workdir, self._folder / 'programs', self._folder / 'log'
    process = self._context.Process(target=_run, args=arguments)
    process.start()
    return process


def _run(
  workdir: pathlib.Path, programs: pathlib.Path, log: pathlib.Path
) -> None:
  with open(log, 'a', encoding='utf-8') as file:
    for stream in (sys.stdout, sys.stderr):
      os.dup2(file.fileno(), stream.fileno())
  # Written by the first run, which is not killed; the others only read.
  jax.config.update('jax_compilation_cache_dir', str(programs))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  train(make_config(), str(workdir))


def _check(process: Any) -> None:
  process.join()
  if process.exitcode != 0:
    raise UserError(f'a run ended with status {process.exitcode}, wanted 0')


def compare(expected: Any, got: Any, number: int) -> None:
  """Refuse what `final` tells of a run, where it is not what is expected."""
  same = jax.tree.map(np.array_equal, expected[0], got[0])
  if not all(jax.tree.leaves(same)) or expected[1] != got[1]:
    raise UserError(f'run {number} ended with other bits than one not killed')


def _progress(done: int, kills: int) -> None:
  if done % 10 == 0:
    print(f'{done} of {kills}', file=sys.stderr, flush=True)


if __name__ == '__main__':
  command_line.run(main, define_flags)
