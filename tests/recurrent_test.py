"""Cells along a sentence: padding is as if it were not there."""

import functools

import chex
import flax.linen as nn
import jax
import numpy as np
from absl.testing import absltest, parameterized

from attn.modules import LSTMStack, run_cell
from tests import encoder_decoder_oracles as oracles
from tests.checks import assert_close, assert_same_bits, compile_fast
from tests.module_cases import random_parameters, run

_B, _T, _D, _H, _L = 3, 7, 5, 11, 2
_X = np.random.default_rng(0).normal(size=(_B, _T, _D)).astype(np.float32)
# At the end, in the middle and at the start, and nowhere at all.
_MASK = np.array(
  [
    [1, 1, 1, 1, 0, 0, 0],
    [0, 1, 0, 1, 1, 0, 1],
    [0, 0, 0, 0, 0, 0, 0],
  ],
  bool,
)


class _Reader(nn.Module):
  """A cell along a sentence."""

  cell: nn.RNNCellBase
  reverse: bool = False

  @nn.compact
  def __call__(self, carry, x, mask=None):
    return run_cell(self.cell, carry, x, mask, reverse=self.reverse)


def _carry(seed):
  """One state [B, H]."""
  return np.random.default_rng(seed).normal(size=(_B, _H)).astype(np.float32)


def _carries(seed):
  """A cell and a state for every layer."""
  return tuple(
    (_carry(seed + 2 * layer), _carry(seed + 2 * layer + 1))
    for layer in range(_L)
  )


@functools.partial(
  compile_fast, static_argnums=0, static_argnames=('reverse', 'method')
)
def _read(stack, parameters, carries, x, mask=None, **options):
  arguments = (x,) if mask is None else (x, mask)
  return stack.apply(parameters, carries, *arguments, **options)


class RunCellTest(parameterized.TestCase):
  @parameterized.product(reverse=(False, True), masked=(False, True))
  def test_equals_the_cell_token_by_token(self, reverse, masked):
    module = _Reader(nn.GRUCell(_H), reverse)
    first = _carry(1)
    mask = _MASK if masked else None
    parameters = random_parameters(module, first, _X, mask)
    carry, outputs = run(module, parameters, first, _X, mask)
    chex.assert_shape(outputs, (_B, _T, _H))
    cell = jax.tree.map(np.float64, parameters['params']['cell'])
    places = range(_T)[::-1] if reverse else range(_T)
    for row in range(_B):
      hidden = np.float64(first[row])
      for t in places:
        if masked and not _MASK[row, t]:
          np.testing.assert_array_equal(outputs[row, t], 0)
          continue
        hidden = oracles.gru(cell, hidden, _X[row, t])
        assert_close(outputs[row, t], hidden, 1e-6)
      assert_close(carry[row], hidden, 1e-6)

  def test_a_sentence_without_tokens_leaves_the_carry_alone(self):
    module = _Reader(nn.OptimizedLSTMCell(_H))
    first = _carries(2)[0]
    parameters = random_parameters(module, first, _X, _MASK)
    carry, _ = run(module, parameters, first, _X, _MASK)
    for before, after in zip(first, carry):
      assert_same_bits(after[2], before[2])

  def test_padding_changes_no_bit(self):
    module = _Reader(nn.GRUCell(_H))
    first = _carry(1)
    parameters = random_parameters(module, first, _X, _MASK)
    other = np.where(_MASK[..., None], _X, np.float32(1e30))
    assert_same_bits(
      run(module, parameters, first, other, _MASK),
      run(module, parameters, first, _X, _MASK),
    )


class LSTMStackTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_equals_its_formula(self, reverse):
    stack, first = LSTMStack(_H, _L), _carries(3)
    parameters = random_parameters(stack, first, _X, _MASK)
    ends, outputs = _read(stack, parameters, first, _X, _MASK, reverse=reverse)
    cells = jax.tree.map(np.float64, parameters['params'])
    for row in range(_B):
      carries = jax.tree.map(lambda x, row=row: np.float64(x[row]), first)
      (places,) = np.nonzero(_MASK[row])
      for t in places[::-1] if reverse else places:
        carries = oracles.lstms(cells, carries, _X[row, t])
        assert_close(outputs[row, t], carries[-1][1], 1e-6)
      for end, carry in zip(ends, carries):
        assert_close([x[row] for x in end], [*carry], 1e-6)

  def test_step_is_one_token(self):
    stack, first = LSTMStack(_H, _L), _carries(3)
    parameters = random_parameters(stack, first, _X)
    one = _read(stack, parameters, first, _X[:, :1])
    carries, out = _read(stack, parameters, first, _X[:, 0], method='step')
    assert_close((carries, out[:, None]), one, 1e-6)

  def test_start(self):
    start = LSTMStack(_H, _L).start(_B)
    self.assertLen(start, _L)
    chex.assert_tree_shape_prefix(start, (_B, _H))
    chex.assert_trees_all_equal(start, jax.tree.map(np.zeros_like, start))


if __name__ == '__main__':
  absltest.main()
