"""What a cache keeps is attended to as the front door attends to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attn
from attn.backends.kept import attend_to_finite
from tests.checks import assert_close

# More keys than XLA's maximum looks through for a NaN.
B, T, S, N, K, H, HV = 2, 3, 67, 6, 2, 11, 13
OPTIONS = {
  'plain': {},
  'scale': {'scale': 0.7},
  'sink': {'sink': np.linspace(-1, 2, N).astype(np.float32)},
  'soft cap': {'score_mod': attn.mods.soft_cap(0.5)},
  'of heads and places': {'score_mod': attn.mods.alibi(N)},
}


def inputs(dtype=np.float32):
  rng = np.random.default_rng(0)
  query, key, value = (
    rng.normal(size=(B, *shape)).astype(dtype)
    for shape in ((T, N, H), (S, K, H), (S, K, HV))
  )
  mask = rng.random((B, N, T, S)) < 0.5
  # One query sees nothing, and one sees a single key.
  mask[0, 1, 2] = False
  mask[1, :, 0] = np.arange(S) == 5
  return query, key, value, mask


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize('field', ['key', 'value'])
def test_same_as_the_front_door(options, field: str):
  query, key, value, mask = inputs()
  spoiled = np.zeros((B, S), bool)
  spoiled[0, 7] = spoiled[1, 66] = True
  mask[0, 0, 0, 7], mask[0, 0, 1, 7] = True, False
  given = {'key': key.copy(), 'value': value.copy()}
  given[field][spoiled] = np.nan
  wanted = attn.attention(query, **given, mask=mask, **options)
  for x in (key, value):
    x[spoiled] = 0
  got = jax.jit(
    lambda *arrays: attend_to_finite(
      *arrays, spoiled=jnp.asarray(spoiled), mask=jnp.asarray(mask), **options
    )
  )(query, key, value)
  assert np.isnan(got[0, 0, 0]).all()
  assert not np.isnan(got[0, 1, 0]).any()
  assert (got[0, 2, 1] == 0).all()
  assert_close(got, wanted, 2e-6)


def test_half_precision_is_summed_in_float32():
  query, key, value, mask = inputs(np.float16)
  got = attend_to_finite(
    *map(jnp.asarray, (query, key, value)),
    spoiled=jnp.zeros((B, S), bool),
    mask=jnp.asarray(mask),
  )
  wanted = attn.attention(query, key, value, mask=mask)
  assert got.dtype == jnp.float16
  assert_close(got.astype(np.float32), wanted.astype(np.float32), 1e-3)
