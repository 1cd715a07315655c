"""Every kind of encoder–decoder has the same properties."""

import collections

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from attn.modules import (
  KeyValueAttention,
  MultiHeadAttention,
  make_encoder_decoder,
)
from tests.checks import assert_close, assert_same_bits, compile_fast
from tests.encoder_decoder_cases import (
  INPUTS,
  KINDS,
  REAL,
  SOURCE,
  SOURCE_MASK,
  SOURCE_WORDS,
  TARGETS,
  B,
  Batch,
  S,
  T,
  V,
  config_of,
  model_of,
  outcome_of,
  whole,
)
from tests.module_cases import run

# What one test compiled, another uses.
pytestmark = pytest.mark.xdist_group('encoder_decoder')

_every_kind = parameterized.named_parameters(
  *((name.replace(', ', '_').replace(' ', '_'), name) for name in KINDS)
)


def _model(**changes):
  return make_encoder_decoder(config_of(**changes))


class StepsTest(parameterized.TestCase):
  @_every_kind
  def test_step_by_step_equals_teacher_forced(self, name):
    outcome = whole(name)
    chex.assert_shape(outcome.decoded.logits, (B, T, V))
    chex.assert_type(outcome.decoded.logits, jnp.float32)
    self.assertGreater(outcome.decoded.logits.std(), 0.1)
    assert_close(outcome.stepped, outcome.decoded, 1e-5)

  @_every_kind
  def test_every_leaf_has_a_row_for_each_sentence(self, name):
    for leaf in jax.tree.leaves(whole(name).encoded):
      self.assertEqual(leaf.shape[0], B)

  @_every_kind
  def test_hypotheses_can_be_gathered(self, name):
    # Sentences in another order, and one of them twice.
    order = np.array([2, 0, 0])
    batch = Batch(*(x[order] for x in Batch()))
    turned = outcome_of(name, batch)
    expected = jax.tree.map(lambda x: x[order], whole(name).stepped)
    assert_close(turned.stepped, expected, 1e-5)


class WeightsTest(parameterized.TestCase):
  @_every_kind
  def test_weights_are_rows_over_the_visible_source(self, name):
    model, _ = model_of(name)
    weights = whole(name).decoded.weights
    if model.config.kind in ('bottleneck', 'lstm'):
      self.assertIsNone(weights)
      return
    chex.assert_shape(weights, (B, T, S))
    chex.assert_type(weights, jnp.float32)
    hidden = np.broadcast_to(~SOURCE_MASK[:, None], weights.shape)
    np.testing.assert_array_equal(weights[hidden], 0)
    np.testing.assert_array_less(-1e-9, weights)
    sums = weights.sum(-1)
    if model.config.locality == 'local-p':
      # A Gaussian takes its part.
      np.testing.assert_array_less(sums, 1)
      np.testing.assert_array_less(0.01, sums)
    else:
      assert_close(sums, np.ones((B, T)), 1e-6)


class PaddingTest(parameterized.TestCase):
  @_every_kind
  def test_padded_batch_equals_each_sentence_alone(self, name):
    batch, outcome = Batch(), whole(name)
    apart = [outcome_of(name, batch.alone(row)) for row in (1, 2)]
    for row, alone in zip((1, 2), apart):
      length, words = REAL[row].sum(), SOURCE_MASK[row].sum()
      for there, here in (
        (alone.decoded, outcome.decoded),
        (alone.stepped, outcome.stepped),
      ):
        assert_close(here.logits[row, :length], there.logits[0], 1e-5)
        if here.weights is not None:
          here = here.weights[row, :length, :words]
          assert_close(here, there.weights[0], 1e-5)
      assert_close(outcome.nats[row, :length], alone.nats[0], 1e-5)
    # The first sentence is in the batch, but does not count.
    counts = batch.weights * np.float32([[0], [1], [1]])
    together = outcome_of(name, batch._replace(weights=counts))
    expected = jax.tree.map(np.add, *(alone.gradients for alone in apart))
    assert_close(together.gradients, expected, 1e-5)

  @_every_kind
  def test_padded_tokens_change_no_bit_of_what_counts(self, name):
    before = whole(name)
    after = outcome_of(
      name,
      Batch(
        source=np.where(SOURCE_MASK, SOURCE, (SOURCE + 5) % SOURCE_WORDS),
        inputs=np.where(REAL, INPUTS, (INPUTS + 5) % V),
        targets=np.where(REAL, TARGETS, (TARGETS + 5) % V),
      ),
    )
    for there, here in (
      (before.decoded, after.decoded),
      (before.stepped, after.stepped),
    ):
      assert_same_bits(here.logits[REAL], there.logits[REAL])
      if here.weights is not None:
        assert_same_bits(here.weights[REAL], there.weights[REAL])
    assert_same_bits(after.nats[REAL], before.nats[REAL])
    chex.assert_trees_all_equal(after.gradients, before.gradients)

  @_every_kind
  def test_a_source_that_is_hidden_is_no_source(self, name):
    mask = SOURCE_MASK & np.array([[True], [False], [True]])
    hidden = outcome_of(name, Batch(source_mask=mask))
    chex.assert_tree_all_finite(hidden)
    if hidden.decoded.weights is not None:
      np.testing.assert_array_equal(hidden.decoded.weights[1], 0)
      np.testing.assert_array_equal(hidden.stepped.weights[1], 0)
    # The decoder begins as if nothing had been read.
    for leaf in jax.tree.leaves(hidden.encoded.state):
      np.testing.assert_array_equal(leaf[1], 0)
    # No word of it counts, in outputs or gradients; of the others all do.
    source = np.where(mask, SOURCE, (SOURCE + 5) % SOURCE_WORDS)
    other = outcome_of(name, Batch(source=source, source_mask=mask))
    chex.assert_trees_all_equal(other.gradients, hidden.gradients)
    assert_same_bits(other.decoded, hidden.decoded)
    rest = np.array([0, 2])
    assert_close(
      hidden.decoded.logits[rest], whole(name).decoded.logits[rest], 1e-5
    )
    # What is left is a language model: its words still learn.
    learned = hidden.gradients['target_embed']['embedding'][INPUTS[1, :3]]
    np.testing.assert_array_less(1e-6, np.abs(learned).max(-1))


class CausalityTest(parameterized.TestCase):
  @_every_kind
  def test_a_word_depends_on_no_later_word(self, name):
    row = 0
    for t in range(T):
      weights = np.zeros((B, T), np.float32)
      weights[row, t] = 1
      gradients = outcome_of(name, Batch(weights=weights)).gradients
      moves = gradients['target_embed']['embedding'].any(-1)
      seen = np.isin(np.arange(V), INPUTS[row, : t + 1])
      np.testing.assert_array_equal(moves, seen)

  @_every_kind
  def test_every_word_of_the_source_counts(self, name):
    weights = np.zeros((B, T), np.float32)
    weights[2, 1] = 1
    gradients = outcome_of(name, Batch(weights=weights)).gradients
    moves = gradients['source_embed']['embedding'].any(-1)
    read = np.isin(np.arange(SOURCE_WORDS), SOURCE[2, SOURCE_MASK[2]])
    np.testing.assert_array_equal(moves, read)

  @_every_kind
  def test_every_parameter_learns(self, name):
    gradients = whole(name).gradients
    chex.assert_tree_all_finite(gradients)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
      self.assertGreater(np.abs(leaf).max(), 1e-5, path)


class DropoutTest(parameterized.TestCase):
  @parameterized.parameters(
    *({'kind': kind} for kind in ('bottleneck', 'lstm', 'bahdanau', 'luong')),
    {'kind': 'transformer', 'num_layers': 1},
  )
  def test_dropout(self, **changes):
    model = _model(**changes, dropout_rate=0.4)
    without = _model(**changes)
    parameters = _parameters(without)
    arguments = SOURCE, SOURCE_MASK, INPUTS

    def logits(model, **options):
      return run(model, parameters, *arguments, **options).logits

    expected = logits(without)
    chex.assert_trees_all_equal(logits(model, deterministic=True), expected)
    chex.assert_trees_all_equal(logits(model), expected)
    rngs = {'dropout': jax.random.key(0)}
    one = logits(model, deterministic=False, rngs=rngs)
    same = logits(model, deterministic=False, rngs=rngs)
    chex.assert_trees_all_equal(same, one)
    rngs = {'dropout': jax.random.key(1)}
    other = logits(model, deterministic=False, rngs=rngs)
    for dropped in (one, other):
      self.assertGreater(np.abs(dropped - expected).max(), 0.01)
    self.assertGreater(np.abs(one - other).max(), 0.01)

  @parameterized.parameters(
    ('bottleneck', 3, 0),
    ('lstm', 3, 0),
    ('bahdanau', 3, 0),
    ('luong', 3, 0),
    # Of two layers each block adds twice to the source, thrice to the target.
    ('transformer', 3 + 2 * 2 + 2 * 3, 2 + 2 * 2),
  )
  def test_is_everywhere(self, kind, dropouts, attentions):
    """On embeddings, on features, and in the blocks of a transformer."""
    seen = []

    def note(call, args, options, context):
      module = context.module
      if isinstance(module, nn.Dropout):
        off = options.get('deterministic', module.deterministic)
        seen.append(('dropout', module.rate, off))
      elif context.method_name == '__call__' and isinstance(
        module, (MultiHeadAttention, KeyValueAttention)
      ):
        drops = module.dropout_rate, options['deterministic']
        seen.append(('attention', *drops))
      return call(*args, **options)

    model = _model(kind=kind, dropout_rate=0.25)
    arguments = SOURCE, SOURCE_MASK, INPUTS
    for deterministic in (True, False):
      seen.clear()
      with nn.intercept_methods(note):
        jax.eval_shape(
          lambda deterministic=deterministic: model.init(
            {'params': jax.random.key(0), 'dropout': jax.random.key(1)},
            *map(jnp.asarray, arguments),
            deterministic=deterministic,
          )
        )
      counts = collections.Counter(seen)
      expected = {
        ('dropout', 0.25, deterministic): dropouts,
        ('attention', 0.25, deterministic): attentions,
      }
      self.assertEqual(counts, collections.Counter(expected))


def _parameters(model):
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), SOURCE, SOURCE_MASK, INPUTS)
  )
  generator = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.asarray(generator.normal(size=x.shape), x.dtype), shapes
  )


class StartTest(parameterized.TestCase):
  @parameterized.parameters('bottleneck', 'transformer')
  def test_embeddings(self, kind):
    model = _model(
      kind=kind,
      source_vocab_size=997,
      target_vocab_size=499,
      embed_dim=100,
      num_heads=2,
      num_layers=1,
    )

    @compile_fast
    def start():
      rng = jax.random.key(0, impl='rbg')  # quick to compile
      return model.init(rng, SOURCE, SOURCE_MASK, INPUTS)['params']

    parameters = start()
    for side, words in (('source', 997), ('target', 499)):
      embedding = np.asarray(parameters[f'{side}_embed']['embedding'])
      chex.assert_shape(embedding, (words, 100))
      self.assertAlmostEqual(embedding.std() * 10, 1, delta=0.02)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    (
      ValueError,
      'source: got length 9, wanted 1 to 8, the max_source_length',
      {'source': np.zeros((B, 9), int)},
    ),
    (
      ValueError,
      r'source: got shape \(7,\), wanted \[B, S\]',
      {'source': SOURCE[0]},
    ),
    (
      ValueError,
      'inputs: got length 7, wanted 1 to 6, the max_target_length',
      {'inputs': np.zeros((B, 7), int)},
    ),
    (
      ValueError,
      r'inputs: got shape \(2, 5\), wanted \[3, T\]',
      {'inputs': INPUTS[:2]},
    ),
    (
      ValueError,
      r'source_mask: got shape \(3, 6\), wanted \(3, 7\)',
      {'source_mask': SOURCE_MASK[:, 1:]},
    ),
    (
      TypeError,
      'source_mask: got dtype float32, wanted bool',
      {'source_mask': np.float32(SOURCE_MASK)},
    ),
  )
  def test_what_does_not_fit(self, error, message, changes):
    arguments = {
      'source': SOURCE,
      'source_mask': SOURCE_MASK,
      'inputs': INPUTS,
    } | changes
    arguments = {name: jnp.asarray(x) for name, x in arguments.items()}
    for kind in ('lstm', 'transformer'):
      with self.assertRaisesRegex(error, message):
        jax.eval_shape(
          lambda kind=kind: _model(kind=kind).init(
            jax.random.key(0), **arguments
          )
        )

  def test_a_target_that_may_be_too_long(self):
    for length in (0, T + 2):
      message = f'max_length: got length {length}, wanted 1 to 6'
      for kind in ('bahdanau', 'transformer'):
        with self.assertRaisesRegex(ValueError, message):
          jax.eval_shape(
            lambda kind=kind, length=length: _model(kind=kind).init(
              jax.random.key(0),
              jnp.asarray(SOURCE),
              jnp.asarray(SOURCE_MASK),
              max_length=length,
              method='encode',
            )
          )


if __name__ == '__main__':
  absltest.main()
