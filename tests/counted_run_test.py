"""A run whose model begins with counted n-grams, from text to samples."""

import json
import pathlib
import shutil

import processes
import pytest

TEXT = 'the cat sat on the mat, the rat sat on the cat. ' * 40
FLAGS = (
  '--config.model.counts=3',
  '--config.model.count_rows=300',
  '--config.context=32',
  '--config.eval.first=True',
)


def lines_of(workdir: pathlib.Path) -> list[tuple[str, int]]:
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  told = map(json.loads, lines)
  return [(line['split'], line['step']) for line in told]


@pytest.fixture(scope='module')
def counted(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp('counted')
  (folder / 'text').write_text(TEXT)
  data = f'--data={folder / "text"}'
  result = processes.train(folder / 'run', *FLAGS, data)
  assert result.returncode == 0, result.stderr
  return folder / 'run'


def test_it_knows_much_before_its_first_step(counted: pathlib.Path):
  lines = (counted / 'metrics.jsonl').read_text().splitlines()
  first = json.loads(lines[0])
  assert (first['split'], first['step']) == ('validation', 0)
  # Of 13 characters, each as likely, 2.56.
  assert first['loss'] < 0.6


def test_what_was_counted_is_no_parameter(counted: pathlib.Path):
  summary = json.loads((counted / 'summary.json').read_text())
  assert summary['parameters'] < 5000


def test_a_run_without_a_checkpoint_begins_anew(
  counted: pathlib.Path, tmp_path: pathlib.Path
):
  """As if it was killed after the evaluation before its first step."""
  workdir = tmp_path / 'run'
  shutil.copytree(counted, workdir)
  shutil.rmtree(workdir / 'checkpoints')
  (workdir / 'summary.json').unlink()
  data = f'--data={counted.parent / "text"}'
  result = processes.train(workdir, *FLAGS, data)
  assert result.returncode == 0, result.stderr
  assert lines_of(workdir) == lines_of(counted)
  assert lines_of(workdir).count(('validation', 0)) == 1


def test_it_writes(counted: pathlib.Path):
  result = processes.run(
    'sample.py', f'--workdir={counted}', '--prompt=the c', '--temperature=0'
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.startswith('the cat on the ')


def test_the_toy_language_is_no_text(tmp_path: pathlib.Path):
  result = processes.train(tmp_path / 'run', '--config.model.counts=3')
  processes.refused(result, 'config.model.counts', 'got 3', 'wanted 0')
