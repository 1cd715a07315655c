"""Ctrl-C, noticed between two steps."""

import signal
import types


class Interrupt:
  """A context in which the first Ctrl-C only raises a flag.

  The second one interrupts at once.

  Attributes:
    requested: Whether there was one.
  """

  def __init__(self) -> None:
    self.requested = False

  def __enter__(self) -> 'Interrupt':
    """Take over SIGINT."""
    self._previous = signal.signal(signal.SIGINT, self._notice)
    return self

  def __exit__(self, *_: object) -> None:
    """Give SIGINT back."""
    signal.signal(signal.SIGINT, self._previous)

  def _notice(self, number: int, frame: types.FrameType | None) -> None:
    del number, frame
    self.requested = True
    signal.signal(signal.SIGINT, self._previous)
