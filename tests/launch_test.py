"""Several processes train as one does, and live and die together."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import chex
import jax
import numpy as np
import processes
import pytest
from resume_test import final_state, losses

pytestmark = pytest.mark.xdist_group('launch')

SMALL = (*processes.SMALL, '--config.batch_size=4')


def launch(
  workdir: pathlib.Path, count: int, *arguments: str
) -> subprocess.CompletedProcess[str]:
  """The launcher, to its end."""
  command = [sys.executable, '-m', 'attn.training.launch']
  command += [f'--processes={count}', '--', *SMALL, *arguments]
  return subprocess.run(
    [*command, f'--workdir={workdir}'],
    capture_output=True,
    text=True,
    cwd=processes.ROOT,
    env=processes.with_what_was_compiled(),
    timeout=300,
    check=False,
  )


def test_four_processes_are_one_with_four_devices(tmp_path: pathlib.Path):
  one, four = tmp_path / 'one', tmp_path / 'four'
  result = processes.train(one, *SMALL, '--config.mesh.data=4')
  assert result.returncode == 0, result.stderr
  result = launch(four, 4, '--config.mesh.data=4')
  assert result.returncode == 0, result.stderr
  # Only the first has spoken, and drawn.
  assert result.stdout.count('step 12/12') == 1
  assert (four / 'figures' / 'loss.png').exists()
  assert (four / 'summary.json').exists()
  # Four numbers may be added up in another order.
  for got, expected in zip(losses(four), losses(one), strict=True):
    assert got[:2] == expected[:2]
    np.testing.assert_allclose(got[2], expected[2], rtol=1e-6)


@pytest.fixture(scope='module')
def divided(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A run of two processes, each of which keeps a half of the parameters."""
  workdir = tmp_path_factory.mktemp('divided') / 'run'
  result = launch(workdir, 2, '--config.mesh.fsdp=2')
  assert result.returncode == 0, result.stderr
  return workdir


def test_two_processes_are_one_with_two_devices_bit_for_bit(
  divided: pathlib.Path, tmp_path: pathlib.Path
):
  workdir = tmp_path / 'run'
  result = processes.train(workdir, *SMALL, '--config.mesh.fsdp=2')
  assert result.returncode == 0, result.stderr
  assert losses(divided) == losses(workdir)
  chex.assert_trees_all_equal(final_state(divided), final_state(workdir))


def test_each_process_writes_its_share(divided: pathlib.Path):
  state = divided / 'checkpoints' / '12' / 'state'
  written = [
    sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    for folder in sorted(state.glob('ocdbt.process_*'))
  ]
  assert len(written) == 2
  # Pieces that were written anew while others followed are there as well, as
  # many as the machine had time for; so a share is not one of their sum.
  whole = sum(x.nbytes for x in jax.tree.leaves(final_state(divided)))
  assert min(written) > 0.3 * whole, (written, whole)


def test_one_process_goes_on_where_two_were(
  divided: pathlib.Path, tmp_path: pathlib.Path
):
  workdir = tmp_path / 'run'
  shutil.copytree(divided, workdir)
  (workdir / 'summary.json').unlink()
  shutil.rmtree(workdir / 'checkpoints' / '12')
  result = processes.train(workdir, *SMALL)
  assert result.returncode == 0, result.stderr
  assert 'going on after step 8 of 12' in result.stdout
  got, expected = final_state(workdir), final_state(divided)
  chex.assert_trees_all_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_without_the_share_of_a_process_is_refused(
  divided: pathlib.Path, tmp_path: pathlib.Path
):
  workdir = tmp_path / 'run'
  shutil.copytree(divided, workdir)
  (workdir / 'summary.json').unlink()
  for step in (8, 12):
    folder = workdir / 'checkpoints' / str(step)
    shutil.rmtree(folder / 'state' / 'ocdbt.process_1')
  result = processes.train(workdir, *SMALL)
  assert result.returncode == 2
  tried, line = result.stderr.strip().splitlines()
  assert tried.endswith('; trying the one before it')
  assert line.startswith('error: checkpoint: none of those in ')
  assert '/8/state/ocdbt.process_1 is missing, which process 1 wrote' in line


def test_processes_of_different_configs_are_refused(tmp_path: pathlib.Path):
  address = f'--config.distributed.coordinator=127.0.0.1:{free_port()}'
  flags = [
    f'--workdir={tmp_path / "run"}',
    *SMALL,
    address,
    '--config.mesh.data=2',
    '--config.distributed.processes=2',
  ]
  started = [
    processes.start(
      'train.py', *flags, f'--config.distributed.process={i}', *more
    )
    for i, more in enumerate(([], ['--config.seed=1']))
  ]
  # Whoever is the first to end may take the other with it.
  said = [process.communicate(timeout=120)[1] for process in started]
  wanted = (
    'process 1 was given another than process 0 (seed is 0 there and 1 here)'
  )
  assert any(wanted in text for text in said), said
  assert all(process.returncode != 0 for process in started)
  assert not (tmp_path / 'run').exists()


def free_port() -> int:
  """One that nobody listens on."""
  with socket.socket() as listening:
    listening.bind(('127.0.0.1', 0))
    return listening.getsockname()[1]


def test_a_coordinator_that_never_comes_up(tmp_path: pathlib.Path):
  where = f'127.0.0.1:{free_port()}'
  result = processes.train(
    tmp_path / 'run',
    '--config.distributed.processes=2',
    '--config.distributed.process=1',
    f'--config.distributed.coordinator={where}',
    '--config.distributed.timeout=1',
  )
  processes.refused(result, 'waited 1 s for process 0', where)


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--config.distributed.processes=2'], ['coordinator', "''", 'HOST:PORT']),
    (
      [
        '--config.distributed.processes=2',
        '--config.distributed.coordinator=here:1',
        '--config.distributed.process=2',
      ],
      ['config.distributed.process', 'got 2', '0 to 1'],
    ),
    (['--config.distributed.processes=0'], ['distributed.', 'wanted']),
  ],
)
def test_flag_refused(
  flags: list[str], words: list[str], tmp_path: pathlib.Path
):
  processes.refused(processes.train(tmp_path / 'run', *flags), *words)


def test_a_mistake_is_told_once(tmp_path: pathlib.Path):
  result = launch(tmp_path / 'run', 2, '--config.mesh.data=3')
  assert result.returncode == 2
  (line,) = result.stderr.strip().splitlines()
  assert line.startswith('error: config.mesh.data: got a mesh of data 3')
  assert 'multiply to 2' in line


def test_two_kills(tmp_path: pathlib.Path):
  """`python -m benchmarks.process_kills` makes it twenty."""
  out = tmp_path / 'out.json'
  result = subprocess.run(
    [
      *(sys.executable, '-m', 'benchmarks.process_kills'),
      *('--kills=2', f'--out={out}'),
    ],
    capture_output=True,
    text=True,
    cwd=processes.ROOT,
    env=processes.environment() | {'TMPDIR': os.fspath(tmp_path)},
    check=False,
  )
  assert result.returncode == 0, result.stderr
  found = json.loads(out.read_text())['cases']['tiny']
  assert found['kills'] == 2
  assert found['seconds_to_stop'] < 60
