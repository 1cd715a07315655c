"""Batches of pairs: whole, padded, and named by their number."""

import collections
import itertools

import chex
import jax
import numpy as np
import pytest

from attn.training.batches import iterate
from attn.training.errors import UserError
from attn.training.pair_batches import PairBatch, TranslationData
from attn.training.pairs import Pair
from attn.training.word_tokenizer import BOS, EOS, PAD, UNK


def german(seed=3, batch_tokens=307, **options):
  return TranslationData.little_german(
    seed, batch_tokens, **{'max_words': 23, **options}
  )


@pytest.fixture
def path(tmp_path):
  """61 lines, no two alike, of 1 to 13 words."""
  path = tmp_path / 'pairs.tsv'
  path.write_text(
    ''.join(
      f'{"wort " * (i % 13)}w{i}\t{"word " * (i % 7)}e{i}\n' for i in range(61)
    )
  )
  return path


def from_file(path, seed=5, batch_tokens=83):
  return TranslationData.file(path, seed, batch_tokens, max_words=17)


@pytest.fixture(params=['little german', 'dates', 'file'])
def data(request, path):
  if request.param == 'file':
    return from_file(path)
  if request.param == 'dates':
    return TranslationData.dates(seed=3, batch_tokens=307)
  return german()


def rows(data: TranslationData, batch: PairBatch) -> list[tuple]:
  """(source, target) of every row that is no padding."""
  return [
    (data.source_tokenizer.decode(source), data.target_tokenizer.decode(target))
    for source, target, mask in zip(
      batch.source, batch.targets, batch.source_mask
    )
    if mask.any()
  ]


def only_batch(data, pairs):
  (_, batch), *_ = data.batches(pairs)
  return batch


def test_a_batch_is_well_formed(data):
  for index in range(17):
    batch = data.train_batch(index)
    shapes = {(b.rows, b.source_length, b.target_length) for b in data.buckets}
    assert (*batch.source.shape, batch.targets.shape[1]) in shapes
    chex.assert_equal_shape([batch.inputs, batch.targets, batch.weights])
    chex.assert_equal_shape([batch.source, batch.source_mask])
    dtypes = [leaf.dtype for leaf in batch]
    assert dtypes == [np.int32, bool, np.int32, np.int32, np.float32]
    np.testing.assert_array_equal(batch.source_mask, batch.source != PAD)
    np.testing.assert_array_equal(batch.weights, batch.targets != PAD)
    there = batch.source_mask.any(1)
    assert (batch.inputs[there, 0] == BOS).all()
    np.testing.assert_array_equal(
      (batch.targets == EOS).sum(1), there.astype(int)
    )
    # One token after another: inputs are the targets, one step later.
    follows = batch.inputs[:, 1:]
    np.testing.assert_array_equal(
      follows, np.where(batch.weights[:, 1:], batch.targets[:, :-1], PAD)
    )
    for mask in (batch.source_mask, batch.weights > 0):
      assert (mask[:, :-1] >= mask[:, 1:]).all()  # padding is at the end
    assert not (batch.source == UNK).any()
    assert not (batch.targets == UNK).any()


def test_a_batch_depends_on_its_number_alone(data, request, path):
  name = request.node.callspec.params['data']
  other = {
    'file': lambda: from_file(path),
    'dates': lambda: TranslationData.dates(seed=3, batch_tokens=307),
    'little german': german,
  }[name]()
  other.train_batch(41)
  for index in (29, 4, 0):
    chex.assert_trees_all_equal(
      data.train_batch(index), other.train_batch(index)
    )
  batches = [data.train_batch(i) for i in range(4)]
  assert len({batch.source.tobytes() for batch in batches}) == 4
  ahead = [jax.tree.map(lambda x: x[0], made) for made in iterate(data, 1, 4)]
  chex.assert_trees_all_equal(ahead, batches[1:])


@pytest.mark.parametrize(
  'make', [german, lambda seed: TranslationData.dates(seed, 307)]
)
def test_another_seed_is_another_sequence(make):
  one, other = make(seed=0), make(seed=1)
  for index in range(3):
    assert rows(one, one.train_batch(index)) != rows(
      other, other.train_batch(index)
    )
  assert one.test(50) != other.test(50)


def test_steps_cost_about_the_same_and_shapes_are_few(data):
  assert 1 <= len(data.buckets) <= 5
  tokens = [b.rows * (b.source_length + b.target_length) for b in data.buckets]
  assert max(tokens) <= 307
  assert min(tokens) > max(tokens) / 2
  assert data.limit.source_length >= data.buckets[-1].source_length
  assert data.limit.target_length >= data.buckets[-1].target_length


def test_lengths_in_training_are_those_of_free_sentences():
  data = german(batch_tokens=1009)
  trained = collections.Counter(
    len(source)
    for index in range(300)
    for source, _ in rows(data, data.train_batch(index))
  )
  free = collections.Counter(len(p.source) for p in data.validation(1_500))
  edges = (4, 6, 9, 13, 18, 24)
  for least, most in itertools.pairwise(edges):
    shares = [
      sum(counts[n] for n in range(least, most)) / counts.total()
      for counts in (trained, free)
    ]
    assert abs(shares[0] - shares[1]) < 0.05, (least, shares)


def test_no_sentence_is_drawn_twice_and_none_is_in_two_splits():
  data = german(min_words=12)
  trained = [
    source
    for index in range(60)
    for source, _ in rows(data, data.train_batch(index))
  ]
  assert len(set(trained)) == len(trained) > 300
  judged = [pair.source for pair in data.validation(150) + data.test(150)]
  assert len(set(judged)) == 300
  assert not {*judged} & {*trained}


def test_short_sentences_are_in_one_split_too():
  data = german(max_words=5, batch_tokens=2003)
  trained = {
    source
    for index in range(40)
    for source, _ in rows(data, data.train_batch(index))
  }
  validation = {pair.source for pair in data.validation(200)}
  test = {pair.source for pair in data.test(200)}
  assert len(trained) < 40 * data.buckets[0].rows  # some did come twice
  assert not validation & test
  assert not (validation | test) & trained


def test_longer_pairs_are_longer_than_any_in_training():
  data = german()
  lengths = [len(pair.source) for pair in data.longer(60)]
  assert min(lengths) == 24
  assert max(lengths) == data.limit.source_length == 34
  assert TranslationData.dates(0, 307).longer(7) == []
  batch = only_batch(data, data.longer(7))
  assert batch.source.shape[1] == 34
  assert batch.targets.shape[1] == 36


def test_every_line_of_a_file_is_met_once_an_epoch(path):
  data = from_file(path)
  epochs, length = [], 0
  want = collections.Counter(
    line.split('\t')[0]
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if number % 20 not in (0, 10)
  )
  while True:
    met, order = collections.Counter(), []
    while met.total() < want.total():
      batch = data.train_batch(length)
      length += 1
      order += [' '.join(source) for source, _ in rows(data, batch)]
      met = collections.Counter(order)
    assert met == want
    epochs.append(order)
    if len(epochs) == 3:
      break
  assert epochs[0] != epochs[1] != epochs[2]
  assert [p.target[-1] for p in data.validation(99)] == ['e9', 'e29', 'e49']
  assert [p.target[-1] for p in data.test(2)] == ['e19', 'e39']
  assert data.longer(3) == []


def test_words_of_a_file_are_those_of_its_training_lines(path):
  data = from_file(path)
  assert data.source_tokenizer.unknown(('w0', 'w9', 'wort')) == ['w9']
  batch = only_batch(data, data.test(1))
  assert (batch.source == UNK).sum() == 1


def test_batches_hold_every_pair_once_in_one_shape(data):
  pairs = data.validation(61) + data.longer(7)
  found, shapes, lengths = {}, set(), []
  for numbers, batch in data.batches(pairs):
    shapes.add((*batch.source.shape, *batch.targets.shape))
    content = rows(data, batch)
    assert len(numbers) == len(content)
    assert not batch.weights[len(numbers) :].any()
    found.update(zip(numbers, content))
    lengths += [len(pairs[number].source) for number in numbers]
  assert len(shapes) == 1
  assert lengths == sorted(lengths)
  if data.longer(1):
    batch = only_batch(data, data.validation(61))
    assert batch.source.shape[1] < data.limit.source_length
  assert list(data.batches([])) == []
  assert sorted(found) == list(range(len(pairs)))
  for number, (source, target) in found.items():
    known = data.source_tokenizer.decode(
      data.source_tokenizer.encode(pairs[number].source)
    )
    assert source == known
    assert len(target) == len(pairs[number].target)


def test_what_is_too_long_is_refused_by_name():
  data = german()
  words = ('der',) * 35
  for pair, message in (
    (Pair(words, (), None), 'source: got 35 tokens, more than the limit of 34'),
    (Pair((), (*words, 'a'), None), 'target: got 36 tokens, more than .* 35'),
  ):
    with pytest.raises(UserError, match=message):
      only_batch(data, [pair])
    with pytest.raises(UserError, match=message):
      list(data.batches([pair]))
  assert only_batch(data, [Pair(words[:34], words, None)]).weights.sum() == 36


def test_a_line_beyond_the_limit_is_refused_with_its_number(path):
  with pytest.raises(UserError, match='line 13: the source has 13 words'):
    TranslationData.file(path, 0, 83, max_words=12)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'batch_tokens': 69}, 'batch_tokens: got 69, wanted at least 70'),
    ({'min_words': 3}, 'min_words: got 3, wanted 4 to max_words, 23'),
    ({'min_words': 24}, 'min_words: got 24, wanted 4 to max_words, 23'),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    german(**arguments)
