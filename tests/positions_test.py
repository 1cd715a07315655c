"""Positions: waves, rotations and slopes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from tests import oracles
from tests.checks import assert_close, assert_gradients
from tests.inputs import normal

B, T, N, H = 2, 3, 7, 10


class SinusoidalTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    waves = self.variant(attn.sinusoidal_positions, static_argnums=1)
    # sin 1, cos 1, and with a wavelength 100 times longer sin .01, cos .01.
    expected = np.array(
      [[0, 1, 0, 1], [0.84147098, 0.54030231, 0.00999983, 0.99995]]
    )
    assert_close(waves(jnp.array([0, 1]), 4), expected, 1e-6)

  @parameterized.parameters(((T,),), ((B, T),), ((),))
  def test_equals_loops(self, shape):
    positions = np.random.default_rng(0).integers(0, 97, shape)
    for base in (10_000.0, 50.0):
      actual = attn.sinusoidal_positions(jnp.asarray(positions), H, base=base)
      chex.assert_shape(actual, (*shape, H))
      chex.assert_type(actual, jnp.float32)
      # Angles up to 97 are rounded to float32: 97 * 2^-24 is 6e-6.
      expected = oracles.sinusoidal_positions(positions, H, base)
      assert_close(actual, expected, 1e-5)

  def test_float64_is_honoured(self):
    with jax.enable_x64(True):
      positions = jnp.array([0.0, 0.25, 1e4], jnp.float64)
      actual = attn.sinusoidal_positions(positions, H)
      chex.assert_type(actual, jnp.float64)
    assert_close(actual, oracles.sinusoidal_positions(positions, H), 1e-11)

  def test_size_0(self):
    waves = attn.sinusoidal_positions(jnp.arange(T), 0)
    chex.assert_shape(waves, (T, 0))

  @parameterized.parameters(5, -2)
  def test_sizes_are_even(self, size):
    with self.assertRaisesRegex(
      ValueError, f'size: got size {size}, wanted an even size'
    ):
      attn.sinusoidal_positions(jnp.arange(T), size)


class RopeTest(chex.TestCase):
  def test_by_hand(self):
    # A quarter turn of the pair (x[0], x[2]); (x[1], x[3]) turns 100 × slower.
    x = jnp.array([[1.0, 2.0, 3.0, 4.0]])
    actual = attn.apply_rope(x, jnp.array([jnp.pi / 2]))
    cos, sin = np.cos(np.pi / 200), np.sin(np.pi / 200)
    expected = np.array([[-3, 2 * cos - 4 * sin, 1, 4 * cos + 2 * sin]])
    assert_close(actual, expected, 1e-6)

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(((T,),), ((B, T),), ((B, 1),), ((),))
  def test_equals_complex_numbers(self, shape):
    x = normal(B, T, H)
    positions = np.random.default_rng(0).integers(0, 97, shape)
    actual = self.variant(attn.apply_rope)(x, jnp.asarray(positions))
    chex.assert_shape(actual, (B, T, H))
    assert_close(actual, oracles.rope(x, positions), 1e-5)
    actual = attn.apply_rope(x, jnp.asarray(positions), base=50.0)
    assert_close(actual, oracles.rope(x, positions, 50.0), 1e-5)

  def test_position_0_changes_no_bit(self):
    x = normal(T, H)
    chex.assert_trees_all_equal(attn.apply_rope(x, jnp.zeros(T, int)), x)

  def test_lengths_are_kept(self):
    x = normal(T, H)
    rotated = attn.apply_rope(x, jnp.array([3, 50, 1000]))
    assert_close(jnp.square(rotated).sum(-1), jnp.square(x).sum(-1), 1e-6)
    self.assertGreater(float(jnp.abs(rotated - x).min(-1).max()), 0.01)

  @parameterized.parameters(1, 17, 100)
  def test_scores_depend_on_distance_alone(self, shift):
    query, key = normal(T, H), normal(T, H, seed=1)
    positions = jnp.arange(T)

    def scores(query_shift, key_shift):
      return attn.dot_product_scores(
        attn.apply_rope(query, positions + query_shift),
        attn.apply_rope(key, positions + key_shift),
      )

    assert_close(scores(shift, shift), scores(0, 0), 2e-5)
    # And they do depend on it.
    moved = jnp.abs(scores(shift, 0) - scores(0, 0)).max()
    self.assertGreater(float(moved), 0.1)

  def test_heads_are_a_vmap(self):
    x, positions = normal(B, T, N, H), jnp.arange(T)
    rotated = jax.vmap(attn.apply_rope, in_axes=(-2, None), out_axes=-2)(
      x, positions
    )
    for n in range(N):
      assert_close(rotated[..., n, :], oracles.rope(x[..., n, :], positions))

  def test_gradient_rotates_back(self):
    cotangent, positions = normal(T, H, seed=1), jnp.arange(T)
    _, pull_back = jax.vjp(
      lambda x: attn.apply_rope(x, positions), normal(T, H)
    )
    expected = attn.apply_rope(cotangent, -positions)
    assert_close(pull_back(cotangent)[0], expected, 1e-6)

  def test_positions_are_differentiated(self):
    with jax.enable_x64(True):
      x, positions = (normal(*s, dtype=jnp.float64) for s in ((T, H), (T,)))
      gradients = jax.grad(
        lambda x, p: jnp.tanh(attn.apply_rope(x, p)).sum(), argnums=(0, 1)
      )(x, positions)
    assert_gradients(
      gradients, lambda x, p: np.tanh(oracles.rope(x, p)).sum(), (x, positions)
    )

  @parameterized.parameters(jnp.bfloat16, jnp.float16)
  def test_narrow_floats_come_back(self, dtype):
    x = normal(T, H, dtype=dtype)
    # Far positions: angles in bfloat16 would be off by whole turns.
    positions = jnp.array([0, 999, 1001])
    rotated = attn.apply_rope(x, positions)
    chex.assert_type(rotated, dtype)
    expected = oracles.rope(x, positions)
    assert_close(rotated, expected, float(jnp.finfo(dtype).eps))

  @parameterized.parameters(jnp.int32, jnp.int64, jnp.float64)
  def test_float64_is_honoured(self, dtype):
    with jax.enable_x64(True):
      x = normal(T, H, dtype=jnp.float64)
      positions = jnp.array([0, 999, 100_001], dtype)
      rotated = attn.apply_rope(x, positions)
      chex.assert_type(rotated, jnp.float64)
    assert_close(rotated, oracles.rope(x, positions), 1e-10)

  def test_axes_may_be_empty(self):
    for shape in ((0, H), (T, 0), (0, T, H)):
      rotated = attn.apply_rope(jnp.ones(shape), jnp.arange(shape[-2]))
      chex.assert_shape(rotated, shape)

  def test_errors(self):
    with self.assertRaisesRegex(
      ValueError, 'x: got size 11, wanted an even size'
    ):
      attn.apply_rope(jnp.ones((T, 11)), jnp.arange(T))
    with self.assertRaisesRegex(
      ValueError, r'x: got shape \(10,\), wanted at least \[T, H\]'
    ):
      attn.apply_rope(jnp.ones(H), jnp.arange(T))
    for shape in ((T + 1,), (B, B, T)):
      with self.assertRaisesRegex(
        ValueError, r'positions: got shape \(.*\), wanted .* to \(2, 3\)'
      ):
        attn.apply_rope(jnp.ones((B, T, H)), jnp.zeros(shape, int))


class AlibiTest(parameterized.TestCase):
  def test_by_hand(self):
    # The paper's own example: 1/2, 1/4, ... 1/256 for eight heads.
    expected = 0.5 ** np.arange(1, 9)
    np.testing.assert_array_equal(attn.alibi_slopes(8), expected)
    np.testing.assert_array_equal(attn.alibi_slopes(1), [2.0**-8])
    # Six heads: those of four, then the first and third of eight.
    expected = [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3]
    np.testing.assert_array_equal(attn.alibi_slopes(6), expected)

  @parameterized.parameters(*range(1, 18))
  def test_every_head_has_its_own(self, num_heads):
    slopes = attn.alibi_slopes(num_heads)
    chex.assert_shape(slopes, (num_heads,))
    chex.assert_type(slopes, jnp.float32)
    self.assertLen(set(slopes.tolist()), num_heads)
    self.assertBetween(float(slopes.min()), 2.0**-8, 1)
    self.assertLess(float(slopes.max()), 1)

  def test_errors(self):
    with self.assertRaisesRegex(
      ValueError, 'num_heads: got 0, wanted at least 1'
    ):
      attn.alibi_slopes(0)


class RelativeBucketsTest(parameterized.TestCase):
  def test_known_values(self):
    # Where the buckets of the published defaults begin, in both directions.
    starts = [*range(8), 8, 12, 16, 23, 32, 46, 64, 91]
    past = np.searchsorted(starts, np.arange(300), side='right') - 1
    for sign, first in ((-1, 0), (1, 16)):
      distance = sign * jnp.arange(1, 300)
      actual = attn.relative_buckets(distance)
      np.testing.assert_array_equal(actual, past[1:] + first)
    self.assertEqual(int(attn.relative_buckets(0)), 0)
    # And of a decoder, which sees the past alone.
    starts = [*range(16), 16, 19, 21, 24, 27, 31, 35, 40]
    starts += [46, 52, 59, 67, 77, 87, 99, 113]
    past = np.searchsorted(starts, np.arange(300), side='right') - 1
    actual = attn.relative_buckets(-jnp.arange(300), bidirectional=False)
    np.testing.assert_array_equal(actual, past)
    actual = attn.relative_buckets(jnp.arange(300), bidirectional=False)
    np.testing.assert_array_equal(actual, 0)

  @parameterized.product(
    num_buckets=(4, 6, 10, 32, 64),
    bidirectional=(True, False),
    max_distance=(33, 64, 128, 1000),
  )
  def test_equals_fractions(self, num_buckets, bidirectional, max_distance):
    options = {'bidirectional': bidirectional, 'max_distance': max_distance}
    distance = np.arange(-1100, 1100).reshape(2, 11, 100)
    actual = attn.relative_buckets(
      jnp.asarray(distance), num_buckets, **options
    )
    chex.assert_type(actual, jnp.int32)
    rule = functools.partial(
      oracles.relative_bucket, num_buckets=num_buckets, **options
    )
    np.testing.assert_array_equal(actual, np.vectorize(rule)(distance))
    self.assertEqual((actual.min(), actual.max()), (0, num_buckets - 1))

  @parameterized.parameters(jnp.int8, jnp.int64, jnp.uint32)
  def test_any_integers(self, dtype):
    with jax.enable_x64(True):
      actual = attn.relative_buckets(jnp.arange(100, dtype=dtype))
    chex.assert_type(actual, jnp.int32)
    np.testing.assert_array_equal(
      actual, [oracles.relative_bucket(d) for d in range(100)]
    )

  @parameterized.parameters(
    ((1.5,), {}, TypeError, 'distance: got dtype float32, wanted integers'),
    ((0, 7), {}, ValueError, 'num_buckets: got 7, wanted an even number of'),
    ((0, 2), {}, ValueError, 'num_buckets: got 2, .* of at least 4'),
    (
      (0, 1),
      {'bidirectional': False},
      ValueError,
      'num_buckets: got 1, wanted at least 2',
    ),
    (
      (0,),
      {'max_distance': 8},
      ValueError,
      'max_distance: got 8, wanted more than 8',
    ),
  )
  def test_errors(self, args, options, error, message):
    with self.assertRaisesRegex(error, message):
      attn.relative_buckets(*args, **options)


if __name__ == '__main__':
  absltest.main()
