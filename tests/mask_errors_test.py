"""Masks made of what they cannot be made of: errors that name the argument."""

import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from attn import masks
from tests.inputs import B, S, T
from tests.mask_cases import CASES


def _yes(b, n, q, k, *arrays):
  return True


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(((-1, 0), 'left'), ((0, -1), 'right'))
  def test_windows_have_a_size(self, sizes, name):
    with self.assertRaisesRegex(
      ValueError, f'{name}: got -1, wanted at least 0'
    ):
      masks.sliding_window(*sizes)

  @parameterized.parameters(
    (lambda: masks.causal(1.5), 'offset: got 1.5'),
    (lambda: masks.causal(True), 'offset: got True'),
    (lambda: masks.sliding_window(None, 0), 'left: got None'),
    (lambda: masks.sliding_window(0, 2.0), 'right: got 2.0'),
    (lambda: masks.dilated('2'), "step: got '2'"),
    (lambda: masks.chunked(0.5), 'size: got 0.5'),
    (lambda: masks.prefix(3.0), 'length: got 3.0'),
    (lambda: masks.global_tokens(1.0), 'count: got 1.0'),
    (lambda: masks.global_tokens([1, 1.5]), r'count\[1\]: got 1.5'),
    (lambda: masks.block_diagonal([1, 'x']), r"sizes\[1\]: got 'x'"),
    (lambda: masks.neighbourhood_2d(2.0, 2, 1), 'height: got 2.0'),
    (lambda: masks.neighbourhood_2d(2, None, 1), 'width: got None'),
    (lambda: masks.neighbourhood_2d(2, 2, (1, 0.5)), r'radius\[1\]: got 0.5'),
    (lambda: masks.windows_2d(2, 2.5, 2), 'width: got 2.5'),
    (lambda: masks.windows_2d(2, 2, (1, 1.5)), r'size\[1\]: got 1.5'),
    (lambda: masks.windows_2d(2, 2, 1, 0.5), r'shift\[0\]: got 0.5'),
    (lambda: masks.between_chunks(masks.causal(), 2.0), 'size: got 2.0'),
    (lambda: masks.block_diffusion(4.0, 2), 'length: got 4.0'),
    (lambda: masks.from_fn(_yes, batch=1.0), 'batch: got 1.0'),
    (lambda: masks.causal().shift(queries=0.5), 'queries: got 0.5'),
    (lambda: masks.causal().shift(keys=False), 'keys: got False'),
    (lambda: masks.causal().blocks(4, 4, 2.0, 2), 'block_q: got 2.0'),
    (lambda: masks.causal().outline(4, 4, 2, None), 'block_k: got None'),
    (lambda: masks.causal().dense(4.0, 4), 'num_queries: got 4.0'),
    (lambda: masks.causal().blocks(4, '4', 2, 2), "num_keys: got '4'"),
  )
  def test_numbers_are_integers(self, build, message):
    with self.assertRaisesRegex(TypeError, f'{message}, wanted an integer'):
      build()

  @parameterized.parameters(
    (lambda: masks.dilated(0), 'step: got 0, wanted at least 1'),
    (lambda: masks.chunked(0), 'size: got 0, wanted at least 1'),
    (
      lambda: masks.between_chunks(masks.causal(), 0),
      'size: got 0, wanted at least 1',
    ),
    (
      lambda: masks.block_diffusion(6, 4),
      'length: got 6, wanted a multiple of size, 4',
    ),
    (
      lambda: masks.windows_2d(2, 2, (1, 2, 3)),
      r'size: got \(1, 2, 3\), wanted one or \(size_y, size_x\)',
    ),
    (lambda: masks.windows_2d(2, 2, 1, -1), r'shift\[0\]: got -1'),
    (
      lambda: masks.tree([-1, 1]),
      r'parents\[1\]: got 1, wanted -1 or a token before 1',
    ),
    (lambda: masks.tree([-2]), r'parents\[0\]: got -2'),
    (lambda: masks.tree([[-1]]), r'parents: got shape \(1, 1\)'),
    (lambda: masks.prefix(-1), 'length: got -1, wanted at least 0'),
    (lambda: masks.global_tokens(-1), 'count: got -1, wanted at least 0'),
    (
      lambda: masks.global_tokens((0, -2)),
      r'count\[1\]: got -2, wanted at least 0',
    ),
    (
      lambda: masks.block_diagonal([-1]),
      r'sizes\[0\]: got -1, wanted at least 0',
    ),
    (
      lambda: masks.block_diagonal([1], [1, 2]),
      'key_sizes: got 2, wanted 1, as many as sizes',
    ),
    (
      lambda: masks.block_diagonal([2**30] * 3),
      'sizes: got 3221225472 in all, wanted at most 2147483647',
    ),
    (
      lambda: masks.neighbourhood_2d(0, 2, 1),
      'height: got 0, wanted at least 1',
    ),
    (
      lambda: masks.neighbourhood_2d(2, -2, 1),
      'width: got -2, wanted at least 1',
    ),
    (
      lambda: masks.neighbourhood_2d(2**20, 2**20, 1),
      'height: got 1048576 rows of 1048576 pixels, wanted at most 2147483647',
    ),
    (
      lambda: masks.neighbourhood_2d(2, 2, -1),
      r'radius\[0\]: got -1, wanted at least 0',
    ),
    (
      lambda: masks.neighbourhood_2d(2, 2, (1, 2, 3)),
      r'radius: got \(1, 2, 3\), wanted one or \(radius_y, radius_x\)',
    ),
    (
      lambda: masks.causal(jnp.array([1])),
      r'offset: got shape \(1,\), wanted one number',
    ),
    (
      lambda: masks.causal().blocks(4, 4, 0, 2),
      'block_q: got 0, wanted at least 1',
    ),
    (
      lambda: masks.causal().outline(4, 4, 2, -1),
      'block_k: got -1, wanted at least 1',
    ),
    (
      lambda: masks.causal().blocks(-4, 4, 2, 2),
      'num_queries: got -4, wanted at least 0',
    ),
    (lambda: masks.per_head([]), 'masks: got none, wanted one for each head'),
  )
  def test_numbers_in_range(self, build, message):
    with self.assertRaisesRegex(ValueError, message):
      build()

  @parameterized.parameters(
    (
      lambda: masks.causal(np.array(1.5)),
      'offset: got dtype float32, wanted integers',
    ),
    (
      lambda: masks.prefix(jnp.ones(3, bool)),
      'length: got dtype bool, wanted integers',
    ),
    (lambda: masks.segments('ab'), "query_ids: got 'ab', wanted an array"),
    (
      lambda: masks.global_tokens('ab'),
      "count: got 'ab', wanted a sequence of integers",
    ),
    (
      lambda: masks.block_diagonal(3),
      'sizes: got 3, wanted a sequence of integers',
    ),
    (
      lambda: masks.per_head(masks.causal()),
      r'masks: got Causal\(offset=0\), wanted a sequence of masks',
    ),
    (
      lambda: masks.per_head([masks.causal(), True]),
      r'masks\[1\]: got True, wanted a mask',
    ),
    (
      lambda: masks.between_chunks(jnp.ones((2, 2), bool), 2),
      '(?s)mask: got Array.*, wanted a mask',
    ),
    (lambda: masks.tree([0.5]), 'parents: got dtype float'),
    (
      lambda: jax.jit(lambda x: masks.tree(x).draw(1, 1))(jnp.array([-1])),
      'parents: got a traced array, wanted its values',
    ),
  )
  def test_types(self, build, message):
    with self.assertRaisesRegex(TypeError, message):
      build()

  def test_functions_return_one_bool(self):
    for fn, returned in (
      (lambda b, n, q, k: q, 'int32'),
      (lambda b, n, q, k: jnp.array([True]), r'\(1,\)'),
      (lambda b, n, q, k: (q > k, True), 'bool'),
      (lambda b, n, q, k: None, 'None'),
    ):
      with self.assertRaisesRegex(
        TypeError, f'fn: returned .*{returned}.*, wanted one bool'
      ):
        masks.from_fn(fn)
    with self.assertRaisesRegex(TypeError, 'fn: got 3, wanted a function'):
      masks.from_fn(3)
    with self.assertRaisesRegex(TypeError, 'fn: got .*, wanted it hashable'):
      masks.from_fn([])
    with self.assertRaisesRegex(
      TypeError, r'arrays\[0\]: got .*wanted an array'
    ):
      masks.from_fn(_yes, object())

  def test_functions_that_fail(self):
    with self.assertRaisesRegex(
      ValueError,
      r'fn: raised TypeError for one entry .*: .*argument',
    ):
      masks.from_fn(lambda q, k: q > k)
    with self.assertRaisesRegex(
      ValueError, 'fn: raised TracerBoolConversionError for one entry'
    ):
      masks.from_fn(lambda b, n, q, k: bool(q > k))

  @parameterized.parameters(
    (1, lambda b, n, q, k, *given: given[1][k], 'IndexError .*out of range'),
    (1, lambda b, n, q, k, seen: seen[q, k], 'IndexError .*Too many indices'),
    (1, lambda b, n, q, k, seen, ids: seen[k], "TypeError .*argument: 'ids'"),
    (0, lambda b, n, q, k: absent[k], "NameError .*'absent' is not"),  # noqa: F821
  )
  def test_functions_read_what_they_are_given(self, number, fn, message):
    arrays = [jnp.ones(S, bool)] * number
    with self.assertRaisesRegex(ValueError, f'^fn: raised {message}'):
      masks.from_fn(fn, *arrays)

  def test_functions_of_batch_and_head_say_of_how_many(self):
    with self.assertRaisesRegex(
      ValueError, r'fn: depends on b; .* from_fn\(fn, ..., batch=...\)'
    ):
      masks.from_fn(lambda b, n, q, k: q > b)
    with self.assertRaisesRegex(
      ValueError, r'fn: depends on n; .* from_fn\(fn, ..., heads=...\)'
    ):
      masks.from_fn(lambda b, n, q, k: q > b + n, batch=2)

  def test_functions_are_given_what_is_traced(self):
    @jax.jit
    def run(seen):
      return masks.from_fn(lambda b, n, q, k: seen[k]).dense(2, 2)

    with self.assertRaisesRegex(
      ValueError, 'fn: captures an array that is being traced; hand it over'
    ):
      run(jnp.array([True, False]))

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

  def test_heads_are_as_many_as_masks(self):
    mask = masks.per_head([masks.causal()] * 2)
    with self.assertRaisesRegex(
      ValueError, 'mask: got parts for different numbers of heads, 2 and 3'
    ):
      (mask & masks.dense(jnp.ones((3, T, S), bool))).dense(T, S)

  def test_a_shifted_array_is_for_other_lengths(self):
    mask = CASES['segments'][0]().shift(2, -1)
    with self.assertRaisesRegex(
      ValueError, 'num_queries: got 5, but the arrays of the mask are for 7'
    ):
      mask.blocks(T, S, 2, 2)

  def test_a_picture_needs_matplotlib(self):
    with (
      mock.patch.dict(sys.modules, matplotlib=None),
      self.assertRaisesRegex(ImportError, 'matplotlib: not installed'),
    ):
      masks.causal().plot(3, 3)

  def test_the_base_defines_nothing(self):
    with self.assertRaisesRegex(TypeError, 'Mask does not define a mask'):
      masks.Mask().dense(T, S)


if __name__ == '__main__':
  absltest.main()
