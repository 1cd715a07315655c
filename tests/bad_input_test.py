"""A user's mistake: one line on stderr, exit status 2, nothing written."""

import json
import pathlib
import shutil

import processes
import pytest
from processes import refused, snapshot

# The tests that share the run of a fixture.
one_worker = pytest.mark.xdist_group('trained')


@pytest.mark.parametrize(
  ('flag', 'words'),
  [
    ('--no_such_flag=1', ['no_such_flag']),
    ('--config.no_such_field=1', ['no_such_field']),
    ('--config.model.no_such_field=1', ['no_such_field']),
    ('--config.steps=many', ['steps', 'many']),
    ('--config.optimizer.learning_rate=fast', ['learning_rate', 'fast']),
    ('--config=configs/no_such_config.py', ['no_such_config.py']),
    ('surplus', ['surplus']),
    ('--config.context=0', ['config.context', '0', 'at least 1']),
    ('--config.context=8', ['config.context', '8', 'longest story']),
    ('--config.steps=0', ['config.steps', '0', 'at least 1']),
    ('--config.seed=-1', ['config.seed', '-1', 'at least 0']),
    ('--config.eval.every=0', ['config.eval.every', '0', 'at least 1']),
    ('--config.task=chess', ['config.task', 'chess', 'toy_language']),
    ('--config.task=text', ['config.data', 'no path']),
    ('--config.model.num_heads=3', ['config.model.num_heads', '3', '64']),
    ('--config.model.num_kv_heads=3', ['config.model.num_kv_heads', '3']),
    ('--config.model.attention=psychic', ['attention', 'psychic', 'full']),
    (
      # A window, and a mask that is not causal.
      '--config.model.attention=sliding_window+prefix',
      ['config.model.attention', 'at most one of', 'sliding_window', 'prefix'],
    ),
    (
      '--config.model.attention=sliding_window+none',
      ['config.model.attention', 'at most one of', 'sliding_window', 'none'],
    ),
    (
      '--config.model.attention=sliding_window+linear',
      ['config.model.attention', 'sliding_window', "'full' for linear"],
    ),
    ('--config.model.window=0', ['config.model.window', '0', 'at least 1']),
    ('--config.model.positions=gps', ['positions', 'gps', 'relative_bias']),
    ('--config.model.soft_cap=-1.0', ['config.model.soft_cap', '-1.0']),
    (
      '--config.model.implementation=magic',
      ['config.model.implementation', 'magic', 'dense'],
    ),
    ('--config.model.dilation=0', ['config.model.dilation', '0']),
    ('--config.model.dropout_rate=1.5', ['dropout_rate', '1.5', '[0, 1)']),
    ('--config.optimizer.beta1=2.0', ['config.optimizer.beta1', '2.0']),
    ('--config.optimizer.clip_norm=0.0', ['clip_norm', '0.0', 'more than 0']),
    ('--config.optimizer.accumulate=5', ['accumulate', '5', 'divisor', '8']),
    ('--config.optimizer.learning_rate=nan', ['learning_rate', 'nan']),
  ],
)
def test_flag_refused(flag: str, words: list[str], tmp_path: pathlib.Path):
  workdir = tmp_path / 'run'
  result = processes.run('train.py', f'--workdir={workdir}', flag)
  refused(result, *words)
  assert not workdir.exists()


def test_a_prefix_that_leaves_nothing_to_tell_refused(tmp_path: pathlib.Path):
  workdir = tmp_path / 'run'
  result = processes.run(
    'train.py',
    f'--workdir={workdir}',
    '--config.model.attention=prefix',
    '--config.model.prefix_length=110',
  )
  refused(result, 'config.model.prefix_length', '110', 'a whole story')
  assert not workdir.exists()


def text_files(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, str]]:
  """Texts that cannot be trained on, and what is said of them."""
  (folder / 'empty').write_text('')
  (folder / 'latin1').write_bytes('Käse'.encode('latin-1') * 500)
  (folder / 'short').write_text('a short text')
  (folder / 'folder').mkdir()
  return {
    name: (folder / name, word)
    for name, word in {
      'missing': 'No such file',
      'empty': 'is empty',
      'folder': 'directory',
      'latin1': 'not UTF-8 (byte 1',
      'short': '12 characters',
    }.items()
  }


@pytest.mark.parametrize(
  'kind', ['missing', 'empty', 'folder', 'latin1', 'short']
)
def test_data_refused(kind: str, tmp_path: pathlib.Path):
  path, word = text_files(tmp_path)[kind]
  workdir = tmp_path / 'run'
  result = processes.run('train.py', f'--workdir={workdir}', f'--data={path}')
  refused(result, str(path), word)
  assert not workdir.exists()


@one_worker
def test_workdir_of_another_config_refused(trained: pathlib.Path):
  before = snapshot(trained)
  result = processes.train(trained, '--config.model.num_layers=3')
  refused(result, 'model.num_layers is 1 there and 3 here', '--workdir')
  assert snapshot(trained) == before


@one_worker
@pytest.mark.parametrize(
  ('field', 'value', 'words'),
  [
    ('num_layers', 3, ['block_1', 'is nothing there and (8, 8) here']),
    ('mlp_dim', 16, ['params.block_0', 'is (8, 8) there and (8, 16) here']),
  ],
)
def test_checkpoint_of_another_architecture_refused(
  field: str,
  value: int,
  words: list[str],
  trained: pathlib.Path,
  tmp_path: pathlib.Path,
):
  workdir = tmp_path / 'run'
  shutil.copytree(trained, workdir)
  (workdir / 'summary.json').unlink()
  config = json.loads((workdir / 'config.json').read_text())
  config['model'][field] = value
  (workdir / 'config.json').write_text(json.dumps(config))
  before = snapshot(workdir)
  where = f'checkpoint: {workdir}/checkpoints/12 is of another model'
  flag = f'--config.model.{field}={value}'
  refused(processes.train(workdir, flag), where, *words)
  assert snapshot(workdir) == before
  flags = (f'--workdir={workdir}', '--prompt=Mia')
  refused(processes.run('sample.py', *flags), where, *words)
  assert snapshot(workdir) == before


def test_a_text_that_changed_refused(tmp_path: pathlib.Path):
  """Tokens that are as many, but stand for other characters."""
  text, workdir = tmp_path / 'text', tmp_path / 'run'
  flags = (f'--data={text}', '--config.context=40')
  text.write_text('abcd ' * 300)
  assert processes.train(workdir, *flags).returncode == 0
  (workdir / 'summary.json').unlink()
  text.write_text('efgh ' * 300)
  before = snapshot(workdir)
  result = processes.train(workdir, *flags)
  refused(result, f'config.data: gives another tokenizer than {workdir}')
  assert snapshot(workdir) == before


def test_workdir_with_other_files_refused(tmp_path: pathlib.Path):
  (tmp_path / 'thesis.txt').write_text('precious')
  refused(processes.train(tmp_path), str(tmp_path), 'not empty')
  assert snapshot(tmp_path) == {'thesis.txt': b'precious'}


def test_read_only_disk_refused():
  # No one can make a folder here, root included.
  refused(processes.train(pathlib.Path('/proc/attn')), '/proc/attn', 'written')


def test_full_disk_keeps_what_is_there(tmp_path: pathlib.Path):
  """A limit on the size of files stands in for a disk that is full."""
  workdir = tmp_path / 'run'
  arguments = (f'--workdir={workdir}', *processes.SMALL)
  result = processes.run('train.py', *arguments, largest_file=8)
  refused(result, 'checkpoint', 'cannot be written')
  assert not (workdir / 'summary.json').exists()
  assert processes.run('train.py', *arguments).returncode == 0
  assert json.loads((workdir / 'summary.json').read_text())['steps'] == 12


@one_worker
@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--prompt='], ['prompt', 'empty']),
    (['--prompt=Żółw'], ['prompt', "'Ż'", "'ó'", "'ł'"]),
    (['--prompt=Mia', '--temperature=-1'], ['temperature', '-1']),
    (['--prompt=Mia', '--temperature=nan'], ['temperature', 'nan']),
    (['--prompt=Mia', '--top_k=0'], ['top_k', '0', 'at least 1']),
    (['--prompt=Mia', '--top_p=0'], ['top_p', '0', 'more than 0']),
    (['--prompt=Mia', '--top_p=1.5'], ['top_p', '1.5', 'at most 1']),
    (['--prompt=Mia', '--min_p=-1'], ['min_p', '-1', 'from 0 to 1']),
    (
      ['--prompt=Mia', '--repetition_penalty=0'],
      ['repetition_penalty', '0', 'more than 0'],
    ),
    (['--prompt=Mia', '--stop='], ['stop', 'empty']),
    (['--prompt=Mia hugs ', '--prompt=', '--prompt=Ben'], ['prompt', 'empty']),
    (['--prompt=' + 'Mia ' * 55], ['prompt', '220 tokens', '216']),
    (['--prompt=Mia', '--length=0'], ['length', '0', 'at least 1']),
    (['--prompt=Mia', '--seed=x'], ['seed', 'x']),
  ],
)
def test_sample_refused(
  flags: list[str], words: list[str], trained: pathlib.Path
):
  before = snapshot(trained)
  result = processes.run('sample.py', f'--workdir={trained}', *flags)
  refused(result, *words)
  assert snapshot(trained) == before


def test_sample_without_a_run_refused(tmp_path: pathlib.Path):
  result = processes.run('sample.py', f'--workdir={tmp_path}', '--prompt=Mia')
  refused(result, str(tmp_path), 'no run')
  assert snapshot(tmp_path) == {}


@one_worker
def test_sample_of_a_damaged_run_refused(
  trained: pathlib.Path, tmp_path: pathlib.Path
):
  (tmp_path / 'config.json').write_text((trained / 'config.json').read_text())
  result = processes.run('sample.py', f'--workdir={tmp_path}', '--prompt=Mia')
  refused(result, str(tmp_path), 'no tokenizer')
