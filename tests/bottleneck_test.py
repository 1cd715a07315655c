"""Models of one vector: equal to their formulas, and what the vector is."""

import jax
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import encoder_decoder_oracles as oracles
from tests.checks import assert_close
from tests.encoder_decoder_cases import (
  B,
  assert_equals_oracle,
  model_of,
  whole,
)

pytestmark = pytest.mark.xdist_group('encoder_decoder')


class FormulaTest(parameterized.TestCase):
  def test_bottleneck(self):
    assert_equals_oracle('bottleneck', oracles.bottleneck)

  def test_reversed_lstm(self):
    assert_equals_oracle('lstm', oracles.reversed_lstm, num_layers=2)


class VectorTest(parameterized.TestCase):
  def test_the_size_of_what_is_known_is_fixed(self):
    for name, arrays in (('bottleneck', 1), ('lstm', 4)):
      hidden_dim = model_of(name)[0].config.hidden_dim
      leaves = jax.tree.leaves(whole(name).encoded.state)
      self.assertLen(leaves, arrays)
      for leaf in leaves:
        self.assertEqual(leaf.shape, (B, hidden_dim))

  def test_the_context_is_also_the_first_state(self):
    encoded = whole('bottleneck').encoded
    assert_close(encoded.memory, encoded.state, 0)
    self.assertEqual(whole('lstm').encoded.memory, ())
    self.assertGreater(np.abs(encoded.memory).min(), 0)


if __name__ == '__main__':
  absltest.main()
