"""What a benchmark found: rows, the bars they are held to, and the JSON."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from attn.training.errors import UserError
from benchmarks.pairing import Spread, spread

MIB = 2**20
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Row:
  """What was found of one contender, in one direction.

  Attributes:
    contender: Who.
    direction: 'forward', 'forward+backward', or '' where there is none.
    at: Which point of a grid; '' where there is one problem.
    reference: Whose time the ratio is in.
    seconds: For one call.
    ratio: This contender's time over the reference's in the same round; above
      1 the reference is faster.
    difference: Largest absolute difference from the reference's outputs.
    compile_seconds: Tracing included.
    temporary_bytes: Scratch memory that the compiled program asks for.
    peak_bytes: The most memory that the process held.
    recompilations: Beyond the first.
    note: What else a reader must know.
    missing: Why there is no figure; '' where there is one.
  """

  contender: str
  direction: str = ''
  at: str = ''
  reference: str = ''
  seconds: Spread | None = None
  ratio: Spread | None = None
  difference: float | None = None
  compile_seconds: float | None = None
  temporary_bytes: int | None = None
  peak_bytes: int | None = None
  recompilations: int | None = None
  note: str = ''
  missing: str = ''


@dataclasses.dataclass(frozen=True)
class Bar:
  """What a case is held to.

  Attributes:
    contender: Whose row.
    figure: Which field of the row; of a spread, the median.
    wanted: The bar itself.
    at_least: Whether the figure must not be below the bar, or not above it.
    direction: Of the row; None for the worst of all directions.
    why: In words.
  """

  contender: str
  figure: str
  wanted: float
  at_least: bool
  direction: str | None
  why: str


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A bar and how the run did.

  Attributes:
    bar: The bar.
    got: The figure; None where there is none.
    passed: None where there is no figure.
    is_near: Missed, but the bar lies within the quartiles: another run might
      pass.
  """

  bar: Bar
  got: float | None
  passed: bool | None
  is_near: bool = False


def judge(bar: Bar, rows: Iterable[Row]) -> Verdict:
  """Hold the rows to a bar; where several match, the worst of them counts.

  >>> bar = Bar('attn', 'recompilations', 0, False, None, 'none')
  >>> judge(bar, [Row('attn', recompilations=2)]).passed
  False
  """
  found = []
  for row in rows:
    if row.contender != bar.contender:
      continue
    if bar.direction is not None and row.direction != bar.direction:
      continue
    figure = getattr(row, bar.figure)
    if figure is not None:
      found.append(figure if isinstance(figure, Spread) else spread([figure]))
  if not found:
    return Verdict(bar, None, None)
  worst = (min if bar.at_least else max)(found, key=lambda x: x.median)
  if bar.at_least:
    passed, is_near = worst.median >= bar.wanted, worst.high >= bar.wanted
  else:
    passed, is_near = worst.median <= bar.wanted, worst.low <= bar.wanted
  return Verdict(bar, worst.median, passed, is_near and not passed)


def record(
  what: str,
  rows: Sequence[Row],
  verdicts: Sequence[Verdict],
  **circumstances: Any,
) -> dict[str, Any]:
  """One case, complete in itself, ready for JSON.

  Args:
    what: The case in words.
    rows: What was found.
    verdicts: How it did.
    **circumstances: Machine, options, whatever the figures depend on.
  """
  return {
    'what': what,
    **circumstances,
    'rows': [dataclasses.asdict(row) for row in rows],
    'bars': [dataclasses.asdict(x) for x in verdicts],
  }


def check_writable(path: pathlib.Path) -> None:
  """Find out before an hour of measuring, not after it.

  Raises:
    UserError, OSError: if the file could not be updated.
  """
  folder = path.parent
  folder.mkdir(parents=True, exist_ok=True)
  if path.is_dir() or not os.access(folder, os.W_OK):
    raise UserError(f'--out: cannot write {path}, wanted the path of a file')
  read(path)


def destination(
  given: str | None, usual: pathlib.Path | None
) -> pathlib.Path | None:
  """Where a benchmark keeps its figures, found to be writable.

  Args:
    given: What `--out` says; None for nothing.
    usual: Where they go by default; None for nowhere.

  Returns:
    A path, or None for nowhere.

  Raises:
    UserError, OSError: as `check_writable`.
  """
  path = usual if given is None else pathlib.Path(given)
  if path is not None:
    check_writable(path)
  return path


def update(path: pathlib.Path, name: str, cases: dict[str, Any]) -> None:
  """Put cases into a results file; others in it stay as they were.

  Args:
    path: The file.
    name: Of the benchmark.
    cases: By name, each a `record`.

  Raises:
    UserError: if the file is there and is not a results file.
  """
  merged = {'benchmark': name, 'cases': {**read(path), **cases}}
  text = json.dumps(merged, indent=2, allow_nan=False) + '\n'
  # Never half a file, however the run ends.
  scratch = path.with_name(path.name + '.tmp')
  scratch.write_text(text)
  scratch.replace(path)


def read(path: pathlib.Path) -> dict[str, Any]:
  """The cases of a results file, by name; none where there is no file.

  Raises:
    UserError: if the file is there and is not a results file.
  """
  if not path.exists():
    return {}
  try:
    cases = json.loads(path.read_text())['cases']
  except (ValueError, KeyError, TypeError, OSError) as error:
    raise UserError(f'--out: {path} is there and holds no results') from error
  return dict(cases)
