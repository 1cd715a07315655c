"""A plan says what a run is found to need, where the run can be had."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from attn.training.config import Config
from attn.training.devices import make_mesh
from attn.training.errors import UserError
from attn.training.experiment import make_config_optimizer
from attn.training.language_task import LanguageTask
from attn.training.step import init_state
from benchmarks.chips import CHIPS
from benchmarks.plan import make_plan
from configs import tiny
from tests import processes


def make_config(**mesh: int) -> Config:
  config = tiny.get_config()
  config.update(batch_size=4, context=120)
  config.model.update(num_layers=1, embed_dim=64, mlp_dim=256)
  config.model.implementation = 'dense'
  config.optimizer.name = 'adamw'
  config.mesh.update(mesh)
  return config


def held(config: Config) -> int:
  """The bytes of a real state, parameters and optimiser, on one device."""
  mesh = make_mesh(config.mesh)
  optimizer = make_config_optimizer(config, mesh)
  state = init_state(LanguageTask(config).init, optimizer, 0, mesh)
  return sum(
    x.addressable_shards[0].data.nbytes
    for x in jax.tree.leaves((state.params, state.opt_state))
  )


@pytest.fixture(scope='module')
def plans():
  made = {}
  # The optimiser promotes.
  with jax.numpy_dtype_promotion('standard'):
    for axis in ('data', 'fsdp'):
      config = make_config(**{axis: 2})
      made[axis] = make_plan(config, 2, CHIPS['h100']), held(config)
  return made


@pytest.mark.parametrize('axis', ['data', 'fsdp'])
def test_a_device_holds_what_was_planned(plans, axis: str):
  plan, really = plans[axis]
  assert plan['state_bytes'] == really
  batch = LanguageTask(make_config()).train_batch(0)
  # Beside the state, half of the rows, and the number of the step.  What is for
  # the evaluation alone is not passed.
  passed = [x for x in batch if x is not None and x.dtype != bool]
  rows = sum(x.nbytes for x in passed) // 2
  assert plan['argument_bytes'] == really + rows + 4


def test_kept_parts_halve_what_is_held(plans):
  assert plans['fsdp'][1] < 0.52 * plans['data'][1]


def test_rows_alone_say_one_sum(plans):
  """Of the gradient, the loss and the number of tokens."""
  plan, _ = plans['data']
  assert plan['collectives'] == {
    'all-reduce': {
      'count': 1,
      'bytes': 4 * (plan['parameters'] + 2),
      'sent': 4 * (plan['parameters'] + 2),
    }
  }


def test_kept_parts_are_gathered_and_scattered(plans):
  said = plans['fsdp'][0]['collectives']
  matrices = 4 * plans['fsdp'][0]['parameters']
  assert said['all-gather']['bytes'] >= 0.95 * matrices
  assert said['reduce-scatter']['bytes'] >= 0.95 * matrices / 2


def test_the_compiler_counts_alike(plans):
  """It counts what is no product as well."""
  for plan, _ in plans.values():
    assert 1 < plan['compiled_flops'] / plan['flops'] < 1.3


def test_a_step_is_what_the_roofline_allows(plans):
  plan, _ = plans['data']
  chip = CHIPS['h100']
  computing = plan['flops'] / 2 / chip.flops
  moved = plan['argument_bytes'] + plan['output_bytes']
  touching = (moved + 2 * plan['temporary_bytes']) / chip.bandwidth
  sending = plan['sent_bytes'] / chip.links
  np.testing.assert_allclose(
    plan['step_seconds'], max(computing, touching) + sending
  )


def test_what_cannot_be_planned_is_refused():
  uneven = make_config(data=2)
  uneven.batch_size = 3
  with pytest.raises(UserError, match=r'^config\.mesh\.fsdp: got a mesh of'):
    make_plan(make_config(fsdp=3), 2, CHIPS['h100'])
  with pytest.raises(UserError, match=r'^config\.mesh\.data: got 2, wanted'):
    make_plan(uneven, 2, CHIPS['h100'])


def test_the_command(tmp_path: pathlib.Path):
  out = tmp_path / 'plan.json'
  small = [x for x in processes.SMALL if 'checkpoint' not in x]
  result = subprocess.run(
    [
      *(sys.executable, '-m', 'benchmarks.plan', *small),
      '--config.batch_size=8',
      '--config.mesh.fsdp=-1',
      '--chips=4',
      '--kind=tpu_v5e',
      f'--out={out}',
    ],
    capture_output=True,
    text=True,
    check=False,
    cwd=processes.ROOT,
  )
  assert result.returncode == 0, result.stderr
  assert '4 x tpu_v5e' in result.stdout
  plan = json.loads(out.read_text())
  assert plan['mesh'] == {'data': 1, 'fsdp': 4, 'tensor': 1, 'sequence': 1}
