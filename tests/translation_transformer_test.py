"""The transformer of two sentences: equal to its formula."""

import chex
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import module_cases
from tests.encoder_decoder_cases import (
  B,
  S,
  T,
  assert_equals_oracle,
  model_of,
  whole,
)

pytestmark = pytest.mark.xdist_group('encoder_decoder')

_N, _L = 3, 2


def _by_hand(p, source, inputs):
  x = p['source_embed']['embedding'][source][None]
  options = {'num_heads': _N, 'num_kv_heads': _N, 'rope_base': 10_000.0}
  for layer in range(_L):
    x = module_cases.block(
      p[f'readers_{layer}'], x, kind='rmsnorm', activation='gelu', **options
    )
  memory = _norm(p['source_norm'], x)
  x, weights = p['target_embed']['embedding'][inputs][None], None
  past = np.tril(np.ones((len(inputs), len(inputs)), bool))
  for layer in range(_L):
    block = p[f'writers_{layer}']
    normed = _norm(block['self_norm'], x)
    x = (
      x
      + module_cases.multi_head(
        block['self_attention'], normed, mask=past, **options
      )[0]
    )
    added, weights = module_cases.multi_head(
      block['cross_attention'],
      _norm(block['cross_norm'], x),
      memory,
      **options,
    )
    x = x + added
    normed = _norm(block['think_norm'], x)
    x = x + module_cases.feed_forward('gelu', block['feed_forward'], normed)
  logits = module_cases.linear(p['head'], _norm(p['target_norm'], x))
  return logits[0], weights[0].mean(0)


def _norm(p, x):
  return module_cases.norm('rmsnorm', p, x)


class FormulaTest(parameterized.TestCase):
  def test_equals_its_formula(self):
    assert_equals_oracle('transformer', _by_hand)


class CacheTest(parameterized.TestCase):
  def test_sizes(self):
    config = model_of('transformer')[0].config
    encoded = whole('transformer').encoded
    head_dim = config.embed_dim // _N
    for memory, cache in zip(encoded.memory.layers, encoded.state.layers):
      chex.assert_shape([*memory], (B, S, _N, head_dim))
      chex.assert_shape([*cache], (B, T + 1, _N, head_dim))
    self.assertLen(encoded.memory.layers, _L)
    np.testing.assert_array_equal(encoded.state.position, np.zeros(B))


if __name__ == '__main__':
  absltest.main()
