"""Few static shapes for sentences of many lengths."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Bucket(NamedTuple):
  """A shape of batches.

  Attributes:
    source_length: S, the most tokens that a source has.
    target_length: T, the same of a target, its end of sequence included.
    rows: B.
  """

  source_length: int
  target_length: int
  rows: int

  def holds(self, source: int, target: int) -> bool:
    """Whether a pair of these lengths has room."""
    return source <= self.source_length and target < self.target_length


def make_bucket(
  source_length: int, target_length: int, batch_tokens: int
) -> Bucket:
  """A bucket with as many rows as the tokens allow: B (S + T) <= batch_tokens.

  Args:
    source_length: S.
    target_length: T.
    batch_tokens: What a batch may hold, padding included.

  Returns:
    The bucket.

  Raises:
    ValueError: if not even one row has room.

  Example:
    >>> make_bucket(7, 9, 100)
    Bucket(source_length=7, target_length=9, rows=6)
  """
  rows = batch_tokens // (source_length + target_length)
  if rows < 1:
    raise ValueError(
      f'batch_tokens: got {batch_tokens}, wanted at least '
      f'{source_length + target_length}, the longest source and target'
    )
  return Bucket(source_length, target_length, rows)


def choose_buckets(
  lengths: Mapping[tuple[int, int], float], batch_tokens: int, count: int = 5
) -> tuple[Bucket, ...]:
  """The buckets that waste the least on padding.

  A pair goes into the first bucket that holds it, and

    cost = sum over buckets of (weight of its pairs) (S + T)

  is the least that so many buckets can have if they are cut along the longer
  of source and target.

  Args:
    lengths: (source, target) -> how often such pairs come, in any unit; the
      target without its end of sequence.
    batch_tokens: See `make_bucket`.
    count: The most buckets there may be.

  Returns:
    At most `count` buckets, shortest first; the last holds every pair.

  Raises:
    ValueError: if there are no lengths, count is below 1, or a batch has no
      room for the longest pair.

  Example:
    >>> choose_buckets({(3, 4): 9, (4, 4): 8, (19, 17): 1}, 100, count=2)
    (Bucket(source_length=4, target_length=5, rows=11), \
Bucket(source_length=19, target_length=18, rows=2))
  """
  if not lengths:
    raise ValueError('lengths: got none, wanted at least one')
  if count < 1:
    raise ValueError(f'count: got {count}, wanted at least 1')
  keys, shapes, mass = _by_longer_side(lengths)
  cuts = _cheapest_cuts(mass, [s + t for s, t in shapes], min(count, len(keys)))
  return tuple(make_bucket(*shapes[cut], batch_tokens) for cut in cuts)


def _by_longer_side(
  lengths: Mapping[tuple[int, int], float],
) -> tuple[list[int], list[tuple[int, int]], list[float]]:
  """Longer sides, rising; S and T of all pairs up to there; weights."""
  keys = sorted({max(s, t + 1) for s, t in lengths})
  places = {key: i for i, key in enumerate(keys)}
  mass, sources, targets = ([0.0] * len(keys) for _ in range(3))
  for (source, target), weight in lengths.items():
    i = places[max(source, target + 1)]
    mass[i] += weight
    sources[i] = max(sources[i], source)
    targets[i] = max(targets[i], target + 1)
  shapes = zip(np.maximum.accumulate(sources), np.maximum.accumulate(targets))
  return keys, [(int(s), int(t)) for s, t in shapes], mass


def _cheapest_cuts(
  mass: list[float], widths: list[int], count: int
) -> list[int]:
  """The last place of each of `count` parts, so that padding is cheapest."""
  total = np.concatenate([[0.0], np.cumsum(mass)])
  # best[j]: the least cost of the first j places in the parts made so far.
  best = [0.0] + [math.inf] * len(mass)
  steps: list[list[int]] = []
  for _ in range(count):
    step = [0] * len(best)
    costs = [math.inf] * len(best)
    for j in range(1, len(best)):
      tried = np.array(best[:j]) + (total[j] - total[:j]) * widths[j - 1]
      step[j] = int(tried.argmin())
      costs[j] = float(tried[step[j]])
    best = costs
    steps.append(step)
  cuts, j = [], len(mass)
  for step in reversed(steps):
    cuts.append(j - 1)
    j = step[j]
  return cuts[::-1]
