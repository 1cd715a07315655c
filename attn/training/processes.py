"""Several processes that train one model: who they are, and what they agree on.

They find each other through the first of them, the coordinator.  JAX says who
is who where a scheduler has told (SLURM, Open MPI, Cloud TPU, GKE).
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from attn.training.config import Config
from attn.training.errors import LostError, UserError
from attn.training.run_directory import first_difference

# Seconds after which a process that gives no sign of life is taken for dead.
_SILENCE = 30
# Seconds that the others wait for the first, which draws the figures.
_FAREWELL = 1800


class Processes:
  """All that train one model.

  Attributes:
    count: How many there are.
    index: Which of them this is, from 0.
    timeout: Seconds that one waits for another.
  """

  def __init__(self, count: int = 1, index: int = 0, timeout: int = 60) -> None:
    """Args: see the class."""
    self.count = count
    self.index = index
    self.timeout = timeout

  @property
  def is_first(self) -> bool:
    """Whether this is the one that prints and writes."""
    return self.index == 0

  def tell(self, name: str, value: Any) -> None:
    """Let the others know something, under a name and this process's number."""
    text = json.dumps(value)
    key = f'attn/{name}/{self.index}'
    _client().key_value_set(key, text, allow_overwrite=True)

  def hear(self, name: str, index: int) -> Any:
    """What a process told, or will soon tell.

    Raises:
      LostError: if it does not.
    """
    try:
      return json.loads(
        _client().blocking_key_value_get(
          f'attn/{name}/{index}', 1000 * self.timeout
        )
      )
    except Exception as error:
      raise LostError(
        f'distributed: process {self.index} waited {self.timeout} s for '
        f'process {index} to tell its {name}'
      ) from error

  def last_heard(self, name: str) -> dict[int, Any]:
    """What processes have told so far."""
    told = _client().key_value_dir_get(f'attn/{name}/')
    return {int(key.rpartition('/')[2]): json.loads(x) for key, x in told}

  def agree(self, config: Config, workdir: str) -> None:
    """Check that all were given the same.

    Raises:
      UserError: naming the process and the field that differs.
    """
    if self.count == 1:
      return
    mine = {**config.to_dict(), 'workdir': workdir}
    del mine['distributed']
    self.tell('config', mine)
    given = [self.hear('config', index) for index in range(self.count)]
    for index, other in enumerate(given):
      difference = first_difference(given[0], other)
      if difference:
        raise UserError(
          f'config: process {index} was given another than process 0 '
          f'({difference})'
        )

  def first_does(self, name: str, function: Callable[[], Any]) -> Any:
    """What the function returns to the first, the only one to call it.

    Raises:
      UserError: in all of them, if it raises one there.
    """
    if self.count == 1:
      return function()
    if self.is_first:
      try:
        made = function()
      except UserError as error:
        self.tell(name, {'error': str(error)})
        raise
      self.tell(name, {'made': made})
      return made
    told = self.hear(name, 0)
    if 'error' in told:
      raise UserError(told['error'])
    return told['made']

  def is_any(self, flag: bool) -> bool:
    """Whether it is true of any; all must ask at the same time."""
    return any(self.gather(flag))

  def gather(self, value: int) -> list[int]:
    """What each has, below 2 ** 64; all must ask at the same time."""
    if self.count == 1:
      return [value]
    halves = np.array([value >> 32, value & 2**32 - 1], np.uint32)
    gathered = multihost_utils.process_allgather(halves).tolist()
    return [(high << 32) + low for high, low in gathered]


def connect(options: Mapping[str, Any]) -> Processes:
  """Find the others; must happen before anything is computed.

  Args:
    options: `config.distributed`; nothing for a process alone.

  Returns:
    Who they are.

  Raises:
    UserError: if the options do not say.
  """
  count = options.get('processes', 1)
  if count == 1:
    return Processes()
  index, where = options['process'], options['coordinator']
  timeout = options['timeout']
  named: dict[str, Any] = {}
  if count != -1:
    _check(count, index, where)
    named = {
      'coordinator_address': where,
      'num_processes': count,
      'process_id': index,
      # Nothing else is to be detected.
      'cluster_detection_method': 'deactivate',
    }
  with _time_limit(timeout, where or 'the address of the scheduler', index):
    try:
      jax.distributed.initialize(
        **named,
        # Later than the limit: JAX would end the process without a word of it.
        initialization_timeout=2 * timeout + 10,
        heartbeat_timeout_seconds=_SILENCE,
        shutdown_timeout_seconds=_FAREWELL,
      )
    except (RuntimeError, ValueError) as error:
      raise UserError(
        f'config.distributed: {str(error).splitlines()[0]}'
      ) from error
  if count == -1:
    count, index = jax.process_count(), jax.process_index()
  return Processes(count, index, timeout)


def _check(count: int, index: int, where: str) -> None:
  host, _, port = where.rpartition(':')
  if not (host and port.isdecimal()):
    raise UserError(
      f'config.distributed.coordinator: got {where!r}, wanted HOST:PORT of '
      'process 0'
    )
  if count < 1:
    raise UserError(
      f'config.distributed.processes: got {count}, wanted at least 1, or -1 '
      'for what a scheduler says'
    )
  if not 0 <= index < count:
    raise UserError(
      f'config.distributed.process: got {index}, wanted 0 to {count - 1}'
    )


@contextlib.contextmanager
def _time_limit(seconds: int, where: str, index: int):
  """End the process if the others do not come in time."""

  def end() -> None:
    awaited = 'the other processes' if index == 0 else 'process 0'
    print(
      f'error: distributed: waited {seconds} s for {awaited} at {where}',
      file=sys.stderr,
      flush=True,
    )
    # What waits is not Python.
    os._exit(2)

  timer = threading.Timer(seconds, end)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _client() -> Any:
  return multihost.get_jax_distributed_client()
