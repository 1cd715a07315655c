"""The conformance suite: every implementation against the NumPy oracle.

An implementation joins by its name in tests/inputs.py.
"""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks
from tests import oracles
from tests.checks import assert_close, compile_fast, forward_and_backward
from tests.inputs import (
  HV,
  IMPLEMENTATIONS,
  B,
  N,
  S,
  T,
  booleans,
  cotangents,
  normal,
  qkv,
)
from tests.mask_cases import CASES

_LENGTHS = jnp.array([4, 0, 7])


def _soft_cap(score, b, n, q, k):
  return 2 * jnp.tanh(score / 2)


def _soft_cap_oracle(score, b, n, q, k):
  return 2 * np.tanh(score / 2)


def _soft_cap_slope(score, b, n, q, k):
  return 1 - np.tanh(score / 2) ** 2


def _indexed(score, b, n, q, k):
  """Tells all four indices apart."""
  return score + (b + 2 * n + 3 * q - 5 * k).astype(score.dtype) / 8


def _indexed_oracle(score, b, n, q, k):
  return score + (b + 2 * n + 3 * q - 5 * k) / 8


# Name: arguments to add to query, key and value, and the same for the oracle
# where it knows them by another name.
_ARGUMENTS = {
  'scale': ({'scale': 0.25}, None),
  'bias': ({'bias': normal(B, N, T, S, seed=5)}, None),
  'bias of heads': ({'bias': normal(N, 1, S, seed=5)}, None),
  'bias of queries': ({'bias': normal(B, 1, T, 1, seed=5)}, None),
  'sink': ({'sink': normal(N, seed=6)}, None),
  'masked rows': (
    {'mask': booleans(B, N, T, S).at[:, :, 2].set(False).at[1, 3].set(False)},
    None,
  ),
  'masked rows and sink': (
    {
      'mask': booleans(B, 1, T, S).at[:, :, 2].set(False),
      'sink': normal(N, seed=6),
    },
    None,
  ),
  'causal keyword': (
    {'is_causal': True},
    {'mask': oracles.mask(lambda b, n, q, k: k <= q, B, N, T, S)},
  ),
  'window keyword': (
    {'local_window_size': (1, 3)},
    {'mask': oracles.mask(lambda b, n, q, k: -1 <= k - q <= 3, B, N, T, S)},
  ),
  'symmetric window keyword': (
    {'local_window_size': 2},
    {'mask': oracles.mask(lambda b, n, q, k: abs(k - q) <= 2, B, N, T, S)},
  ),
  'soft cap': (
    {'score_mod': _soft_cap},
    {'score_mod': _soft_cap_oracle, 'score_mod_slope': _soft_cap_slope},
  ),
  'score of indices': (
    {'score_mod': _indexed},
    {'score_mod': _indexed_oracle},
  ),
  'all at once': (
    {
      'scale': 0.5,
      'bias': normal(N, T, S, seed=5),
      'mask': masks.sliding_window(2, 3),
      'is_causal': True,
      'query_seq_lengths': jnp.array([5, 3, 1]),
      'key_value_seq_lengths': _LENGTHS,
      'score_mod': _soft_cap,
      'sink': normal(N, seed=6),
    },
    {
      'scale': 0.5,
      'bias': normal(N, T, S, seed=5),
      'mask': oracles.mask(
        lambda b, n, q, k: (
          q - 2 <= k <= q and k < (4, 0, 7)[b] and q < (5, 3, 1)[b]
        ),
        *(B, N, T, S),
      ),
      'score_mod': _soft_cap_oracle,
      'score_mod_slope': _soft_cap_slope,
      'sink': normal(N, seed=6),
    },
  ),
}

# Name: sizes that are not those of tests/inputs.py, and a mask to go with them.
_SIZES = {
  'one key/value head': ({'k': 1, 'n': 3}, None),
  'as many key/value heads': ({'k': 3, 'n': 3}, None),
  'three queries a key/value head': ({'k': 2, 'n': 6}, None),
  'one query': ({'t': 1}, None),
  'one key': ({'s': 1}, None),
  'size 1': ({'h': 1, 'hv': 1}, None),
  'long': (
    {'batch': (1,), 't': 67, 's': 131, 'k': 1, 'n': 2, 'h': 5, 'hv': 3},
    (lambda: masks.causal(64), lambda b, n, q, k: k <= q + 64),
  ),
  'long window': (
    {'batch': (1,), 't': 131, 's': 67, 'k': 1, 'n': 2, 'h': 5, 'hv': 3},
    (lambda: masks.sliding_window(20, 3), lambda b, n, q, k: -20 <= k - q <= 3),
  ),
}


def _compare(arguments, oracle, implementation, tolerance=2e-6):
  """Context, residual and all gradients against the oracle."""
  floats = {k: v for k, v in arguments.items() if _is_float(v)}
  static = {k: v for k, v in arguments.items() if _is_static(v)}
  others = {
    k: v for k, v in arguments.items() if k not in floats and k not in static
  }
  given = cotangents(floats)
  outputs, gradients = forward_and_backward(
    floats, given, others, **static, implementation=implementation
  )
  assert_close(outputs, (oracle.context, oracle.residual), tolerance)
  expected = oracle.gradients(*given)
  # A gradient sums over up to T times as many terms as an output.
  assert_close(gradients, {k: expected[k] for k in floats}, 2 * tolerance)


def _is_float(x):
  return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)


def _is_static(x):
  return not isinstance(x, (jax.Array, masks.Mask))


class ConformanceTest(chex.TestCase):
  @parameterized.product(implementation=IMPLEMENTATIONS, name=tuple(_ARGUMENTS))
  def test_arguments(self, implementation, name):
    arguments, known_as = _ARGUMENTS[name]
    oracle = oracles.Attention(**qkv(), **(known_as or arguments))
    _compare({**qkv(), **arguments}, oracle, implementation)

  @parameterized.product(implementation=IMPLEMENTATIONS, name=tuple(CASES))
  def test_masks(self, implementation, name):
    build, rule = CASES[name]
    oracle = oracles.Attention(**qkv(), mask=oracles.mask(rule, B, N, T, S))
    _compare({**qkv(), 'mask': build()}, oracle, implementation)

  @parameterized.product(implementation=IMPLEMENTATIONS, name=tuple(_SIZES))
  def test_sizes(self, implementation, name):
    sizes, mask = _SIZES[name]
    arguments = qkv(**sizes)
    options = {} if mask is None else {'mask': mask[0]()}
    shape = oracles.Attention(**arguments).shape
    rule = None if mask is None else oracles.mask(mask[1], *shape)
    oracle = oracles.Attention(**arguments, mask=rule)
    _compare({**arguments, **options}, oracle, implementation)

  @parameterized.product(
    implementation=IMPLEMENTATIONS, batch=((), (1,), (2, 3))
  )
  def test_batch_axes(self, implementation, batch):
    arguments = qkv(batch)
    ids = np.random.default_rng(4).integers(0, 2, (*batch, S))
    bias = normal(*batch, 1, T, S, seed=5)
    options = {
      'bias': bias,
      'mask': masks.segments(jnp.asarray(ids[..., :T]), jnp.asarray(ids)),
      'key_value_seq_lengths': jnp.full(batch, S - 1),
    }
    given = cotangents(arguments)
    outputs, gradients = forward_and_backward(
      arguments, given, options, implementation=implementation
    )
    chex.assert_shape(outputs, [(*batch, T, N, HV), (*batch, T, N)])
    flat = math.prod(batch)
    ids = ids.reshape(flat, S)
    oracle = oracles.Attention(
      **{k: _flat(x, 3) for k, x in arguments.items()},
      bias=_flat(bias, 3),
      mask=oracles.mask(
        lambda b, n, q, k: ids[b, q] == ids[b, k] and k < S - 1, flat, N, T, S
      ),
    )
    expected = oracle.gradients(_flat(given[0], 3), _flat(given[1], 2))
    assert_close(_flat(outputs[0], 3), oracle.context)
    assert_close(_flat(outputs[1], 2), oracle.residual)
    for name, gradient in gradients.items():
      assert_close(_flat(gradient, 3), expected[name], 4e-6)


class DropoutTest(chex.TestCase):
  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_drops_what_dropout_drops(self, implementation):
    arguments, rng = qkv(), jax.random.key(5)
    keep = attn.dropout(jnp.ones((B, N, T, S)), 0.3, rng) != 0
    oracle = oracles.Attention(**arguments, keep=keep, dropout_rate=0.3)
    given = cotangents(arguments)
    outputs, gradients = forward_and_backward(
      arguments,
      given,
      {'rng': rng},
      dropout_rate=0.3,
      implementation=implementation,
    )
    # The residual is that of all weights, dropped or not.
    assert_close(outputs, (oracle.context, oracle.residual))
    expected = oracle.gradients(*given)
    assert_close(gradients, {k: expected[k] for k in gradients}, 4e-6)
    self.assertBetween(float(keep.mean()), 0.6, 0.8)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_a_part_of_the_call_drops_the_same_weights(self, implementation):
    def dropped(batch, t, s, k):
      """bool[B, N, T, S], seen where the values are the identity."""
      arguments = qkv((batch,), t, s, k, 2 * k)
      eye = jnp.eye(s)[:, None]
      arguments['value'] = jnp.broadcast_to(eye, (batch, s, k, s))
      context = compile_fast(
        lambda rng: attn.attention(
          **arguments, dropout_rate=0.5, rng=rng, implementation=implementation
        )
      )(jax.random.key(5))
      return np.moveaxis(np.asarray(context), -2, -3) == 0

    whole, part = dropped(B, T, S, 2), dropped(B - 1, T - 2, S - 3, 1)
    np.testing.assert_array_equal(whole[:-1, :2, :-2, :-3], part)
    self.assertBetween(whole.mean(), 0.4, 0.6)
    # No two heads share their fate.
    self.assertLen(np.unique(whole.reshape(-1, T * S), axis=0), B * N)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_expectation_is_kept(self, implementation):
    arguments = qkv((1,), 1, 5, 1, 1, 3, 2)

    @compile_fast
    @jax.vmap
    def draw(rng):
      return attn.attention(
        **arguments, dropout_rate=0.4, rng=rng, implementation=implementation
      )

    contexts = draw(jax.random.split(jax.random.key(0), 4096))
    expected = oracles.Attention(**arguments).context
    error = np.asarray(contexts.mean(0)) - expected
    deviation = np.asarray(contexts.std(0)) / 4096**0.5
    self.assertLess(np.abs(error / deviation).max(), 4)


def _flat(x, rest):
  x = np.asarray(x)
  return x.reshape(-1, *x.shape[x.ndim - rest :])


class OracleTest(parameterized.TestCase):
  """The oracle's own gradients, against differences of the oracle."""

  def test_gradients(self):
    arguments = {
      **{k: np.float64(x) for k, x in qkv().items()},
      'bias': np.float64(normal(N, 1, S, seed=5)),
      'sink': np.float64(normal(N, seed=6)),
    }
    fixed = {
      'mask': np.asarray(booleans(B, N, T, S)),
      'score_mod': _soft_cap_oracle,
      'score_mod_slope': _soft_cap_slope,
      'keep': np.asarray(booleans(B, N, T, S, seed=7)),
      'dropout_rate': 0.5,
    }
    given = [np.float64(x) for x in cotangents(qkv())]

    def loss(**arguments):
      oracle = oracles.Attention(**arguments, **fixed)
      finite = np.where(np.isinf(oracle.residual), 0, oracle.residual)
      return np.sum(oracle.context * given[0]) + np.sum(finite * given[1])

    gradients = oracles.Attention(**arguments, **fixed).gradients(*given)
    for i, (name, x) in enumerate(arguments.items()):
      direction = np.random.default_rng(20 + i).normal(size=x.shape)
      slope = oracles.slope(
        lambda x, name=name: loss(**{**arguments, name: x}), x, direction
      )
      assert_close(np.sum(gradients[name] * direction), slope, 1e-8)


if __name__ == '__main__':
  absltest.main()
