"""python -m benchmarks.shakespeare, in its quick form."""

import json
import operator
import pathlib
import subprocess
import sys

import pytest

from benchmarks import shakespeare


@pytest.mark.parametrize('name', shakespeare.INGREDIENTS)
def test_leaving_something_out_changes_the_recipe(name: str):
  changes = shakespeare.INGREDIENTS[name]
  whole = shakespeare.make_config('text', {}, quick=False)
  without = shakespeare.make_config('text', changes, quick=False)
  for field, value in changes.items():
    assert operator.attrgetter(field)(without) == value
    assert operator.attrgetter(field)(whole) != value


def test_quick(tmp_path: pathlib.Path):
  text, out = tmp_path / 'text', tmp_path / 'out.json'
  text.write_text('the cat sat on the mat, the rat sat on the cat. ' * 40)
  command = [sys.executable, '-m', 'benchmarks.shakespeare', '--quick']
  result = subprocess.run(
    [*command, f'--text={text}', '--seeds=3,4', f'--out={out}'],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  runs = json.loads(out.read_text())['cases']['whole']['runs']
  assert [run['seed'] for run in runs] == [3, 4]
  # Before the first step, after two and after four.
  assert all(len(run['curve']) == 3 for run in runs)
  middle = (runs[0]['loss'] + runs[1]['loss']) / 2
  assert f'{middle:.4f}' in result.stdout
  assert str(text) not in out.read_text()


def test_an_ingredient_there_is_not():
  command = [sys.executable, '-m', 'benchmarks.shakespeare', '--quick']
  result = subprocess.run(
    [*command, '--text=/dev/null', '--without=salt'],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 2
  assert (
    "--without: got 'salt', wanted some of counts of n-grams" in result.stderr
  )
