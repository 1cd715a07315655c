"""From words to layers: which mask, which module, how large a cache."""

import pytest

from attn.modules import (
  CachePlan,
  DifferentialAttention,
  LatentAttention,
  LinearAttention,
  MultiHeadAttention,
)
from attn.modules.attention_layers import layer_mask, make_attention
from tests.cache_test import config_of


def layer_of(attention, layer=0, cache=None, **changes):
  return make_attention(
    config_of(attention, **changes),
    layer,
    cache,
    out_init=lambda *_: None,
    kernel_init=lambda *_: None,
    capture_weights=False,
  )


def drawn(attention, layer=0, **changes):
  config = config_of(attention, window=3, **changes)
  return layer_mask(config, layer, None, config.prefix_length).draw(5, 5)


def test_masks():
  window = '1 0 0 0 0\n1 1 0 0 0\n1 1 1 0 0\n0 1 1 1 0\n0 0 1 1 1'
  causal = '1 0 0 0 0\n1 1 0 0 0\n1 1 1 0 0\n1 1 1 1 0\n1 1 1 1 1'
  assert drawn('sliding_window') == window
  for attention in ('full', 'linear', 'latent', 'alibi', 'none'):
    assert drawn(attention) == causal
  assert drawn('dilated') == (
    '1 0 0 0 0\n0 1 0 0 0\n1 0 1 0 0\n0 1 0 1 0\n1 0 1 0 1'
  )
  assert drawn('chunked', chunk_size=2) == (
    '1 0 0 0 0\n1 1 0 0 0\n0 0 1 0 0\n0 0 1 1 0\n0 0 0 0 1'
  )
  assert drawn('global', global_tokens=1) == (
    '1 0 0 0 0\n1 1 0 0 0\n1 1 1 0 0\n1 1 1 1 0\n1 0 1 1 1'
  )
  assert drawn('prefix', prefix_length=3) == (
    '1 1 1 0 0\n1 1 1 0 0\n1 1 1 0 0\n1 1 1 1 0\n1 1 1 1 1'
  )


@pytest.mark.parametrize(
  ('full_every', 'full'), [(2, [1, 3, 5]), (3, [2, 5]), (1, [*range(6)])]
)
def test_alternating(full_every, full):
  see_all = [
    layer
    for layer in range(6)
    if drawn('alternating', layer, full_every=full_every) == drawn('full')
  ]
  assert see_all == full


def test_kinds():
  for attention, kind in (
    ('full', MultiHeadAttention),
    ('latent', LatentAttention),
    ('differential', DifferentialAttention),
    ('linear', LinearAttention),
  ):
    assert type(layer_of(attention)) is kind
  assert layer_of('none') is None
  for score in ('cosine', 'bilinear', 'additive'):
    assert layer_of(score).score == score
  assert layer_of('symmetric').shared_query_key
  assert layer_of('sigmoid').sigmoid_of == 24
  assert layer_of('full').sigmoid_of is None
  assert layer_of('differential', layer=3).layer == 3
  assert layer_of('latent', latent_dim=0).latent_dim == 16
  assert layer_of('grouped').num_kv_heads == 2


@pytest.mark.parametrize(
  ('attention', 'plan', 'slots', 'pinned'),
  [
    ('full', CachePlan(20), 20, 0),
    ('sliding_window', CachePlan(20), 5, 0),
    ('sliding_window', CachePlan(20, at_once=4), 8, 0),
    ('sliding_window', CachePlan(4), 4, 0),
    ('dilated', CachePlan(20), 9, 0),
    ('chunked', CachePlan(20), 4, 0),
    ('global', CachePlan(20), 7, 2),
    ('global', CachePlan(2), 2, 1),
    ('prefix', CachePlan(20), 20, 0),
    ('alternating', CachePlan(20), 5, 0),
  ],
)
def test_caches(attention, plan, slots, pinned):
  cache = layer_of(attention, cache=plan).cache
  assert (cache.slots, cache.pinned, cache.first) == (slots, pinned, False)


def test_no_cache_without_a_plan():
  assert layer_of('full').cache is None
