"""Start several processes of `train.py` on this machine, and watch them.

  python -m attn.training.launch --processes=4 --restarts=3 -- \
    --config=configs/tiny.py --config.mesh.data=4 --workdir=runs/four

Each has its share of `config.mesh`.  If one dies, the others are stopped; with
`--restarts` all start again, from the last checkpoint.
"""

import collections
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from absl import flags

import attn
from attn.training import command_line
from attn.training.errors import UserError

_MAIN = pathlib.Path(attn.__file__).parents[1] / 'train.py'

# Seconds between two looks, for the others to say what they have lost, and to
# save a checkpoint after Ctrl-C.
_EVERY, _LAST_WORDS, _GRACE = 0.05, 5.0, 50.0
# The exit status of a user's mistake, which another start will not mend.
_MISTAKE = 2


def define_flags() -> None:
  """The flags; what follows -- is for `train.py`."""
  flags.DEFINE_integer('processes', 2, 'How many.', lower_bound=1)
  flags.DEFINE_integer(
    'restarts', 0, 'How often all start again if one dies.', lower_bound=0
  )


def main(arguments: Sequence[str]) -> None:
  """Flags in, one call."""
  launch(flags.FLAGS.processes, arguments, flags.FLAGS.restarts)


def launch(count: int, arguments: Sequence[str], restarts: int = 0) -> None:
  """Run `train.py` in several processes, until all have ended.

  Args:
    count: How many.
    arguments: Of each.
    restarts: How often all start again if one dies.

  Raises:
    UserError: if one failed, and was not to start again.
  """
  # As Ctrl-C: what it started must not outlive it.
  for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)
  told = ''
  for left in range(restarts, -1, -1):
    with tempfile.TemporaryDirectory(prefix='attn-launch-') as folder:
      group = _Group(count, arguments, pathlib.Path(folder))
      try:
        failed = group.wait()
      except KeyboardInterrupt:
        # They save a checkpoint at the next line of the log.
        group.interrupt()
        group.join(_GRACE)
        raise
      finally:
        group.stop()
      if failed is None:
        return
      told, is_mistake = group.tell(failed)
    if is_mistake:
      raise UserError(told.removeprefix('error: '))
    if left:
      print(f'{told}; starting again, {left} left', file=sys.stderr, flush=True)
  raise UserError(f'{told}; the same command goes on from the last checkpoint')


class _Group:
  """Processes that live and die together."""

  def __init__(
    self, count: int, arguments: Sequence[str], folder: pathlib.Path
  ) -> None:
    port = _free_port()
    self._errors = [folder / str(index) for index in range(count)]
    self._processes = [
      _start(index, count, port, arguments, errors)
      for index, errors in enumerate(self._errors)
    ]

  def wait(self) -> int | None:
    """Until all have ended well; or the number of the first that has not."""
    while True:
      codes = [process.poll() for process in self._processes]
      for index, code in enumerate(codes):
        if code:
          self.join(_LAST_WORDS)
          return self._cause(index)
      if codes == [0] * len(codes):
        return None
      time.sleep(_EVERY)

  def _cause(self, first: int) -> int:
    """Whose end the others followed."""
    codes = [process.poll() for process in self._processes]
    for index, code in enumerate(codes):
      # JAX aborts those that have lost the coordinator.
      if code is not None and code < 0 and code != -signal.SIGABRT:
        return index
    return codes.index(_MISTAKE) if _MISTAKE in codes else first

  def join(self, seconds: float) -> None:
    """Give all some time to end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and None in [
      process.poll() for process in self._processes
    ]:
      time.sleep(_EVERY)

  def interrupt(self) -> None:
    """Ctrl-C in each; they are in a session of their own."""
    for process in self._processes:
      if process.poll() is None:
        process.send_signal(signal.SIGINT)

  def stop(self) -> None:
    """End those that have not ended; JAX keeps SIGTERM for itself."""
    for process in self._processes:
      process.kill()
      process.wait()

  def tell(self, failed: int) -> tuple[str, bool]:
    """What happened, and whether it is a user's mistake."""
    said = collections.Counter[str]()
    for errors in self._errors:
      lines = errors.read_text(errors='replace').splitlines()
      said.update({line for line in lines if line.startswith('error: ')})
    code = self._processes[failed].returncode
    if code == _MISTAKE and said:
      return max(said, key=lambda line: said[line]), True
    for line in said:
      print(line, file=sys.stderr)
    how = f'ended with status {code}'
    if code < 0:
      how = f'was ended by {signal.Signals(-code).name}'
    lines = self._errors[failed].read_text(errors='replace').splitlines()
    if code > 0 and not said and lines:
      how += f' ({lines[-1].strip()})'
    return f'process {failed} of {len(self._processes)} {how}', False


def _start(
  index: int,
  count: int,
  port: int,
  arguments: Sequence[str],
  errors: pathlib.Path,
) -> subprocess.Popen:
  command = [
    sys.executable,
    str(_MAIN),
    *arguments,
    f'--config.distributed.coordinator=127.0.0.1:{port}',
    f'--config.distributed.processes={count}',
    f'--config.distributed.process={index}',
  ]
  with open(errors, 'wb') as file:
    # Only the first has anything to say, but for what fails.
    quiet = subprocess.DEVNULL if index else None
    # Ctrl-C is for the launcher, which hands it on once.
    return subprocess.Popen(
      command, stdout=quiet, stderr=file, start_new_session=True
    )


def _free_port() -> int:
  with socket.socket() as listening:
    listening.bind(('127.0.0.1', 0))
    return listening.getsockname()[1]


if __name__ == '__main__':
  command_line.run(main, define_flags, takes_rest=True)
