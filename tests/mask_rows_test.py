"""Arrays of T rows in a mask, dealt out: the same tiles from the same rows."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from attn import masks
from attn.masks.rows import DenseRows, by_rows, has_rows, map_rows

T, S, N = 6, 7, 2
_SIDES = (3, 7)
# The first query of each row of tiles.
_STARTS = np.array([0, 3], np.int32)


def array(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).random(shape) < 0.5)


def dense(*shape, seed=0):
  return masks.dense(array(*shape, seed=seed))


WITH_ROWS = {
  'one for all': lambda: dense(T, S),
  'of heads': lambda: dense(N, T, S),
  'for queries': lambda: dense(T, 1),
  'not': lambda: ~dense(T, S),
  'and': lambda: masks.causal() & dense(T, S),
  'or': lambda: dense(T, S) | ~dense(N, T, S, seed=1) | masks.causal(),
  'shifted to later keys': lambda: (~dense(T, S - 2)).shift(0, 2),
  'shifted to earlier keys': lambda: dense(T, S + 2).shift(0, -2),
  'shifted twice': lambda: (~dense(N, T, S - 1).shift(0, 2)).shift(0, -1),
  'per head': lambda: masks.per_head([dense(T, S), masks.causal()]),
}
WITHOUT = {
  'numbers': masks.causal,
  'for keys': lambda: dense(1, S),
  'shifted': lambda: dense(T, S).shift(1, 0),
  'segments': lambda: masks.segments(jnp.arange(T), jnp.arange(S)),
}


class RowsTest(parameterized.TestCase):
  @parameterized.parameters(*WITH_ROWS)
  def test_tiles_of_rows_are_those_of_the_whole(self, name):
    mask = WITH_ROWS[name]()
    self.assertTrue(has_rows(mask, T))
    apart = by_rows(mask, T, _STARTS)
    whole = np.broadcast_to(mask.dense(T, S), (1, N, T, S))
    for first in _STARTS.tolist():
      for n in range(N):
        start = [jnp.int32(x) for x in (0, n, first, 0)]
        got = apart.tile(*start, *_SIDES)
        np.testing.assert_array_equal(got, whole[0, n, first : first + 3])

  @parameterized.parameters(*WITHOUT)
  def test_all_else_is_left_as_it_is(self, name):
    mask = WITHOUT[name]()
    self.assertFalse(has_rows(mask, T))
    self.assertEqual(
      jax.tree.structure(by_rows(mask, T, _STARTS)), jax.tree.structure(mask)
    )

  def test_a_device_that_has_some_rows_has_their_tiles(self):
    """The second of two devices, whose tiles begin at query 3."""
    mask = masks.causal() & dense(T, S)

    def second(rows):
      return DenseRows(rows.array[:, :, 3:], rows.starts[1:])

    apart = by_rows(mask, T, _STARTS)
    leaves = map_rows(second, apart, lambda x: x)
    here = jax.tree.unflatten(jax.tree.structure(apart), leaves)
    start = [jnp.int32(x) for x in (0, 0, 3, 0)]
    np.testing.assert_array_equal(
      here.tile(*start, *_SIDES), mask.dense(T, S)[3:]
    )


if __name__ == '__main__':
  absltest.main()
