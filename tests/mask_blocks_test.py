"""Blocks of masks: what is called empty is empty, and what is full, full."""

import functools
import itertools
import math
from unittest import mock

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from attn import masks
from attn.masks import blocks as driver
from tests import oracles
from tests.checks import compile_fast
from tests.inputs import B, N, S, T
from tests.mask_cases import CASES
from tests.mask_strategies import expressions, leaves
from tests.random_settings import examples

EMPTY, PARTIAL, FULL = masks.EMPTY, masks.PARTIAL, masks.FULL
_lengths = st.sampled_from((0, 1, 2, 3, 5, 8, 13, 17, 33, 70))
_sides = st.sampled_from((1, 2, 3, 5, 7, 16, 19, 64, 1000))


def classes_of(array, block_q, block_k):
  """Of a mask that is written out, one block at a time."""
  rows = range(0, array.shape[2], block_q)
  columns = range(0, array.shape[3], block_k)
  classes = np.zeros((*array.shape[:2], len(rows), len(columns)), np.int8)
  for (i, q), (j, k) in itertools.product(enumerate(rows), enumerate(columns)):
    block = array[:, :, q : q + block_q, k : k + block_k]
    every, some = block.all((2, 3)), block.any((2, 3))
    classes[:, :, i, j] = np.where(every, FULL, np.where(some, PARTIAL, EMPTY))
  return classes


@st.composite
def _cases(draw, strategy):
  """A mask, its sizes (B, N, T, S), and those of a block."""
  batch = draw(st.sampled_from(((), (1,), (2,), (2, 2), (0,))))
  heads, num_queries, num_keys = (
    draw(x) for x in (st.integers(1, 3), _lengths, _lengths)
  )
  sizes = (math.prod(batch), heads, num_queries, num_keys)
  return draw(strategy(batch, sizes)), sizes, (draw(_sides), draw(_sides))


def _assert_exact(classes, drawn, sizes, sides):
  expected = classes_of(drawn.array(sizes), *sides)
  np.testing.assert_array_equal(
    np.broadcast_to(classes, expected.shape), expected
  )


def _assert_sound(classes, exact):
  """Nothing is called empty or full that is not."""
  classes = np.broadcast_to(classes, exact.shape)
  np.testing.assert_array_equal(
    np.where(classes == PARTIAL, PARTIAL, exact), classes
  )


class RandomBlocksTest(parameterized.TestCase):
  @examples(300)
  @hypothesis.given(case=_cases(leaves))
  def test_of_one_mask(self, case):
    drawn, sizes, sides = case
    _assert_exact(drawn.mask.blocks(*sizes[2:], *sides), *case)

  @examples(500)
  @hypothesis.given(case=_cases(expressions))
  def test_of_expressions(self, case):
    drawn, sizes, sides = case
    classes = drawn.mask.blocks(*sizes[2:], *sides)
    self.assertIsInstance(classes, np.ndarray)
    self.assertEqual(classes.dtype, np.int8)
    _assert_exact(classes, *case)

  @mock.patch.object(driver, '_SMALL', 2)
  @mock.patch.object(driver, '_TOGETHER', 5)
  @examples(300)
  @hypothesis.given(case=_cases(expressions))
  def test_however_they_are_cut(self, case):
    drawn, sizes, sides = case
    driver.remembered.cache_clear()
    _assert_exact(drawn.mask.blocks(*sizes[2:], *sides), *case)

  @examples(300)
  @hypothesis.given(case=_cases(expressions))
  def test_outlines(self, case):
    drawn, sizes, sides = case
    classes = drawn.mask.outline(*sizes[2:], *sides)
    self.assertIsInstance(classes, np.ndarray)
    self.assertEqual(classes.dtype, np.int8)
    self.assertEqual((classes.ndim, len(classes)), (4, 1))
    _assert_sound(classes, classes_of(drawn.array(sizes), *sides))


# Name: a mask made of ids [2, 19], lengths [2] and an array [19, 19].
_LENGTH = 19
_TRACED = {
  'segments': lambda ids, lengths, array: masks.segments(ids),
  'causal segments': lambda ids, lengths, array: (
    masks.causal() & masks.segments(ids, ids[:, ::-1])
  ),
  'not': lambda ids, lengths, array: (
    ~(masks.segments(ids[0], ids) & masks.dilated(2)) | masks.causal(-4)
  ),
  'lengths': lambda ids, lengths, array: (
    masks.padding(lengths, lengths[::-1])
    | (masks.prefix(lengths) & masks.causal(lengths[0]))
  ),
  'dense': lambda ids, lengths, array: (
    masks.dense(array) & (masks.sliding_window(3, 3) | masks.dense(array[:1]))
  ),
  'shifted': lambda ids, lengths, array: (
    (masks.segments(ids[:, 2:], ids[:, 1:]) | masks.dilated(3)).shift(2, 1)
    & ~masks.dense(jnp.pad(array, ((3, 0), (0, 0)))).shift(queries=-3)
  ),
  'per head': lambda ids, lengths, array: masks.per_head(
    [
      masks.causal() & masks.segments(ids),
      masks.neighbourhood_2d(4, 4, 1),
      ~masks.prefix(lengths),
    ]
  ),
  'function': lambda ids, lengths, array: (
    masks.from_fn(_same, ids, batch=2) & masks.from_fn(_even)
  ).shift(0, 2),
}


def _same(b, n, q, k, ids):
  return ids[b, q] <= ids[b, k]


def _even(b, n, q, k):
  return (q // 4 + k // 4) % 2 == 0


@functools.cache
def _compiled(name, sides):
  """Both, as functions of the arrays, compiled once."""

  def run(*arrays):
    mask = _TRACED[name](*arrays)
    classes = mask.blocks(_LENGTH, _LENGTH, *sides)
    assert isinstance(classes, jax.core.Tracer)
    return classes, mask.dense(_LENGTH, _LENGTH)

  return compile_fast(run)


def _arrays(seed, different, ordered):
  rng = np.random.default_rng(seed)
  ids = rng.integers(0, different, (2, _LENGTH))
  ids = np.sort(ids) if ordered else ids
  lengths = rng.integers(0, _LENGTH + 2, 2)
  return ids, lengths, rng.uniform(size=(_LENGTH, _LENGTH)) < rng.uniform()


class TracedBlocksTest(parameterized.TestCase):
  @parameterized.product(name=tuple(_TRACED), sides=((4, 5), (6, 3)))
  @examples(40)
  @hypothesis.given(
    seed=st.integers(0, 10**6),
    different=st.sampled_from((1, 2, 4, 30)),
    ordered=st.booleans(),
  )
  def test_sound(self, name, sides, seed, different, ordered):
    arrays = _arrays(seed, different, ordered)
    classes, written = map(np.asarray, _compiled(name, sides)(*arrays))
    self.assertEqual(classes.dtype, np.int8)
    written = np.broadcast_to(
      written, (*classes.shape[:-2], *written.shape[-2:])
    )
    four = (1,) * (4 - written.ndim)
    exact = classes_of(written.reshape(four + written.shape), *sides)
    _assert_sound(classes.reshape(four + classes.shape), exact)
    # What the numbers alone decide is decided.
    known = _TRACED[name](*arrays).outline(_LENGTH, _LENGTH, *sides)
    settled = np.broadcast_to(known, exact.shape) != PARTIAL
    np.testing.assert_array_equal(
      classes.reshape(exact.shape)[settled], exact[settled]
    )

  @examples(100)
  @hypothesis.given(seed=st.integers(0, 10**6), number=st.integers(1, 8))
  def test_exact_for_documents_in_order(self, seed, number):
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.permutation(np.arange(2 * _LENGTH) % number)[:_LENGTH])
    ids = np.unique(ids, return_inverse=True)[1]
    arrays = (np.stack([ids, ids]), *_arrays(0, 1, True)[1:])
    classes, written = _compiled('segments', (4, 5))(*arrays)
    np.testing.assert_array_equal(classes, classes_of(np.array(written), 4, 5))

  def test_other_values_do_not_compile_again(self):
    traced = []

    @jax.jit
    def run(mask):
      traced.append(mask)
      classes = mask.blocks(8, 8, 4, 4)
      return classes, mask.padded(8, 8).tile(0, 0, 4, 4, 4, 4)

    for ids, expected in (
      ([0, 0, 0, 0, 1, 1, 1, 1], [[1, 0], [0, 1]]),
      ([0, 0, 0, 0, 0, 0, 0, 2], [[1, 0], [1, 1]]),
      ([5, 5, 5, 5, 5, 5, 5, 5], [[1, 0], [2, 1]]),
    ):
      classes, tile = run(masks.causal() & masks.segments(jnp.array(ids)))
      np.testing.assert_array_equal(classes, expected)
      same = np.equal.outer(ids[4:], ids[4:])
      np.testing.assert_array_equal(tile, np.tri(4, dtype=bool) & same)
    self.assertLen(traced, 1)

  def test_blocks_may_be_mapped(self):
    ids = np.sort(np.random.default_rng(0).integers(0, 3, (3, 12)))

    def classify(ids):
      return (masks.segments(ids) & masks.causal()).blocks(12, 12, 4, 4)

    mapped = jax.jit(jax.vmap(classify))(jnp.asarray(ids))
    for classes, row in zip(mapped, ids):
      _assert_sound(classes, np.asarray(classify(row)))


class BlocksTest(parameterized.TestCase):
  def test_by_hand(self):
    ids = np.array([7, 7, 7, 7, 3, 3, 3])
    for mask, expected in (
      (masks.causal(), [[1, 0, 0], [2, 1, 0], [2, 2, 2]]),
      (masks.causal(2), [[2, 1, 0], [2, 2, 1], [2, 2, 2]]),
      (masks.sliding_window(2, 0), [[1, 0, 0], [1, 1, 0], [0, 1, 2]]),
      (masks.segments(ids), [[2, 1, 0], [1, 1, 1], [0, 1, 2]]),
      (masks.segments(np.array([0, 2] * 3 + [0]), ids), [[0] * 3] * 3),
      (masks.global_tokens([6]), [[0, 0, 2], [0, 0, 2], [2, 2, 2]]),
    ):
      np.testing.assert_array_equal(mask.blocks(7, 7, 3, 3), expected)

  @parameterized.parameters(*CASES)
  def test_of_cases(self, name):
    build, rule = CASES[name]
    written = oracles.mask(rule, B, N, T, S)
    for sides in ((1, 1), (2, 3), (3, 2), (100, 100)):
      classes = build().blocks(T, S, *sides)
      expected = classes_of(written, *sides)
      self.assertEqual(classes.shape[:-2], build().dense(T, S).shape[:-2])
      np.testing.assert_array_equal(
        np.broadcast_to(classes, expected.shape), expected
      )

  def test_known_while_jit_traces(self):
    ids = np.array([0, 0, 0, 1, 1, 2, 2, 2])

    @jax.jit
    def run(x):
      mask = masks.segments(ids) & masks.from_fn(_even)
      mask = masks.per_head([mask, masks.prefix(np.array([3]))])
      classes = mask.blocks(8, 8, 2, 2)
      self.assertIsInstance(classes, np.ndarray)
      return x + jnp.asarray(classes)

    same = np.equal.outer(ids, ids)
    expected = np.stack([same & _even(0, 0, *np.ogrid[:8, :8]), same])
    expected[1] = np.arange(8) < 3
    np.testing.assert_array_equal(
      run(np.int8(0)), classes_of(expected[None], 2, 2)
    )

  def test_outline_of_numbers_is_exact(self):
    mask = masks.per_head(
      [masks.causal() & masks.dilated(2), ~masks.chunked(3)]
    )
    np.testing.assert_array_equal(
      mask.outline(9, 8, 2, 3), mask.blocks(9, 8, 2, 3)
    )
    self.assertEqual(masks.causal().outline(6, 6, 2, 2).shape, (1, 1, 3, 3))

  def test_outline_looks_at_no_array(self):
    @jax.jit
    def run(ids, offset):
      mask = masks.segments(ids) & masks.sliding_window(2, 1)
      mask = mask & masks.causal(offset)
      self.assertIsInstance(mask.outline(8, 8, 2, 2), np.ndarray)
      return jnp.asarray(mask.outline(8, 8, 2, 2))

    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    for ids in (np.zeros(8, int), np.arange(8)):
      np.testing.assert_array_equal(run(ids, 0), [[expected]])

  def test_nothing_is_seen_in_what_shifts_in(self):
    # Empty, which only its entries can tell.
    nothing = masks.dilated(2) & masks.dilated(2).shift(keys=1)
    mask = masks.segments(jnp.zeros(40, int)).shift(queries=40) | nothing
    np.testing.assert_array_equal(
      mask.blocks(80, 40, 40, 40), [[EMPTY], [FULL]]
    )

  def test_outline_of_what_shifts_in(self):
    # By the formula of `causal` alone, all of the first columns were seen.
    mask = masks.causal(9) | masks.segments(jnp.zeros(6, int))
    classes = mask.shift(keys=2).outline(6, 8, 2, 2)[0, 0]
    np.testing.assert_array_equal(classes, [[EMPTY, FULL, FULL, FULL]] * 3)

  def test_outline_looks_at_no_batch_element(self):
    mask = masks.from_fn(lambda b, n, q, k: (b == 0) & (q >= k), batch=2)
    classes = mask.outline(4, 4, 2, 2)
    np.testing.assert_array_equal(classes, np.full((1, 1, 2, 2), PARTIAL))

  def test_of_long_texts(self):
    # Written out, it would take 16 GiB.
    length, side = 2**17, 512
    rows = length // side
    window = masks.causal() & masks.sliding_window(4095, 0)
    ids = np.arange(length) // (3 * side)
    for mask, partial, full in (
      (masks.causal(), rows, rows * (rows - 1) // 2),
      (window, rows + rows - 8, sum(min(i, 7) for i in range(rows))),
      (masks.segments(ids), 0, 9 * (rows // 3) + 1),
      (masks.segments(ids) & masks.causal(), rows, 3 * (rows // 3)),
      (masks.neighbourhood_2d(256, 512, (3, 512)), 0, 7 * rows - 12),
    ):
      classes = mask.blocks(length, length, side, side)
      self.assertEqual((classes == PARTIAL).sum(), partial)
      self.assertEqual((classes == FULL).sum(), full)

  def test_memory_is_that_of_the_blocks(self):
    length, side = 2**15, 256
    ids = jnp.zeros((1, length), int)
    mask = masks.segments(ids) & masks.causal()

    @jax.jit
    def run(mask):
      return mask.blocks(length, length, side, side)

    memory = run.lower(mask).compile().memory_analysis()
    self.assertLess(memory.temp_size_in_bytes, 100 * length)

  def test_no_array_is_copied_whole(self):
    """Of pieces that begin elsewhere than at 0, or are not all as long."""
    length, side = 2**12, 300

    @jax.jit
    def run(array):
      mask = masks.dense(array).shift(-2, -1)
      return mask.blocks(length, length, side, side)

    array = jax.ShapeDtypeStruct((length + 2, length + 1), bool)
    memory = run.lower(array).compile().memory_analysis()
    self.assertLess(memory.temp_size_in_bytes, array.size / 4)

  def test_equal_masks_are_classified_once(self):
    driver.remembered.cache_clear()
    for _ in range(2):
      classes = (masks.causal() & masks.dilated(3)).blocks(20, 20, 4, 4)
      classes[:] = 7  # of one's own
    expected = (masks.causal() & masks.dilated(3)).blocks(20, 20, 4, 4)
    self.assertLess(expected.max(), 3)
    self.assertEqual(driver.remembered.cache_info().misses, 1)


if __name__ == '__main__':
  absltest.main()
