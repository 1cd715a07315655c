"""What a language task tells of the heads of its model."""

import numpy as np

from attn.training.language_task import entropies


def test_entropy_of_one_and_of_many():
  weights = np.zeros((1, 3, 4, 4))
  weights[0, 0, :, 2] = 1  # each row looks at one token
  weights[0, 1] = 0.25
  weights[0, 2, :2, 0] = 1  # half of the rows at one, half at two
  weights[0, 2, 2:, :2] = 0.5
  expected = [[0, np.log(4), np.log(2) / 2]]
  np.testing.assert_allclose(entropies(weights), expected, atol=1e-12)


def test_rows_need_not_add_up_to_one():
  weights = np.random.default_rng(0).uniform(size=(2, 2, 3, 3))
  np.testing.assert_allclose(entropies(weights), entropies(7 * weights))


def test_a_row_that_looks_nowhere_counts_nothing():
  assert entropies(np.zeros((1, 1, 2, 2))) == 0
