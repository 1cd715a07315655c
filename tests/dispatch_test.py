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
from tests.inputs import HV, B, H, K, N, S, T, booleans, normal, qkv

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


class ErrorsTest(parameterized.TestCase):
  """Each says which argument, what came, and what was wanted."""

  def _refuses(self, error, message, /, **changes):
    with self.assertRaisesRegex(error, message):
      attn.attention(**{**qkv(), **changes})

  @parameterized.parameters('query', 'key', 'value')
  def test_arrays(self, name):
    x = qkv()[name]
    self._refuses(
      ValueError,
      rf'{name}: got shape \(4, 11\), wanted \[\*B, length, heads, head size\]',
      **{name: jnp.ones((4, 11))},
    )
    self._refuses(
      TypeError,
      f'{name}: got dtype int32, wanted a float dtype',
      **{name: x.astype(int)},
    )
    if name != 'query':
      self._refuses(
        TypeError,
        f"{name}: got dtype bfloat16, wanted float32, the query's",
        **{name: x.astype(jnp.bfloat16)},
      )
      self._refuses(
        ValueError,
        rf"{name}: got batch axes \(2,\) \(.*\), wanted \(3,\), the query's",
        **{name: x[:2]},
      )

  def test_sizes(self):
    self._refuses(
      ValueError,
      r'value: got shape \(3, 6, 2, 13\), wanted \(3, 7, 2\) and a head size',
      value=jnp.ones((B, S - 1, K, HV)),
    )
    self._refuses(
      ValueError,
      r'value: got shape \(3, 7, 4, 13\), wanted \(3, 7, 2\)',
      value=jnp.ones((B, S, N, HV)),
    )
    self._refuses(
      ValueError,
      r"key: got head size 12 \(shape .*\), wanted 11, the query's",
      key=jnp.ones((B, S, K, H + 1)),
    )
    for heads in (0, 3, 8):
      self._refuses(
        ValueError,
        rf"key: got {heads} heads \(.*\), wanted a divisor of 4, the query's",
        key=jnp.ones((B, S, heads, H)),
        value=jnp.ones((B, S, heads, HV)),
      )

  def test_masks(self):
    self._refuses(
      TypeError,
      r'mask: got dtype float32, wanted bool \(True = may attend\).*bias',
      mask=jnp.ones((T, S)),
    )
    for shape in ((T, S + 1), (B, T, S), (1, B, N, T, S)):
      self._refuses(
        ValueError,
        r'mask: got shape \(.*\), wanted .* broadcasts to \(3, 4, 5, 7\), \[',
        mask=jnp.ones(shape, bool),
      )

  @parameterized.parameters(
    ((2, 1, 1, 1), 'batch size 2, wanted 3'),
    ((3, 1, 1), 'number of heads 3, wanted 4'),
    ((4, 1), 'query length 4, wanted 5'),
    ((8,), 'key length 8, wanted 7'),
  )
  def test_mask_objects(self, shape, message):
    self._refuses(
      ValueError,
      f'mask: got arrays for {message}',
      mask=masks.causal() & masks.dense(jnp.ones(shape, bool)),
    )

  def test_biases(self):
    self._refuses(
      TypeError,
      'bias: got dtype bool, wanted a float dtype; a boolean array is a mask',
      bias=jnp.ones((T, S), bool),
    )
    self._refuses(
      ValueError,
      r'bias: got shape \(5, 8\), wanted .* broadcasts to \(3, 4, 5, 7\)',
      bias=jnp.ones((T, S + 1)),
    )

  def test_scale(self):
    self._refuses(
      ValueError,
      r'scale: got shape \(7,\), wanted one number',
      scale=jnp.ones(S),
    )

  @parameterized.parameters('query_seq_lengths', 'key_value_seq_lengths')
  def test_lengths(self, name):
    self._refuses(
      TypeError,
      f'{name}: got dtype float32, wanted integers',
      **{name: jnp.ones(B)},
    )
    self._refuses(
      ValueError,
      rf'{name}: got shape \(4,\), wanted \(3,\), the batch axes',
      **{name: jnp.ones(4, int)},
    )

  @parameterized.parameters((-1,), ((-1, 2),), ((2, -1),), (1.5,), ((1, 2, 3),))
  def test_windows(self, window):
    self._refuses(
      ValueError,
      r'local_window_size: got .*\d.*, wanted \(left, right\) of at least 0',
      local_window_size=window,
    )

  def test_score_mods(self):
    def fails(score, b, n, q, k):
      raise RuntimeError('out of ideas')

    self._refuses(
      ValueError,
      r'score_mod: raised RuntimeError .*\(score, b, n, q, k\): out of ideas',
      score_mod=fails,
    )
    self._refuses(
      ValueError,
      'score_mod: raised TypeError for one score',
      score_mod=lambda score: score,
    )
    for wrong in (
      lambda score, b, n, q, k: q - k,
      lambda score, b, n, q, k: jnp.stack([score, score]),
      lambda score, b, n, q, k: (score, score),
      lambda score, b, n, q, k: score.astype(jnp.bfloat16),
    ):
      self._refuses(
        TypeError,
        'score_mod: returned .*, wanted one score of dtype float32',
        score_mod=wrong,
      )

  def test_sinks(self):
    for sink in (jnp.ones(K), jnp.ones(()), jnp.ones((N, 1))):
      self._refuses(
        ValueError,
        r'sink: got shape \(.*\), wanted \(4,\), one per query head',
        sink=sink,
      )
    self._refuses(
      TypeError,
      'sink: got dtype int32, wanted a float dtype',
      sink=jnp.ones(N, int),
    )

  def test_dropout(self):
    rng = jax.random.key(0)
    for rate in (-0.5, 1.5):
      self._refuses(
        ValueError,
        rf'dropout_rate: got {rate}, wanted a probability in \[0, 1\]',
        dropout_rate=rate,
        rng=rng,
      )
    self._refuses(
      ValueError,
      'rng: got None with dropout_rate 0.5, wanted a PRNG key',
      dropout_rate=0.5,
    )

  def test_implementation(self):
    for name in ('cudnn', 'Dense'):
      self._refuses(
        ValueError,
        f"implementation: got '{name}', wanted None or one of 'dense'",
        implementation=name,
      )

  def test_they_come_at_trace_time(self):
    with self.assertRaisesRegex(TypeError, 'mask: got dtype float32'):
      jax.eval_shape(
        lambda x: attn.attention(**x, mask=jnp.ones((T, S))), qkv()
      )


if __name__ == '__main__':
  absltest.main()
