"""Calls of attention whose weights are looked at, and what they stand for."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import attn
from attn import inspection, masks, mods
from attn.backends.statistics import statistics
from tests import oracles
from tests.checks import compile_fast
from tests.inputs import B, N, S, T, normal, ragged_mask

# Of tiles: what is chosen for these sizes is one tile, without a loop.
SMALL = (2, 3)
SIDES = (None, SMALL)
# Options that the oracle takes too.
_KNOWN = ('bias', 'mask', 'scale', 'sink', 'score_mod')
POISONS = (np.nan, np.inf, -np.inf)
_CAUSAL = oracles.mask(lambda b, n, q, k: k <= q, B, N, T, S)


def capped(score, b, n, q, k):
  place = (b - 2 * n + 3 * q - 5 * k).astype(score.dtype)
  return 2 * jnp.tanh(score + 0.1 * place)


def capped_in_numpy(score, b, n, q, k):
  return 2 * np.tanh(score + 0.1 * (b - 2 * n + 3 * q - 5 * k))


def _hidden_at_random():
  hidden = np.random.default_rng(8).uniform(size=(B, N, T, S)) < 0.6
  return np.where(hidden, -np.inf, np.float64(normal(B, N, T, S, seed=5)))


# Name: options of the call, and what the oracle is told instead, if it differs.
CALLS = {
  'nothing': ({}, {}),
  'bias': ({'bias': normal(B, N, T, S, seed=5)}, {}),
  'bias of keys': ({'bias': normal(B, 1, 1, S, seed=5)}, {}),
  'bias of queries': ({'bias': normal(N, T, 1, seed=5)}, {}),
  'hidden by bias': ({'bias': _hidden_at_random()}, {}),
  'scale': ({'scale': 1.7}, {}),
  'sink': ({'sink': normal(N, seed=6)}, {}),
  'sink and empty rows': (
    {'sink': normal(N, seed=6), 'mask': ragged_mask()},
    {},
  ),
  'mod': ({'score_mod': capped}, {'score_mod': capped_in_numpy}),
  'mod, bias, sink, mask': (
    {
      'score_mod': capped,
      'bias': normal(B, N, T, S, seed=5),
      'sink': normal(N, seed=6),
      'mask': ragged_mask(),
    },
    {'score_mod': capped_in_numpy},
  ),
  'alibi': (
    {'score_mod': mods.alibi(N), 'is_causal': True},
    {
      'score_mod': lambda score, b, n, q, k: (
        score - 2.0 ** (-2 * (n + 1)) * abs(q - k)
      ),
      'mask': _CAUSAL,
    },
  ),
  'lengths': (
    {
      'query_seq_lengths': np.array([5, 2, 0]),
      'key_value_seq_lengths': np.array([4, 0, 7]),
    },
    {
      'mask': oracles.mask(
        lambda b, n, q, k: q < (5, 2, 0)[b] and k < (4, 0, 7)[b], B, N, T, S
      )
    },
  ),
  'window': (
    {'local_window_size': (1, 3)},
    {'mask': oracles.mask(lambda b, n, q, k: -1 <= k - q <= 3, B, N, T, S)},
  ),
}


def run_statistics(arguments, sides=None, **options):
  """Compiled, with tiles of these sides; once, unless there are options."""
  small = functools.partial(statistics, sides=sides)
  compiled = _without_options(sides) if not options else _compile(**options)
  with mock.patch.object(inspection, 'statistics', small):
    return compiled(arguments)


def _compile(**options):
  call = functools.partial(attn.attention_statistics, **options)
  return compile_fast(lambda arguments: call(**arguments))


@functools.cache
def _without_options(sides):
  del sides  # what is compiled depends on them
  return _compile()


def run_rows(arguments, rows, **options):
  call = functools.partial(attn.attention_rows, **options)
  return compile_fast(lambda arguments, rows: call(**arguments, rows=rows))(
    arguments, jnp.asarray(rows)
  )


def split(options):
  """Arrays and masks, which are traced, and all else."""
  kinds = (jax.Array, np.ndarray, masks.Mask)
  traced = {k: v for k, v in options.items() if isinstance(v, kinds)}
  return traced, {k: v for k, v in options.items() if k not in traced}


def oracle_of(arguments, name):
  """All weights of the call of this name."""
  options, instead = CALLS[name]
  known = {k: v for k, v in options.items() if k in _KNOWN}
  return oracles.Attention(**arguments, **{**known, **instead})
