"""Attention side by side with the peers: python -m benchmarks.attention."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
from absl import flags

from attn.training import command_line
from attn.training.errors import UserError
from benchmarks import contenders, machine, results, table
from benchmarks.cases import CASES, PEERS, Case
from benchmarks.compare import Options, progress
from benchmarks.problem import Problem, tiny
from benchmarks.results import Row, Verdict

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'attention.json'

# A product large enough to show what the machine can do, and one that is quick.
_MATRIX, _TINY_MATRIX = 2048, 128


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_list('cases', [], f'Which: {", ".join(CASES)}; all if empty.')
  flags.DEFINE_integer('rounds', 7, 'Paired rounds.', lower_bound=1)
  flags.DEFINE_float(
    'budget',
    30.0,
    'Seconds for each contender and direction: a slow one runs in fewer '
    'rounds, three at least.',
    lower_bound=0.0,
  )
  flags.DEFINE_bool('backward', True, 'Also forward+backward.')
  flags.DEFINE_bool('quick', False, 'Tiny sizes, to see the program work.')
  flags.DEFINE_list(
    'implementations', [], "Ours by name, beside the front door's choice."
  )
  flags.DEFINE_list(
    'peers', None, f'Against whom: {", ".join(PEERS)}; all if not given.'
  )
  flags.DEFINE_string(
    'out',
    None,
    'Where the cases are kept as JSON; others in the file stay. By default '
    'benchmarks/results/attention.json, and nowhere with --quick.',
  )


def main() -> None:
  """Flags in, one call."""
  # The peers run on the processor: so do we, whatever else is there.
  jax.config.update('jax_platforms', 'cpu')
  values = flags.FLAGS
  options = Options(
    rounds=values.rounds,
    budget=values.budget,
    backward=values.backward,
    quick=values.quick,
    implementations=tuple(values.implementations),
    peers=tuple(_peers(values.peers, values.quick)),
  )
  out = None if values.quick else _RESULTS
  out = pathlib.Path(values.out) if values.out is not None else out
  benchmark(values.cases or list(CASES), options, out)


def benchmark(
  names: list[str], options: Options, out: pathlib.Path | None
) -> None:
  """Run cases, print their table, keep them as JSON.

  Args:
    names: Of the cases.
    options: How to measure.
    out: The results file, written after each case; None for nowhere.

  Raises:
    UserError: if a name is unknown or the file cannot be written.
  """
  _check_known('--cases', names, CASES)
  _check_known('--peers', options.peers, PEERS)
  for name in options.implementations:
    if not contenders.has_implementation(name):
      raise UserError(f'--implementations: attn.attention has no {name!r}')
  if out is not None:
    results.check_writable(out)
  description = machine.describe()
  found: dict[str, _Found] = {}
  try:
    for name in dict.fromkeys(names):
      found[name] = _run(name, options)
      if out is not None:
        record = _record(found[name], options, description)
        results.update(out, 'attention', {name: record})
  finally:
    # Also what an interrupted run has measured so far.
    _show(found, options, description)


@dataclasses.dataclass(frozen=True)
class _Found:
  """One case, measured and judged."""

  case: Case
  problem: Problem
  rates: dict[str, float | None]
  rows: list[Row]
  verdicts: list[Verdict]


def _run(name: str, options: Options) -> _Found:
  case = CASES[name]
  problem = tiny(case.problem) if options.quick else case.problem
  progress(f'{name}: {case.what}')
  rates = machine.matrix_rates(
    _TINY_MATRIX if options.quick else _MATRIX,
    torch=any(peer.startswith('torch') for peer in options.peers),
  )
  rows = case.run(problem, options)
  # At tiny sizes the bars mean nothing.
  bars = () if options.quick else case.bars
  verdicts = [
    results.judge(bar, rows)
    for bar in bars
    if bar.direction in (None, *options.directions)
  ]
  return _Found(case, problem, rates, rows, verdicts)


def _record(
  found: _Found, options: Options, description: dict[str, Any]
) -> dict[str, Any]:
  return results.record(
    found.case.what,
    found.rows,
    found.verdicts,
    problem=dataclasses.asdict(found.problem),
    options=dataclasses.asdict(options),
    machine=description,
    matrix_gflops=found.rates,
  )


def _show(
  found: dict[str, _Found], options: Options, description: dict[str, Any]
) -> None:
  if not found:
    return
  print(machine.summary(description))
  if options.quick:
    print('Tiny sizes: these figures mean nothing.')
  rows = {name: x.rows for name, x in found.items()}
  rates = {name: x.rates for name, x in found.items()}
  verdicts = {name: x.verdicts for name, x in found.items()}
  print(f'\n{table.results(rows, rates)}')
  if any(verdicts.values()):
    print(f'\n{table.verdicts(verdicts)}')


def _peers(given: list[str] | None, quick: bool) -> list[str]:
  """All if none are given; but FlexAttention takes long to compile."""
  if given is not None:
    return given
  return [name for name in PEERS if not (quick and name == 'torch.flex')]


def _check_known(flag: str, names: Iterable[str], known: Iterable[str]) -> None:
  known = list(known)
  for name in names:
    if name not in known:
      raise UserError(
        f'{flag}: got {name!r}, wanted names from {", ".join(known)}'
      )


if __name__ == '__main__':
  command_line.run(main, define_flags)
