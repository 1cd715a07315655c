"""Several processes, of which one is killed, and all must start again.

  python -m benchmarks.process_kills --kills=20

A run of two or more processes is started by `attn.training.launch`; at random
moments a random one of them is killed by SIGKILL.  The others must stop, and
all start again; the run must end with the same bits as one that nobody
disturbed.  The longest that any of it took is told.
"""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags

from attn.training import command_line
from attn.training.errors import UserError
from benchmarks import machine, results
from benchmarks.kills import compare, final

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'process_kills.json'

# A small model, and enough steps that a kill falls among them.
_TRAIN = (
  '--config.steps=80',
  '--config.batch_size=4',
  '--config.model.embed_dim=8',
  '--config.model.mlp_dim=8',
  '--config.model.num_layers=1',
  '--config.model.dropout_rate=0.1',
  '--config.eval.every=80',
  '--config.eval.rows=4',
  '--config.eval.log_every=10',
  '--config.checkpoint.every=10',
)
# Nobody may hang for longer after a kill, in seconds.
_MOST = 60.0
# A start and a few steps, of which a machine that has much else to do takes
# minutes, and nobody hangs.
_PATIENCE = 600.0
_LOOK = 0.02


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_integer('kills', 20, 'How many.', lower_bound=1)
  flags.DEFINE_integer('processes', 2, 'In each run.', lower_bound=2)
  flags.DEFINE_integer('seed', 0, 'Of the moments.')
  flags.DEFINE_string(
    'out',
    None,
    'Where what was found is kept as JSON. By default '
    'benchmarks/results/process_kills.json, and nowhere for fewer than 20.',
  )


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  out = results.destination(
    values.out, _RESULTS if values.kills >= 20 else None
  )
  with tempfile.TemporaryDirectory() as folder:
    found = soak(
      values.kills, values.processes, values.seed, pathlib.Path(folder)
    )
  if out is not None:
    record = {'machine': machine.describe(), **found}
    results.update(out, 'process_kills', {'tiny': record})
  print(
    '{kills} kills of one of {processes} processes in {runs} runs; all went on '
    'and ended with the same bits; the others stopped after at most '
    '{seconds_to_stop} s'.format(**found)
  )


def soak(
  kills: int, processes: int, seed: int, folder: pathlib.Path
) -> dict[str, Any]:
  """Kill so many times.

  Args:
    kills: How many.
    processes: In each run.
    seed: Of the moments.
    folder: Scratch.

  Returns:
    What was found.

  Raises:
    UserError: if a run fails or ends with other bits, or a process hangs.
  """
  moments, done, runs, longest = random.Random(seed), 0, 0, 0.0
  with _Launched(processes, folder / 'undisturbed', folder, 0) as first:
    first.end()
  expected = final(folder / 'undisturbed')
  while done < kills:
    workdir = folder / f'run {runs}'
    with _Launched(processes, workdir, folder, kills - done) as launched:
      while done < kills and launched.await_checkpoint(moments.randint(1, 4)):
        longest = max(longest, launched.kill_one(moments))
        done += 1
        print(f'{done} of {kills}', file=sys.stderr, flush=True)
      launched.end()
    compare(expected, final(workdir), runs)
    runs += 1
  return {
    'kills': done,
    'processes': processes,
    'runs': runs,
    'seconds_to_stop': round(longest, 1),
  }


class _Launched:
  """A launcher and the processes that it started, which do not outlive it.

  A context manager.
  """

  def __init__(
    self,
    processes: int,
    workdir: pathlib.Path,
    folder: pathlib.Path,
    restarts: int,
  ) -> None:
    self._workdir = workdir
    self._log = folder / 'log'
    command = [
      sys.executable,
      '-m',
      'attn.training.launch',
      f'--processes={processes}',
      f'--restarts={restarts}',
      '--',
      *_TRAIN,
      f'--config.mesh.fsdp={processes}',
      f'--workdir={workdir}',
    ]
    # Written by the first run, which is not killed; the others only read.
    compiled = {
      'JAX_COMPILATION_CACHE_DIR': str(folder / 'programs'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    }
    with open(self._log, 'wb') as log:
      self._process = subprocess.Popen(
        command, stdout=log, stderr=log, env=os.environ | compiled
      )

  def __enter__(self) -> '_Launched':
    """Started already."""
    return self

  def __exit__(self, *_: object) -> None:
    """After an error the launcher is there still; it ends what it started."""
    if self._process.poll() is None:
      self._process.terminate()
      self._process.wait()

  def await_checkpoint(self, more: int) -> bool:
    """Until so many more are there; False if the run ends before."""
    begin, before = time.monotonic(), self._checkpoints()
    while self._checkpoints() < before + more:
      if self._process.poll() is not None:
        return False
      if time.monotonic() - begin > _PATIENCE:
        raise UserError(f'a run hangs: {self._log.read_text()}')
      time.sleep(_LOOK)
    return bool(self._children())

  def kill_one(self, moments: random.Random) -> float:
    """Kill one; the seconds until all others of its start are gone."""
    children = self._children()
    if not children:
      return 0.0
    os.kill(moments.choice(children), signal.SIGKILL)
    begin = time.monotonic()
    while set(children) & set(self._children()):
      if time.monotonic() - begin > _MOST:
        raise UserError(f'a process hangs: {self._log.read_text()}')
      time.sleep(_LOOK)
    return time.monotonic() - begin

  def end(self) -> None:
    """Wait for the end, which must be a good one."""
    try:
      status = self._process.wait(_PATIENCE)
    except subprocess.TimeoutExpired as error:
      raise UserError(f'a run hangs: {self._log.read_text()}') from error
    if status != 0:
      raise UserError(f'a run failed: {self._log.read_text()}')

  def _checkpoints(self) -> int:
    """The step of the newest, as a number of checkpoints."""
    folder = self._workdir / 'checkpoints'
    names = [path.name for path in folder.glob('*') if path.name.isdecimal()]
    return max(map(int, names), default=0) // 10

  def _children(self) -> list[int]:
    children = []
    for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
      try:
        state, parent = re.findall(r'\) (\S) (\d+)', path.read_text())[-1]
      except (OSError, IndexError):
        continue
      if int(parent) == self._process.pid and state != 'Z':
        children.append(int(path.parent.name))
    return children


if __name__ == '__main__':
  command_line.run(main, define_flags)
