"""Rotary frequencies, divided."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn.rope_scaling import RopeScaling
from tests import oracles
from tests.checks import assert_close
from tests.inputs import normal

T, H = 3, 22
_CASES = {
  'linear': RopeScaling('linear', 4.0),
  'dynamic': RopeScaling('dynamic', 4.0),
  'llama3': RopeScaling('llama3', 8.0, original_context=97),
  'llama3, narrow': RopeScaling(
    'llama3', 3.0, 97, low_freq_factor=2.0, high_freq_factor=2.5
  ),
  'yarn': RopeScaling('yarn', 4.0, original_context=97),
  'yarn, exact': RopeScaling(
    'yarn', 4.0, 97, beta_fast=8.0, beta_slow=2.0, truncate=False
  ),
  'yarn, louder': RopeScaling('yarn', 4.0, 97, attention_factor=1.7),
}


class RopeScalingTest(parameterized.TestCase):
  def test_llama3_by_hand(self):
    # Frequencies 1, 1/2, 1/4, 1/8.  Those of at least 1/2 are kept, those of
    # at most 1/8 divided, and what is between is kept by a third.
    scaling = RopeScaling(
      'llama3',
      10.0,
      original_context=97,
      low_freq_factor=97 / 2 / np.pi / 8,
      high_freq_factor=97 / 2 / np.pi / 2,
    )
    actual = scaling.frequencies(8, 16.0)
    np.testing.assert_allclose(actual, [1, 0.5, 0.1, 0.0125], rtol=1e-12)

  @parameterized.parameters(*_CASES)
  def test_equals_the_papers_loops(self, name):
    scaling = _CASES[name]
    for base in (50.0, 10_000.0):
      expected = [
        oracles.rope_frequency(i, H, base, scaling) for i in range(H // 2)
      ]
      frequencies, lengths = np.array(expected).T
      np.testing.assert_allclose(
        scaling.frequencies(H, base), frequencies, rtol=1e-12
      )
      np.testing.assert_allclose(scaling.magnitude, lengths, rtol=1e-12)

  @parameterized.parameters(*_CASES)
  def test_apply_rope_rotates_by_them(self, name):
    scaling = _CASES[name]
    positions = np.array([0, 5, 90])
    with jax.enable_x64(True):
      x = normal(T, H, dtype=jnp.float64)
      actual = attn.apply_rope(x, positions, base=50.0, scaling=scaling)
    expected = oracles.rope(x, positions, 50.0, scaling)
    assert_close(actual, expected, 1e-12)

  @parameterized.parameters(
    ({'kind': 'longrope'}, 'kind: got .longrope., wanted one of'),
    ({'factor': 0.5}, 'factor: got 0.5, wanted at least 1'),
    ({'factor': float('nan')}, 'factor: got nan'),
    ({'original_context': 0}, 'original_context: got 0, wanted at least 1'),
    ({'low_freq_factor': 0.0}, 'low_freq_factor: got 0.0'),
    ({'high_freq_factor': 1.0}, 'high_freq_factor: got 1.0, wanted more than'),
    ({'beta_slow': -1.0}, 'beta_slow: got -1.0'),
    ({'beta_fast': 1.0}, 'beta_fast: got 1.0, wanted more than beta_slow'),
    ({'attention_factor': -1.0}, 'attention_factor: got -1.0'),
  )
  def test_refuses_by_name(self, changes, message):
    valid = RopeScaling('yarn', 2.0, original_context=7)
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(valid, **changes)


if __name__ == '__main__':
  absltest.main()
