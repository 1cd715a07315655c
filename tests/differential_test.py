"""Differential attention against its formula in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from attn import masks
from attn.modules import DifferentialAttention
from tests import oracles
from tests.checks import assert_close, compile_fast
from tests.module_cases import random_parameters

B, T, N, H, LAYER = 2, 5, 3, 4, 2
D = N * H
X = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
CAUSAL = np.tri(T, dtype=bool)


def by_hand(p, x):
  """Output and weights of one sentence."""
  first_share = 0.8 - 0.6 * np.exp(-0.3 * LAYER)
  share = (
    np.exp(p['share_query_1'] @ p['share_key_1'])
    - np.exp(p['share_query_2'] @ p['share_key_2'])
    + first_share
  )
  query, key, value = (
    x @ p[name]['kernel'] for name in ('query', 'key', 'value')
  )
  heads, all_weights = [], []
  for n in range(N):
    halves = []
    for half in range(2):
      of_half = slice(n * H + half * H // 2, n * H + (half + 1) * H // 2)
      scores = query[:, of_half] @ key[:, of_half].T / (H // 2) ** 0.5
      halves.append(oracles.softmax(scores, CAUSAL)[0])
    weights = halves[0] - share * halves[1]
    context = weights @ value[:, n * H : (n + 1) * H]
    size = np.sqrt((context**2).mean(-1, keepdims=True) + 1e-6)
    heads.append(context / size * p['norm']['scale'] * (1 - first_share))
    all_weights.append(weights)
  return np.concatenate(heads, -1) @ p['out']['kernel'], np.stack(all_weights)


def test_equals_its_formula():
  layer = DifferentialAttention(N, layer=LAYER, capture_weights=True)
  variables = random_parameters(layer, X)
  out, state = compile_fast(
    lambda x: layer.apply(
      variables, x, mask=masks.causal(), mutable=['intermediates']
    )
  )(X)
  params = {
    name: {k: np.float64(v) for k, v in leaf.items()}
    if isinstance(leaf, dict)
    else np.float64(leaf)
    for name, leaf in variables['params'].items()
  }
  (weights,) = state['intermediates']['weights']
  for b in range(B):
    expected, expected_weights = by_hand(params, np.float64(X[b]))
    assert_close(out[b], expected, 1e-5)
    assert_close(weights[b], expected_weights, 1e-5)


def test_refused():
  with pytest.raises(ValueError, match=r'^num_heads: got 5, wanted an even'):
    DifferentialAttention(5).apply({'params': {}}, jnp.ones((1, 3, 12)))
