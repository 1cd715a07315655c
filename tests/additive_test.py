"""Additive attention: loops, every order of derivative, and errors."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks
from tests import oracles
from tests.additive_cases import (
  HV,
  IMPLEMENTATIONS,
  WEIGHTS,
  A,
  H,
  J,
  attend,
  fast,
  floats,
  loss,
  quick_attend,
  quick_run,
)
from tests.checks import assert_close, assert_gradients, compile_fast
from tests.inputs import B, K, N, S, T, ragged_mask


def _oracle(arguments, mask):
  given = {**dict.fromkeys(WEIGHTS), **arguments}
  return oracles.additive_attention(**given, mask=mask)


def _oracle_loss(arguments, mask):
  context, residual = _oracle(arguments, mask)
  seen = residual[residual != -np.inf]
  # The loss has cos(0) = 1 for each row that sees nothing.
  return np.sin(context).sum() + np.cos(seen).sum() + residual.size - seen.size


_MASKS = {
  'none': None,
  'ragged': ragged_mask(),
  'causal': masks.causal(1) & masks.sliding_window(2, 0),
  'padding': masks.padding(np.array([3, 7, 0])),
}


class LoopsTest(parameterized.TestCase):
  @parameterized.product(
    implementation=IMPLEMENTATIONS,
    kind_and_name=(
      ('shared', 'ragged'),
      ('per head', 'causal'),
      ('projected', 'ragged'),
    ),
  )
  def test_equals_loops(self, implementation, kind_and_name):
    kind, name = kind_and_name
    self._check(implementation, kind, _MASKS[name])

  @parameterized.product(
    implementation=IMPLEMENTATIONS, name=('none', 'padding')
  )
  def test_equals_loops_under_other_masks(self, implementation, name):
    self._check(implementation, 'shared', _MASKS[name])

  def _check(self, implementation, kind, mask):
    with jax.enable_x64(True):
      arguments = floats(kind, dtype=jnp.float64)
      outputs, gradients = quick_run(
        arguments, mask, implementation=implementation
      )
    chex.assert_type(jax.tree.leaves((outputs, gradients)), jnp.float64)
    written = mask
    if isinstance(mask, masks.Mask):
      written = np.asarray(mask.dense(T, S))
      written = written.reshape((1,) * (4 - written.ndim) + written.shape)
    chex.assert_trees_all_close(
      outputs, _oracle(arguments, written), rtol=0, atol=1e-12
    )
    names = list(arguments)

    def loss(*values):
      return _oracle_loss(dict(zip(names, values)), written)

    assert_gradients(
      [gradients[name] for name in names], loss, arguments.values()
    )

  @parameterized.parameters(*IMPLEMENTATIONS)
  def test_equals_the_kernels_of_one_head(self, implementation):
    arguments = floats(batch=())
    one = {
      name: x[:, :1] if name in ('query', 'key', 'value') else x
      for name, x in arguments.items()
    }
    context, _ = quick_attend(one, implementation=implementation)
    query, key, value = (one[name][:, 0] for name in ('query', 'key', 'value'))
    scores = attn.additive_scores(
      query, key, one['w_query'], one['w_key'], one['v']
    )
    expected = attn.weighted_sum(attn.softmax(scores), value)
    assert_close(context[:, 0], expected)


class DerivativesTest(parameterized.TestCase):
  """Tiles differentiate as dense does, in every order and direction."""

  def _orders(self, implementation):
    arguments = floats('per head')
    direction = jax.tree.map(jnp.cos, arguments)
    mask = ragged_mask()

    def masked_loss(x):
      return loss(x, mask, implementation)

    def slope(x):
      return jax.jvp(masked_loss, (x,), (direction,))[1]

    return {
      'forward': slope(arguments),
      'forward over reverse': jax.jvp(
        jax.grad(masked_loss), (arguments,), (direction,)
      )[1],
      'reverse over forward': jax.grad(slope)(arguments),
      'reverse over reverse': jax.grad(
        lambda x: sum(
          jnp.vdot(g, g) for g in jax.tree.leaves(jax.grad(masked_loss)(x))
        )
      )(arguments),
    }

  def test_every_order_equals_that_of_dense(self):
    orders = compile_fast(self._orders, static_argnums=0)
    assert_close(orders('small tiles'), orders('dense'), 2e-5)

  @parameterized.parameters(*WEIGHTS, 'query', 'key', 'value')
  def test_one_argument_at_a_time(self, name):
    arguments, mask = floats('per head'), ragged_mask()

    @fast
    def gradient(x, implementation):
      return jax.grad(
        lambda x: loss({**arguments, name: x}, mask, implementation)
      )(x)

    x = arguments[name]
    expected = gradient(x, implementation='dense')
    self.assertGreater(float(jnp.abs(expected).max()), 1e-3)
    assert_close(gradient(x, implementation='small tiles'), expected, 5e-6)

  @parameterized.parameters(*IMPLEMENTATIONS)
  def test_vmap_is_batch(self, implementation):
    arguments, mask = floats(), ragged_mask()
    rows = ('query', 'key', 'value')
    axes = {name: 0 if name in rows else None for name in arguments}

    @compile_fast
    def mapped(arguments, mask):
      of_element = functools.partial(attend, implementation=implementation)
      return jax.vmap(of_element, in_axes=(axes, 0))(arguments, mask)

    expected = quick_run(arguments, mask, implementation='dense')[0]
    assert_close(mapped(arguments, mask), expected)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    ('query', (T, H), r'query: got shape \(5, 11\), wanted \[\*B, length'),
    ('key', (J,), r'key: got shape \(3,\), wanted \[\*B, length'),
    ('key', (2, S, K, J), r'key: got batch axes \(2,\)'),
    ('value', (B, T, K, HV), r'value: got shape \(3, 5, 2, 2\)'),
    ('w_query', (H, 2), r'w_query: got shape \(11, 2\), wanted \(11, 13\)'),
    ('w_query', (K, H, A), r'w_query: got .*wanted .*\(4, 11, 13\) for each'),
    ('w_key', (N, J, A), r'w_key: got .* wanted .*\(2, 3, 13\) for each'),
    ('v', (2, A), r'v: got shape \(2, 13\), wanted \(13,\), or \(4, 13\)'),
    ('v', (), r'v: got shape \(\)'),
    ('mask', (2, 3), r'mask: got shape \(2, 3\), wanted one that broadcasts'),
  )
  def test_does_not_fit(self, name, shape, message):
    dtype = bool if name == 'mask' else jnp.float32
    arguments = {**floats(), name: jnp.ones(shape, dtype)}
    with self.assertRaisesRegex(ValueError, message):
      attn.additive_attention(**arguments)

  def test_heads_do_not_fit(self):
    arguments = floats()
    for name in ('key', 'value'):
      arguments[name] = arguments[name][:, :, [0, 1, 0]]
    message = 'key: got 3 heads .* wanted a divisor of 4'
    with self.assertRaisesRegex(ValueError, message):
      attn.additive_attention(**arguments)

  @parameterized.parameters('query', 'key')
  def test_a_side_is_not_projected_after_all(self, name):
    arguments = {**floats(), f'w_{name}': None}
    message = f'{name}: got size .* and no w_{name}, wanted it projected to 13'
    with self.assertRaisesRegex(ValueError, message):
      attn.additive_attention(**arguments)

  @parameterized.parameters('key', 'value', *WEIGHTS)
  def test_one_dtype_for_all(self, name):
    arguments = floats()
    arguments[name] = arguments[name].astype(jnp.bfloat16)
    message = f'{name}: got dtype bfloat16, wanted float32'
    with self.assertRaisesRegex(TypeError, message):
      attn.additive_attention(**arguments)
    arguments[name] = arguments[name].astype(jnp.int32)
    message = f'{name}: got dtype int32, wanted a float'
    with self.assertRaisesRegex(TypeError, message):
      attn.additive_attention(**arguments)

  def test_a_mask_is_boolean(self):
    with self.assertRaisesRegex(TypeError, 'mask: got dtype float32'):
      attn.additive_attention(**floats(), mask=jnp.ones((T, S)))

  def test_implementation_is_unknown(self):
    message = "implementation: got 'flash', wanted None or one of 'dense'"
    with self.assertRaisesRegex(ValueError, message):
      attn.additive_attention(**floats(), implementation='flash')


if __name__ == '__main__':
  absltest.main()
