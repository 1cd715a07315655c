"""What holds in every test: strict types, no warnings, numbers to 4 digits."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

# PyTorch is for benchmarks, and not everywhere.
if importlib.util.find_spec('torch') is None:
  collect_ignore = ['benchmarks/torch_language_model.py']

jax.config.update('jax_numpy_dtype_promotion', 'strict')
# So that two may share what a run computes; see `attn.training.devices`.
jax.config.update('jax_num_cpu_devices', 2)


# A process may hold 65,530 mappings, and a compiled program takes several.
_MOST_MAPPINGS = 30_000


@pytest.fixture(autouse=True, scope='module')
def _room_for_programs():
  yield
  maps = pathlib.Path('/proc/self/maps')
  if maps.exists() and maps.read_text().count('\n') > _MOST_MAPPINGS:
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _four_digits():
  with np.printoptions(precision=4, suppress=True):
    yield
