"""Any numbers in a few programs, compiled once: all backends, the oracle.

Tests of random programs are in tests/random_calls_test.py.
"""

import functools
import types

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

import attn
from attn import masks, mods
from tests import oracles
from tests.checks import compile_fast, rows_of, silence
from tests.inputs import HV, IMPLEMENTATIONS, B, H, K, N, S, T, cotangents
from tests.random_settings import examples

_b, _n, _q, _k = np.ogrid[:B, :N, :T, :S]
_CAP = 1.5


def _below(b, n, q, k, lengths):
  return q + k < lengths[b] + n


# Name: names of the float arrays besides query, key and value; from all numbers
# of an example to the other arguments of attention; and to the oracle's.
_CALLS = {
  'causal segments': (
    ('sink',),
    lambda x: {
      'mask': masks.causal(x.offset) & masks.segments(x.query_ids, x.key_ids)
    },
    lambda x: {'mask': (_k <= _q + x.offset) & _segments(x)},
  ),
  'padding': (
    ('scale', 'sink'),
    lambda x: {
      'query_seq_lengths': x.query_lengths,
      'key_value_seq_lengths': x.key_lengths,
    },
    lambda x: {'mask': (_q < x.query_lengths[_b]) & (_k < x.key_lengths[_b])},
  ),
  'dense': (
    ('bias', 'scale'),
    lambda x: {'mask': x.array},
    lambda x: {'mask': x.array},
  ),
  'per head': (
    ('bias',),
    lambda x: {
      'mask': masks.per_head(
        [
          masks.segments(x.query_ids, x.key_ids),
          masks.causal(x.offset),
          masks.dense(x.array),
          masks.sliding_window(2, 1),
        ]
      )
      | masks.prefix(x.key_lengths)
    },
    lambda x: {
      'mask': np.select(
        [_n == 0, _n == 1, _n == 2, _n == 3],
        [_segments(x), _k <= _q + x.offset, x.array, _near(2, 1)],
        False,
      )
      | (_k < x.key_lengths[_b])
    },
  ),
  'not segments': (
    ('scale',),
    lambda x: {
      'mask': ~masks.segments(x.query_ids, x.key_ids)
      & masks.sliding_window(3, 2),
      'is_causal': True,
    },
    lambda x: {'mask': ~_segments(x) & _near(3, 2) & (_k <= _q)},
  ),
  'function': (
    ('scale', 'bias'),
    lambda x: {
      'mask': masks.from_fn(_below, x.key_lengths, batch=B, heads=N),
      'score_mod': mods.soft_cap(_CAP),
    },
    lambda x: {
      'mask': _below(_b, _n, _q, _k, x.key_lengths),
      'score_mod': lambda score, *at: _CAP * np.tanh(score / _CAP),
      'score_mod_slope': lambda score, *at: 1 - np.tanh(score / _CAP) ** 2,
    },
  ),
  'shifted': (
    ('sink', 'bias'),
    lambda x: {
      'mask': masks.dense(x.array[..., 1:, 2:]).shift(1, 2),
      'score_mod': mods.relative_bias(x.table, max_distance=5),
    },
    lambda x: {
      'mask': x.array & (_q >= 1) & (_k >= 2),
      'score_mod': lambda score, b, n, q, k: (
        score + x.table[oracles.relative_bucket(k - q, 8, max_distance=5), n]
      ),
    },
  ),
  'no mask': (
    ('bias', 'scale'),
    lambda x: {'score_mod': mods.alibi(x.slopes, offset=x.key_lengths)},
    lambda x: {
      'score_mod': lambda score, b, n, q, k: (
        score - x.slopes[n] * abs(q + x.key_lengths[b] - k)
      )
    },
  ),
}


# In float32 the rounding of scores would hide everything where they are large.
_IN_FLOAT64 = ('padding', 'not segments', 'function', 'no mask')


def _segments(x):
  return x.query_ids[_b, _q] == x.key_ids[_b, _k]


def _near(left, right):
  return (-left <= _k - _q) & (_k - _q <= right)


def _numbers(seed, different, share, size):
  """All arrays of an example, NumPy."""
  rng = np.random.default_rng(seed)
  normal = lambda *shape: np.float32(rng.normal(size=shape))  # noqa: E731
  holes = np.where(rng.uniform(size=(B, N, T, S)) < share, 0, -np.inf)
  return types.SimpleNamespace(
    query=normal(B, T, N, H),
    key=normal(B, S, K, H),
    value=normal(B, S, K, HV),
    bias=normal(B, N, T, S) + np.float32(holes),
    scale=np.float32(size * H**-0.5),
    sink=normal(N),
    query_ids=rng.integers(0, different, (B, T), np.int32),
    key_ids=rng.integers(0, different, (B, S), np.int32),
    query_lengths=rng.integers(0, T + 2, B, np.int32),
    key_lengths=rng.integers(0, S + 2, B, np.int32),
    offset=rng.integers(-3, 6, (), np.int32),
    array=rng.uniform(size=(B, N, T, S)) < share,
    table=normal(8, N),
    slopes=np.abs(normal(N)),
  )


@functools.cache
def _compiled(name):
  """Outputs and gradients of every implementation, as one program."""
  _, options, _ = _CALLS[name]

  def run(floats, others, cotangent):
    results = {}
    given = options(types.SimpleNamespace(**others))
    for implementation in IMPLEMENTATIONS:
      outputs, pull_back = jax.vjp(
        lambda x, implementation=implementation: attn.attention(
          **x, **given, return_residual=True, implementation=implementation
        ),
        floats,
      )
      results[implementation] = outputs, pull_back(cotangent)[0]
    return results

  return compile_fast(run)


_poisons = st.lists(
  st.tuples(
    st.sampled_from(('query', 'key', 'value')),
    st.integers(0, 10**6),
    st.sampled_from((np.nan, np.inf, -np.inf)),
  ),
  max_size=3,
)


def _poison(arrays, poisons, allowed):
  """Poisoned arrays, and which rows see that, [B, T, N]."""
  arrays, sees = dict(arrays), np.zeros((B, N, T), bool)
  for name, place, number in poisons:
    x = arrays[name] = arrays[name].copy()
    b, i, head, _ = at = np.unravel_index(place % x.size, x.shape)
    x[at] = number
    if name == 'query':
      sees[b, head, i] |= allowed[b, head, i].any()
    else:
      group = slice(head * (N // K), (head + 1) * (N // K))
      sees[b, group] |= allowed[b, group, :, i]
  return arrays, rows_of(sees)


class RandomValuesTest(parameterized.TestCase):
  @parameterized.product(name=tuple(_CALLS))
  @examples(45)
  @hypothesis.given(
    seed=st.integers(0, 10**6),
    different=st.integers(1, 4),
    share=st.sampled_from((0, 0.2, 0.5, 0.8, 1)),
    size=st.sampled_from((1e-3, 0.1, 1.0, 10.0, 1e3)),
    poisons=_poisons,
  )
  def test_equals_the_oracle(self, name, seed, different, share, size, poisons):
    dtype = 'float64' if name in _IN_FLOAT64 else 'float32'
    if dtype == 'float32':
      size = min(size, 10.0)
    x = _numbers(seed, different, share, size)
    names, _, rule = _CALLS[name]
    names = ('query', 'key', 'value', *names)
    arrays = {key: vars(x)[key] for key in names}
    known = rule(x)
    mask = np.broadcast_to(known.pop('mask', True), (B, N, T, S))
    allowed = mask & (np.isfinite(x.bias) | ('bias' not in names))
    poisoned, sees = _poison(arrays, poisons, allowed)
    with jax.enable_x64(dtype == 'float64'):
      floats = {key: jnp.asarray(y, dtype) for key, y in poisoned.items()}
      given = silence(cotangents(floats), sees)
      others = {
        key: jnp.asarray(y) for key, y in vars(x).items() if key not in names
      }
      results = _compiled(name)(floats, others, given)
    oracle = oracles.Attention(**arrays, **known, mask=mask)
    expected = oracle.gradients(*given)
    if 'scale' in names:
      # Scaling the queries is scaling the scores.
      moved = np.sum(expected['query'] * oracle.query)
      expected['scale'] = moved / oracle.scale
    self._compare(results, oracle, expected, sees, names, dtype)

  def _compare(self, results, oracle, expected, sees, names, dtype):
    lengths = [
      np.linalg.norm(x, axis=-1).max() for x in (oracle.query, oracle.key)
    ]
    scale = float(oracle.scale)
    # A weight is as accurate as its score is, and that is rounded in
    # proportion to its terms; a gradient sums over rows and is scaled.
    unit = {'float32': 2e-6, 'float64': 1e-14}[dtype]
    unit *= 1 + scale * np.prod(lengths)
    for implementation, (outputs, gradients) in results.items():
      for actual, wanted in zip(outputs, (oracle.context, oracle.residual)):
        actual = np.asarray(actual)
        self.assertTrue(np.isnan(actual[sees]).all(), implementation)
        np.testing.assert_allclose(
          actual[~sees], wanted[~sees], 0, 4 * unit, err_msg=implementation
        )
      for key in names:
        factor = 8 * max(scale, 1) if key in ('query', 'key') else 8
        largest = max(np.abs(expected[key]).max(), 4)
        np.testing.assert_allclose(
          gradients[key],
          expected[key],
          0,
          factor * largest * unit,
          err_msg=f'{implementation}: {key}',
        )


if __name__ == '__main__':
  absltest.main()
