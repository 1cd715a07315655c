"""Chosen rows of weights, against all weights written out."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks
from tests import oracles
from tests.checks import assert_close, assert_same_bits
from tests.inputs import B, N, S, T, qkv, ragged_mask
from tests.inspection_cases import CALLS, POISONS, oracle_of, run_rows, split
from tests.mask_cases import CASES


class RowsTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_masks(self, name):
    build, rule = CASES[name]
    chosen = np.array([4, 0, 4, 1])
    arguments = qkv()
    oracle = oracles.Attention(**arguments, mask=oracles.mask(rule, B, N, T, S))
    found = run_rows({**arguments, 'mask': build()}, chosen)
    assert_close(found, oracle.weights[:, :, chosen])

  @parameterized.parameters(*CALLS)
  def test_options(self, name):
    options, _ = CALLS[name]
    chosen = [3, 1]
    with jax.enable_x64(True):
      arguments = qkv(dtype=jnp.float64)
      traced, others = split(options)
      found = run_rows({**arguments, **traced}, chosen, **others)
      chex.assert_type(found, jnp.float64)
    oracle = oracle_of(arguments, name)
    assert_close(found, oracle.weights[:, :, chosen], 1e-13)

  def test_static_rows_without_jit(self):
    arguments = qkv((2, 3))
    del arguments['value']
    weights = attn.attention_rows(**arguments, rows=range(T), is_causal=True)
    chex.assert_shape(weights, (2, 3, N, T, S))
    chosen = attn.attention_rows(**arguments, rows=[2], is_causal=True)
    assert_close(chosen, weights[:, :, :, 2:3])
    none = attn.attention_rows(**arguments, rows=[])
    chex.assert_shape(none, (2, 3, N, 0, S))

  @parameterized.parameters(
    {'s': 0}, {'n': 0, 'k': 0}, {'h': 0}, {'batch': (0,)}
  )
  def test_empty_axes(self, **sizes):
    arguments = qkv(**sizes)
    for mask in (None, masks.causal()):
      found = attn.attention_rows(**arguments, mask=mask, rows=[1, 2])
      written = oracles.mask(
        lambda b, n, q, k, mask=mask: mask is None or k <= q,
        *(len(arguments['query']), sizes.get('n', N), T, sizes.get('s', S)),
      )
      oracle = oracles.Attention(**arguments, mask=written)
      assert_close(found, oracle.weights[:, :, [1, 2]])

  def test_no_queries(self):
    arguments = qkv(t=0)
    chex.assert_shape(attn.attention_rows(**arguments, rows=[]), (B, N, 0, S))
    with self.assertRaisesRegex(ValueError, 'rows: got 1, but query has len'):
      attn.attention_rows(**arguments, rows=[0])

  def test_traced_rows_that_do_not_exist(self):
    found = run_rows({**qkv(), 'mask': masks.causal()}, [-1, 2, T])
    inside = np.broadcast_to(np.array([False, True, False])[:, None], (3, S))
    for b, n in np.ndindex(B, N):
      np.testing.assert_array_equal(~np.isnan(found[b, n]), inside)

  @parameterized.parameters(
    ([0, T], ValueError, f'rows: got {T}, wanted it from 0 to {T - 1}'),
    ([-1], ValueError, 'rows: got -1'),
    (2, ValueError, r'rows: got shape \(\), wanted \[R\]'),
    ([[2]], ValueError, r'rows: got shape \(1, 1\)'),
    ([1.0], TypeError, 'rows: got dtype float32, wanted integers'),
    ([True], TypeError, 'rows: got dtype bool, wanted integers'),
  )
  def test_bad_rows(self, rows, error, message):
    with self.assertRaisesRegex(error, message):
      attn.attention_rows(**qkv(), rows=rows)

  @parameterized.product(name=('key', 'value', 'query'), poison=POISONS)
  def test_poison_reaches_only_who_may_see_it(self, name, poison):
    arguments, mask = qkv(), np.asarray(ragged_mask())
    sees = np.zeros((B, N, T), bool)
    if name == 'query':
      at = (0, 1, 2, 3)
      sees[0, 2, 1] = True
    else:
      at = (0, 3, 1, 2)
      sees[0, 2:] = mask[0, 2:, :, 3]  # the heads that read key head 1
    chosen = [4, 0, 1]
    reached = (mask & sees[..., None])[:, :, chosen]
    self.assertGreater(reached.sum(), 0)
    clean = run_rows({**arguments, 'mask': mask}, chosen)
    arguments[name] = arguments[name].at[at].set(poison)
    found = run_rows({**arguments, 'mask': mask}, chosen)
    np.testing.assert_array_equal(np.isnan(found), reached)
    assert_same_bits(found[~reached], clean[~reached])

  def test_rows_need_memory_for_rows(self):
    def run(query, key, mask):
      return attn.attention_rows(query, key, mask=mask, rows=[5, 8000])

    x = jax.ShapeDtypeStruct((1, 8192, 2, 16), jnp.float32)
    compiled = jax.jit(run).lower(x, x, masks.causal()).compile()
    memory = compiled.memory_analysis()
    self.assertLess(memory.temp_size_in_bytes, 8 * 2**20)


if __name__ == '__main__':
  absltest.main()
