"""The GRU with additive attention: equal to its formula."""

import chex
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import encoder_decoder_oracles as oracles
from tests.checks import assert_close
from tests.encoder_decoder_cases import (
  B,
  Batch,
  S,
  T,
  assert_equals_oracle,
  model_of,
  outcome_of,
  whole,
)

pytestmark = pytest.mark.xdist_group('encoder_decoder')


class FormulaTest(parameterized.TestCase):
  def test_without_coverage(self):
    assert_equals_oracle('bahdanau', oracles.bahdanau)

  def test_with_coverage(self):
    assert_equals_oracle('bahdanau with coverage', oracles.bahdanau)


class MemoryTest(parameterized.TestCase):
  def test_keys_are_projected_once(self):
    model, parameters = model_of('bahdanau')
    memory = whole('bahdanau').encoded.memory
    chex.assert_shape(memory.values, (B, S, 2 * model.config.hidden_dim))
    key = parameters['params']['key']
    assert_close(memory.keys, memory.values @ key['kernel'] + key['bias'], 1e-6)

  def test_coverage_is_kept_only_where_it_is_asked_for(self):
    self.assertIsNone(whole('bahdanau').encoded.state.coverage)
    coverage = whole('bahdanau with coverage').encoded.state.coverage
    np.testing.assert_array_equal(coverage, np.zeros((B, S)))

  def test_coverage_changes_no_first_step_but_later_ones(self):
    name = 'bahdanau with coverage'
    covered = whole(name).decoded.weights
    parameters = dict(model_of(name)[1]['params'])
    parameters.pop('score_coverage')
    plain = outcome_of('bahdanau', Batch(), {'params': parameters})
    plain = plain.decoded.weights
    assert_close(covered[:, 0], plain[:, 0], 1e-6)
    for t in range(1, T):
      self.assertGreater(np.abs(covered[:, t] - plain[:, t]).max(), 0.01)


if __name__ == '__main__':
  absltest.main()
