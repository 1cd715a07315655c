"""CausalLM: what it computes, and what it may not see."""

import functools
import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from attn.modules import CausalLM, MultiHeadAttention, TransformerBlock
from tests.causal_lm_cases import (
  CONTEXT,
  RESTARTED,
  SEGMENTS,
  TOKENS,
  WINDOW,
  B,
  D,
  F,
  K,
  L,
  N,
  T,
  V,
  assert_sees,
  by_hand,
  config_of,
  model_of,
)
from tests.checks import assert_close
from tests.module_cases import (
  assert_dropout,
  assert_every_parameter_learns,
  compile_fast,
  run,
  shapes,
)

pytestmark = pytest.mark.smoke

_POSITIONS = (
  'learned',
  'sinusoidal',
  'rotary',
  'alibi',
  'relative_bias',
  'none',
)


class LogitsTest(chex.TestCase):
  @parameterized.parameters(
    {'positions': 'learned', 'norm': 'layernorm', 'activation': 'gelu'},
    {'positions': 'sinusoidal', 'tied_head': True, 'qk_norm': False},
    {'attention': 'sliding_window', 'activation': 'swiglu', 'num_kv_heads': 1},
    {'positions': 'none', 'num_kv_heads': 0, 'num_layers': 3},
    {'attention': 'none', 'positions': 'learned', 'tied_head': True},
    {'embed_norm': True, 'logit_cap': 0.5},
  )
  def test_equal_kernels_multiplied_by_hand(self, **changes):
    model, parameters = model_of(**changes)
    positions = np.array([[6, 0, 1, 1, 4], [2, 5, 3, 6, 0]])
    logits = run(
      model, parameters, TOKENS, positions=positions, segment_ids=SEGMENTS
    )
    chex.assert_type(logits, jnp.float32)
    expected = by_hand(
      model.config,
      jax.tree.map(np.float64, parameters['params']),
      positions,
    )
    assert_close(logits, expected, 5e-6)

  def test_positions_are_0_1_2_and_all_is_one_segment(self):
    model, parameters = model_of(positions='learned')
    expected = run(
      model,
      parameters,
      TOKENS,
      positions=np.array([np.arange(T)] * B),
      segment_ids=np.zeros((B, T), int),
    )
    assert_close(run(model, parameters, TOKENS), expected, 1e-7)

  @chex.variants(with_jit=True, without_jit=True)
  def test_jit_is_no_jit(self):
    model, parameters = model_of(num_layers=1, positions='none', qk_norm=False)
    actual = self.variant(model.apply)(parameters, TOKENS)
    assert_close(actual, run(model, parameters, TOKENS), 1e-6)

  def test_vmap_is_batch(self):
    model, parameters = model_of(positions='learned')

    @compile_fast
    @jax.vmap
    def one(tokens, segments):
      return model.apply(parameters, tokens[None], segment_ids=segments[None])

    apart = one(TOKENS, SEGMENTS)[:, 0]
    together = run(model, parameters, TOKENS, segment_ids=SEGMENTS)
    assert_close(together, apart, 1e-6)

  @parameterized.parameters(
    *({'positions': positions} for positions in _POSITIONS),
    {'attention': 'sliding_window'},
    {'ngrams': 3, 'ngram_rows': 50, 'embed_norm': True},
  )
  def test_documents_packed_are_documents_apart(self, **changes):
    model, parameters = model_of(num_layers=1, **changes)
    packed = run(
      model,
      parameters,
      TOKENS,
      segment_ids=SEGMENTS,
      positions=RESTARTED,
    )
    short = run(model, parameters, np.stack([TOKENS[0, :2], TOKENS[1, 3:]]))
    long = run(model, parameters, np.stack([TOKENS[0, 2:], TOKENS[1, :3]]))
    assert_close(packed[0], np.concatenate([short[0], long[0]]), 1e-6)
    assert_close(packed[1], np.concatenate([long[1], short[1]]), 1e-6)

  def test_window_as_long_as_the_context_is_no_window(self):
    full, parameters = model_of(num_layers=1)
    tokens = np.arange(B * CONTEXT).reshape(B, CONTEXT) % V
    expected = run(full, parameters, tokens)
    config = config_of(num_layers=1, attention='sliding_window', window=CONTEXT)
    assert_close(run(CausalLM(config), parameters, tokens), expected, 1e-7)

  @parameterized.parameters(
    ({'positions': 'learned', 'tied_head': True}),
    ({'activation': 'swiglu', 'norm': 'layernorm'}),
  )
  def test_every_parameter_learns(self, **changes):
    assert_every_parameter_learns(*model_of(num_layers=1, **changes), TOKENS)


class CausalityTest(parameterized.TestCase):
  @parameterized.product(
    positions=_POSITIONS, attention=('full', 'sliding_window')
  )
  def test_no_logit_depends_on_later_tokens(self, positions, attention):
    sees, layers = np.tri(T, dtype=bool), 1
    if attention == 'sliding_window':
      # Each of two layers looks WINDOW - 1 tokens further back.
      layers = 2
      sees &= ~np.tri(T, k=-layers * (WINDOW - 1) - 1, dtype=bool)
    model, parameters = model_of(
      positions=positions, attention=attention, num_layers=layers
    )
    assert_sees(model, parameters, sees)

  def test_without_attention_each_token_is_alone(self):
    model, parameters = model_of(attention='none', positions='learned')
    assert_sees(model, parameters, np.eye(T, dtype=bool))


class ParametersTest(parameterized.TestCase):
  def test_shapes(self):
    common = {'embed/embedding': (V, D), 'final_norm/scale': (D,)}
    feed_forward = {
      'feed_forward/in/kernel': (D, F),
      'feed_forward/out/kernel': (F, D),
      'feed_forward_norm/scale': (D,),
    }
    attention = {
      'attention/query/kernel': (D, D),
      'attention/key/kernel': (D, K * D // N),
      'attention/value/kernel': (D, K * D // N),
      'attention/out/kernel': (D, D),
      'attention/query_norm/scale': (D // N,),
      'attention/key_norm/scale': (D // N,),
      'attention_norm/scale': (D,),
    }
    head = {'head/kernel': (D, V)}
    for changes, block, others in (
      ({}, attention | feed_forward, head),
      ({'tied_head': True}, attention | feed_forward, {}),
      ({'attention': 'none'}, feed_forward, head),
      (
        {'attention': 'none', 'positions': 'learned'},
        feed_forward,
        head | {'position_embed/embedding': (CONTEXT, D)},
      ),
    ):
      blocks = {
        f'block_{layer}/{name}': shape
        for layer in range(L)
        for name, shape in block.items()
      }
      _, parameters = model_of(**changes)
      self.assertEqual(shapes(parameters), common | blocks | others)

  def test_start(self):
    model = CausalLM(config_of(vocab_size=997, embed_dim=96, num_layers=2))

    @compile_fast
    def start():
      rng = jax.random.key(0, impl='rbg')  # quick to compile
      parameters = model.init(rng, TOKENS)['params']
      blocks = [parameters[f'block_{layer}'] for layer in range(2)]
      outs = [
        block[half]['out']['kernel']
        for block in blocks
        for half in ('attention', 'feed_forward')
      ]
      return parameters['embed']['embedding'], outs

    embedding, outs = start()
    self.assertAlmostEqual(float(embedding.std()), 0.02, delta=0.002)
    for kernel in outs:
      self.assertAlmostEqual(float(kernel.std()), 0.01, delta=0.001)

  def test_start_that_is_asked_for(self):
    config = config_of(
      embed_dim=96, num_layers=1, kernel_std=0.3, zero_init=True
    )
    parameters = CausalLM(config).init(jax.random.key(0), TOKENS)['params']
    block = parameters['block_0']
    drawn = [block['attention'][name] for name in ('query', 'key', 'value')]
    for weights in (*drawn, block['feed_forward']['in']):
      std = float(weights['kernel'].std())
      self.assertAlmostEqual(std, 0.3, delta=0.02)
    for weights in (
      block['attention']['out'],
      block['feed_forward']['out'],
      parameters['head'],
    ):
      self.assertFalse(weights['kernel'].any())

  def test_captured_weights(self):
    model, parameters = model_of()
    watched = CausalLM(model.config, capture_weights=True)
    logits, sown = run(model, parameters, TOKENS, mutable='intermediates')
    self.assertEqual(dict(sown), {})
    same, sown = run(watched, parameters, TOKENS, mutable='intermediates')
    assert_close(same, logits, 1e-6)
    self.assertLen(sown['intermediates'], L)
    for block in sown['intermediates'].values():
      (weights,) = block['attention']['weights']
      chex.assert_shape(weights, (B, N, T, T))
      assert_close(weights.sum(-1), np.ones((B, N, T)), 1e-6)
      np.testing.assert_array_equal(np.triu(weights, 1), 0)


class DropoutTest(parameterized.TestCase):
  def test_dropout(self):
    model, parameters = model_of(num_layers=1, dropout_rate=0.4)
    without = CausalLM(config_of(num_layers=1))
    assert_dropout(model, without, parameters, TOKENS, keeps_expectation=False)

  def test_is_everywhere(self):
    seen = set()

    def note(call, args, options, context):
      module = context.module
      if context.method_name == '__call__' and 'mask' in options:
        drops = module.dropout_rate, options['deterministic']
        seen.add((type(module), *drops))
      return call(*args, **options)

    model, parameters = model_of(dropout_rate=0.25)
    apply = functools.partial(
      model.apply, parameters, TOKENS, rngs={'dropout': jax.random.key(0)}
    )
    with nn.intercept_methods(note):
      for deterministic in (True, False):
        jax.eval_shape(functools.partial(apply, deterministic=deterministic))
    kinds = TransformerBlock, MultiHeadAttention
    expected = itertools.product(kinds, (0.25,), (True, False))
    self.assertEqual(seen, set(expected))
    # On the embeddings too: where blocks add nothing, they are all there is.
    model = CausalLM(config_of(attention='none', dropout_rate=0.25))
    for layer in range(L):
      half = parameters['params'][f'block_{layer}']['feed_forward']
      half['out'] = {'kernel': jnp.zeros((F, D))}
    first, second = (
      run(
        model,
        parameters,
        TOKENS,
        deterministic=False,
        rngs={'dropout': jax.random.key(seed)},
      )
      for seed in (0, 1)
    )
    self.assertGreater(np.abs(first - second).max(), 0.1)


class ErrorsTest(parameterized.TestCase):
  def test_tokens_longer_than_the_context(self):
    for positions in _POSITIONS:
      model, parameters = model_of(positions=positions)
      shape = functools.partial(jax.eval_shape, model.apply, parameters)
      whole = shape(np.zeros((B, CONTEXT), int))
      chex.assert_shape(whole, (B, CONTEXT, V))
      with self.assertRaisesRegex(
        ValueError, 'tokens: got 8, wanted at most the context, 7'
      ):
        shape(np.zeros((B, CONTEXT + 1), int))

  def test_segments_fit_the_tokens(self):
    model, parameters = model_of()
    for error, message, segments in (
      (ValueError, r'mask: got arrays for query length 4', SEGMENTS[:, 1:]),
      (TypeError, 'query_ids: got dtype float32', np.ones((B, T), np.float32)),
    ):
      with self.assertRaisesRegex(error, message):
        run(model, parameters, TOKENS, segment_ids=segments)


if __name__ == '__main__':
  absltest.main()
