"""Written dates and what they are in ISO 8601, character by character.

    3 March 2021, Wed 3 Mar 2021, the 3rd of March 2021, March 3, 2021,
    03.03.21, 3/3/2021, 2021 March 3   →   2021-03-03

What a date of figures means is told by its mark: with dots the day comes
first, with slashes the month.  Years have two figures or four: 50 to 99 are
of the twentieth century, 00 to 49 of the twenty-first.
"""

import datetime
import random

from attn.training.pairs import Pair

FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)

SPLITS = ('train', 'validation', 'test')

# Of 20 days in a row, one is kept for validation and one for the test, in
# every way to write it.  7 and 20 have no common divisor, so every weekday
# is among them.
_PARTS = 20

_MONTHS = (
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
)
_DAYS = (
  'Monday',
  'Tuesday',
  'Wednesday',
  'Thursday',
  'Friday',
  'Saturday',
  'Sunday',
)

# d and dd: day; m and mm: month; yy and yyyy: year.
_FORMATS = (
  '{d} {month} {yyyy}',
  '{d} {mon} {yyyy}',
  '{weekday}, {nth} of {month} {yyyy}',
  '{wkd} {d} {mon} {yyyy}',
  'the {nth} of {month} {yyyy}',
  '{month} {d}, {yyyy}',
  '{mon} {nth}, {yyyy}',
  '{yyyy} {month} {d}',
  '{dd}.{mm}.{yy}',
  '{d}.{m}.{yyyy}',
  '{mm}/{dd}/{yyyy}',
  '{m}/{d}/{yy}',
)


def date_pair(seed: int, number: int, *, split: str | None = None) -> Pair:
  """A written date and its ISO form; tokens are characters.

  Args:
    seed: Names an endless sequence of dates; at least 0.
    number: Which of them; at least 0.
    split: Only days that belong to it: train (18 of 20), validation or test;
      None for any.

  Returns:
    The pair, without alignment: always the same for the same arguments.

  Raises:
    ValueError: if an argument is out of its range.

  Example:
    >>> pair = date_pair(0, 1)
    >>> ''.join(pair.source), ''.join(pair.target)
    ('12/5/83', '1983-12-05')
  """
  for name, value in (('seed', seed), ('number', number)):
    if value < 0:
      raise ValueError(f'{name}: got {value}, wanted at least 0')
  if split is not None and split not in SPLITS:
    raise ValueError(
      f'split: got {split!r}, wanted None or one of {", ".join(SPLITS)}'
    )
  chance = random.Random(f'date {seed} {number}').random
  days = (LAST - FIRST).days + 1
  while True:
    day = int(chance() * days)
    if split is None or _split_of(day) == split:
      break
  date = FIRST + datetime.timedelta(day)
  text = _write(date, _FORMATS[int(chance() * len(_FORMATS))])
  return Pair(tuple(text), tuple(date.isoformat()), None)


def written(date: datetime.date) -> tuple[str, ...]:
  """Every way to write a date.

  Args:
    date: From 1950 to 2049.

  Returns:
    The texts.

  Raises:
    ValueError: if the date is of another century.

  Example:
    >>> written(datetime.date(2021, 3, 3))[2:4]
    ('Wednesday, 3rd of March 2021', 'Wed 3 Mar 2021')
  """
  if not FIRST <= date <= LAST:
    raise ValueError(f'date: got {date}, wanted one from {FIRST} to {LAST}')
  return tuple(_write(date, form) for form in _FORMATS)


def longest_date() -> int:
  """How many characters no written date exceeds."""
  # A day of two figures in September, the longest month, on a Wednesday.
  return max(map(len, written(datetime.date(2021, 9, 22))))


def source_characters() -> tuple[str, ...]:
  """Every character a written date may have, sorted, each once."""
  year = [FIRST + datetime.timedelta(day) for day in range(366)]
  return tuple(sorted({c for day in year for c in ''.join(written(day))}))


def target_characters() -> tuple[str, ...]:
  """Every character an ISO date may have, sorted, each once."""
  return tuple('-0123456789')


def _split_of(day: int) -> str:
  return {0: 'validation', 1: 'test'}.get(day % _PARTS, 'train')


def _write(date: datetime.date, form: str) -> str:
  month, weekday = _MONTHS[date.month - 1], _DAYS[date.weekday()]
  return form.format(
    d=date.day,
    dd=f'{date.day:02}',
    nth=f'{date.day}{_ordinal_ending(date.day)}',
    m=date.month,
    mm=f'{date.month:02}',
    month=month,
    mon=month[:3],
    yy=f'{date.year % 100:02}',
    yyyy=date.year,
    weekday=weekday,
    wkd=weekday[:3],
  )


def _ordinal_ending(day: int) -> str:
  if day in (11, 12, 13):
    return 'th'
  return {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')
