"""Tiles of masks, as backends compute with them, and the algebra of masks."""

import math

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from attn import masks
from tests import oracles
from tests.checks import compile_fast
from tests.inputs import B, N, S, T
from tests.mask_cases import CASES
from tests.mask_strategies import expressions
from tests.random_settings import examples

# No multiple of T = 5 or S = 7, so that the last tiles reach over the end.
_BLOCK_Q, _BLOCK_K = 2, 4
_ROWS, _COLUMNS = math.ceil(T / _BLOCK_Q), math.ceil(S / _BLOCK_K)


def _tile(mask, b, n, i, j):
  return mask.tile(b, n, i * _BLOCK_Q, j * _BLOCK_K, _BLOCK_Q, _BLOCK_K)


def _assemble(tiles, num_queries=T, num_keys=S):
  """Tiles [B, N, rows, columns, block_q, block_k] → mask [B, N, T, S]."""
  tiles = np.moveaxis(np.asarray(tiles), 4, 3)
  batch, heads, rows, block_q, columns, block_k = tiles.shape
  written = tiles.reshape(batch, heads, rows * block_q, columns * block_k)
  return written[:, :, :num_queries, :num_keys]


def _mapped(mask):
  """All tiles by vmap; b, n and places are traced."""
  mask = mask.padded(_ROWS * _BLOCK_Q, _COLUMNS * _BLOCK_K)
  tile = _tile
  for axis in (4, 3, 2, 1):
    axes = [None] * 5
    axes[axis] = 0
    tile = jax.vmap(tile, axes)
  return tile(mask, *(jnp.arange(x) for x in (B, N, _ROWS, _COLUMNS)))


def _scanned(mask):
  """All tiles by scan."""
  mask = mask.padded(_ROWS * _BLOCK_Q, _COLUMNS * _BLOCK_K)
  grid = (B, N, _ROWS, _COLUMNS)
  places = jnp.indices(grid).reshape(4, -1).T
  _, tiles = jax.lax.scan(
    lambda carry, place: (carry, _tile(mask, *place)), 0, places
  )
  return tiles.reshape(*grid, _BLOCK_Q, _BLOCK_K)


class TilesTest(parameterized.TestCase):
  @parameterized.product(name=tuple(CASES), way=(_mapped, _scanned))
  def test_of_cases(self, name, way):
    build, rule = CASES[name]
    tiles = compile_fast(way)(build())
    chex.assert_type(tiles, bool)
    expected = oracles.mask(rule, B, N, T, S)
    np.testing.assert_array_equal(_assemble(tiles), expected)

  @parameterized.parameters(*CASES)
  def test_places_may_be_numbers(self, name):
    build, rule = CASES[name]
    tile = build().tile(2, 1, 1, 3, 3, 4)
    expected = oracles.mask(rule, B, N, T, S)[2, 1, 1:4, 3:7]
    chex.assert_shape(tile, (3, 4))
    np.testing.assert_array_equal(tile, expected)

  @examples(30)
  @hypothesis.given(
    drawn=expressions((2,), (2, 2, 5, 7)),
    place=st.tuples(*(st.integers(0, x) for x in (1, 1, 2, 3))),
  )
  def test_of_expressions(self, drawn, place):
    b, n, q, k = place
    tile = drawn.mask.padded(8, 8).tile(b, n, q, k, 3, 4)
    expected = drawn.array((2, 2, 5, 7))[b, n, q : q + 3, k : k + 4]
    np.testing.assert_array_equal(tile, expected)

  def test_padded_masks_are_no_shorter(self):
    ids, array = jnp.arange(5), jnp.ones((5, 1), bool)
    for mask, shapes in (
      (masks.segments(ids), [(8,), (9,)]),
      (masks.dense(array), [(1, 1, 8, 1)]),
      (~masks.segments(ids).shift(1, -2), [(7,), (11,)]),
      (masks.per_head([masks.segments(ids), masks.causal()]), [(8,), (9,)]),
      (masks.segments(ids, jnp.arange(12)), [(8,), (12,)]),
    ):
      leaves = jax.tree.leaves(mask.padded(8, 9))
      self.assertEqual([x.shape for x in leaves], shapes)
    self.assertEqual(masks.causal().padded(8, 9), masks.causal())

  def test_parts_may_be_padded_to_other_lengths(self):
    ids, key_ids = jnp.zeros(5, int), jnp.zeros(6, int)
    tree = masks.tree(jnp.array([-1, 0, 1, 1, 0, 4])).shift(-1, 0)
    one = (masks.segments(ids, key_ids) & tree).shift(0, 1)
    for mask in (one, ~one, masks.per_head([one, masks.causal()])):
      written = np.broadcast_to(mask.dense(5, 7), (1, 2, 5, 7))
      tile = mask.padded(8, 8).tile(0, 0, 1, 2, 3, 4)
      np.testing.assert_array_equal(tile, written[0, 0, 1:4, 2:6])

  def test_what_is_moved_out_and_back_is_not_looked_at(self):
    for mask in (
      masks.tree(jnp.array([-1])).shift(0, -1),
      masks.between_chunks(masks.dense(jnp.ones((1, 1, 2), bool)), 2),
    ):
      length = mask.extents[3] or 0
      moved = mask.shift(0, -length).shift(0, 1)
      np.testing.assert_array_equal(moved.dense(1, 1), False)
      np.testing.assert_array_equal(moved.blocks(1, 1, 1, 1), masks.EMPTY)

  def test_a_tile_of_an_array_is_cut_out(self):
    # A gather would take longer than attention itself.
    mask = masks.dense(jnp.ones((64, 64), bool)) & masks.causal()
    program = jax.make_jaxpr(lambda m, i: m.tile(0, 0, i, i, 8, 8))(mask, 3)
    self.assertIn('dynamic_slice', str(program))
    self.assertNotIn('gather', str(program))

  def test_equal_masks_of_heads_are_evaluated_once(self):
    few = masks.per_head([masks.causal(), masks.dilated(3)] * 16)
    program = str(jax.make_jaxpr(lambda n: few.tile(0, n, 0, 0, 8, 8))(0))
    self.assertEqual(program.count(' le '), 1)


class AlgebraTest(parameterized.TestCase):
  @examples(200)
  @hypothesis.given(drawn=expressions((2,), (2, 2, 5, 7)))
  def test_equals_numpy(self, drawn):
    sizes = (2, 2, 5, 7)
    # Entry by entry, by NumPy: nothing is compiled.
    indices = np.ogrid[tuple(slice(size) for size in sizes)]
    mask = jax.tree.map(np.asarray, drawn.mask)
    written = mask(*(x.astype(np.int32) for x in indices))
    self.assertIsInstance(written, np.ndarray | np.bool_)
    np.testing.assert_array_equal(
      np.broadcast_to(written, sizes), drawn.array(sizes)
    )

  @examples(30)
  @hypothesis.given(drawn=expressions((2,), (2, 2, 5, 7)))
  def test_written_out(self, drawn):
    written = drawn.mask.dense(5, 7)
    chex.assert_type(written, bool)
    if written.ndim == 2:
      written = written[None, None]
    sizes = (2, 2, 5, 7)
    np.testing.assert_array_equal(
      np.broadcast_to(written, sizes), drawn.array(sizes)
    )

  def test_shifted_by_hand(self):
    ids = masks.segments(jnp.array([1, 1, 2]))
    for mask, drawing in (
      (masks.causal().shift(1, 0), '0 0 0 / 1 0 0 / 1 1 0'),
      (masks.causal().shift(0, 1), '1 1 0 / 1 1 1 / 1 1 1'),
      (masks.causal().shift(-1, -1), '1 0 0 / 1 1 0 / 1 1 1'),
      (ids.shift(0, 0), '1 1 0 / 1 1 0 / 0 0 1'),
      (ids.shift(1, 0), '0 0 0 / 1 1 0 / 1 1 0 / 0 0 1'),
      ((~ids).shift(1, 0), '0 0 0 / 0 0 1 / 0 0 1 / 1 1 0'),
      (~ids.shift(1, 0), '1 1 1 / 0 0 1 / 0 0 1 / 1 1 0'),
      (ids.shift(-1, 0), '1 1 0 / 0 0 1'),
      (ids.shift(-1, 0).shift(1, 0), '0 0 0 / 1 1 0 / 0 0 1'),
      ((masks.causal() | ids).shift(0, 1), '0 1 1 0 / 0 1 1 0 / 0 1 1 1'),
    ):
      rows = drawing.count('/') + 1
      keys = len(drawing.split(' / ')[0].split())
      self.assertEqual(mask.draw(rows, keys), drawing.replace(' / ', '\n'))

  def test_nothing_is_shifted_in_before_an_empty_array(self):
    mask = masks.dense(jnp.ones((0, 3), bool)).shift(queries=2)
    self.assertEqual(mask.extents[2:], (2, 3))
    for same in (mask, mask.padded(4, 4), masks.causal(5) & mask):
      self.assertFalse(same.tile(0, 0, 0, 0, 2, 3).any())
    self.assertFalse(mask.dense(2, 3).any())
    self.assertFalse(mask.blocks(2, 3, 1, 2).any())
    both = mask | (masks.dilated(2) & masks.dilated(3))
    self.assertEqual(both.blocks(2, 3, 2, 3), masks.PARTIAL)
    self.assertFalse(mask.outline(2, 3, 1, 2).any())

  def test_a_shift_by_nothing_is_nothing(self):
    mask = masks.causal()
    self.assertIs(mask.shift(), mask)

  def test_a_text_continued_is_the_end_of_the_text(self):
    # Queries 3, 4, ... of a longer text.
    ids = jnp.array([0, 0, 1, 1, 1, 2, 2])
    mask = masks.causal() & masks.segments(ids) & masks.dilated(2)
    chex.assert_trees_all_equal(
      mask.shift(queries=-3).dense(4, 7), mask.dense(7, 7)[3:]
    )


if __name__ == '__main__':
  absltest.main()
