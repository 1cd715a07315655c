"""Random arguments of attention, every axis of a size of its own."""

import functools

import jax.numpy as jnp
import numpy as np

from attn import dispatch
from attn.backends.blockwise import blockwise

# The sizes of tests fit into one tile, which leaves the loops untested.
dispatch._BACKENDS['small tiles'] = functools.partial(blockwise, sides=(2, 3))

# Whatever computes attention must pass every test that runs over these names.
IMPLEMENTATIONS = ('dense', 'blockwise', 'small tiles')

# B batch, T queries, S keys, K key/value heads, N query heads, H and HV sizes.
B, T, S, K, N, H, HV = 3, 5, 7, 2, 4, 11, 13


def normal(*shape, seed=0, dtype=jnp.float32):
  """Independent normal numbers."""
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def booleans(*shape, seed=0, share=0.5):
  """True with probability `share`."""
  return jnp.asarray(np.random.default_rng(seed).uniform(size=shape) < share)


def qkv(
  batch=(B,), t=T, s=S, k=K, n=N, h=H, hv=HV, *, seed=0, dtype=jnp.float32
):
  """Query, key and value by name."""
  return {
    'query': normal(*batch, t, n, h, seed=seed, dtype=dtype),
    'key': normal(*batch, s, k, h, seed=seed + 1, dtype=dtype),
    'value': normal(*batch, s, k, hv, seed=seed + 2, dtype=dtype),
  }


def with_bias():
  """Query, key, value and a bias by name."""
  return {**qkv(), 'bias': normal(B, N, T, S, seed=5)}


def ragged_mask():
  """[B, N, T, S] where some rows see no key, and some keys no row."""
  mask = booleans(B, N, T, S, seed=3)
  return mask.at[0, 1, 2].set(False).at[2].set(False).at[1, :, :, 4].set(False)


def cotangents(arguments, *, seed=9):
  """For context and residual of a call with these arguments."""
  rows = arguments['query'].shape[:-1]
  query, value = arguments['query'], arguments['value']
  wide = jnp.float64 if query.dtype == jnp.float64 else jnp.float32
  return (
    normal(*rows, value.shape[-1], seed=seed, dtype=query.dtype),
    normal(*rows, seed=seed + 1, dtype=wide),
  )
