"""Written dates: each is one day and no other."""

import collections
import datetime
import itertools

import pytest

from attn.training import dates

DAYS = [
  dates.FIRST + datetime.timedelta(i)
  for i in range((dates.LAST - dates.FIRST).days + 1)
]


def text(pair):
  return ''.join(pair.source), ''.join(pair.target)


def test_a_day_in_every_format():
  assert dates.written(datetime.date(2004, 11, 22)) == (
    '22 November 2004',
    '22 Nov 2004',
    'Monday, 22nd of November 2004',
    'Mon 22 Nov 2004',
    'the 22nd of November 2004',
    'November 22, 2004',
    'Nov 22nd, 2004',
    '2004 November 22',
    '22.11.04',
    '22.11.2004',
    '11/22/2004',
    '11/22/04',
  )
  assert dates.written(datetime.date(1951, 3, 4))[8:] == (
    '04.03.51',
    '4.3.1951',
    '03/04/1951',
    '3/4/51',
  )


def test_no_text_means_two_days():
  meant = {}
  for day in DAYS:
    for written in dates.written(day):
      assert meant.setdefault(written, day) == day, written
  assert len(DAYS) == 36_525


def test_ordinals():
  written = [dates.written(datetime.date(2021, 1, d))[4] for d in range(1, 32)]
  found = collections.defaultdict(list)
  for day, words in enumerate(written, 1):
    found[words.split()[1].removeprefix(str(day))].append(day)
  assert found['st'] == [1, 21, 31]
  assert found['nd'] == [2, 22]
  assert found['rd'] == [3, 23]
  assert len(found['th']) == 24


def test_bounds_and_characters_are_those_of_all_dates():
  every = [written for day in DAYS for written in dates.written(day)]
  assert max(map(len, every)) == dates.longest_date() == 33
  assert tuple(sorted(set(''.join(every)))) == dates.source_characters()
  assert len(every) == 12 * len(DAYS)


def test_a_pair_is_named_by_seed_and_number():
  pairs = [dates.date_pair(3, i) for i in range(500)]
  assert pairs[7] == dates.date_pair(3, 7)
  assert pairs != [dates.date_pair(4, i) for i in range(500)]
  assert len({pair.source for pair in pairs}) > 450
  for pair in pairs:
    written, iso = text(pair)
    assert written in dates.written(datetime.date.fromisoformat(iso))
    assert pair.alignment is None
    assert set(iso) <= set(dates.target_characters())


def test_splits_share_no_day_and_know_every_weekday():
  found = {
    split: {
      text(dates.date_pair(seed, i, split=split))[1] for i in range(3_000)
    }
    for seed, split in enumerate(dates.SPLITS)
  }
  for one, other in itertools.combinations(found.values(), 2):
    assert not one & other
  weekdays = {datetime.date.fromisoformat(d).weekday() for d in found['test']}
  assert weekdays == set(range(7))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'seed': -1}, 'seed: got -1, wanted at least 0'),
    ({'number': -1}, 'number: got -1, wanted at least 0'),
    ({'split': 'dev'}, "split: got 'dev', wanted None or one of train, "),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    dates.date_pair(**{'seed': 0, 'number': 0, **arguments})


def test_dates_of_other_centuries_are_refused():
  with pytest.raises(ValueError, match='date: got 1949-12-31, wanted one from'):
    dates.written(datetime.date(1949, 12, 31))
