"""Eight devices, however they share the work, train as one does."""

import json
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import processes
import pytest
from jax.sharding import PartitionSpec

from attn.modules.sharding import AXES, parameter_spec
from attn.training import devices
from attn.training.config import check_mesh
from attn.training.errors import UserError
from configs import tiny

pytestmark = pytest.mark.xdist_group('meshes')


@pytest.fixture(scope='module')
def told() -> dict[str, Any]:
  """What `meshes.py` measured."""
  done = subprocess.run(
    [sys.executable, 'tests/meshes.py'],
    capture_output=True,
    text=True,
    cwd=processes.ROOT,
    env=processes.environment() | {'PYTHONPATH': os.fspath(processes.ROOT)},
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.mark.parametrize(
  'name', ['data', 'fsdp', 'tensor', 'sequence', 'all', 'four']
)
def test_a_mesh_learns_as_one_device(told: dict[str, Any], name: str):
  losses, expected = told['losses'][name], told['losses']['one']
  assert len(expected) == 50
  assert expected[-1] < 0.6 * expected[0]
  np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_a_mesh_judges_as_one_device(told: dict[str, Any]):
  judged, expected = told['judged']['all'], told['judged']['one']
  assert judged.keys() == expected.keys()
  for measure, value in expected.items():
    np.testing.assert_allclose(judged[measure], value, rtol=1e-4)


def test_devices_that_share_rows_repeat_themselves(told: dict[str, Any]):
  assert told['again'] == told['losses']['data']


def test_a_run_goes_on_on_other_meshes(told: dict[str, Any]):
  np.testing.assert_allclose(told['moved'], told['losses']['one'], rtol=1e-5)


def test_a_checkpoint_is_the_same_bits_on_every_mesh(told: dict[str, Any]):
  assert told['same']


def test_memory_is_divided(told: dict[str, Any]):
  whole = told['bytes']['one']
  assert told['bytes']['data'] == whole
  assert told['bytes']['fsdp'] <= whole / 7
  assert told['bytes']['tensor'] <= whole / 2


def test_parameters_are_divided_by_their_paths():
  sizes = dict.fromkeys(AXES, 2)
  for path, shape, spec in (
    ('params/embed/embedding', (46, 8), ('tensor', 'fsdp')),
    ('embed/embedding', (45, 8), (None, 'fsdp')),
    ('opt/mu/block_1/attention/query/kernel', (8, 8), ('fsdp', 'tensor')),
    ('block_1/feed_forward/out/kernel', (8, 8), ('tensor', 'fsdp')),
    ('block_1/attention/query/kernel', (8, 7), ('fsdp', None)),
    ('block_1/attention_norm/scale', (8,), ()),
    ('step', (), ()),
  ):
    assert parameter_spec(path, shape, sizes) == PartitionSpec(*spec), path
  sizes['tensor'] = 1
  got = parameter_spec('block_1/attention/out/kernel', (8, 8), sizes)
  assert got == PartitionSpec(None, 'fsdp')


@pytest.mark.parametrize(
  ('sizes', 'words'),
  [
    ({'data': 3}, 'mesh.data: .* data 3, .* multiply to 2, the devices'),
    ({'fsdp': 3, 'tensor': -1}, 'mesh.fsdp: .* multiply to 2, the devices'),
    ({'fsdp': -1, 'tensor': -1}, 'mesh.tensor: got -1, and so did fsdp'),
    ({'data': 0}, 'mesh.* multiply to 2, the devices'),
  ],
)
def test_a_mesh_that_is_not_of_the_devices_is_refused(
  sizes: dict[str, int], words: str
):
  assert jax.device_count() == 2
  with pytest.raises(UserError, match=words):
    devices.make_mesh(sizes)


@pytest.mark.parametrize(
  ('sizes', 'words'),
  [
    ({'data': 3}, 'mesh.data: got 3, wanted a divisor of batch_size 8'),
    ({'data': 4, 'fsdp': 4}, r'fsdp: got 4, .* batch_size 8 / mesh.data 4'),
    ({'tensor': 3}, 'mesh.tensor: got 3, .* divisor of model.num_heads 4'),
    ({'sequence': 5}, 'mesh.sequence: got 5, .* divisor of context 216'),
  ],
)
def test_what_a_mesh_cannot_divide_is_refused(
  sizes: dict[str, int], words: str
):
  with pytest.raises(UserError, match=words):
    check_mesh(tiny.get_config(), dict.fromkeys(AXES, 1) | sizes)


def test_one_line_for_a_mesh_without_devices(tmp_path):
  result = processes.train(tmp_path / 'run', '--config.mesh.tensor=-3')
  processes.refused(result, 'config.mesh', 'tensor -3')
  assert not (tmp_path / 'run').exists()
