"""What holds in every test: strict types, no warnings, numbers to 4 digits."""

import jax
import numpy as np
import pytest

jax.config.update('jax_numpy_dtype_promotion', 'strict')


@pytest.fixture(autouse=True)
def _four_digits():
  with np.printoptions(precision=4, suppress=True):
    yield
