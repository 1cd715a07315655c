"""Paired rounds: what to believe of times from a machine that drifts.

Absolute times change from minute to minute, but two programs timed within one
round were slowed alike.  So in each round every contender runs once, in an
order that rotates, and what is reported is the median over rounds of

  (their time) / (our time in the same round)

with its quartiles.  Pure functions but for the clock, which is an argument.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

# Fewer pairs than this have no quartiles worth the name.
FEWEST_ROUNDS = 3

# A shorter measurement is repeated: the clock's own cost, and whatever else
# woke up in that moment, must not show.
_SHORTEST_SECONDS = 0.05

# More seconds than any round takes.
_UNLIMITED = 1e9

# OpenMP's threads spin for a while after their last task, on the cores that the
# next contender needs.
_SETTLE_SECONDS = 0.02


@dataclasses.dataclass(frozen=True)
class Spread:
  """A median and its quartiles.

  Attributes:
    median: The middle value.
    low: The first quartile.
    high: The third quartile.
    count: How many values.
  """

  median: float
  low: float
  high: float
  count: int


def spread(values: Sequence[float]) -> Spread:
  """Median and quartiles, by linear interpolation.

  >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
  Spread(median=3.0, low=2.0, high=4.0, count=5)

  Raises:
    ValueError: if values is empty.
  """
  if not len(values):
    raise ValueError('values: got none, wanted at least one')
  low, median, high = np.percentile(values, (25, 50, 75)).tolist()
  return Spread(median, low, high, len(values))


def ratios(
  theirs: Sequence[float | None], ours: Sequence[float | None]
) -> list[float]:
  """Their time over ours, for each round in which both ran.

  >>> ratios([2.0, None, 9.0], [1.0, 1.0, 3.0])
  [2.0, 3.0]
  """
  pairs = zip(theirs, ours, strict=True)
  return [x / y for x, y in pairs if x is not None and y is not None]


def rotated(names: Sequence[str], turn: int) -> list[str]:
  """The order of one round: nobody always follows the same neighbour's heat.

  >>> rotated(['a', 'b', 'c'], 1)
  ['b', 'c', 'a']
  """
  start = turn % max(len(names), 1)
  return [*names[start:], *names[:start]]


def affordable(seconds: float, rounds: int, budget: float) -> int:
  """Rounds that fit into a budget of seconds, at least three.

  >>> affordable(0.1, rounds=7, budget=30)
  7
  >>> affordable(6.0, rounds=7, budget=30)
  5
  >>> affordable(60.0, rounds=7, budget=30)
  3
  >>> affordable(60.0, rounds=2, budget=30)
  2
  """
  fit = math.floor(budget / seconds) if seconds > 0 else rounds
  return min(rounds, max(FEWEST_ROUNDS, fit))


def measure(
  programs: Mapping[str, Callable[[], object]],
  *,
  rounds: int,
  budget: float,
  clock: Callable[[], float] = time.perf_counter,
  sleep: Callable[[float], object] = time.sleep,
) -> dict[str, list[float | None]]:
  """Time all programs, side by side.

  Each is run once beforehand, to warm up and to see how often a round should
  repeat it and how many rounds it can afford.

  Args:
    programs: By name; each runs to completion when called.
    rounds: How many.
    budget: Seconds for each program; a slow one takes part in fewer rounds.
    clock: Seconds.
    sleep: Called between two programs with seconds.

  Returns:
    By name, seconds for each round, None where the program sat it out.
  """
  repeats, takes = {}, {}
  for name, program in programs.items():
    estimate = _seconds(program, 1, clock)
    repeats[name] = _repeats(estimate)
    takes[name] = affordable(estimate * repeats[name], rounds, budget)
  times: dict[str, list[float | None]] = {
    name: [None] * rounds for name in programs
  }
  for turn in range(rounds):
    for name in rotated(list(programs), turn):
      if turn >= takes[name]:
        continue
      sleep(_SETTLE_SECONDS)
      if repeats[name] > 1:
        programs[name]()  # the caches hold the previous contender's data
      times[name][turn] = _seconds(programs[name], repeats[name], clock)
  return times


def measure_all(
  programs: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
  """As `measure`, without a budget: each program takes part in each round."""
  times = measure(programs, rounds=rounds, budget=_UNLIMITED)
  return {
    name: [second for second in seconds if second is not None]
    for name, seconds in times.items()
  }


def _repeats(estimate: float) -> int:
  if estimate >= _SHORTEST_SECONDS:
    return 1
  return min(1000, math.ceil(_SHORTEST_SECONDS / max(estimate, 1e-9)))


def _seconds(
  program: Callable[[], object], repeats: int, clock: Callable[[], float]
) -> float:
  start = clock()
  for _ in range(repeats):
    program()
  return (clock() - start) / repeats
