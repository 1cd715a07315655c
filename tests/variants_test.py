"""Sigmoid and linear attention against NumPy loops, through every backend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn import masks
from attn.variants import linear_attention, sigmoid_attention
from tests.checks import assert_close, compile_fast

B, T, S, N, K, H, J = 2, 3, 5, 4, 2, 7, 11
_DRAW = np.random.default_rng(0)
QUERY = _DRAW.normal(size=(B, T, N, H))
KEY = _DRAW.normal(size=(B, S, K, H))
VALUE = _DRAW.normal(size=(B, S, K, J))
# The last row sees nothing.
MASK = np.array(
  [[True, False, True, True, False], [False] * 4 + [True], [False] * 5]
)


def sigmoid(query, key):
  score = query @ key / H**0.5 - 0.7
  return 1 / (1 + np.exp(-score))


def product(query, key):
  return feature(query) @ feature(key)


def feature(x):
  return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def by_hand(weigh, query, key, value, *, normalized):
  context = np.zeros((B, T, N, J))
  for b, t, n in np.ndindex(B, T, N):
    weights = np.zeros(S)
    for s in np.flatnonzero(MASK[t]):
      weights[s] = weigh(query[b, t, n], key[b, s, n // 2])
    if normalized and weights.any():
      weights /= weights.sum()
    context[b, t, n] = weights @ value[b, :, n // 2]
  return context


CASES = {
  'sigmoid': (sigmoid_attention, sigmoid, {'shift': -0.7}, False),
  'linear': (linear_attention, product, {}, True),
}


@pytest.mark.parametrize('implementation', ['dense', 'blockwise'])
@pytest.mark.parametrize('name', CASES)
def test_equals_the_loops(name, implementation):
  attend, weigh, options, normalized = CASES[name]
  arrays = [jnp.asarray(x, jnp.float32) for x in (QUERY, KEY, VALUE)]

  def run(*arrays):
    return attend(
      *arrays, mask=masks.dense(MASK), implementation=implementation, **options
    )

  expected = by_hand(weigh, QUERY, KEY, VALUE, normalized=normalized)
  assert_close(compile_fast(run)(*arrays), expected, 2e-6)
  gradients = compile_fast(
    jax.grad(lambda *x: (run(*x) ** 2).sum(), argnums=(0, 1, 2))
  )(*arrays)
  for place, gradient in enumerate(gradients):
    direction = np.random.default_rng(place).normal(size=gradient.shape)

    def loss(step, place=place, direction=direction):
      moved = [QUERY, KEY, VALUE]
      moved[place] = moved[place] + step * direction
      return (by_hand(weigh, *moved, normalized=normalized) ** 2).sum()

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    got = np.sum(np.float64(gradient) * direction)
    np.testing.assert_allclose(got, slope, rtol=1e-4)
    assert np.isfinite(gradient).all()


def test_a_mod_comes_before_the_sigmoid():
  x = jnp.zeros((1, 1, 1))
  out = sigmoid_attention(
    x, x, x + 1, score_mod=lambda score, b, n, q, k: score + 2.0
  )
  np.testing.assert_allclose(out, 1 / (1 + np.exp(-2)), rtol=1e-6)
