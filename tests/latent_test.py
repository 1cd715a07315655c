"""Latent attention is attention of keys and values written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attn
from attn import masks
from attn.modules import LatentAttention
from tests.checks import assert_close, compile_fast
from tests.module_cases import random_parameters

B, T, N, H, R, TURNED = 2, 5, 3, 4, 7, 6
X = np.random.default_rng(0).normal(size=(B, T, N * H)).astype(np.float32)


@pytest.mark.parametrize('base', [None, 50.0])
def test_equals_attention_of_all_heads(base):
  layer = LatentAttention(
    N, latent_dim=R, rope_dim=TURNED, rope_base=base, capture_weights=True
  )
  variables = random_parameters(layer, X)
  p = variables['params']
  out, state = compile_fast(
    lambda x: layer.apply(
      variables, x, mask=masks.causal(), mutable=['intermediates']
    )
  )(X)
  short = X @ p['down']['kernel']
  short /= np.sqrt((short**2).mean(-1, keepdims=True) + 1e-6)
  short = short * p['down_norm']['scale']
  query = (X @ p['query']['kernel']).reshape(B, T, N, H)
  key = np.einsum('btr,rnh->btnh', short, p['key'])
  value = np.einsum('btr,rnh->btnh', short, p['value'])
  if base is not None:
    turned = (X @ p['turn']['kernel']).reshape(B, T, N, TURNED)
    place = np.repeat((X @ p['place']['kernel'])[:, :, None], N, axis=2)
    query, key = (
      np.concatenate([x, rotated(y, base)], -1)
      for x, y in ((query, turned), (key, place))
    )
  scale = query.shape[-1] ** -0.5
  arrays = [jnp.asarray(x, jnp.float32) for x in (query, key, value)]
  context = attn.attention(*arrays, is_causal=True, scale=scale)
  expected = context.reshape(B, T, N * H) @ p['out']['kernel']
  assert_close(out, expected, 1e-5)
  scores = np.einsum('btnh,bsnh->bnts', query, key) * scale
  weights = attn.softmax(
    jnp.asarray(scores, jnp.float32), np.tri(T, dtype=bool)
  )
  assert_close(state['intermediates']['weights'][0], weights, 1e-5)


def rotated(x, base):
  """Every head by its position."""
  turn = jax.vmap(
    lambda head: attn.apply_rope(head, jnp.arange(T), base=base), 2, 2
  )
  return np.asarray(turn(jnp.asarray(x, jnp.float32)))


def test_refused():
  layer = LatentAttention(5, latent_dim=3)
  with pytest.raises(ValueError, match=r'^num_heads: got 5, wanted a divisor'):
    layer.apply({'params': {}}, jnp.ones((1, 3, 12)))
