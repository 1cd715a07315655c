"""Buckets: the cheapest shapes, checked against every other choice."""

import itertools

import numpy as np
import pytest

from attn.training.pair_buckets import Bucket, choose_buckets, make_bucket


def cost(buckets, lengths):
  """Padded tokens of all pairs, each in the first bucket that holds it."""
  return sum(
    weight
    * next(
      b.source_length + b.target_length for b in buckets if b.holds(*length)
    )
    for length, weight in lengths.items()
  )


def every_choice(lengths, count):
  """Buckets for every way to cut along the longer side."""
  keys = sorted({max(s, t + 1) for s, t in lengths})
  for cuts in itertools.combinations(keys[:-1], count - 1):
    buckets = []
    for cut in (*cuts, keys[-1]):
      inside = [(s, t + 1) for s, t in lengths if max(s, t + 1) <= cut]
      buckets.append(Bucket(*np.max(inside, axis=0).tolist(), 1))
    yield buckets


@pytest.mark.parametrize('count', [1, 2, 3, 5])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_no_other_cuts_are_cheaper(seed, count):
  rng = np.random.default_rng(seed)
  lengths = {
    (int(s), int(t)): float(w)
    for s, t, w in zip(*rng.integers(1, 14, (2, 23)), rng.random(23))
  }
  chosen = choose_buckets(lengths, 1000, count)
  assert len(chosen) == count
  least = min(cost(other, lengths) for other in every_choice(lengths, count))
  np.testing.assert_allclose(cost(chosen, lengths), least)


def test_every_pair_has_room_and_shorter_buckets_come_first():
  rng = np.random.default_rng(3)
  lengths = {(int(s), int(t)): 1.0 for s, t in rng.integers(1, 40, (200, 2))}
  buckets = choose_buckets(lengths, 500, 5)
  for shape in ('source_length', 'target_length'):
    sizes = [getattr(bucket, shape) for bucket in buckets]
    assert sizes == sorted(sizes)
  assert buckets[-1].source_length == max(s for s, _ in lengths)
  assert buckets[-1].target_length == max(t for _, t in lengths) + 1
  for bucket in buckets:
    tokens = bucket.source_length + bucket.target_length
    assert 500 - tokens < bucket.rows * tokens <= 500


def test_one_length_makes_one_bucket():
  assert choose_buckets({(7, 4): 3.0}, 100, 5) == (Bucket(7, 5, 8),)


def test_a_bucket_holds_the_end_of_sequence_too():
  bucket = Bucket(source_length=3, target_length=5, rows=2)
  assert bucket.holds(3, 4)
  assert not bucket.holds(4, 4)
  assert not bucket.holds(3, 5)


def test_bad_arguments_are_refused():
  with pytest.raises(ValueError, match='batch_tokens: got 11, wanted at least'):
    make_bucket(5, 7, 11)
  assert make_bucket(5, 7, 12).rows == 1
  with pytest.raises(ValueError, match='lengths: got none'):
    choose_buckets({}, 100)
  with pytest.raises(ValueError, match='count: got 0, wanted at least 1'):
    choose_buckets({(1, 1): 1.0}, 100, 0)
