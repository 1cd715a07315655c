"""Any call at all: random sizes, masks and options against the oracle."""

import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

import attn
from attn import masks
from tests import oracles
from tests.checks import assert_close, compile_fast
from tests.inputs import IMPLEMENTATIONS, cotangents, normal, qkv

_lengths = st.sampled_from((0, 1, 2, 3, 5, 8, 13))


@st.composite
def _leaves(draw, batch, sizes):
  """A mask without parts, and the same as an array [B, N, T, S]."""
  flat, _, num_queries, num_keys = sizes
  rng = np.random.default_rng(draw(st.integers(0, 99)))
  kind = draw(
    st.sampled_from(('causal', 'window', 'padding', 'segments', 'dense'))
  )
  if kind == 'causal':
    offset = draw(st.integers(-3, 5))
    mask, rule = masks.causal(offset), lambda b, n, q, k: k - q <= offset
  elif kind == 'window':
    left, right = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    mask = masks.sliding_window(left, right)
    rule = lambda b, n, q, k: -left <= k - q <= right  # noqa: E731
  elif kind == 'padding':
    lengths = rng.integers(0, num_keys + 2, flat)
    mask = masks.padding(jnp.asarray(lengths.reshape(batch)))
    rule = lambda b, n, q, k: k < lengths[b]  # noqa: E731
  elif kind == 'segments':
    ids = rng.integers(0, 3, (flat, max(num_queries, num_keys)))
    mask = masks.segments(
      *(
        jnp.asarray(ids[:, :size].reshape(*batch, size))
        for size in (num_queries, num_keys)
      )
    )
    rule = lambda b, n, q, k: ids[b, q] == ids[b, k]  # noqa: E731
  else:
    shape = [size if draw(st.booleans()) else 1 for size in sizes]
    array = rng.uniform(size=shape) < 0.6
    mask = masks.dense(jnp.asarray(array))
    full = np.broadcast_to(array, sizes)
    rule = lambda b, n, q, k: full[b, n, q, k]  # noqa: E731
  return mask, oracles.mask(rule, *sizes)


def _expressions(batch, sizes):
  """Leaves under `~`, `&` and `|`."""

  def combine(inner):
    return st.one_of(
      inner.map(lambda x: (~x[0], ~x[1])),
      st.tuples(inner, inner).map(
        lambda x: (x[0][0] & x[1][0], x[0][1] & x[1][1])
      ),
      st.tuples(inner, inner).map(
        lambda x: (x[0][0] | x[1][0], x[0][1] | x[1][1])
      ),
    )

  return st.recursive(_leaves(batch, sizes), combine, max_leaves=4)


@st.composite
def _calls(draw):
  """Keyword arguments of attention, and the oracle's [B, N, T, S] mask."""
  batch = draw(st.sampled_from(((), (1,), (3,), (2, 2), (0,))))
  t, s = draw(_lengths), draw(_lengths)
  k, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
  h, hv = draw(st.sampled_from((0, 1, 4, 7))), draw(st.integers(1, 5))
  seed = draw(st.integers(0, 99))
  floats = qkv(batch, t, s, k, k * groups, h, hv, seed=seed)
  sizes = (math.prod(batch), k * groups, t, s)
  others, allowed = {}, np.ones(sizes, bool)
  if draw(st.booleans()):
    shape = [size if draw(st.booleans()) else 1 for size in sizes[1:]]
    floats['bias'] = normal(*shape, seed=seed + 3)
  if draw(st.booleans()):
    floats['sink'] = normal(sizes[1], seed=seed + 4)
  if draw(st.booleans()):
    others['is_causal'] = True
    allowed &= np.tri(t, s, dtype=bool)
  if draw(st.integers(0, 3)):
    others['mask'], array = draw(_expressions(batch, sizes))
    allowed &= array
  return floats, others, allowed


class RandomCallsTest(parameterized.TestCase):
  @parameterized.product(implementation=IMPLEMENTATIONS)
  @hypothesis.settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(call=_calls())
  def test_equals_the_oracle(self, implementation, call):
    floats, others, allowed = call
    given = cotangents(floats)

    def run(floats):
      outputs, pull_back = jax.vjp(
        lambda x: attn.attention(
          **x, **others, return_residual=True, implementation=implementation
        ),
        floats,
      )
      return outputs, pull_back(given)[0]

    outputs, gradients = compile_fast(run)(floats)
    oracle = oracles.Attention(
      **{
        name: _flat(x, 3) if name in ('query', 'key', 'value') else x
        for name, x in floats.items()
      },
      mask=allowed,
    )
    expected = oracle.gradients(_flat(given[0], 3), _flat(given[1], 2))
    assert_close(_flat(outputs[0], 3), oracle.context)
    assert_close(_flat(outputs[1], 2), oracle.residual)
    for name, gradient in gradients.items():
      if name in ('query', 'key', 'value'):
        gradient = _flat(gradient, 3)
      assert_close(gradient, expected[name], 4e-6)


def _flat(x, rest):
  """The batch axes as one."""
  axes = x.ndim - rest
  return np.asarray(x).reshape(math.prod(x.shape[:axes]), *x.shape[axes:])


if __name__ == '__main__':
  absltest.main()
