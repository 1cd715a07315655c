"""Derivatives of tiles in every order and direction, equal to those of dense.

With every option at once, and one argument at a time.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

import attn
from attn import masks
from tests.checks import assert_close, assert_same_bits, compile_fast
from tests.inputs import B, N, S, T, normal, qkv

_BUCKETS = 3
# In one process, so that what they share is computed once.
pytestmark = pytest.mark.xdist_group('orders')

_IDS = np.random.default_rng(3).integers(0, 2, (B, S))
_RNG = jax.random.key(5)


def _floats(*, seed=0):
  """All arguments that one can differentiate by; `c_...` a mod captures."""
  names = ('c_scalar', 'c_heads', 'c_batch', 'c_scores', 'c_table')
  shapes = ((), (N,), (B, N), (T, S), (_BUCKETS, N))
  return {
    **qkv(h=3, hv=2, seed=seed),
    'bias': normal(N, 1, S, seed=seed + 3),
    'sink': normal(N, seed=seed + 4),
    'scale': jnp.float32(0.4 + 0.1 * seed),
    **{
      name: normal(*shape, seed=seed + 5 + i)
      for i, (name, shape) in enumerate(zip(names, shapes))
    },
  }


def _attend(implementation, floats, ids=_IDS):
  """Context and finite residual, of all floats and every option."""
  captured = {k: x for k, x in floats.items() if k.startswith('c_')}
  rest = {k: x for k, x in floats.items() if k not in captured}

  def score_mod(score, b, n, q, k):
    added = captured['c_table'][jnp.abs(q - k) % _BUCKETS, n]
    factor = captured['c_heads'][n] + captured['c_batch'][b, n]
    bent = jnp.tanh(captured['c_scalar'] * score) * factor
    return bent + captured['c_scores'][q, k] * added

  return attn.attention(
    **rest,
    mask=masks.causal(1) & masks.segments(ids[:, :T], ids),
    score_mod=score_mod,
    dropout_rate=0.3,
    rng=_RNG,
    return_residual=True,
    implementation=implementation,
  )


def _loss(implementation, floats, ids=_IDS):
  context, residual = _attend(implementation, floats, ids)
  return (context**2).sum() + jnp.sin(residual).sum()


def _orders(implementation, floats, direction):
  """Name: a derivative, of the first order or the second."""
  attend = functools.partial(_attend, implementation)
  loss = functools.partial(_loss, implementation)
  gradient = jax.grad(loss)

  def slope(x):
    return jax.jvp(loss, (x,), (direction,))[1]

  def along(x):
    products = jax.tree.map(lambda g, d: (g * d).sum(), gradient(x), direction)
    return sum(jax.tree.leaves(products))

  _, linear = jax.linearize(attend, floats)
  return {
    'forward': jax.jvp(attend, (floats,), (direction,)),
    'linear': linear(direction),
    'reverse': gradient(floats),
    'forward over forward': jax.jvp(slope, (floats,), (direction,)),
    'forward over reverse': jax.jvp(gradient, (floats,), (direction,)),
    'reverse over forward': jax.grad(slope)(floats),
    'reverse over reverse': jax.grad(along)(floats),
  }


def _value_and_gradient(arguments):
  floats = {k: x for k, x in arguments.items() if k != 'ids'}
  ids = jnp.asarray(arguments['ids'])
  return jax.value_and_grad(lambda x: _loss('small tiles', x, ids))(floats)


_compiled_once = compile_fast(_value_and_gradient)


@functools.cache
def _all_orders(implementation, mapped):
  run = functools.partial(_orders, implementation)
  if not mapped:
    return compile_fast(run)(_floats(), _floats(seed=20))
  points, directions = (
    jax.tree.map(lambda *x: jnp.stack(x), *(_floats(seed=i) for i in pair))
    for pair in ((0, 1), (20, 21))
  )
  return compile_fast(jax.vmap(run))(points, directions)


class OrdersTest(parameterized.TestCase):
  def test_equal_those_of_dense(self):
    actual = _all_orders('small tiles', True)
    chex.assert_tree_all_finite(actual)
    assert_close(actual, _all_orders('dense', True), 1e-5)

  def test_second_orders_agree(self):
    orders = _all_orders('small tiles', False)
    products = orders['forward over reverse'][1]
    assert_close(orders['reverse over forward'], products, 1e-5)
    assert_close(orders['reverse over reverse'], products, 1e-5)
    direction = _floats(seed=20)
    twice = sum((products[k] * x).sum() for k, x in direction.items())
    assert_close(orders['forward over forward'][1], twice, 1e-5)

  def test_mapped_equal_those_of_one(self):
    mapped, one = (
      _all_orders('small tiles', True),
      _all_orders('small tiles', False),
    )
    assert_close(jax.tree.map(lambda x: x[0], mapped), one, 1e-5)


class ArgumentsTest(parameterized.TestCase):
  @parameterized.parameters(*_floats())
  def test_gradient_by_one_alone(self, name):
    floats = _floats()

    @compile_fast
    def gradient(floats):
      return jax.grad(lambda x: _loss('small tiles', {**floats, name: x}))(
        floats[name]
      )

    actual = gradient(floats)
    self.assertGreater(float(jnp.abs(actual).max()), 1e-3)
    expected = _all_orders('dense', True)['reverse'][name][0]
    assert_close(actual, expected, 1e-5)
    assert_same_bits(gradient(floats), actual)

  @parameterized.parameters('ids', *_floats())
  def test_mapped_over_one_alone(self, name):
    both = [{**_floats(seed=i), 'ids': _IDS[:, :: 1 - 2 * i]} for i in (0, 1)]
    fixed = {k: x for k, x in both[0].items() if k != name}

    def run(x):
      return _value_and_gradient({**fixed, name: x})

    mapped = jnp.stack([x[name] for x in both])
    actual = compile_fast(jax.vmap(run))(mapped)
    for i in (0, 1):
      expected = _compiled_once({**fixed, name: mapped[i]})
      assert_close(jax.tree.map(lambda x, i=i: x[i], actual), expected, 1e-5)


if __name__ == '__main__':
  absltest.main()
