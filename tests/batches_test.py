"""Rows of stories and of text: nothing cut, nothing seen twice."""

import chex
import jax
import numpy as np
import pytest

from attn.training import batches, toy_language


@pytest.fixture(scope='module')
def data() -> batches.ToyLanguage:
  """Five rows that hold two or three stories each."""
  return batches.ToyLanguage(seed=3, batch_size=5, context=256)


def segments(batch: batches.Batch) -> list[tuple[int, int]]:
  """(row, segment) of every story."""
  return [
    (row, segment)
    for row in range(len(batch.inputs))
    for segment in range(1, batch.segment_ids[row].max() + 1)
  ]


def test_every_story_is_whole_and_scored(data: batches.ToyLanguage):
  batch = data.train_batch(11)
  assert len(segments(batch)) >= 10
  for row, segment in segments(batch):
    place = batch.segment_ids[row] == segment
    text = data.tokenizer.decode(batch.targets[row, place].tolist())
    story = toy_language.score_story(text)  # raises unless it is a story
    np.testing.assert_array_equal(batch.far[row, place], story.far)
    inputs = data.tokenizer.decode(batch.inputs[row, place].tolist())
    assert inputs == '\n' + text[:-1]
    np.testing.assert_array_equal(
      batch.positions[row, place], np.arange(len(text))
    )
    assert np.flatnonzero(np.diff(np.flatnonzero(place)) != 1).size == 0


def test_only_stories_count(data: batches.ToyLanguage):
  batch = data.train_batch(0)
  np.testing.assert_array_equal(batch.weights, batch.segment_ids > 0)
  assert 0.6 < batch.weights.mean() < 1
  assert not batch.far[batch.weights == 0].any()


def test_a_batch_depends_on_its_number_alone(data: batches.ToyLanguage):
  other = batches.ToyLanguage(seed=3, batch_size=5, context=256)
  other.train_batch(4)
  chex.assert_trees_all_equal(data.train_batch(9), other.train_batch(9))
  assert (data.train_batch(9).inputs != data.train_batch(10).inputs).any()


def test_iterate_goes_on_where_it_is_told(data: batches.ToyLanguage):
  for at_once in (1, 2):
    got = list(batches.iterate(data, 6, 10, at_once))
    assert [len(made.inputs) for made in got] == [at_once] * (4 // at_once)
    apart = [
      jax.tree.map(lambda x, i=i: x[i], made)
      for made in got
      for i in range(at_once)
    ]
    chex.assert_trees_all_equal(
      apart, [data.train_batch(i) for i in range(6, 10)]
    )


def test_seeds_and_splits_share_no_story():
  drawn = []
  for seed in (0, 1):
    data = batches.ToyLanguage(seed, batch_size=5, context=256)
    drawn.append(data.train_batch(0).targets)
    drawn.append(data.validation(5).batches[0].targets)
  for i, one in enumerate(drawn):
    for other in drawn[i + 1 :]:
      assert (one != other).mean() > 0.3


def test_floor_is_the_mean_over_what_is_judged(data: batches.ToyLanguage):
  validation = data.validation(7)
  assert len(validation.batches) == 2
  nats, chances, count = 0.0, [], 0
  for batch in validation.batches:
    for row, segment in segments(batch):
      place = batch.segment_ids[row] == segment
      text = data.tokenizer.decode(batch.targets[row, place].tolist())
      story = toy_language.score_story(text)
      nats += story.nats.sum()
      chances += [1 / n for n in story.branches if n]
      count += int(batch.weights[row, place].sum())
  np.testing.assert_allclose(validation.floor, nats / count, rtol=1e-12)
  np.testing.assert_allclose(validation.chance, np.mean(chances), rtol=1e-12)


def test_what_is_given_is_not_judged(data: batches.ToyLanguage):
  given = 40
  other = batches.ToyLanguage(3, 5, 256, given)
  whole, part = data.train_batch(6), other.train_batch(6)
  # Token t tells token t + 1: the first target is the first that is not given.
  judged = (whole.weights == 1) & (whole.positions + 1 >= given)
  np.testing.assert_array_equal(part.weights, judged)
  np.testing.assert_array_equal(part.far, whole.far & judged)
  assert part.far.any()
  for name in ('inputs', 'targets', 'segment_ids', 'positions'):
    np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))

  validation = other.validation(7)
  nats, chances, count = 0.0, [], 0
  for batch in validation.batches:
    for row, segment in segments(batch):
      place = batch.segment_ids[row] == segment
      text = data.tokenizer.decode(batch.targets[row, place].tolist())
      story = toy_language.score_story(text)
      nats += story.nats[given - 1 :].sum()
      chances += [1 / n for n in story.branches[given - 1 :] if n]
      count += int(batch.weights[row, place].sum())
  np.testing.assert_allclose(validation.floor, nats / count, rtol=1e-12)
  np.testing.assert_allclose(validation.chance, np.mean(chances), rtol=1e-12)


def test_a_story_may_not_be_given_whole():
  with pytest.raises(ValueError, match='given: got 300, wanted at most'):
    batches.ToyLanguage(0, 2, 256, 300)


def test_context_shorter_than_a_story_is_refused():
  longest = toy_language.longest_story()
  with pytest.raises(ValueError, match=f'context: got 7, .*{longest}'):
    batches.ToyLanguage(seed=0, batch_size=2, context=7)


TEXT = ''.join(chr(97 + i * i % 23) for i in range(1000)) + 'é' * 10


def test_text_windows_hold_the_text():
  data = batches.Text(TEXT, seed=5, batch_size=7, context=11)
  batch = data.train_batch(2)
  for inputs, targets in zip(batch.inputs, batch.targets):
    window = data.tokenizer.decode([inputs[0], *targets])
    assert window in TEXT[:909]
    np.testing.assert_array_equal(inputs[1:], targets[:-1])
  assert (batch.weights == 1).all()
  assert batch.segment_ids is None


def test_text_validation_is_every_character_of_the_end_once():
  data = batches.Text(TEXT, seed=5, batch_size=2, context=11)
  validation = data.validation(rows=1)
  judged = ''.join(
    data.tokenizer.decode(targets[weights == 1].tolist())
    for batch in validation.batches
    for targets, weights in zip(batch.targets, batch.weights)
  )
  assert judged == TEXT[910:]
  assert validation.floor is None
  assert validation.chance is None
  # 101 characters, of which ten take two bytes.
  np.testing.assert_allclose(validation.tokens_per_byte, 101 / 111)


def test_what_is_given_of_a_window_is_not_judged():
  data = batches.Text(TEXT, seed=5, batch_size=2, context=11, given=4)
  judged = np.broadcast_to(np.arange(11) >= 3, (2, 11))
  np.testing.assert_array_equal(data.train_batch(0).weights, judged)
  weights = np.concatenate([b.weights for b in data.validation(1).batches])
  # 101 characters are nine windows of 11 targets, and one of a single target.
  np.testing.assert_array_equal(weights.sum(1), [8] * 9 + [0])
  assert not weights[:, :3].any()
  batches.Text(TEXT[:50], 0, 2, 11, 4)
  with pytest.raises(ValueError, match=r'text: got 40 .*, wanted at least 50'):
    batches.Text(TEXT[:40], 0, 2, 11, 4)


def test_text_is_sampled_evenly():
  data = batches.Text(TEXT, seed=0, batch_size=100, context=11)
  starts = set()
  for i in range(100):
    rng = np.random.default_rng([0, i])
    starts |= set(rng.integers(909 - 11, size=100).tolist())
    data.train_batch(i)
  assert min(starts) == 0
  assert max(starts) == 909 - 11 - 1


@pytest.mark.parametrize(('length', 'fits'), [(13, False), (14, True)])
def test_text_must_hold_one_context(length: int, fits: bool):
  text = TEXT[:length]
  if fits:
    assert batches.Text(text, 0, 2, 11).train_batch(0).weights.all()
  else:
    with pytest.raises(ValueError, match='text: got 13 characters, wanted'):
      batches.Text(text, 0, 2, 11)
