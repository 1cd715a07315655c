"""A run that was stopped ends with the same bits as one that was not."""

import functools
import pathlib
import signal
import time

import chex
import jax
import processes
import pytest

from attn.training import language_model
from attn.training.checkpoints import Checkpoints
from attn.training.experiment import make_config_optimizer, make_model
from attn.training.run_directory import RunDirectory
from attn.training.step import State, init_state
from attn.training.tokenizer import load_tokenizer

pytestmark = pytest.mark.xdist_group('resume')


def final_state(workdir: pathlib.Path) -> State:
  """The last checkpoint of a run."""
  run = RunDirectory(workdir)
  config = run.read_config()
  vocab_size = load_tokenizer(run.tokenizer).vocab_size
  model = make_model(config, vocab_size)
  init = functools.partial(language_model.init, model)
  like = init_state(init, make_config_optimizer(config), seed=99)
  checkpoints = Checkpoints(run.checkpoints, keep=2)
  state = checkpoints.restore(like)
  checkpoints.close()
  assert state is not None
  return jax.device_get(state)


def losses(workdir: pathlib.Path) -> list[tuple[str, int, float]]:
  """What was measured, without the times."""
  return [
    (line['split'], line['step'], line['loss'])
    for line in RunDirectory(workdir).read_metrics()
  ]


# Dropout, so that its randomness must be resumed as well.
FLAGS = ('--config.model.dropout_rate=0.1', '--config.steps=20')


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A run that nobody stopped."""
  workdir = tmp_path_factory.mktemp('undisturbed') / 'run'
  result = processes.train(workdir, *FLAGS)
  assert result.returncode == 0, result.stderr
  return workdir


def start(workdir: pathlib.Path):
  return processes.start(
    'train.py', f'--workdir={workdir}', *processes.SMALL, *FLAGS
  )


def kill_at_checkpoint(workdir: pathlib.Path) -> None:
  """Start a run, and kill it as soon as its second checkpoint is there."""
  process = start(workdir)
  while not (workdir / 'checkpoints' / '8').exists():
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.002)
  process.kill()
  process.communicate()


def test_killed_right_after_a_checkpoint(
  undisturbed: pathlib.Path, tmp_path: pathlib.Path
):
  workdir = tmp_path / 'run'
  kill_at_checkpoint(workdir)
  result = processes.train(workdir, *FLAGS)
  assert result.returncode == 0, result.stderr
  assert 'going on after step' in result.stdout
  chex.assert_trees_all_equal(final_state(workdir), final_state(undisturbed))


def test_interrupted_by_ctrl_c(
  undisturbed: pathlib.Path, tmp_path: pathlib.Path
):
  workdir = tmp_path / 'run'
  process = start(workdir)
  for line in process.stdout:
    if line.startswith('step '):
      process.send_signal(signal.SIGINT)
      break
  out, err = process.communicate()
  assert process.returncode == 130, err
  assert err == ''
  assert 'interrupted after step' in out
  assert 'the same command goes on from here' in out
  result = processes.train(workdir, *FLAGS)
  assert 'going on after step' in result.stdout
  chex.assert_trees_all_equal(final_state(workdir), final_state(undisturbed))


def test_truncated_checkpoint_falls_back(
  undisturbed: pathlib.Path, tmp_path: pathlib.Path
):
  """As if the machine had lost power after the run said it was saved."""
  workdir = tmp_path / 'run'
  kill_at_checkpoint(workdir)
  newest = max((workdir / 'checkpoints').iterdir(), key=lambda p: int(p.name))
  data = max(newest.rglob('*'), key=lambda p: p.stat().st_size)
  data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
  result = processes.train(workdir, *FLAGS)
  assert result.returncode == 0, result.stderr
  assert f'{newest} is damaged; trying the one before it' in result.stderr
  assert f'going on after step {int(newest.name) - 4} ' in result.stdout
  chex.assert_trees_all_equal(final_state(workdir), final_state(undisturbed))


def test_loss_that_is_no_number_stops_the_run(tmp_path: pathlib.Path):
  workdir = tmp_path / 'run'
  # The learning rate rises until the parameters overflow.
  result = processes.train(
    workdir,
    '--config.steps=2000',
    '--config.optimizer.learning_rate=1e38',
    '--config.optimizer.warmup_steps=1000',
    '--config.optimizer.weight_decay=0.0',
    '--config.checkpoint.every=1',
  )
  assert result.returncode == 2
  (line,) = result.stderr.strip().splitlines()
  assert line.startswith('error: loss: became nan at step ')
  named = int(line.split('at step ')[1].split(';')[0])
  state = final_state(workdir)
  assert int(state.step) == named - 1
  chex.assert_tree_all_finite(state.params)


def test_finished_run_is_left_alone(undisturbed: pathlib.Path):
  before = (undisturbed / 'summary.json').stat().st_mtime_ns
  result = processes.train(undisturbed, *FLAGS)
  assert result.returncode == 0
  assert 'is finished' in result.stdout
  assert (undisturbed / 'summary.json').stat().st_mtime_ns == before
