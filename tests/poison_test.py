"""What is masked cannot leak: the second promise of attention().

NaN or Inf in a masked key or value changes no bit of a row that may not attend
to it, in output or gradient.  Most tests feed other numbers to one program.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks
from tests.checks import (
  assert_same_bits,
  forward_and_backward,
  rows_of,
  run,
  silence,
)
from tests.inputs import (
  IMPLEMENTATIONS,
  B,
  H,
  K,
  N,
  S,
  T,
  cotangents,
  normal,
  qkv,
  ragged_mask,
  with_bias,
)

_POISONS = (np.nan, np.inf, -np.inf)


def _squash(score, b, n, q, k):
  return jnp.tanh(score)


class PoisonTest(parameterized.TestCase):
  @parameterized.product(
    implementation=IMPLEMENTATIONS, name=('key', 'value'), poison=_POISONS
  )
  def test_one_number_reaches_only_who_may_see_it(
    self, implementation, name, poison
  ):
    arguments, mask = with_bias(), ragged_mask()
    for b, s in np.ndindex(B, S):
      k, h = s % K, (b + s) % H
      group = (np.arange(N) // (N // K) == k)[:, None]
      sees = np.zeros((B, N, T), bool)
      sees[b] = mask[b, :, :, s] & group
      self._check(
        implementation, arguments, mask, {name: ((b, s, k, h), poison)}, sees
      )

  @parameterized.product(
    implementation=IMPLEMENTATIONS, names=(('query',), ('query', 'key'))
  )
  def test_a_query_reaches_its_own_row_only(self, implementation, names):
    arguments, mask = with_bias(), ragged_mask()
    # A row that sees something, and two that see nothing.
    for b, t, n in ((0, 1, 2), (0, 2, 1), (2, 0, 3)):
      sees = np.zeros((B, N, T), bool)
      sees[b, n, t] = mask[b, n, t].any()
      poisons = {'query': ((b, t, n, 3), np.nan)}
      if 'key' in names:
        poisons['key'] = ((1, 4), np.inf)  # seen by no one
      self._check(implementation, arguments, mask, poisons, sees)

  @parameterized.product(implementation=IMPLEMENTATIONS, poison=_POISONS)
  def test_everything_masked_at_once(self, implementation, poison):
    arguments, mask = with_bias(), ragged_mask()
    mask = mask.at[:, :, :, ::3].set(False)
    slots = (slice(None), slice(None, None, 3))
    poisons = {
      'key': (slots, poison),
      'value': (slots, poison),
      'bias': (~mask, poison),
      'query': (rows_of(~mask.any(-1)), poison),
    }
    nobody = np.zeros((B, N, T), bool)
    self._check(implementation, arguments, mask, poisons, nobody)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_a_bias_reaches_its_own_row_only(self, implementation):
    arguments, mask = with_bias(), ragged_mask()
    b, n, t, s = np.argwhere(mask)[7]
    sees = np.zeros((B, N, T), bool)
    sees[b, n, t] = True
    for poison in (np.nan, np.inf):
      self._check(
        implementation,
        arguments,
        mask,
        {'bias': ((b, n, t, s), poison)},
        sees,
      )

  def _check(self, implementation, arguments, mask, poisons, sees):
    """Poison {name: (index, number)} is seen by rows `sees`, [B, N, T]."""
    sees = rows_of(sees)
    poisoned = dict(arguments)
    for name, (index, number) in poisons.items():
      poisoned[name] = poisoned[name].at[index].set(number)
    cotangent = silence(cotangents(arguments), sees)
    clean = run(implementation, arguments, mask, cotangent)
    dirty = run(implementation, poisoned, mask, cotangent)
    for expected, actual in zip(clean[0], dirty[0]):
      assert_same_bits(actual[~sees], expected[~sees])
      self.assertTrue(bool(jnp.isnan(actual[sees]).all()))
    assert_same_bits(dirty[1], clean[1])

  @parameterized.product(implementation=IMPLEMENTATIONS, poison=_POISONS)
  def test_with_every_option(self, implementation, poison):
    arguments = {**qkv(), 'sink': normal(N, seed=6)}
    cotangent = cotangents(arguments)
    others = {
      'mask': masks.causal(1),
      'rng': jax.random.key(0),
      'key_value_seq_lengths': jnp.array([2, 0, 6]),
    }
    static = {
      'score_mod': _squash,
      'dropout_rate': 0.3,
      'implementation': implementation,
      'optimized': True,
    }
    clean = forward_and_backward(arguments, cotangent, others, **static)
    for b, first in enumerate((2, 0, 6)):
      for name in ('key', 'value'):
        arguments[name] = arguments[name].at[b, first:].set(poison)
    dirty = forward_and_backward(arguments, cotangent, others, **static)
    assert_same_bits(dirty, clean)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_a_nan_at_60_leaves_causal_rows_0_to_59(self, implementation):
    # From 64 numbers on, XLA reduces otherwise, and its maximum drops NaN.
    arguments = qkv((1,), 67, 67, 1, 1, 71, 73)
    context, residual = cotangents(arguments)
    cotangent = context.at[:, 60:].set(0), residual.at[:, 60:].set(0)
    static = {
      'is_causal': True,
      'implementation': implementation,
      'optimized': True,
    }
    clean = forward_and_backward(arguments, cotangent, **static)
    for name, poison in itertools.product(arguments, _POISONS):
      poisoned = dict(arguments)
      poisoned[name] = poisoned[name].at[0, 60, 0, 70].set(poison)
      dirty = forward_and_backward(poisoned, cotangent, **static)
      for actual, expected in zip(dirty[0], clean[0]):
        assert_same_bits(actual[:, :60], expected[:, :60])
      assert_same_bits(dirty[1], clean[1])
      seen = jnp.isnan(dirty[0][0]).all((0, 2, 3))
      rows = np.arange(67)
      expected = rows == 60 if name == 'query' else rows >= 60
      np.testing.assert_array_equal(seen, expected)

  @parameterized.product(implementation=IMPLEMENTATIONS)
  def test_forward_derivatives_are_clean_too(self, implementation):
    arguments, mask = qkv(), jnp.tri(T, S, dtype=bool)
    tangents = {k: normal(*x.shape, seed=8) for k, x in arguments.items()}

    @jax.jit
    def derivative(arguments):
      return jax.jvp(
        lambda x: attn.attention(**x, mask=mask, implementation=implementation),
        (arguments,),
        (tangents,),
      )

    clean = derivative(arguments)
    for name in ('key', 'value'):
      poisoned = dict(arguments)
      poisoned[name] = poisoned[name].at[:, 3].set(jnp.nan)
      for actual, expected in zip(derivative(poisoned), clean):
        assert_same_bits(actual[:, :3], expected[:, :3])


if __name__ == '__main__':
  absltest.main()
