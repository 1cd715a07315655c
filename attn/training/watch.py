"""Processes that fall behind are told of while they do."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping

from attn.training.processes import Processes

# Seconds between two looks, and until what is late is told of.
_EVERY, _PATIENCE = 1.0, 5.0


class Lateness:
  """Who has been late for how long, from what each said of itself.

  Example:
    >>> lateness = Lateness(patience=5.0)
    >>> lateness.look(0.0, {0: (1, 7), 1: (1, 7)})  # beat and step of each
    []
    >>> lateness.look(3.0, {0: (2, 8), 1: (2, 7)})
    []
    >>> lateness.look(9.0, {0: (3, 8), 1: (3, 7)})
    ['process 1 is behind: for 6 s at step 7, the others at step 8']
    >>> lateness.look(10.0, {0: (4, 8), 1: (3, 7)})  # told once
    []
    >>> lateness.look(16.0, {0: (5, 9), 1: (3, 7)})
    ['process 1 has given no sign of life for 7 s, since step 7']
  """

  def __init__(self, patience: float) -> None:
    """Args: patience, seconds until what is late is told of."""
    self._patience = patience
    self._beats: dict[int, tuple[int, float]] = {}
    self._stands: dict[int, tuple[int, float]] = {}
    self._told: set[tuple[int, str]] = set()

  def look(self, now: float, heard: Mapping[int, tuple[int, int]]) -> list[str]:
    """What is to be told.

    Args:
      now: Seconds.
      heard: How often each process has spoken, and its step.

    Returns:
      A line for each process that has become late.
    """
    told, most = [], max((step for _, step in heard.values()), default=0)
    for index, (beat, step) in sorted(heard.items()):
      if self._beats.get(index, (None, now))[0] != beat:
        self._beats[index] = beat, now
      silent = now - self._beats[index][1]
      # What each says is up to a second old; only who stands still is behind.
      since = self._stands.get(index, (-1, now))
      if step == most or since[0] != step:
        since = (-1 if step == most else step), now
      self._stands[index] = since
      behind = now - since[1]
      told += self._once(
        index,
        'silent',
        silent,
        f'has given no sign of life for {silent:.0f} s, since step {step}',
      )
      told += self._once(
        index,
        'behind',
        behind if not silent else 0,
        f'is behind: for {behind:.0f} s at step {step}, the others at step '
        f'{most}',
      )
    return told

  def _once(self, index: int, kind: str, late: float, line: str) -> list[str]:
    if late < self._patience:
      if not late:
        self._told.discard((index, kind))
      return []
    if (index, kind) in self._told:
      return []
    self._told.add((index, kind))
    return [f'process {index} {line}']


class Watch:
  """Says in each process how far it is, and in the first who is late.

  A context manager.
  """

  def __init__(self, processes: Processes, say: Callable[[str], None]) -> None:
    """Args: the processes; what tells a person."""
    self._processes = processes
    self._say = say
    self._step = 0
    self._ends = threading.Event()
    self._thread = threading.Thread(target=self._look, daemon=True)

  def __enter__(self) -> 'Watch':
    """Begin, if there is anybody to look at."""
    if self._processes.count > 1:
      self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    """End."""
    self._ends.set()
    if self._processes.count > 1:
      self._thread.join(2 * _EVERY)

  def at(self, step: int) -> None:
    """Tell that a step is about to be made."""
    self._step = step

  def _look(self) -> None:
    lateness, beat = Lateness(_PATIENCE), 0
    # When the coordinator is gone there is nobody to ask, and the step fails.
    with contextlib.suppress(Exception):
      while not self._ends.wait(_EVERY):
        beat += 1
        self._processes.tell('at', (beat, self._step))
        if self._processes.is_first:
          heard = self._processes.last_heard('at')
          for line in lateness.look(time.monotonic(), heard):
            self._say(line)
