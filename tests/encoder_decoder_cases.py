"""Every kind of encoder–decoder, and all that can be asked of one at once."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attn.modules import EncoderDecoderConfig, make_encoder_decoder
from tests.checks import assert_close, compile_fast
from tests.module_cases import random_parameters

# B sentences, S words of a source, T of a target, and two vocabularies.
B, S, T, SOURCE_WORDS, V = 3, 7, 5, 23, 19

KINDS = {
  'bottleneck': {'kind': 'bottleneck'},
  'lstm': {'kind': 'lstm'},
  'bahdanau': {'kind': 'bahdanau'},
  'bahdanau with coverage': {'kind': 'bahdanau', 'coverage': True},
  'dot, local-m, feeding': {
    'score': 'dot',
    'locality': 'local-m',
    'input_feeding': True,
  },
  'general, global': {'score': 'general'},
  'general, global, from both ends': {
    'score': 'general',
    'bidirectional': True,
    'input_feeding': True,
  },
  'general, local-p': {'score': 'general', 'locality': 'local-p'},
  'concat, local-p, feeding': {
    'score': 'concat',
    'locality': 'local-p',
    'input_feeding': True,
  },
  'concat, global': {'score': 'concat'},
  'location, global, feeding': {'score': 'location', 'input_feeding': True},
  'transformer': {'kind': 'transformer'},
}

# The first sentence fills the batch, the others are padded, both alike.
SOURCE_LENGTHS, TARGET_LENGTHS = np.array([S, 4, 4]), np.array([T, 3, 3])
SOURCE = np.random.default_rng(1).integers(3, SOURCE_WORDS, (B, S))
SOURCE_MASK = np.arange(S) < SOURCE_LENGTHS[:, None]
# No word twice in a row: a gradient in its embedding is one of its place.
INPUTS = np.stack(
  [np.random.default_rng(seed).permutation(V)[:T] for seed in range(B)]
)
TARGETS = np.random.default_rng(2).integers(0, V, (B, T))
REAL = np.arange(T) < TARGET_LENGTHS[:, None]


class Batch(NamedTuple):
  """Sentence pairs, and how much each word of the target counts."""

  source: Any = SOURCE
  source_mask: Any = SOURCE_MASK
  inputs: Any = INPUTS
  targets: Any = TARGETS
  weights: Any = np.float32(REAL)

  def alone(self, row):
    """One sentence without its padding."""
    place = slice(row, row + 1)
    of_source = place, slice(SOURCE_LENGTHS[row])
    of_target = place, slice(TARGET_LENGTHS[row])
    return Batch(
      self.source[of_source],
      self.source_mask[of_source],
      self.inputs[of_target],
      self.targets[of_target],
      self.weights[of_target],
    )


class Outcome(NamedTuple):
  """Of a batch: teacher forced, its gradients, and step by step."""

  decoded: Any
  nats: Any
  gradients: Any
  encoded: Any
  stepped: Any


def config_of(**changes):
  """A small config."""
  fields = {
    'kind': 'luong',
    'source_vocab_size': SOURCE_WORDS,
    'target_vocab_size': V,
    'embed_dim': 12,
    'hidden_dim': 11,
    'num_layers': 2,
    'num_heads': 3,
    'mlp_dim': 13,
    'score': 'dot',
    'locality': 'global',
    'half_width': 2,
    'bidirectional': False,
    'input_feeding': False,
    'coverage': False,
    'max_source_length': S + 1,
    'max_target_length': T + 1,
    'dropout_rate': 0.0,
  }
  return EncoderDecoderConfig(**(fields | changes))


@functools.cache
def model_of(name):
  """A model, and random parameters for it."""
  model = make_encoder_decoder(config_of(**KINDS[name]))
  return model, random_parameters(model, SOURCE, SOURCE_MASK, INPUTS)


def outcome_of(name, batch, parameters=None):
  """Everything at once; compiled once for batches of the same shape."""
  model, own = model_of(name)
  parameters = own if parameters is None else parameters
  return jax.tree.map(np.asarray, _outcome_of(model, parameters, batch))


@functools.cache
def whole(name):
  """The outcome of the batch above."""
  return outcome_of(name, Batch())


@functools.partial(compile_fast, static_argnums=0)
def _outcome_of(model, parameters, batch):
  source, source_mask, inputs, targets, weights = batch

  def loss(parameters):
    decoded = model.apply(parameters, source, source_mask, inputs)
    right = jax.nn.one_hot(targets, V)
    nats = -(jax.nn.log_softmax(decoded.logits) * right).sum(-1)
    return (nats * weights).sum(), (decoded, nats)

  gradients, (decoded, nats) = jax.grad(loss, has_aux=True)(parameters)
  # One step more than needed: the size of a cache is not the target's length.
  length = inputs.shape[1] + 1
  encoded = model.apply(
    parameters, source, source_mask, max_length=length, method='encode'
  )

  def step(state, tokens):
    decoded, state = model.apply(
      parameters, tokens, encoded.memory, state, method='decode_step'
    )
    return state, decoded

  _, stepped = jax.lax.scan(step, encoded.state, jnp.asarray(inputs).T)
  stepped = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), stepped)
  return Outcome(decoded, nats, gradients['params'], encoded, stepped)


def assert_equals_oracle(name, oracle, **options):
  """Logits and weights of every sentence are those of `oracle`."""
  _, parameters = model_of(name)
  parameters = jax.tree.map(np.float64, parameters['params'])
  decoded = whole(name).decoded
  for row, (words, length) in enumerate(zip(SOURCE_LENGTHS, TARGET_LENGTHS)):
    logits, weights = oracle(
      parameters, SOURCE[row, :words], INPUTS[row, :length], **options
    )
    assert_close(decoded.logits[row, :length], logits, 1e-5)
    if weights is not None:
      assert_close(decoded.weights[row, :length, :words], weights, 1e-5)
