"""Results as aligned text."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.pairing import Spread
from benchmarks.results import MIB, Bar, Row, Verdict

_HEADINGS = (
  'case',
  'direction',
  'contender',
  'ms [quartiles]',
  'times ours [quartiles]',
  'compile s',
  'scratch MiB',
  'difference',
  'remarks',
)
_BAR_HEADINGS = ('case', 'direction', 'held to', 'wanted', 'got', 'verdict')
_WORDS = {True: 'passed', False: 'MISSED', None: 'no figure'}
_NEAR = 'MISSED, within the quartiles'


def summaries(
  found: Mapping[str, Mapping[str, Any]],
  headings: Mapping[str, tuple[str, str]],
) -> str:
  """The table of trained mechanisms.

  Args:
    found: By mechanism, records with a `summary`.
    headings: By the name in the summary, the heading and the format.
  """
  lines = [
    (
      name,
      *(
        form.format(record['summary'][key]) if key in record['summary'] else ''
        for key, (_, form) in headings.items()
      ),
    )
    for name, record in found.items()
  ]
  return aligned(('mechanism', *(word for word, _ in headings.values())), lines)


def results(
  rows: Mapping[str, Sequence[Row]], rates: Mapping[str, Mapping[str, Any]]
) -> str:
  """The table of all cases.

  Args:
    rows: By case.
    rates: By case, GFLOP/s of a matrix product by library.
  """
  lines = []
  for case, found in rows.items():
    is_timed = any(row.seconds for row in found)
    for library, rate in rates[case].items():
      if is_timed and rate is not None:
        remark = f'{rate:.1f} GFLOP/s, a matrix product in this run'
        lines.append((case, '', f'({library})', '', '', '', '', '', remark))
    lines += [_line(case, row) for row in found]
  return aligned(_HEADINGS, lines)


def verdicts(found: Mapping[str, Sequence[Verdict]]) -> str:
  """The bars of all cases, and how they were met; '' if there are none."""
  lines = [
    (
      case,
      verdict.bar.direction or 'any',
      verdict.bar.why,
      ('≥ ' if verdict.bar.at_least else '≤ ')
      + _figure(verdict.bar, verdict.bar.wanted),
      '' if verdict.got is None else _figure(verdict.bar, verdict.got),
      _NEAR if verdict.is_near else _WORDS[verdict.passed],
    )
    for case, of_case in found.items()
    for verdict in of_case
  ]
  return aligned(_BAR_HEADINGS, lines) if lines else ''


def aligned(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  """Columns as wide as their widest cell.

  >>> print(aligned(('who', 'ms'), [('us', '1.5'), ('them', '20.0')]))
  who   ms
  us    1.5
  them  20.0
  """
  widths = [
    max(len(cell) for cell in column) for column in zip(headings, *lines)
  ]
  return '\n'.join(
    '  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
    for line in (headings, *lines)
  )


def spread_text(spread: Spread | None, unit: float = 1.0) -> str:
  """Median and quartiles, in units; '' for None.

  >>> spread_text(Spread(0.02, 0.019, 0.0256, 7), unit=1e-3)
  '20.0 [19.0, 25.6]'
  """
  if spread is None:
    return ''
  median, low, high = (
    number(x / unit) for x in (spread.median, spread.low, spread.high)
  )
  return f'{median} [{low}, {high}]'


def number(x: float) -> str:
  """Three digits or so, never an exponent.

  >>> [number(x) for x in (0.1234, 1.234, 12.34, 1234.5)]
  ['0.123', '1.23', '12.3', '1234']
  """
  digits = 3 if x < 1 else 2 if x < 10 else 1 if x < 100 else 0
  return f'{x:.{digits}f}'


def _line(case: str, row: Row) -> tuple[str, ...]:
  remarks = [row.missing, row.note]
  if row.peak_bytes is not None:
    remarks.append(f'peak memory {number(row.peak_bytes / MIB)} MiB')
  if row.recompilations is not None:
    remarks.append(f'{row.recompilations} recompilations')
  return (
    f'{case} {row.at}'.rstrip(),
    row.direction,
    row.contender,
    spread_text(row.seconds, 1e-3),
    spread_text(row.ratio),
    '' if row.compile_seconds is None else number(row.compile_seconds),
    '' if row.temporary_bytes is None else number(row.temporary_bytes / MIB),
    '' if row.difference is None else f'{row.difference:.1e}',
    '; '.join(remark for remark in remarks if remark),
  )


def _figure(bar: Bar, value: float) -> str:
  if bar.figure.endswith('_bytes'):
    return f'{number(value / MIB)} MiB'
  if bar.figure.endswith('_seconds'):
    return f'{number(value)} s'
  return f'{value:.0f}' if bar.figure == 'recompilations' else number(value)
