"""Sampling from a run as a user does it."""

import pathlib
import shutil

import processes
import pytest
from processes import refused, snapshot

pytestmark = pytest.mark.xdist_group('trained')


def say(workdir: pathlib.Path, *flags: str) -> str:
  result = processes.run('sample.py', f'--workdir={workdir}', *flags)
  assert result.returncode == 0, result.stderr
  assert result.stderr == ''
  return result.stdout


@pytest.fixture(scope='module')
def bytes_run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A run on the bytes of a text."""
  folder = tmp_path_factory.mktemp('bytes')
  text = folder / 'text'
  text.write_text('ein Käse, zwei Käse. ' * 60)
  workdir = folder / 'run'
  result = processes.train(
    workdir,
    f'--data={text}',
    '--config.tokenizer=bytes',
    '--config.context=40',
    '--config.model.attention=sliding_window+multi_query',
    '--config.model.window=8',
  )
  assert result.returncode == 0, result.stderr
  assert 'nats per byte' in result.stdout
  return workdir


def test_a_story_begins_with_its_prompt_and_ends(trained: pathlib.Path):
  said = say(trained, '--prompt=Mia', '--seed=1')
  assert said.startswith('Mia')
  assert said.count('\n') == 1
  assert said == say(trained, '--prompt=Mia', '--seed=1')
  assert said != say(trained, '--prompt=Mia', '--seed=2')


def test_prompts_are_continued_together_as_alone(trained: pathlib.Path):
  flags = ('--temperature=0', '--length=30')
  together = say(trained, '--prompt=Mia', '--prompt=Ben hugs ', *flags)
  alone = [
    say(trained, f'--prompt={prompt}', *flags)
    for prompt in ('Mia', 'Ben hugs ')
  ]
  assert together == ''.join(alone)


def test_a_text_ends_before_what_stops_it(trained: pathlib.Path):
  flags = ('--prompt=Mia', '--temperature=2', '--length=60')
  whole = say(trained, *flags).removesuffix('\n')
  stop = whole[len(whole) // 2 :][:2]
  assert len(stop) == 2
  assert say(trained, *flags, f'--stop={stop}') == (
    whole[: whole.index(stop, 3)] + '\n'
  )


def test_a_draft_changes_nothing_but_the_pace(trained: pathlib.Path):
  flags = ('--prompt=Mia', '--temperature=0', '--length=40')
  assert say(trained, *flags, f'--draft={trained}') == say(trained, *flags)


def test_bytes_beyond_the_context(bytes_run: pathlib.Path):
  said = say(bytes_run, '--prompt=ein Kä', '--length=90', '--temperature=0.1')
  assert said.startswith('ein Kä')
  assert len(said.encode()) > 80


def test_a_tokenizer_of_another_run_is_refused(
  trained: pathlib.Path, bytes_run: pathlib.Path, tmp_path: pathlib.Path
):
  workdir = tmp_path / 'run'
  shutil.copytree(trained, workdir)
  shutil.copy(bytes_run / 'tokenizer.json', workdir / 'tokenizer.json')
  (workdir / 'summary.json').unlink()
  before = snapshot(workdir)
  for result in (
    processes.run('sample.py', f'--workdir={workdir}', '--prompt=Mia'),
    processes.train(workdir),
  ):
    refused(
      result, 'workdir', 'tokenizer.json', 'not the tokenizer that this run'
    )
    assert snapshot(workdir) == before


def test_a_draft_of_another_tokenizer_is_refused(
  trained: pathlib.Path, bytes_run: pathlib.Path
):
  result = processes.run(
    'sample.py', f'--workdir={trained}', f'--draft={bytes_run}', '--prompt=Mia'
  )
  refused(result, f'draft: {bytes_run} has another tokenizer')
