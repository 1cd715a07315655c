"""Causal language models under test, and what they must compute and see."""

import math

import chex
import jax
import numpy as np

from attn.modules import CausalLM, CausalLMConfig
from tests import module_cases, oracles
from tests.module_cases import compile_fast, random_parameters

B, T, V, CONTEXT, L, D, N, K, F, WINDOW = 2, 5, 13, 7, 2, 24, 6, 3, 17, 2
TOKENS = np.array([[3, 11, 0, 7, 5], [8, 2, 9, 12, 1]])
# Two documents a row: two tokens and three, three and two.
SEGMENTS = np.array([[4, 4, 1, 1, 1], [0, 0, 0, 6, 6]])
RESTARTED = np.array([[0, 1, 0, 1, 2], [0, 1, 2, 0, 1]])


def config_of(**changes):
  """A small config."""
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


def model_of(**changes):
  """A model, and random parameters for it."""
  model = CausalLM(config_of(**changes))
  return model, random_parameters(model, TOKENS)


def sees(config, positions=None):
  """bool[..., T, T]: may token q see token k, in one layer?

  Args:
    config: Of the model.
    positions: int[..., T], place within the document; 0, 1, ... if None.
  """
  positions = np.arange(T) if positions is None else positions
  there, here = positions[..., None, :], positions[..., :, None]
  back = np.arange(T)[:, None] - np.arange(T)  # how far back key k is
  past = back >= 0
  match config.attention:
    case 'sliding_window':
      past = past & (back < config.window)
    case 'dilated':
      near = back <= (config.window - 1) * config.dilation
      past = past & near & (back % config.dilation == 0)
    case 'chunked':
      past = past & (here // config.chunk_size == there // config.chunk_size)
    case 'global':
      first = np.minimum(here, there) < config.global_tokens
      past = past & ((back < config.window) | first)
    case 'prefix':
      past = past | (there < config.prefix_length)
    case 'none':
      past = np.eye(T, dtype=bool)
  return np.broadcast_to(past, (*positions.shape, T))


def by_hand(config, parameters, positions):
  """Logits of the tokens in their segments, in NumPy float64."""
  x = parameters['embed']['embedding'][TOKENS]
  if config.embed_scale:
    x = x * math.sqrt(config.embed_dim)
  if config.positions == 'learned':
    x = x + parameters['position_embed']['embedding'][positions]
  if config.positions == 'sinusoidal':
    x = x + oracles.sinusoidal_positions(positions, config.embed_dim)
  if config.embed_norm:
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
  mask = SEGMENTS[:, None, :, None] == SEGMENTS[:, None, None, :]
  mask = mask & sees(config, positions)[:, None]
  for layer in range(config.num_layers):
    of_layer = parameters[f'block_{layer}']
    x = module_cases.block(
      of_layer,
      x,
      kind=config.norm,
      activation=config.activation,
      num_heads=config.num_heads,
      num_kv_heads=config.num_kv_heads,
      rope_base=config.rope_base if config.positions == 'rotary' else None,
      rope_scaling=config.rope_scaling,
      query_scalar=config.query_scalar,
      epsilon=config.norm_epsilon,
      mask=mask,
      positions=positions,
      score_mod=score_mod_of(config, of_layer.get('attention')),
    )
  final_norm = parameters['final_norm']
  x = module_cases.norm(config.norm, final_norm, x, config.norm_epsilon)
  if config.tied_head:
    return x @ parameters['embed']['embedding'].T
  logits = module_cases.linear(parameters['head'], x)
  if config.logit_cap:
    logits = config.logit_cap * np.tanh(logits / config.logit_cap)
  return logits


def score_mod_of(config, parameters):
  """What a layer does to its scores."""

  def score_mod(score, b, n, q, k):
    if config.soft_cap:
      score = config.soft_cap * math.tanh(score / config.soft_cap)
    if config.positions == 'alibi':
      # Six heads have the slopes of four, and every other one of eight.
      score -= 2.0 ** -(2, 4, 6, 8, 1, 3)[n] * abs(q - k)
    if config.positions == 'relative_bias':
      bucket = oracles.relative_bucket(
        k - q,
        config.relative_buckets,
        bidirectional=config.attention == 'prefix',
        max_distance=config.relative_max_distance,
      )
      score += parameters['relative_bias']['table'][bucket, n]
    return score

  return score_mod


def assert_sees(model, parameters, sees):
  """The logits at t depend on the tokens s where `sees[t, s]`, on no other.

  By gradient, with respect to their embeddings, and by changing in row t of
  a batch every token that t may not see.
  """

  @compile_fast
  def jacobian_and_logits(embedding, tokens):
    def logits(embedding):
      changed = parameters['params'] | {'embed': {'embedding': embedding}}
      logits = model.apply({'params': changed}, tokens)
      return logits[0], logits

    return jax.jacrev(logits, has_aux=True)(embedding)

  table = parameters['params']['embed']['embedding']
  tokens = np.tile(TOKENS[0], (T, 1))
  moves, logits = map(np.asarray, jacobian_and_logits(table, tokens))
  chex.assert_tree_all_finite(moves)
  moves = (moves != 0).any((1, 3))  # [T, V, V, D], which token which logits
  np.testing.assert_array_equal(moves[:, TOKENS[0]], sees)
  others = np.setdiff1d(np.arange(V), TOKENS[0])
  np.testing.assert_array_equal(moves[:, others], False)

  tokens = np.where(sees, tokens, (tokens + 1) % V)
  _, changed = jacobian_and_logits(table, tokens)
  rows = np.arange(T)
  np.testing.assert_array_equal(
    np.asarray(changed)[rows, rows], logits[rows, rows]
  )
