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


def _after(b, n, q, k):
  return q > k


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
    ('per head', (B, N, T, S)),
    ('prefix by array', (T, S)),
    ('function', (T, S)),
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
      (masks.causal(jnp.array(1)), '1 1 0 0 0 / 1 1 1 0 0 / 1 1 1 1 0'),
      (masks.dilated(2), '1 0 1 0 1 / 0 1 0 1 0 / 1 0 1 0 1'),
      (masks.dilated(3), '1 0 0 1 0 / 0 1 0 0 1 / 0 0 1 0 0'),
      (masks.chunked(2), '1 1 0 0 0 / 1 1 0 0 0 / 0 0 1 1 0'),
      (masks.prefix(2), '1 1 0 0 0 / 1 1 0 0 0 / 1 1 0 0 0'),
      (masks.prefix(jnp.array(1)), '1 0 0 0 0 / 1 0 0 0 0 / 1 0 0 0 0'),
      (masks.prefix(0), '0 0 0 0 0 / 0 0 0 0 0 / 0 0 0 0 0'),
      (masks.global_tokens(1), '1 1 1 1 1 / 1 0 0 0 0 / 1 0 0 0 0'),
      (masks.global_tokens((1,)), '0 1 0 0 0 / 1 1 1 1 1 / 0 1 0 0 0'),
      (masks.global_tokens([]), '0 0 0 0 0 / 0 0 0 0 0 / 0 0 0 0 0'),
      (masks.block_diagonal([1, 3]), '1 0 0 0 0 / 0 1 1 1 0 / 0 1 1 1 0'),
      (masks.block_diagonal([2], [1]), '1 0 0 0 0 / 1 0 0 0 0 / 0 0 0 0 0'),
      (masks.neighbourhood_2d(2, 2, 0), '1 0 0 0 0 / 0 1 0 0 0 / 0 0 1 0 0'),
      (
        masks.neighbourhood_2d(2, 2, (1, 0)),
        '1 0 1 0 0 / 0 1 0 1 0 / 1 0 1 0 0',
      ),
      (
        masks.neighbourhood_2d(2, 2, (0, 1)),
        '1 1 0 0 0 / 1 1 0 0 0 / 0 0 1 1 0',
      ),
      (
        masks.per_head([masks.dilated(4), masks.causal()]),
        '1 0 0 0 1 / 0 1 0 0 0 / 0 0 1 0 0',
      ),
      (
        masks.from_fn(lambda b, n, q, k: q + k == 2),
        '0 0 1 0 0 / 0 1 0 0 0 / 1 0 0 0 0',
      ),
      (~masks.causal(), '0 1 1 1 1 / 0 0 1 1 1 / 0 0 0 1 1'),
    ):
      self.assertEqual(mask.draw(3, 5), drawing.replace(' / ', '\n'))
    # Of many batch elements, the first.
    self.assertEqual(CASES['padding'][0]().draw(1, 7), '1 1 1 1 0 0 0')

  def test_pictures(self):
    mask = CASES['padding'][0]()
    ax = mask.plot(T, S)
    np.testing.assert_array_equal(
      ax.images[0].get_array(), mask.dense(T, S)[0, 0]
    )
    self.assertEqual((ax.get_xlabel(), ax.get_ylabel()), ('key', 'query'))
    self.assertIs(masks.causal().plot(T, S, ax), ax)
    self.assertLen(ax.images, 2)
    ax.figure.clear()

  def test_a_window_as_wide_as_the_text_is_causal(self):
    causal = masks.causal().dense(T, S)
    for left in (T - 1, T, 10 * T):
      window = masks.sliding_window(left, 0).dense(T, S)
      chex.assert_trees_all_equal(window, causal)
    narrower = masks.sliding_window(T - 2, 0).dense(T, S)
    self.assertFalse(bool((narrower == causal).all()))

  def test_numbers_too_large_for_positions(self):
    far = 10**12
    for mask, same in (
      (masks.causal(far), masks.prefix(S)),
      (masks.causal(-far), ~masks.prefix(S)),
      (masks.sliding_window(far, 2**31 - 1), masks.prefix(far)),
      (masks.sliding_window(far, 0), masks.causal()),
      (masks.dilated(far), masks.sliding_window(0, 0)),
      (masks.chunked(far), masks.global_tokens(far)),
      (masks.neighbourhood_2d(1, S, far), masks.prefix(S)),
    ):
      chex.assert_trees_all_equal(mask.dense(T, S), same.dense(T, S))
      np.testing.assert_array_equal(
        mask.blocks(T, S, 2, 3), same.blocks(T, S, 2, 3)
      )

  def test_known_masks_made_of_these(self):
    for mask, same in (
      # Longformer, where the window is as wide as the text.
      (masks.sliding_window(T, S) | masks.global_tokens(1), masks.prefix(S)),
      (masks.dilated(1), masks.prefix(S)),
      (masks.chunked(1), masks.sliding_window(0, 0)),
      (masks.prefix(1) | masks.causal(), masks.causal()),
      (masks.neighbourhood_2d(1, S, 2), masks.sliding_window(2, 2)),
      (masks.block_diagonal([2, 2, 2, 2]), masks.chunked(2)),
      (masks.per_head([masks.causal()]), masks.causal()),
      (masks.causal().shift(keys=2), masks.causal(2)),
    ):
      written = mask.dense(T, S).reshape(T, S)
      chex.assert_trees_all_equal(written, same.dense(T, S))

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
      ('causal by array', 1),
      ('prefix', 0),
      ('prefixes', 1),
      ('per head', 3),
      ('function', 0),
      ('function of all', 1),
      ('shifted', 0),
      ('shifted arrays', 2),
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
      (
        masks.global_tokens([3, 1, 3]),
        masks.global_tokens(np.array([1, 3])),
        masks.global_tokens(3),
      ),
      (
        masks.per_head([build(1), masks.from_fn(_after)]),
        masks.per_head((build(1), masks.from_fn(_after))),
        masks.per_head([build(1), masks.from_fn(lambda *i: i[2] > i[3])]),
      ),
      (build(1).shift(1, 2), build(1).shift(1, 2), build(1).shift(2, 1)),
      (masks.causal(np.int64(3)), masks.causal(3), masks.causal(jnp.array(3))),
    ):
      self.assertEqual(one, same)
      self.assertEqual(hash(one), hash(same))
      self.assertNotEqual(one, other)
      self.assertLen({one, same, other}, 2)

  def test_masks_with_arrays_are_keys_too(self):
    # Arrays have no truth value: such masks are equal to themselves only.
    build = CASES['expression'][0]
    lengths = jnp.array([1, 2])
    function = lambda b, n, q, k, lengths: q < lengths[k]  # noqa: E731
    for one, other in (
      (build(), build()),
      (
        masks.from_fn(function, lengths),
        masks.from_fn(function, lengths + 0),
      ),
    ):
      self.assertEqual(one, one)
      self.assertNotEqual(one, other)
      self.assertLen({one, one, other}, 2)
    self.assertEqual(
      masks.from_fn(function, lengths), masks.from_fn(function, lengths)
    )

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

  def test_one_program_decodes_at_every_position(self):
    cached = jnp.arange(S)

    def step(position, _):
      mask = masks.causal(position) & masks.prefix(position + 1)
      return position + 1, mask.dense(1, S)[0] & (cached >= 0)

    _, seen = jax.jit(lambda: jax.lax.scan(step, 0, length=S))()
    chex.assert_trees_all_equal(seen, masks.causal().dense(S, S))

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


if __name__ == '__main__':
  absltest.main()
