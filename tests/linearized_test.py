"""Linear attention as a module: what it keeps of the past."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn import masks
from attn.modules import KeyValueCache, LinearAttention
from attn.variants import linear_attention, linear_features
from tests.checks import assert_close
from tests.module_cases import random_parameters

B, T, N, H = 2, 7, 3, 4
X = np.random.default_rng(0).normal(size=(B, T, N * H)).astype(np.float32)


def heads_of(params, name):
  return (X @ params[name]['kernel']).reshape(B, T, N, H)


def test_is_linear_attention_of_its_projections():
  layer = LinearAttention(N)
  variables = random_parameters(layer, X)
  params = variables['params']
  out = layer.apply(variables, X, mask=masks.causal())
  context = linear_attention(
    *(heads_of(params, name) for name in ('query', 'key', 'value')),
    mask=masks.causal(),
  )
  expected = context.reshape(B, T, N * H) @ params['out']['kernel']
  assert_close(out, expected, 1e-5)


def test_keeps_two_sums_and_no_padding():
  layer = LinearAttention(N, cache=KeyValueCache(5, first=True, parent=None))
  variables = random_parameters(layer, X, positions=jnp.zeros((B, T), int))
  variables = {'params': variables['params']}
  lengths = np.array([T, 3])
  places = np.arange(T)
  _, state = layer.apply(
    variables,
    X,
    positions=jnp.asarray(np.where(places < lengths[:, None], places, -1)),
    mutable=['cache'],
  )
  key = linear_features(heads_of(variables['params'], 'key'))
  value = heads_of(variables['params'], 'value')
  for row, length in enumerate(lengths):
    k, v = key[row, :length], value[row, :length]
    assert_close(state['cache']['total'][row], k.sum(0), 1e-5)
    products = np.einsum('snh,snv->nhv', k, v)
    assert_close(state['cache']['products'][row], products, 1e-5)
  assert len(jax.tree.leaves(state)) == 2


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'score_mod': lambda *x: x[0]}, '^score_mod: got .* wanted none'),
    ({}, '^num_heads: got 5, wanted a divisor of the width 12'),
  ],
)
def test_refused(options, message):
  with pytest.raises(ValueError, match=message):
    LinearAttention(5).apply({'params': {}}, X, **options)


def test_a_cache_needs_places():
  layer = LinearAttention(N, cache=KeyValueCache(5, parent=None))
  with pytest.raises(ValueError, match=r'^positions: got none, wanted places'):
    layer.init(jax.random.key(0), X)
