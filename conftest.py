"""What holds in every test: strict types, no warnings, numbers to 4 digits."""

import gc
import importlib.util
import os
import pathlib

import jax
import numpy as np
import pytest

# PyTorch is for benchmarks, and not everywhere.
if importlib.util.find_spec('torch') is None:
  collect_ignore = ['benchmarks/torch_language_model.py']

# Most of the time goes by in compiling what runs once: the same programs of
# XLA, but with less done to their machine code.
_LESS = '--xla_llvm_disable_expensive_passes=true'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_LESS}'

jax.config.update('jax_numpy_dtype_promotion', 'strict')
# So that two may share what a run computes; see `attn.training.devices`.
jax.config.update('jax_num_cpu_devices', 2)
# Tracing makes many objects and hardly a cycle, and each look for cycles goes
# through all that was compiled so far.
gc.set_threshold(100_000, 20, 20)

# Groups of tests that take longest, and wait for processes most of the time:
# begun last, one would run on when all others have ended.
_LONGEST = ('resume', 'sharded_test.py', 'launch', 'translation_run')


# A process may hold 65,530 mappings, and a compiled program takes several.
_MOST_MAPPINGS = 30_000


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(
  config: pytest.Config, items: list[pytest.Item]
) -> None:
  """A file is run by one process: what a test compiled serves the next."""

  def place(item: pytest.Item) -> int:
    mark = item.get_closest_marker('xdist_group')
    name = mark.args[0] if mark else item.path.name
    if mark is None and has_groups:
      item.add_marker(pytest.mark.xdist_group(name))
    return _LONGEST.index(name) if name in _LONGEST else len(_LONGEST)

  has_groups = config.pluginmanager.hasplugin('xdist')
  items.sort(key=place)


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
