"""Parity with libraries that users do not need: see `make parity`."""

import jax
import pytest
import torch


@pytest.fixture(autouse=True)
def _as_a_user_has_it():
  """No strict types: Flax's norms promote where x is not float32."""
  torch.set_num_threads(2)
  with jax.numpy_dtype_promotion('standard'):
    yield
