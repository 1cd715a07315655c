"""KeyValueAttention: the same numbers as MultiHeadAttention, in two parts."""

import functools

import chex
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from attn import masks
from attn.modules import KeyValueAttention, MultiHeadAttention
from tests.checks import assert_close, compile_fast
from tests.module_cases import random_parameters, run

_B, _T, _S, _D, _N = 2, 5, 7, 12, 3
_Y, _X = (
  np.random.default_rng(seed).normal(size=(_B, length, _D)).astype(np.float32)
  for seed, length in ((0, _T), (1, _S))
)


def _both(layer, y, x, **options):
  """What it gives, and with which weights."""
  keys, values = layer.keep(x)
  return layer(y, keys, values, **options), layer.weights(y, keys, **options)


@functools.partial(compile_fast, static_argnums=0)
def _apply(layer, parameters, y, x, **options):
  return layer.apply(parameters, y, x, **options, method=_both)


@functools.partial(compile_fast, static_argnums=0)
def _by_parts(layer, parameters, places):
  """Keys and values kept together, and one by one; what they give."""

  def keep(x, positions=None):
    return layer.apply(parameters, x, positions, method='keep')

  def attend(y, positions=None):
    return layer.apply(parameters, y, *kept, positions=positions)

  kept = keep(_X)
  apart = [keep(_X[:, [s]], places[:, [s]]) for s in range(_S)]
  apart = tuple(jnp.concatenate(parts, 1) for parts in zip(*apart))
  return kept, apart, attend(_Y)[:, [3]], attend(_Y[:, [3]], places[:, [3]])


class AttentionTest(parameterized.TestCase):
  @parameterized.product(rope_base=(None, 50.0), causal=(False, True))
  def test_equals_multi_head_attention(self, rope_base, causal):
    layer = KeyValueAttention(_D, _N, rope_base=rope_base)
    peer = MultiHeadAttention(_N, rope_base=rope_base, capture_weights=True)
    mask = masks.causal() if causal else None
    parameters = random_parameters(peer, _Y, _X)
    out, weights = _apply(layer, parameters, _Y, _X, mask=mask)
    expected, sown = run(
      peer, parameters, _Y, _X, mask=mask, mutable='intermediates'
    )
    assert_close(out, expected, 1e-6)
    assert_close(weights, sown['intermediates']['weights'][0], 1e-6)

  def test_tokens_kept_one_by_one_are_tokens_kept_together(self):
    layer = KeyValueAttention(_D, _N, rope_base=50.0)
    parameters = random_parameters(MultiHeadAttention(_N), _Y, _X)

    places = np.broadcast_to(np.arange(_S), (_B, _S))
    kept, apart, whole, alone = _by_parts(layer, parameters, places)
    chex.assert_shape(kept, (_B, _S, _N, _D // _N))
    assert_close(apart, kept, 1e-6)
    assert_close(alone, whole, 1e-6)

  @parameterized.parameters(5, 0, -1)
  def test_heads_divide_the_width(self, num_heads):
    layer = KeyValueAttention(_D, num_heads)
    message = f'num_heads: got {num_heads}, wanted a divisor of the width 12'
    with self.assertRaisesRegex(ValueError, message):
      layer.apply({}, _X, method='keep')


if __name__ == '__main__':
  absltest.main()
