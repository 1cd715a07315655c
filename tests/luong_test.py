"""LSTMs with Luong's attention: equal to their formulas."""

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from tests import encoder_decoder_oracles as oracles
from tests.encoder_decoder_cases import (
  KINDS,
  SOURCE_LENGTHS,
  T,
  assert_equals_oracle,
  model_of,
  whole,
)

pytestmark = pytest.mark.xdist_group('encoder_decoder')

_NAMES = [name for name, fields in KINDS.items() if 'kind' not in fields]


class FormulaTest(parameterized.TestCase):
  @parameterized.parameters(*_NAMES)
  def test_equals_its_formula(self, name):
    config = model_of(name)[0].config
    assert_equals_oracle(
      name,
      oracles.luong,
      num_layers=2,
      score=config.score,
      locality=config.locality,
      half_width=config.half_width,
      feeding=config.input_feeding,
    )

  def test_all_scores_localities_and_both_feedings_are_tried(self):
    configs = [model_of(name)[0].config for name in _NAMES]
    self.assertEqual(
      {config.score for config in configs},
      {'dot', 'general', 'concat', 'location'},
    )
    self.assertEqual(
      {(config.locality, config.input_feeding) for config in configs},
      {
        ('global', False),
        ('global', True),
        ('local-m', True),
        ('local-p', False),
        ('local-p', True),
      },
    )


class WindowTest(parameterized.TestCase):
  def test_local_m_goes_forward_and_stays_in_the_source(self):
    name = 'dot, local-m, feeding'
    half_width = model_of(name)[0].config.half_width
    for row, length in enumerate(SOURCE_LENGTHS):
      for t in range(T):
        center = min(t, length - 1)
        first, last = max(center - half_width, 0), center + half_width
        seen = whole(name).decoded.weights[row, t] > 0
        expected = np.zeros_like(seen)
        expected[first : min(last + 1, length)] = True
        np.testing.assert_array_equal(seen, expected)


if __name__ == '__main__':
  absltest.main()
