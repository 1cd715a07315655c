"""The files of one run, and what may be done to them.

config.json  tokenizer.json  seals.json  checkpoints/  metrics.jsonl
summary.json  tensorboard/  figures/*.png  samples.txt  report.html
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import ml_collections

from attn.training.artifacts import replace_file
from attn.training.config import Config
from attn.training.errors import UserError

# A run may go on elsewhere: on what it runs says nothing of what it computes.
_WHERE = ('mesh', 'distributed')

_NESTED = (ml_collections.ConfigDict, dict)


class RunDirectory:
  """Paths of a run, and its small files.

  Attributes:
    path: The directory.
  """

  def __init__(self, path: str | os.PathLike[str]) -> None:
    """Args: path of the directory; nothing is touched."""
    self.path = pathlib.Path(path)

  @property
  def checkpoints(self) -> pathlib.Path:
    """Directory of checkpoints."""
    return self.path / 'checkpoints'

  @property
  def metrics(self) -> pathlib.Path:
    """One JSON object a line."""
    return self.path / 'metrics.jsonl'

  @property
  def tokenizer(self) -> pathlib.Path:
    """The tokenizer of the run."""
    return self.path / 'tokenizer.json'

  @property
  def source_tokenizer(self) -> pathlib.Path:
    """The tokenizer of what a translation run reads."""
    return self.path / 'source_tokenizer.json'

  @property
  def target_tokenizer(self) -> pathlib.Path:
    """The tokenizer of what a translation run writes."""
    return self.path / 'target_tokenizer.json'

  @property
  def summary(self) -> pathlib.Path:
    """Written once, when the run has ended."""
    return self.path / 'summary.json'

  @property
  def lengths(self) -> pathlib.Path:
    """How well a translation run does, over the length of the source."""
    return self.path / 'lengths.json'

  @property
  def figures(self) -> pathlib.Path:
    """Directory of pictures."""
    return self.path / 'figures'

  @property
  def profile(self) -> pathlib.Path:
    """Directory of a trace."""
    return self.path / 'profile'

  def open(self, config: Config) -> None:
    """Create the directory for this config, or check that it is its.

    Raises:
      UserError: if it holds another config, or cannot be written.
    """
    path = self.path / 'config.json'
    if path.exists():
      there, here = (
        {name: x for name, x in of.items() if name not in _WHERE}
        for of in (self.read_config(), config)
      )
      difference = first_difference(there, here)
      if difference:
        raise UserError(
          f'workdir: {self.path} holds a run with another config '
          f'({difference}); choose another --workdir'
        )
      return
    if self.path.is_dir() and any(self.path.iterdir()):
      raise UserError(
        f'workdir: {self.path} is not empty and holds no run; choose another '
        '--workdir'
      )
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      replace_file(path, json.dumps(config.to_dict(), indent=2).encode())
    except OSError as error:
      raise UserError(
        f'workdir: {self.path} cannot be written: {error.strerror}'
      ) from error

  def read_config(self) -> Config:
    """The config of the run.

    Raises:
      UserError: if there is no run.
    """
    path = self.path / 'config.json'
    try:
      return ml_collections.ConfigDict(json.loads(path.read_text()))
    except FileNotFoundError as error:
      raise UserError(f'workdir: {self.path} holds no run') from error
    except (OSError, ValueError) as error:
      raise UserError(f'workdir: {path} cannot be read: {error}') from error

  def write_sealed(
    self, path: pathlib.Path, write: Callable[[pathlib.Path], None]
  ) -> None:
    """Write a file of the run, and remember what it holds.

    Once it is there, it must stay what it is: what was trained with it would
    mean nothing with another.

    Args:
      path: Of the file.
      write: Writes it to a path.

    Raises:
      UserError: if the run holds another, or was trained with another; nothing
        is changed then.
    """
    expected = self._seals().get(path.name)
    if expected is not None and path.exists():
      self.check_seal(path)
    beside = path.with_name(f'{path.name}.new')
    write(beside)
    found = _digest(beside)
    if expected not in (None, found):
      beside.unlink()
      raise UserError(
        f'config.data: gives another tokenizer than {path}, with which this '
        'run was trained; choose another --workdir'
      )
    beside.replace(path)
    if expected is None:
      seals = self._seals() | {path.name: found}
      replace_file(self._seals_path, json.dumps(seals, indent=2).encode())

  def check_seal(self, path: pathlib.Path) -> None:
    """Check that a file holds what it held when it was sealed.

    Raises:
      UserError: if it does not; a run without seals is believed.
    """
    expected = self._seals().get(path.name)
    if expected is not None and _digest(path) != expected:
      raise UserError(
        f'workdir: {path} is not the tokenizer that this run was trained with'
      )

  @property
  def _seals_path(self) -> pathlib.Path:
    return self.path / 'seals.json'

  def _seals(self) -> dict[str, str]:
    path = self._seals_path
    return json.loads(path.read_text()) if path.exists() else {}

  def read_metrics(self) -> list[dict[str, Any]]:
    """What was measured, oldest first."""
    if not self.metrics.exists():
      return []
    return [json.loads(line) for line in self.metrics.read_text().splitlines()]

  def forget_metrics_after(self, step: int) -> list[dict[str, Any]]:
    """Drop what was measured after a step that the run goes back to.

    A line that a crash cut short is dropped as well.

    Returns:
      What is left.
    """
    lines = []
    if self.metrics.exists():
      for line in self.metrics.read_text().splitlines():
        try:
          lines.append(json.loads(line))
        except json.JSONDecodeError:
          continue
    # At 0 a run begins anew, with the evaluation before its first step.
    lines = [line for line in lines if 0 < step >= line['step']]
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    replace_file(self.metrics, text.encode())
    return lines


def _digest(path: pathlib.Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()


def first_difference(there: Any, here: Any) -> str | None:
  """Where two configs differ, and how; None if they do not."""
  for name in sorted({*there, *here}):
    x, y = there.get(name), here.get(name)
    if isinstance(x, _NESTED) and isinstance(y, _NESTED):
      inner = first_difference(x, y)
      if inner:
        return f'{name}.{inner}'
    elif x != y:
      return f'{name} is {x!r} there and {y!r} here'
  return None
