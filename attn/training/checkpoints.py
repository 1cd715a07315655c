"""Checkpoints: whole or not at all, and checked when they are read."""

import errno
import json
import os
import pathlib
import shutil
import sys
import tempfile
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from attn.training.errors import UserError
from attn.training.event_loops import finishing_loops
from attn.training.processes import Processes
from attn.training.shards import checksum, local_bytes
from attn.training.step import State


class Checkpoints:
  """The last few states of a run, kept by Orbax.

  Orbax writes a checkpoint under another name and renames it when it is
  complete, so a killed run leaves none that is half written.  A checksum tells
  one that was damaged later.
  """

  def __init__(
    self,
    path: pathlib.Path,
    keep: int,
    processes: Processes | None = None,
  ) -> None:
    """Args: path of their directory; keep, how many are kept; who writes."""
    self._path = path
    self._processes = processes or Processes()
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      create=True,
      enable_async_checkpointing=False,
      # Orbax would do it in a thread that only a save waits for, which a
      # process that ends before has to cut short; see `discard_after`.
      cleanup_tmp_directories=False,
    )
    self._manager = ocp.CheckpointManager(path.absolute(), options=options)

  def steps(self) -> list[int]:
    """Steps of the checkpoints there are, oldest first."""
    return sorted(self._manager.all_steps())

  def save(self, state: State) -> None:
    """Keep a state, and forget the oldest; each process writes what it has.

    Raises:
      UserError: if it cannot be written; those there were stay.
    """
    step = int(state.step)
    if step in self.steps():
      return
    seal = {
      'sum': self._sum(state),
      'writers': [
        size > 0 for size in self._processes.gather(local_bytes(state))
      ],
    }
    if self._processes.count == 1:
      # One process may take another's devices away: what it has is its own.
      state = jax.device_get(state)
    try:
      self._reserve(local_bytes(state))
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state._asdict()),
          checksum=ocp.args.JsonSave(seal),
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
      UserError: if there are checkpoints and none of them can be read, or one
        is of another architecture or optimiser.
    """
    steps, reason = self.steps(), ''
    for step in reversed(steps):
      self._check_shapes(step, like)
      reason = self._missing(step)
      state = None if reason else self._read(step, like)
      if state is not None:
        return state
      reason = reason or f'{self._path / str(step)} is damaged'
      if step != steps[0] and self._processes.is_first:
        print(
          f'checkpoint: {reason}; trying the one before it', file=sys.stderr
        )
    if steps:
      raise UserError(
        f'checkpoint: none of those in {self._path} can be read (steps '
        f'{", ".join(map(str, steps))}); {reason}'
      )
    return None

  def _check_shapes(self, step: int, like: State) -> None:
    """Raise UserError unless a state has the shapes of another.

    Orbax finds out as well, and tells in pages what it restored into what.
    """
    folder = self._path / str(step)
    kept: Any = (folder / 'state').absolute()
    try:
      with finishing_loops():
        metadata: Any = ocp.StandardCheckpointHandler().metadata(kept)
      there = _shapes(metadata.tree)
    # Little is known of a damaged checkpoint; it is refused when it is read.
    except Exception as error:
      logging.debug('checkpoint %d: %s', step, error)
      return
    here = _shapes(like._asdict())
    # Parameters say more than what an optimiser keeps of each.
    for name in sorted(there | here, key=lambda x: (x[:6] != 'params', x)):
      if there.get(name) != here.get(name):
        raise UserError(
          f'checkpoint: {folder} is of another model or optimizer than this '
          f'run: {name} is {there.get(name, "nothing")} there and '
          f'{here.get(name, "nothing")} here'
        )

  def _missing(self, step: int) -> str:
    """The first part that a process wrote and that is not there, if any."""
    folder = self._path / str(step)
    try:
      seal = json.loads((folder / 'checksum' / 'metadata').read_text())
      writers = seal['writers']
    # Of a damaged checkpoint anything may be missing.
    except (OSError, ValueError, KeyError):
      return ''
    for process, wrote in enumerate(writers):
      part = folder / 'state' / f'ocdbt.process_{process}'
      if wrote and not part.is_dir():
        return f'{part} is missing, which process {process} wrote'
    return ''

  def discard_after(self, step: int) -> None:
    """Remove the checkpoints after a step that the run goes back to.

    And what a process that was killed has left half written.  Only who trains
    may call it: to others, what is half written is being written.
    """
    if self._processes.is_first:
      for unfinished in self._path.glob(f'*{ocp.utils.TMP_DIR_SUFFIX}*'):
        shutil.rmtree(unfinished)
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
    if not size:  # Another process writes all there is.
      return
    if not hasattr(os, 'posix_fallocate'):  # macOS
      if shutil.disk_usage(self._path).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      return
    with tempfile.TemporaryFile(dir=self._path) as file:
      os.posix_fallocate(file.fileno(), 0, size)

  def _read(self, step: int, like: State) -> State | None:
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
    try:
      with finishing_loops():
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
    expected = restored['checksum'].get('sum')
    # One without a sum is believed: it is from before there were sums.
    is_whole = expected in (None, self._sum(state))
    return state if is_whole else None

  def _sum(self, state: State) -> int:
    return sum(self._processes.gather(checksum(state))) % 2**64


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {
    jax.tree_util.keystr(path, simple=True, separator='.'): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
