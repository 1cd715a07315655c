"""CausalLM: what it computes, and what it may not see."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from attn.modules import (
  CausalLM,
  CausalLMConfig,
  MultiHeadAttention,
  TransformerBlock,
)
from tests import module_cases, oracles
from tests.checks import assert_close
from tests.module_cases import (
  assert_dropout,
  assert_every_parameter_learns,
  compiled,
  random_parameters,
  run,
  shapes,
)

B, T, V, CONTEXT, L, D, N, K, F, WINDOW = 2, 5, 13, 7, 2, 12, 6, 3, 17, 2
_POSITIONS = ('learned', 'sinusoidal', 'rotary', 'none')
_TOKENS = np.array([[3, 11, 0, 7, 5], [8, 2, 9, 12, 1]])
# Two documents a row: two tokens and three, three and two.
_SEGMENTS = np.array([[4, 4, 1, 1, 1], [0, 0, 0, 6, 6]])
_RESTARTED = np.array([[0, 1, 0, 1, 2], [0, 1, 2, 0, 1]])


def _config(**changes):
  fields = {
    'vocab_size': V,
    'context': CONTEXT,
    'num_layers': L,
    'embed_dim': D,
    'num_heads': N,
    'num_kv_heads': K,
    'mlp_dim': F,
    'attention': 'full',
    'window': WINDOW,
    'positions': 'rotary',
    'rope_base': 50.0,
    'norm': 'rmsnorm',
    'activation': 'relu2',
    'qk_norm': True,
    'tied_head': False,
    'dropout_rate': 0.0,
  }
  return CausalLMConfig(**(fields | changes))


def _model(**changes):
  model = CausalLM(_config(**changes))
  return model, random_parameters(model, _TOKENS)


def _by_hand(config, parameters, tokens, positions, segments=None):
  """Logits in NumPy float64."""
  x = parameters['embed']['embedding'][tokens]
  if config.positions == 'learned':
    x = x + parameters['position_embed']['embedding'][positions]
  if config.positions == 'sinusoidal':
    x = x + oracles.sinusoidal_positions(positions, config.embed_dim)
  steps = np.arange(T)[:, None] - np.arange(T)  # how far back key s is
  mask = np.ones((B, 1, T, T), bool) & (steps >= 0)
  if config.attention == 'sliding_window':
    mask &= steps < config.window
  if segments is not None:
    mask &= (segments[:, :, None] == segments[:, None, :])[:, None]
  for layer in range(config.num_layers):
    x = module_cases.block(
      parameters[f'block_{layer}'],
      x,
      kind=config.norm,
      activation=config.activation,
      num_heads=config.num_heads,
      num_kv_heads=config.num_kv_heads,
      rope_base=config.rope_base if config.positions == 'rotary' else None,
      mask=mask,
      positions=positions,
    )
  x = module_cases.norm(config.norm, parameters['final_norm'], x)
  if config.tied_head:
    return x @ parameters['embed']['embedding'].T
  return module_cases.linear(parameters['head'], x)


class LogitsTest(chex.TestCase):
  @parameterized.parameters(
    {'positions': 'learned', 'norm': 'layernorm', 'activation': 'gelu'},
    {'positions': 'sinusoidal', 'tied_head': True, 'qk_norm': False},
    {'attention': 'sliding_window', 'activation': 'swiglu', 'num_kv_heads': 1},
    {'positions': 'none', 'num_kv_heads': 0, 'num_layers': 3},
    {'attention': 'none', 'positions': 'learned', 'tied_head': True},
  )
  def test_equal_kernels_multiplied_by_hand(self, **changes):
    model, parameters = _model(**changes)
    in_order = np.broadcast_to(np.arange(T), (B, T))
    elsewhere = np.array([[6, 0, 1, 1, 4], [2, 5, 3, 6, 0]])
    kernels = jax.tree.map(np.float64, parameters['params'])
    logits = run(model, parameters, _TOKENS)
    chex.assert_type(logits, jnp.float32)
    expected = _by_hand(model.config, kernels, _TOKENS, in_order)
    assert_close(logits, expected, 5e-6)
    packed = {'positions': elsewhere, 'segment_ids': _SEGMENTS}
    logits = run(model, parameters, _TOKENS, **packed)
    expected = _by_hand(model.config, kernels, _TOKENS, elsewhere, _SEGMENTS)
    assert_close(logits, expected, 5e-6)

  @chex.variants(with_jit=True, without_jit=True)
  def test_jit_is_no_jit(self):
    model, parameters = _model(num_layers=1, positions='none')
    actual = self.variant(model.apply)(parameters, _TOKENS)
    assert_close(actual, run(model, parameters, _TOKENS), 1e-6)

  def test_vmap_is_batch(self):
    model, parameters = _model(positions='learned')

    @compiled
    @jax.vmap
    def one(tokens, segments):
      return model.apply(parameters, tokens[None], segment_ids=segments[None])

    apart = one(_TOKENS, _SEGMENTS)[:, 0]
    together = run(model, parameters, _TOKENS, segment_ids=_SEGMENTS)
    assert_close(together, apart, 1e-6)

  @parameterized.parameters(
    *({'positions': positions} for positions in _POSITIONS),
    {'attention': 'sliding_window'},
  )
  def test_documents_packed_are_documents_apart(self, **changes):
    model, parameters = _model(num_layers=1, **changes)
    packed = run(
      model,
      parameters,
      _TOKENS,
      segment_ids=_SEGMENTS,
      positions=_RESTARTED,
    )
    short = run(model, parameters, np.stack([_TOKENS[0, :2], _TOKENS[1, 3:]]))
    long = run(model, parameters, np.stack([_TOKENS[0, 2:], _TOKENS[1, :3]]))
    assert_close(packed[0], np.concatenate([short[0], long[0]]), 1e-6)
    assert_close(packed[1], np.concatenate([long[1], short[1]]), 1e-6)

  def test_window_as_long_as_the_context_is_no_window(self):
    full, parameters = _model(num_layers=1)
    tokens = np.arange(B * CONTEXT).reshape(B, CONTEXT) % V
    expected = run(full, parameters, tokens)
    for window, same in ((CONTEXT, True), (CONTEXT - 1, False)):
      config = _config(num_layers=1, attention='sliding_window', window=window)
      logits = run(CausalLM(config), parameters, tokens)
      self.assertEqual(np.abs(logits - expected).max() < 1e-5, same)

  @parameterized.parameters(
    ({'positions': 'learned', 'tied_head': True}),
    ({'activation': 'swiglu', 'norm': 'layernorm'}),
  )
  def test_every_parameter_learns(self, **changes):
    assert_every_parameter_learns(*_model(**changes), _TOKENS)


class CausalityTest(parameterized.TestCase):
  def _reach(self, model, parameters):
    """bool[T, T]: does the embedding of token s move the logits at t?"""
    table = parameters['params']['embed']

    @compiled
    @jax.jacrev
    def jacobian(embedding):
      changed = parameters['params'] | {'embed': {'embedding': embedding}}
      return model.apply({'params': changed}, _TOKENS[:1])[0]

    moves = np.asarray(jacobian(table['embedding']))  # [T, V, V, D]
    chex.assert_tree_all_finite(moves)
    self.assertLen(set(_TOKENS[0]), T)
    moves = (moves != 0).any((1, 3))
    unused = np.setdiff1d(np.arange(V), _TOKENS[0])
    np.testing.assert_array_equal(moves[:, unused], False)
    return moves[:, _TOKENS[0]]

  def _assert_bits_stay(self, model, parameters, sees):
    """Change in row t what token t may not see: its logits stay as they are."""
    tokens = np.tile(_TOKENS[0], (T, 1))
    others = np.where(sees, tokens, (tokens + 1) % V)
    actual, expected = (
      run(model, parameters, x)[np.arange(T), np.arange(T)]
      for x in (others, tokens)
    )
    chex.assert_trees_all_equal(actual, expected)

  @parameterized.product(
    positions=_POSITIONS, attention=('full', 'sliding_window')
  )
  def test_no_logit_depends_on_later_tokens(self, positions, attention):
    model, parameters = _model(positions=positions, attention=attention)
    sees = np.tri(T, dtype=bool)
    if attention == 'sliding_window':
      # Each of L layers looks WINDOW - 1 tokens further back.
      sees &= ~np.tri(T, k=-L * (WINDOW - 1) - 1, dtype=bool)
    np.testing.assert_array_equal(self._reach(model, parameters), sees)
    self._assert_bits_stay(model, parameters, sees)

  def test_without_attention_each_token_is_alone(self):
    model, parameters = _model(attention='none', positions='learned')
    alone = np.eye(T, dtype=bool)
    np.testing.assert_array_equal(self._reach(model, parameters), alone)
    self._assert_bits_stay(model, parameters, alone)


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
      _, parameters = _model(**changes)
      self.assertEqual(shapes(parameters), common | blocks | others)

  def test_start(self):
    model = CausalLM(_config(vocab_size=997, embed_dim=96, num_layers=2))
    rng = jax.random.key(0, impl='rbg')  # quick to compile
    start = compiled(model.init)(rng, _TOKENS)['params']
    out = [start[f'block_{layer}'] for layer in range(2)]
    for kernel, deviation in (
      (start['embed']['embedding'], 0.02),
      *((x['attention']['out']['kernel'], 0.02 / 4**0.5) for x in out),
      *((x['feed_forward']['out']['kernel'], 0.02 / 4**0.5) for x in out),
    ):
      self.assertAlmostEqual(float(kernel.std()) / deviation, 1, delta=0.1)

  def test_captured_weights(self):
    model, parameters = _model()
    watched = CausalLM(model.config, capture_weights=True)
    logits, sown = run(model, parameters, _TOKENS, mutable='intermediates')
    self.assertEqual(dict(sown), {})
    same, sown = run(watched, parameters, _TOKENS, mutable='intermediates')
    assert_close(same, logits, 1e-6)
    self.assertLen(sown['intermediates'], L)
    for block in sown['intermediates'].values():
      (weights,) = block['attention']['weights']
      chex.assert_shape(weights, (B, N, T, T))
      assert_close(weights.sum(-1), np.ones((B, N, T)), 1e-6)
      np.testing.assert_array_equal(np.triu(weights, 1), 0)


class DropoutTest(parameterized.TestCase):
  def test_dropout(self):
    model, parameters = _model(num_layers=1, dropout_rate=0.4)
    without = CausalLM(_config(num_layers=1))
    assert_dropout(model, without, parameters, _TOKENS, keeps_expectation=False)

  def test_is_everywhere(self):
    rates = {}

    def note(call, args, kwargs, context):
      if hasattr(context.module, 'dropout_rate'):
        rates.setdefault(type(context.module), []).append(
          context.module.dropout_rate
        )
      return call(*args, **kwargs)

    with nn.intercept_methods(note):
      _, parameters = _model(dropout_rate=0.25)
    for kind in (TransformerBlock, MultiHeadAttention):
      self.assertEqual(set(rates[kind]), {0.25})
    # On the embeddings too: where blocks add nothing, they are all there is.
    model = CausalLM(_config(attention='none', dropout_rate=0.25))
    for layer in range(L):
      half = parameters['params'][f'block_{layer}']['feed_forward']
      half['out'] = {'kernel': jnp.zeros((F, D))}
    first, second = (
      run(
        model,
        parameters,
        _TOKENS,
        deterministic=False,
        rngs={'dropout': jax.random.key(seed)},
      )
      for seed in (0, 1)
    )
    self.assertGreater(np.abs(first - second).max(), 0.1)


class ErrorsTest(parameterized.TestCase):
  def test_tokens_longer_than_the_context(self):
    for positions in _POSITIONS:
      model, parameters = _model(positions=positions)
      shape = functools.partial(jax.eval_shape, model.apply, parameters)
      whole = shape(np.zeros((B, CONTEXT), int))
      chex.assert_shape(whole, (B, CONTEXT, V))
      with self.assertRaisesRegex(
        ValueError, 'tokens: got 8, wanted at most the context, 7'
      ):
        shape(np.zeros((B, CONTEXT + 1), int))

  def test_segments_fit_the_tokens(self):
    model, parameters = _model()
    for error, message, segments in (
      (ValueError, r'mask: got arrays for query length 4', _SEGMENTS[:, 1:]),
      (TypeError, 'query_ids: got dtype float32', np.ones((B, T), np.float32)),
    ):
      with self.assertRaisesRegex(error, message):
        run(model, parameters, _TOKENS, segment_ids=segments)


if __name__ == '__main__':
  absltest.main()
