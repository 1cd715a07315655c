"""Contenders side by side on one problem: checked first, then timed."""

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks import pairing
from benchmarks.contenders import (
  BOTH,
  FORWARD,
  Contender,
  Program,
  Unavailable,
  first_line,
)
from benchmarks.problem import Problem
from benchmarks.results import Row

# Relative to the largest output: float32 sums of some thousand numbers in
# another order differ by less, another mask by far more.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Options:
  """How to measure.

  Attributes:
    rounds: Paired rounds.
    budget: Seconds for each contender and direction.
    backward: Whether to measure forward+backward too.
    quick: Tiny sizes, whose figures mean nothing.
    implementations: Ours by name, beside the front door's choice.
    peers: Names of the others.
  """

  rounds: int = 7
  budget: float = 30.0
  backward: bool = True
  quick: bool = False
  implementations: tuple[str, ...] = ()
  peers: tuple[str, ...] = ()

  @property
  def directions(self) -> tuple[str, ...]:
    """Those to measure."""
    return (FORWARD, BOTH) if self.backward else (FORWARD,)


def progress(*words: str) -> None:
  """Say what is being done, where it does not get into the table."""
  print(*words, file=sys.stderr, flush=True)


def compare(
  problem: Problem,
  contenders: Sequence[Contender],
  direction: str,
  options: Options,
  *,
  at: str = '',
) -> list[Row]:
  """Check and time contenders on one problem.

  Args:
    problem: What to compute.
    contenders: The first is the reference: the others are checked against its
      outputs, and their times are given in its.
    direction: 'forward' or 'forward+backward'.
    options: How to measure.
    at: For the rows.

  Returns:
    A row for each contender, in their order.
  """
  reference = contenders[0].name
  rows, programs = {}, {}
  wanted: list[np.ndarray] | None = None
  for contender in contenders:
    name = contender.name
    row = Row(name, direction, at, reference)
    progress(f'  {direction} {at}'.rstrip() + f': {name}')
    try:
      if name != reference and wanted is None:
        raise Unavailable(f'nothing to compare with: no {reference}')
      program = contender.prepare(problem, direction)
      got = program.outputs(program.run())
      if wanted is None:
        wanted = got
      row = _described(row, program)
      if name != reference and contender.is_checked:
        row = dataclasses.replace(row, difference=_check(got, wanted))
    except Unavailable as error:
      rows[name] = dataclasses.replace(row, missing=str(error))
    # How JAX and PyTorch say that memory ran out after all.
    except (RuntimeError, MemoryError) as error:
      rows[name] = dataclasses.replace(
        row, missing=f'failed: {first_line(error)}'
      )
    else:
      rows[name], programs[name] = row, program.run
  times = pairing.measure(
    programs, rounds=options.rounds, budget=options.budget
  )
  return [_timed(row, times, reference) for row in rows.values()]


def _described(row: Row, program: Program) -> Row:
  return dataclasses.replace(
    row,
    compile_seconds=program.compile_seconds,
    temporary_bytes=program.temporary_bytes,
    note=program.note,
  )


def _check(got: list[np.ndarray], wanted: list[np.ndarray]) -> float:
  """Largest difference; Unavailable for who computes something else."""
  if [x.shape for x in got] != [x.shape for x in wanted]:
    raise Unavailable('computes something else: other shapes')
  largest = 0.0
  for x, y in zip(got, wanted):
    difference = float(np.abs(x - y).max())
    # So written, a NaN does not pass.
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(y).max())):
      raise Unavailable(
        f'computes something else: it differs by {difference:.2g}'
      )
    largest = max(largest, difference)
  return largest


def _timed(
  row: Row, times: dict[str, list[float | None]], reference: str
) -> Row:
  if row.contender not in times:
    return row
  own = times[row.contender]
  ratios = pairing.ratios(own, times[reference])
  return dataclasses.replace(
    row,
    seconds=pairing.spread([x for x in own if x is not None]),
    ratio=pairing.spread(ratios),
  )
