"""The front door: which calls it takes, and which it refuses."""

import inspect

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

import attn
from attn import masks
from tests import oracles
from tests.checks import assert_close, attention, compile_fast
from tests.inputs import B, H, K, N, S, T, booleans, normal, qkv

pytestmark = pytest.mark.smoke


class PeersTest(parameterized.TestCase):
  """Calls written for other libraries give the same here."""

  def test_every_keyword_of_jax_is_known(self):
    theirs = inspect.signature(jax.nn.dot_product_attention).parameters
    ours = inspect.signature(attn.attention).parameters
    for name, parameter in theirs.items():
      self.assertEqual(ours[name].kind, parameter.kind, name)
      self.assertEqual(ours[name].default, parameter.default, name)
    positional = [
      name
      for name, parameter in ours.items()
      if parameter.kind == parameter.POSITIONAL_OR_KEYWORD
    ]
    self.assertEqual(positional, ['query', 'key', 'value', 'bias', 'mask'])

  @parameterized.parameters(
    {},
    {'scale': 0.3},
    {'is_causal': True},
    {'bias': normal(B, N, T, S, seed=5)},
    {'mask': booleans(B, 1, T, S, seed=4).at[..., 0].set(True)},
    {'local_window_size': (2, 1)},
    {'local_window_size': 1, 'is_causal': True},
    {'key_value_seq_lengths': jnp.array([4, 1, 7])},
    {
      'query_seq_lengths': jnp.array([5, 2, 1]),
      'key_value_seq_lengths': jnp.array([4, 1, 7]),
      'implementation': 'xla',
    },
  )
  def test_equals_jax(self, **options):
    @compile_fast
    def both(arguments):
      return [
        call(**arguments, **options)
        for call in (attn.attention, jax.nn.dot_product_attention)
      ]

    assert_close(*both(qkv(hv=H)))

  def test_equals_jax_without_a_batch_and_with_a_residual(self):
    arguments = qkv((), hv=H)
    theirs = compile_fast(
      lambda x: jax.nn.dot_product_attention(
        **x, is_causal=True, return_residual=True
      )
    )
    actual = attention(**arguments, is_causal=True, return_residual=True)
    assert_close(actual, theirs(arguments))

  def test_equals_flax(self):
    arguments = qkv(k=N)
    bias = normal(B, N, T, S, seed=5)
    mask = booleans(B, N, T, S, seed=4).at[..., 0].set(True)
    arguments |= {'bias': bias, 'mask': mask}
    expected = compile_fast(lambda x: nn.dot_product_attention(**x))(arguments)
    assert_close(attention(**arguments), expected)


class FormsTest(parameterized.TestCase):
  """One call may be written in many ways."""

  @parameterized.parameters(
    ((), (S,)),
    ((), (T, 1)),
    ((), (N, 1, S)),
    ((2, 3), (S,)),
    ((2, 3), (1, T, S)),
    ((2, 3), (2, 1, N, 1, 1)),
    ((2, 3), (3, 1, T, S)),
    ((2, 3), (1, 1, 1, 1, S)),
  )
  def test_masks_and_biases_broadcast_to_scores(self, batch, shape):
    arguments = qkv(batch)
    bias = normal(*shape, seed=5)
    mask = booleans(*shape, seed=6, share=0.8)

    @compile_fast
    def both(bias, mask):
      full = (*batch, N, T, S)
      return [
        attn.attention(**arguments, bias=bias, mask=mask),
        attn.attention(
          **arguments,
          bias=jnp.broadcast_to(bias, full),
          mask=jnp.broadcast_to(mask, full),
        ),
      ]

    short, full = both(bias, mask)
    chex.assert_trees_all_equal(short, full)

  def test_arrays_may_be_numpy_and_positional(self):
    arguments = {name: np.asarray(x) for name, x in qkv().items()}
    bias = np.asarray(normal(T, S, seed=5))
    mask = np.asarray(booleans(T, S, seed=6))
    actual = attention(*arguments.values(), bias, mask)
    self.assertIsInstance(actual, jax.Array)
    oracle = oracles.Attention(**arguments, bias=bias, mask=mask)
    assert_close(actual, oracle.context)

  def test_a_mask_may_be_an_object_or_its_array(self):
    mask = masks.causal(1) & masks.padding(jnp.array([4, 0, 7]))
    chex.assert_trees_all_equal(
      attention(**qkv(), mask=mask),
      attention(**qkv(), mask=mask.dense(T, S)),
    )

  def test_lengths_may_be_flat_or_of_the_batch_axes(self):
    arguments = qkv((2, 3))
    lengths = jnp.array([[7, 6, 5], [4, 3, 0]])
    actual = attention(**arguments, key_value_seq_lengths=lengths)
    flat = attention(**arguments, key_value_seq_lengths=lengths.ravel())
    chex.assert_trees_all_equal(actual, flat)
    expected = attention(
      **arguments, mask=jnp.arange(S) < lengths[..., None, None, None]
    )
    assert_close(actual, expected)

  @parameterized.parameters(
    (np.float64(0.3),), (np.float32(0.3),), (jnp.float32(0.3),)
  )
  def test_scale_may_be_any_number(self, scale):
    expected = oracles.Attention(**qkv(), scale=float(scale)).context
    arguments = qkv()
    attend = compile_fast(lambda x: attn.attention(**x, scale=scale))
    for x64 in (False, True):
      with jax.enable_x64(x64):
        actual = attend(arguments)
      chex.assert_type(actual, jnp.float32)
      assert_close(actual, expected)

  @parameterized.parameters(
    (2,), (np.int64(2),), ((2, 2),), ([2, 2],), (np.array([2, 2]),)
  )
  def test_windows_may_be_any_whole_numbers(self, window):
    attend = compile_fast(
      lambda x: attn.attention(**x, local_window_size=window)
    )
    chex.assert_trees_all_equal(
      attend(qkv()), attention(**qkv(), mask=masks.sliding_window(2, 2))
    )

  def test_scale_0_averages(self):
    actual = attention(**qkv(), scale=0)
    mean = jnp.repeat(qkv()['value'].mean(1, keepdims=True), N // K, axis=2)
    assert_close(actual, jnp.broadcast_to(mean, actual.shape))

  def test_rng_without_dropout_drops_nothing(self):
    chex.assert_trees_all_equal(
      attention(**qkv(), rng=jax.random.key(0)), attention(**qkv())
    )


class RecompileTest(parameterized.TestCase):
  def test_new_arrays_are_no_new_program(self):
    traced = []

    @compile_fast
    def call(arguments, mask, lengths):
      traced.append(mask)
      return attn.attention(
        **arguments, mask=mask, key_value_seq_lengths=lengths
      )

    contexts = []
    for seed in range(3):
      ids = jax.random.randint(jax.random.key(seed), (B, S), 0, 3)
      mask = masks.causal() & masks.segments(ids[:, :T], ids)
      lengths = jnp.array([seed, 5, 7])
      contexts.append(call(qkv(), mask, lengths))
    self.assertLen(traced, 1)
    self.assertFalse(bool((contexts[0] == contexts[1]).all()))


if __name__ == '__main__':
  absltest.main()
