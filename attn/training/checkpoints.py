"""Checkpoints: whole or not at all, and checked when they are read."""

import errno
import os
import pathlib
import shutil
import sys
import tempfile
import zlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from attn.training.errors import UserError
from attn.training.step import State


class Checkpoints:
  """The last few states of a run, kept by Orbax.

  Orbax writes a checkpoint under another name and renames it when it is
  complete, so a killed run leaves none that is half written.  A checksum tells
  one that was damaged later.
  """

  def __init__(self, path: pathlib.Path, keep: int) -> None:
    """Args: path of their directory; keep, how many are kept."""
    self._path = path
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      create=True,
      enable_async_checkpointing=False,
      cleanup_tmp_directories=True,
    )
    self._manager = ocp.CheckpointManager(path.absolute(), options=options)

  def steps(self) -> list[int]:
    """Steps of the checkpoints there are, oldest first."""
    return sorted(self._manager.all_steps())

  def save(self, state: State) -> None:
    """Keep a state, and forget the oldest.

    Raises:
      UserError: if it cannot be written; those there were stay.
    """
    state = jax.device_get(state)
    step = int(state.step)
    if step in self.steps():
      return
    try:
      self._reserve(sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state._asdict()),
          checksum=ocp.args.JsonSave({'crc32': _checksum(state)}),
        ),
      )
    # Orbax wraps what the file system says in many types of its own.
    except Exception as error:
      reason = str(error).strip().splitlines() or [type(error).__name__]
      raise UserError(
        f'checkpoint: {self._path / str(step)} cannot be written: {reason[-1]}'
      ) from error

  def restore(self, like: State) -> State | None:
    """The newest state that can be read.

    Args:
      like: A state of the same shapes.

    Returns:
      The state, or None if there is no checkpoint.

    Raises:
      UserError: if there are checkpoints and none of them can be read.
    """
    steps = self.steps()
    for step in reversed(steps):
      state = self._read(step, like)
      if state is not None:
        return state
      print(
        f'checkpoint: {self._path / str(step)} is damaged; trying the one '
        'before it',
        file=sys.stderr,
      )
    if steps:
      raise UserError(
        f'checkpoint: none of those in {self._path} can be read (steps '
        f'{", ".join(map(str, steps))})'
      )
    return None

  def discard_after(self, step: int) -> None:
    """Remove the checkpoints after a step that the run goes back to."""
    for later in self.steps():
      if later > step:
        self._manager.delete(later)

  def close(self) -> None:
    """Wait for what is being written."""
    self._manager.close()

  def _reserve(self, size: int) -> None:
    """Raise OSError unless there is room for so many bytes.

    Orbax finds out half-way, in threads that each print a traceback.
    """
    if not hasattr(os, 'posix_fallocate'):  # macOS
      if shutil.disk_usage(self._path).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      return
    with tempfile.TemporaryFile(dir=self._path) as file:
      os.posix_fallocate(file.fileno(), 0, size)

  def _read(self, step: int, like: State) -> State | None:
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
    try:
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract),
          checksum=ocp.args.JsonRestore(),
        ),
      )
    # What a damaged file raises depends on which byte is damaged.
    except Exception as error:
      logging.debug('checkpoint %d: %s', step, error)
      return None
    state = State(**restored['state'])
    if _checksum(state) != restored['checksum']['crc32']:
      return None
    return state


def _checksum(state: Any) -> int:
  value = 0
  for leaf in jax.tree.leaves(jax.device_get(state)):
    value = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), value)
  return value
