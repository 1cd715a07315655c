"""Masks: drawn by hand, defined by rules, combined, and carried as values."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks
from tests import oracles
from tests.checks import assert_close
from tests.inputs import HV, B, N, S, T, qkv
from tests.mask_cases import CASES, KEY_IDS


class MasksTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(*CASES)
  def test_written_out(self, name):
    build, rule = CASES[name]
    actual = self.variant(lambda mask: mask.dense(T, S))(build())
    chex.assert_type(actual, bool)
    expected = oracles.mask(rule, B, N, T, S)
    np.testing.assert_array_equal(
      np.broadcast_to(actual, expected.shape), expected
    )

  @parameterized.parameters(*CASES)
  def test_element_by_element(self, name):
    build, rule = CASES[name]
    indices = np.indices((B, N, T, S)).reshape(4, -1)
    one = jax.jit(jax.vmap(lambda m, *i: m(*i), in_axes=(None, 0, 0, 0, 0)))
    expected = oracles.mask(rule, B, N, T, S).ravel()
    np.testing.assert_array_equal(one(build(), *indices), expected)

  @parameterized.parameters(
    ('causal', (T, S)),
    ('not', (T, S)),
    ('padding', (B, 1, T, S)),
    ('and', (B, 1, T, S)),
    ('or', (1, N, T, S)),
    ('dense', (B, N, T, S)),
    ('dense for queries', (B, 1, T, S)),
  )
  def test_written_out_no_larger_than_it_must(self, name, shape):
    chex.assert_shape(CASES[name][0]().dense(T, S), shape)

  def test_drawn_by_hand(self):
    ids = jnp.array([0, 0, 1, 1, 1])
    for mask, drawing in (
      (masks.causal(), '1 0 0 0 0 / 1 1 0 0 0 / 1 1 1 0 0'),
      (masks.causal(2), '1 1 1 0 0 / 1 1 1 1 0 / 1 1 1 1 1'),
      (masks.causal(-1), '0 0 0 0 0 / 1 0 0 0 0 / 1 1 0 0 0'),
      (masks.sliding_window(1, 0), '1 0 0 0 0 / 1 1 0 0 0 / 0 1 1 0 0'),
      (masks.sliding_window(0, 2), '1 1 1 0 0 / 0 1 1 1 0 / 0 0 1 1 1'),
      (masks.padding(jnp.array([2])), '1 1 0 0 0 / 1 1 0 0 0 / 1 1 0 0 0'),
      (
        masks.padding(jnp.array([4]), jnp.array([2])),
        '1 1 1 1 0 / 1 1 1 1 0 / 0 0 0 0 0',
      ),
      (masks.segments(ids[1:4], ids), '1 1 0 0 0 / 0 0 1 1 1 / 0 0 1 1 1'),
      (masks.dense(jnp.eye(3, 5) > 0), '1 0 0 0 0 / 0 1 0 0 0 / 0 0 1 0 0'),
      (~masks.causal(), '0 1 1 1 1 / 0 0 1 1 1 / 0 0 0 1 1'),
    ):
      self.assertEqual(mask.draw(3, 5), drawing.replace(' / ', '\n'))
    # Of many batch elements, the first.
    self.assertEqual(CASES['padding'][0]().draw(1, 7), '1 1 1 1 0 0 0')

  def test_a_window_as_wide_as_the_text_is_causal(self):
    causal = masks.causal().dense(T, S)
    for left in (T - 1, T, 10 * T):
      window = masks.sliding_window(left, 0).dense(T, S)
      chex.assert_trees_all_equal(window, causal)
    narrower = masks.sliding_window(T - 2, 0).dense(T, S)
    self.assertFalse(bool((narrower == causal).all()))

  @parameterized.parameters(jnp.int32, jnp.int64, jnp.uint8)
  def test_integers_of_any_width(self, dtype):
    with jax.enable_x64(True):
      lengths = jnp.array([4, 0, 7], dtype)
      ids = jnp.asarray(KEY_IDS, dtype)
      mask = masks.padding(lengths) & masks.segments(ids) & masks.causal(1)
      written = mask.dense(S, S)
    expected = oracles.mask(
      lambda b, n, q, k: (
        k < (4, 0, 7)[b] and KEY_IDS[b, q] == KEY_IDS[b, k] and k <= q + 1
      ),
      *(B, 1, S, S),
    )
    np.testing.assert_array_equal(written, expected)

  def test_arrays_may_be_numpy(self):
    @jax.jit
    def write(offset):
      mask = masks.padding(np.array([4, 0, 7])) & masks.segments(KEY_IDS)
      mask = mask | masks.dense(np.eye(S, dtype=bool))
      return mask.dense(S, S) & (offset > 0)

    ids = jnp.asarray(KEY_IDS)
    mask = masks.padding(jnp.array([4, 0, 7])) & masks.segments(ids)
    expected = (mask | masks.dense(jnp.eye(S, dtype=bool))).dense(S, S)
    chex.assert_trees_all_equal(write(1), expected)

  def test_laws_of_de_morgan(self):
    one, other = CASES['segments'][0](), CASES['dense'][0]()
    for left, right in (
      (~(one & other), ~one | ~other),
      (~(one | other), ~one & ~other),
      (one & other, other & one),
    ):
      chex.assert_trees_all_equal(left.dense(T, S), right.dense(T, S))

  @parameterized.parameters(0, 3)
  def test_axes_may_be_empty(self, batch):
    ids = jnp.zeros((batch, 0), int)
    mask = masks.segments(ids, jnp.zeros((batch, 5), int))
    chex.assert_shape(mask.dense(0, 5), (batch, 1, 0, 5))
    mask = masks.segments(jnp.zeros((batch, 5), int), ids)
    chex.assert_shape(mask.dense(5, 0), (batch, 1, 5, 0))
    chex.assert_shape(masks.segments(ids).dense(0, 0), (batch, 1, 0, 0))
    mask = masks.padding(jnp.zeros(batch, int))
    chex.assert_shape(mask.dense(2, 5), (batch, 1, 2, 5))
    mask = masks.dense(jnp.ones((batch, 2, 0, 5), bool)) & masks.causal()
    chex.assert_shape(mask.dense(0, 5), (batch, 2, 0, 5))
    self.assertEqual(masks.causal().draw(0, 5), '')
    self.assertEqual(masks.causal().draw(2, 0), '\n')


class ValuesTest(parameterized.TestCase):
  def test_numbers_are_static_and_arrays_are_leaves(self):
    for name, leaves in (
      ('causal', 0),
      ('window', 0),
      ('key padding', 1),
      ('padding', 2),
      ('segments', 2),
      ('dense', 1),
      ('expression', 2),
    ):
      self.assertLen(jax.tree.leaves(CASES[name][0]()), leaves, name)

  def test_equal_masks_are_one_key(self):
    def build(offset):
      return (masks.causal(offset) & masks.sliding_window(3, 0)) | ~(
        masks.causal(-2)
      )

    for one, same, other in (
      (masks.causal(1), masks.causal(1), masks.causal(2)),
      (masks.causal(0), masks.causal(), masks.sliding_window(0, 0)),
      (build(1), build(1), build(2)),
    ):
      self.assertEqual(one, same)
      self.assertEqual(hash(one), hash(same))
      self.assertNotEqual(one, other)
      self.assertLen({one, same, other}, 2)

  def test_masks_with_arrays_are_keys_too(self):
    # Arrays have no truth value: such masks are equal to themselves only.
    build = CASES['expression'][0]
    one, other = build(), build()
    self.assertEqual(one, one)
    self.assertNotEqual(one, other)
    self.assertLen({one, one, other}, 2)

  def test_immutable(self):
    with self.assertRaises(dataclasses.FrozenInstanceError):
      masks.causal().offset = 3
    with self.assertRaises(dataclasses.FrozenInstanceError):
      CASES['padding'][0]().key_lengths = None

  def test_jit_traces_once_for_equal_masks(self):
    traced = []

    @jax.jit
    def count(mask):
      traced.append(mask)
      return mask.dense(T, S).sum()

    def build(lengths, offset=0):
      return masks.causal(offset) & masks.padding(jnp.array(lengths))

    # Arrays are data; only a number of another value is another program.
    self.assertEqual(count(build([4, 0, 7])), 4 * T - 6 + T * (T + 1) // 2)
    self.assertEqual(count(build([0, 0, 1])), T)
    self.assertLen(traced, 1)
    self.assertEqual(count(build([0, 0, 2], offset=9)), 2 * T)
    self.assertLen(traced, 2)

  def test_static_arguments_trace_once_for_equal_masks(self):
    traced = []

    def count(mask):
      traced.append(mask)
      return mask.dense(T, S).sum()

    count = jax.jit(count, static_argnums=0)
    for _ in range(2):
      count(masks.causal() & masks.sliding_window(2, 0))
    self.assertLen(traced, 1)

  def test_masks_are_mapped_and_scanned(self):
    ids = jnp.asarray(KEY_IDS)
    expected = masks.segments(ids).dense(S, S)[:, 0]
    mapped = jax.vmap(lambda mask: mask.dense(S, S))(masks.segments(ids))
    chex.assert_trees_all_equal(mapped, expected)
    _, scanned = jax.lax.scan(
      lambda carry, mask: (carry, mask.dense(S, S)), 0, masks.segments(ids)
    )
    chex.assert_trees_all_equal(scanned, expected)

  def test_a_mask_may_be_the_carry_and_the_result(self):
    def step(mask, _):
      lengths = mask.key_lengths + 1
      return masks.padding(lengths), mask.dense(1, S).sum()

    mask, seen = jax.lax.scan(step, masks.padding(jnp.array([2])), length=3)
    self.assertIsInstance(mask, masks.Mask)
    np.testing.assert_array_equal(mask.key_lengths, [5])
    np.testing.assert_array_equal(seen, [2, 3, 4])

  def test_attention_maps_over_masks(self):
    arguments, ids = qkv(), jnp.asarray(KEY_IDS)
    mask = masks.segments(ids[:, :T], ids) & masks.causal(1)

    @jax.jit
    @jax.vmap
    def mapped(arguments, mask):
      return attn.attention(**arguments, mask=mask)

    context = mapped(arguments, mask)
    chex.assert_shape(context, (B, T, N, HV))
    rule = lambda b, n, q, k: ids[b, q] == ids[b, k] and k <= q + 1  # noqa: E731
    expected = oracles.Attention(
      **arguments, mask=oracles.mask(rule, B, N, T, S)
    )
    assert_close(context, expected.context)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(((-1, 0), 'left'), ((0, -1), 'right'))
  def test_windows_have_a_size(self, sizes, name):
    with self.assertRaisesRegex(
      ValueError, f'{name}: got -1, wanted at least 0'
    ):
      masks.sliding_window(*sizes)

  @parameterized.parameters('key_lengths', 'query_lengths')
  def test_lengths_are_integers(self, name):
    with self.assertRaisesRegex(
      TypeError, f'{name}: got dtype float32, wanted integers'
    ):
      masks.padding(**{name: jnp.ones(B)})

  def test_lengths_are_of_one_batch(self):
    with self.assertRaisesRegex(
      ValueError, r'query_lengths: got shape \(3,\), wanted \(2,\)'
    ):
      masks.padding(jnp.array([1, 2]), jnp.array([1, 2, 3]))

  def test_ids(self):
    ids = jnp.zeros((B, T), int)
    with self.assertRaisesRegex(
      TypeError, 'query_ids: got dtype float32, wanted integers'
    ):
      masks.segments(jnp.ones(T))
    with self.assertRaisesRegex(
      TypeError, 'key_ids: got dtype bool, wanted integers'
    ):
      masks.segments(ids, jnp.ones(S, bool))
    with self.assertRaisesRegex(
      ValueError, r'query_ids: got shape \(\), wanted at least one axis'
    ):
      masks.segments(jnp.array(1))
    with self.assertRaisesRegex(
      ValueError, r'key_ids: got shape \(2, 7\), wanted batch axes \(3,\)'
    ):
      masks.segments(ids, jnp.zeros((2, S), int))

  def test_arrays_are_boolean_and_have_four_axes(self):
    with self.assertRaisesRegex(
      TypeError, r'array: got dtype float32, wanted bool \(True = may attend\)'
    ):
      masks.dense(jnp.ones((T, S)))
    with self.assertRaisesRegex(
      ValueError, r'array: got shape \(1, 1, 1, 1, 1\), wanted at most \[B, N,'
    ):
      masks.dense(jnp.ones((1,) * 5, bool))

  def test_lengths_are_those_of_the_arrays(self):
    mask = CASES['segments'][0]()
    with self.assertRaisesRegex(
      ValueError, 'num_queries: got 4, but the arrays of the mask are for 5'
    ):
      mask.dense(4, S)
    with self.assertRaisesRegex(
      ValueError, 'num_keys: got 8, but the arrays of the mask are for 7'
    ):
      mask.draw(T, 8)

  @parameterized.parameters(
    ((2, 1, 1, 1), (3, 1, 1, 1), 'batch sizes, 2 and 3'),
    ((2, 1, 1), (3, 1, 1), 'numbers of heads, 2 and 3'),
    ((2, 1), (3, 1), 'query lengths, 2 and 3'),
    ((2,), (3,), 'key lengths, 2 and 3'),
  )
  def test_parts_are_for_one_size(self, one, other, message):
    mask = masks.dense(jnp.ones(one, bool)) & masks.dense(jnp.ones(other, bool))
    with self.assertRaisesRegex(
      ValueError, f'mask: got parts for different {message}'
    ):
      mask.dense(T, S)

  def test_masks_combine_with_masks_only(self):
    for other in (jnp.ones((T, S), bool), True, None):
      with self.assertRaises(TypeError):
        masks.causal() & other
      with self.assertRaises(TypeError):
        masks.causal() | other

  def test_the_base_defines_nothing(self):
    with self.assertRaisesRegex(TypeError, 'Mask does not define a mask'):
      masks.Mask().dense(T, S)


if __name__ == '__main__':
  absltest.main()
