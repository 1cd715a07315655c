"""A trace of a few steps, for Perfetto or TensorBoard."""

import pathlib

import jax

# The first steps compile.
_FIRST, _STEPS = 11, 10


class Profile:
  """Traces ten steps, from 11 on, of what is run in it; a context manager."""

  def __init__(self, path: pathlib.Path | None) -> None:
    """Args: path of the folder to write; None to trace nothing."""
    self._path = path
    self._begun: int | None = None
    self._is_tracing = False

  def __enter__(self) -> 'Profile':
    """Trace nothing yet."""
    return self

  def __exit__(self, *_: object) -> None:
    """End the trace, if it has begun."""
    self._end()

  def before(self, step: int) -> None:
    """Tell that steps are about to be made, the first being 1."""
    if self._path is None or step < _FIRST:
      return
    if self._begun is None:
      jax.profiler.start_trace(self._path, create_perfetto_trace=True)
      self._begun, self._is_tracing = step, True
    elif step >= self._begun + _STEPS:
      self._end()

  def _end(self) -> None:
    if self._is_tracing:
      self._is_tracing = False
      jax.profiler.stop_trace()
      print(f'profile: {self._path}')
