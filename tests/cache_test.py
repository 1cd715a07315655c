"""Read bit by bit, a text gives the logits that it gives read at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn import masks
from attn.modules import (
  CachePlan,
  CausalLM,
  CausalLMConfig,
  MultiHeadAttention,
  count_ngrams,
)
from attn.modules.attentions import WORDS
from attn.modules.cache import KeyValueCache
from tests.checks import assert_close, compile_fast
from tests.module_cases import random_parameters

V, CONTEXT, LENGTH = 13, 24, 23
# Every word that `attention` knows, and some that are said together.
ATTENTIONS = (
  'full',
  'sliding_window',
  'alternating',
  'dilated',
  'chunked',
  'global',
  'prefix',
  'none',
  'cosine',
  'bilinear',
  'additive',
  'symmetric',
  'sigmoid',
  'latent',
  'differential',
  'linear',
  'alibi',
  'sinks',
  'soft_cap',
  'multi_query',
  'grouped',
  'sliding_window+sigmoid+alibi',
  'global+latent+soft_cap',
  'alternating+differential+alibi',
  'chunked+additive+multi_query',
)
TOKENS = np.random.default_rng(0).integers(0, V, (2, LENGTH)).astype(np.int32)


def config_of(attention: str, **changes) -> CausalLMConfig:
  fields = {
    'vocab_size': V,
    'context': CONTEXT,
    'num_layers': 2,
    'embed_dim': 32,
    'num_heads': 4,
    'num_kv_heads': 0,
    'mlp_dim': 7,
    'attention': attention,
    'window': 5,
    'positions': 'rotary',
    'rope_base': 50.0,
    'norm': 'rmsnorm',
    'activation': 'relu2',
    'qk_norm': True,
    'tied_head': False,
    'dropout_rate': 0.0,
    'chunk_size': 4,
    'global_tokens': 2,
    'prefix_length': 6,
    'latent_dim': 7,
  }
  return CausalLMConfig(**(fields | changes))


@functools.cache
def model_of(attention: str, **changes):
  model = CausalLM(config_of(attention, **changes))
  return model, random_parameters(model, TOKENS)


def at_once(model: CausalLM, parameters, **options) -> np.ndarray:
  return np.asarray(compile_fast(model.apply)(parameters, TOKENS, **options))


def bit_by_bit(
  model: CausalLM, parameters, prompts, slots: int, steps: int, **options
):
  """Logits of what follows prompts of several lengths, [B, LENGTH - P, V]."""
  longest = max(prompts)
  starts = np.array(prompts, np.int32)
  places = np.arange(longest)
  logits, state = compile_fast(
    functools.partial(
      model.apply,
      cache=CachePlan(slots, steps, first=True),
      mutable=['cache'],
      **options,
    )
  )(
    parameters,
    TOKENS[:, :longest],
    positions=np.where(places < starts[:, None], places, -1),
  )
  found = [np.asarray(logits)[row, :start] for row, start in enumerate(starts)]
  extend = compile_fast(
    functools.partial(
      model.apply,
      cache=CachePlan(slots, steps),
      mutable=['cache'],
      **options,
    )
  )
  while starts.max() + steps <= LENGTH:
    where = starts[:, None] + np.arange(steps)
    logits, state = extend(
      parameters | state,
      np.take_along_axis(TOKENS, where, axis=1),
      positions=where,
    )
    found = [
      np.concatenate([row, new]) for row, new in zip(found, np.asarray(logits))
    ]
    starts = starts + steps
  return found


def test_every_word_is_tried():
  assert {word for words in ATTENTIONS for word in words.split('+')} == {*WORDS}


@pytest.mark.parametrize('attention', ATTENTIONS)
def test_bit_by_bit_is_at_once(attention: str):
  model, parameters = model_of(attention)
  whole = at_once(model, parameters)
  # A prefix is read both ways, so the prompt must hold it.
  prompts = (8, 6) if attention == 'prefix' else (8, 3)
  for row, logits in enumerate(
    bit_by_bit(model, parameters, prompts, CONTEXT, steps=1)
  ):
    assert len(logits) > 15
    assert_close(logits, whole[row, : len(logits)], 1e-5)


@pytest.mark.parametrize(
  'attention',
  ['full', 'alternating', 'dilated', 'chunked', 'global', 'latent', 'linear'],
)
def test_several_tokens_at_a_time(attention: str):
  model, parameters = model_of(attention)
  whole = at_once(model, parameters)
  for row, logits in enumerate(
    bit_by_bit(model, parameters, (5, 2), CONTEXT, steps=3)
  ):
    assert_close(logits, whole[row, : len(logits)], 1e-5)


@pytest.mark.parametrize(
  'positions', ['learned', 'sinusoidal', 'alibi', 'relative_bias', 'none']
)
def test_every_scheme_of_positions(positions: str):
  model, parameters = model_of('sliding_window', positions=positions)
  whole = at_once(model, parameters)
  for row, logits in enumerate(
    bit_by_bit(model, parameters, (8, 3), CONTEXT, steps=1)
  ):
    assert_close(logits, whole[row, : len(logits)], 1e-5)


@pytest.mark.parametrize('steps', [1, 3])
def test_ngrams_reach_into_what_was_read_before(steps: int):
  model, parameters = model_of('sliding_window', ngrams=4, ngram_rows=64)
  whole = at_once(model, parameters)
  for row, logits in enumerate(
    bit_by_bit(model, parameters, (8, 3), CONTEXT, steps=steps)
  ):
    assert_close(logits, whole[row, : len(logits)], 1e-5)


@pytest.mark.parametrize('steps', [1, 3])
def test_counts_reach_into_what_was_read_before(steps: int):
  model, parameters = model_of('sliding_window', counts=3, count_rows=64)
  text = np.random.default_rng(1).integers(0, V, 60)
  counts = count_ngrams(text, V, longest=3, rows=64)
  parameters = {'params': {**parameters['params'], 'counts': counts}}
  whole = at_once(model, parameters)
  for row, logits in enumerate(
    bit_by_bit(model, parameters, (8, 3), CONTEXT, steps=steps)
  ):
    assert_close(logits, whole[row, : len(logits)], 1e-5)


def test_where_slots_end_the_text_slides():
  """Then full attention is a window as wide as the cache."""
  model, parameters = model_of('full')
  window, same = model_of('sliding_window', window=9)
  del same
  whole = at_once(window, parameters)
  for row, logits in enumerate(
    bit_by_bit(model, parameters, (8, 3), slots=9, steps=1)
  ):
    assert_close(logits, whole[row, : len(logits)], 1e-5)


@pytest.mark.parametrize(
  ('attention', 'slots'),
  [('full', 20), ('sliding_window', 5), ('chunked', 4), ('global', 7)],
)
def test_no_more_is_kept_than_the_mask_can_show(attention: str, slots: int):
  model, parameters = model_of(attention)
  _, state = jax.eval_shape(
    lambda: model.apply(
      parameters,
      jnp.asarray(TOKENS[:, :3]),
      cache=CachePlan(20, first=True),
      mutable=['cache'],
    )
  )
  for layer in state['cache'].values():
    shapes = {name: x.shape for name, x in layer['attention']['cache'].items()}
    assert shapes == {
      'key': (2 * 4, slots, 8),
      'value': (2 * 4, slots, 8),
      'places': (2, slots),
      'spoiled': (2, slots),
    }


def test_one_vector_a_token_is_kept_of_latent_attention():
  model, parameters = model_of('latent')
  _, state = jax.eval_shape(
    lambda: model.apply(
      parameters,
      jnp.asarray(TOKENS[:, :3]),
      cache=CachePlan(20, first=True),
      mutable=['cache'],
    )
  )
  kept = state['cache']['block_0']['attention']['cache']
  assert kept['latent'].shape == (2, 20, 7)
  assert kept['place'].shape == (2, 20, 16)


@pytest.mark.parametrize(('slots', 'pinned'), [(1, 0), (5, 0), (5, 2), (6, 5)])
def test_slots_hold_what_was_written_there(slots: int, pinned: int):
  """One token after the other, against a list that is kept by hand."""
  cache = KeyValueCache(slots, pinned)
  variables, by_hand = {}, [-1] * slots
  for place in range(3 * slots):
    token = jnp.full((1, 1, 2), place + 0.5)
    recalled, variables = cache.apply(
      variables,
      jnp.array([[place]]),
      {'key': token},
      num_heads=1,
      mask=masks.causal(),
      score_mod=None,
      mutable=['cache'],
    )
    turn = pinned + (place - pinned) % (slots - pinned)
    by_hand[place if place < pinned else turn] = place
    for position, kept in zip(by_hand, recalled.kept['key'][0].tolist()):
      if position >= 0:
        assert kept == [position + 0.5] * 2
    seen = recalled.mask[0, 0, 0].tolist()
    assert seen == [position >= 0 for position in by_hand]


def test_what_was_taken_back_is_not_seen():
  """Three tokens are read, and the second is replaced."""
  cache, variables = KeyValueCache(4), {}
  for place in (0, 1, 2, 1):
    recalled, variables = cache.apply(
      variables,
      jnp.array([[place]]),
      {'key': jnp.full((1, 1, 2), place + 0.5)},
      num_heads=1,
      mask=~masks.from_fn(lambda b, n, q, k: q < 0),
      score_mod=None,
      mutable=['cache'],
    )
  assert recalled.mask[0, 0, 0].tolist() == [True, True, False, False]


@pytest.mark.parametrize('name', ['key', 'value'])
@pytest.mark.parametrize(
  'options', [{}, {'sigmoid_of': 5}, {'score': 'additive'}, {'sinks': True}]
)
def test_a_token_that_is_not_finite_spoils_only_who_sees_it(name: str, options):
  """Its key or value; a window of three, one token at a time."""
  layer = MultiHeadAttention(num_heads=2, cache=KeyValueCache(5), **options)
  x = np.random.default_rng(1).normal(size=(1, 7, 8)).astype(np.float32)
  first = layer.clone(cache=KeyValueCache(5, first=True, parent=None))
  parameters = first.init(
    jax.random.key(0),
    x[:, :1],
    mask=masks.causal(),
    positions=jnp.zeros((1, 1), int),
  )
  bad = jax.tree.map(jnp.copy, parameters['params'])
  outs, state = [], {}
  for place in range(7):
    params = parameters['params']
    if place == 2:
      # The value of one entry of one head.
      kernel = bad[name]['kernel'].at[:, 3].set(jnp.inf)
      params = params | {name: {'kernel': kernel}}
    out, state = layer.apply(
      {'params': params} | state,
      x[:, place : place + 1],
      mask=masks.causal() & masks.sliding_window(2, 0),
      positions=jnp.array([[place]]),
      mutable=['cache'],
    )
    outs.append(np.isnan(np.asarray(out)).any())
  assert outs == [False, False, True, True, True, False, False]


def test_padding_is_not_kept_and_old_tokens_are_given_up():
  cache = KeyValueCache(4, 1, first=True)
  positions = jnp.array([[0, 1, 2, 3, 4, 5], [0, 1, -1, -1, -1, -1]])
  key = positions[..., None].astype(jnp.float32) + 10
  _, state = cache.apply(
    {},
    positions,
    {'key': key},
    num_heads=1,
    mask=masks.causal(),
    score_mod=None,
    mutable=['cache'],
  )
  kept = state['cache']['key'][..., 0].tolist()
  assert kept == [[10, 14, 15, 13], [10, 11, 0, 0]]


def test_an_array_is_no_mask_of_places():
  cache = KeyValueCache(4)
  with pytest.raises(TypeError, match=r'^mask: got .*, wanted a mask object'):
    cache.apply(
      {},
      jnp.array([[0]]),
      {'key': jnp.ones((1, 1, 2))},
      num_heads=1,
      mask=jnp.ones((1, 4), bool),
      score_mod=None,
      mutable=['cache'],
    )
