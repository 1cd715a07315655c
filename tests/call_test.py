"""Bad calls: each says which argument, what came, and what was wanted.

Every implementation refuses them, and so does `explain`, at trace time.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

import attn
from attn import masks, mods
from tests.inputs import HV, IMPLEMENTATIONS, B, H, K, N, S, T, qkv

pytestmark = pytest.mark.smoke

# Everything that takes the arguments of a call.
_DOORS = {
  'chosen': attn.attention,
  **{
    name: functools.partial(attn.attention, implementation=name)
    for name in IMPLEMENTATIONS
  },
  'explain': attn.explain,
}


class ErrorsTest(parameterized.TestCase):
  def _refuses(self, error, message, /, **changes):
    arguments = {**qkv(), **changes}
    arrays = {name: arguments[name] for name in qkv()}
    options = {k: x for k, x in arguments.items() if k not in arrays}
    doors = dict(_DOORS)
    if 'implementation' in options:
      doors = {name: _DOORS[name] for name in ('chosen', 'explain')}
    for name, door in doors.items():
      with self.subTest(name), self.assertRaisesRegex(error, message):
        door(**arrays, **options)
      traced = self.subTest(f'{name}, traced')
      with traced, self.assertRaisesRegex(error, message):
        jax.eval_shape(
          lambda x, door=door: jax.tree.leaves(door(**x, **options)), arrays
        )

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

  @parameterized.parameters(
    (lambda: masks.segments(jnp.zeros((B, T + 1), int)), 'query length 6'),
    (
      lambda: masks.segments(jnp.zeros(T, int), jnp.zeros(S - 1, int)),
      'key length 6',
    ),
    (lambda: masks.segments(jnp.zeros((2, T), int)), 'batch size 2'),
    (lambda: masks.padding(jnp.zeros(4, int)), 'batch size 4'),
    (lambda: masks.prefix(jnp.zeros(4, int)) & masks.causal(), 'batch size 4'),
    (lambda: ~masks.per_head([masks.causal()] * 3), 'number of heads 3'),
    (
      lambda: masks.from_fn(lambda b, n, q, k: n > q, heads=2),
      'number of heads 2',
    ),
  )
  def test_masks_of_other_sizes(self, build, message):
    self._refuses(ValueError, f'mask: got arrays for {message}', mask=build())

  def test_masks_that_are_no_masks(self):
    self._refuses(
      TypeError,
      r'mask: got <function .* by attn\.masks\.from_fn',
      mask=lambda b, n, q, k: k <= q,
    )
    self._refuses(
      TypeError, "mask: got 'causal', wanted an array", mask='causal'
    )

  @parameterized.parameters(
    (lambda b, n, q, k, x: 1 // 0, ValueError, 'fn: raised ZeroDivisionError'),
    (
      lambda b, n, q, k, x: bool(k <= q),
      ValueError,
      'fn: raised TracerBoolConversionError',
    ),
    (
      lambda b, n, q, k, x: np.asarray(x)[0] > k,
      ValueError,
      'fn: raised TracerArrayConversionError',
    ),
    (lambda b, n, q, k, x: x[0, 0] > k, ValueError, 'fn: raised IndexError'),
    (lambda b, n, q, k: k <= q, ValueError, 'fn: raised TypeError'),
    (lambda b, n, q, k, x: q - k, TypeError, 'fn: returned .*int32.*one bool'),
    (
      lambda b, n, q, k, x: x > k,
      TypeError,
      r'fn: returned .*\(3,\).*one bool',
    ),
    (lambda b, n, q, k, x: None, TypeError, 'fn: returned None, wanted one'),
  )
  def test_mask_functions(self, fn, error, message):
    # They are refused where they are made into a mask, which may be in a jit.
    with self.assertRaisesRegex(error, message):
      masks.from_fn(fn, jnp.arange(3))

    def attend(arrays, numbers):
      return attn.attention(**arrays, mask=masks.from_fn(fn, numbers))

    with self.assertRaisesRegex(error, message):
      jax.eval_shape(attend, qkv(), jnp.arange(3))

  def test_masks_of_ones_own_class(self):
    class Odd(masks.Mask):
      pass

    for mask in (Odd(), masks.causal() & ~Odd()):
      self._refuses(TypeError, 'mask: got .*Odd.* is no pytree', mask=mask)

  def test_biases(self):
    self._refuses(
      TypeError,
      'bias: got dtype bool, wanted a float dtype; a boolean array is a mask',
      bias=jnp.ones((T, S), bool),
    )
    self._refuses(TypeError, "bias: got 'alibi', wanted an array", bias='alibi')
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
    for scale, got in (('large', "'large'"), (jnp.array(True), 'dtype bool')):
      self._refuses(TypeError, f'scale: got {got}, wanted', scale=scale)

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

  def test_score_mods_of_other_sizes(self):
    for mod, message in (
      (mods.alibi(3), 'number of heads 3, wanted 4'),
      (
        mods.compose(mods.temperature(2.0), mods.soft_cap(jnp.ones(2))),
        'number of heads 2, wanted 4',
      ),
      (
        mods.alibi(N, offset=jnp.arange(2)),
        'batch size 2, wanted 3',
      ),
    ):
      self._refuses(
        ValueError, f'score_mod: got arrays for {message}', score_mod=mod
      )

  def test_score_mods_that_need_numbers(self):
    table = jnp.arange(3.0)
    for fails, name in (
      (
        lambda score, b, n, q, k: score if q > k else -score,
        'TracerBoolConversionError',
      ),
      (lambda score, b, n, q, k: score + table[0, 1], 'IndexError'),
      (
        lambda score, b, n, q, k: score * float(q),
        'ConcretizationTypeError',
      ),
    ):
      self._refuses(
        ValueError, f'score_mod: raised {name} for one score', score_mod=fails
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
    self._refuses(
      TypeError, 'rng: got 3, wanted a PRNG key', dropout_rate=0.5, rng=3
    )
    self._refuses(
      TypeError,
      "dropout_rate: got '0.5', wanted a static number",
      dropout_rate='0.5',
      rng=rng,
    )

  def test_implementation(self):
    for name in ('cudnn', 'Dense'):
      self._refuses(
        ValueError,
        f"implementation: got '{name}', wanted None or one of 'dense'",
        implementation=name,
      )

  @parameterized.parameters('is_causal', 'dropout_rate')
  def test_what_a_program_is_compiled_for_may_not_be_traced(self, name):
    rng = jax.random.key(0)
    with self.assertRaisesRegex(TypeError, f'{name}: got .*, wanted a static'):
      jax.eval_shape(
        lambda x, y: attn.attention(**x, rng=rng, **{name: y}), qkv(), 1.0
      )


if __name__ == '__main__':
  absltest.main()
