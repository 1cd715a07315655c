"""Every lesson runs, prints its numbers and draws its figure."""

import ast
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import image

from tests import lesson_checks

FOLDER = pathlib.Path(__file__).parents[1] / 'lessons'
PATHS = sorted(FOLDER.glob('[0-9]*.py'))


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_lesson_says_what_it_promises(path, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(
    sys, 'argv', [str(path), str(tmp_path / 'new' / 'folder')]
  )
  monkeypatch.setattr(sys, 'path', [str(FOLDER), *sys.path])
  monkeypatch.chdir(tmp_path)
  lesson = runpy.run_path(str(path), run_name='__main__')
  printed = capsys.readouterr().out
  getattr(lesson_checks, f'check_{path.stem}')(lesson, printed)

  figure = re.search(r'`(\w+)\.png`', lesson['__doc__']).group(1)
  written = list(tmp_path.rglob('*.*'))
  assert [file.name for file in written] == [f'{figure}.png']
  assert f'figure: {written[0]}' in printed
  pixels = image.imread(written[0])[..., :3]
  assert min(pixels.shape[:2]) >= 500
  assert 0.02 < (pixels < 0.99).any(-1).mean() < 0.9
  colors = np.unique((pixels * 255).astype(np.uint8).reshape(-1, 3), axis=0)
  assert len(colors) > 50


def test_a_lesson_runs_from_any_folder(tmp_path):
  command = [sys.executable, str(PATHS[0])]
  run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
  assert run.returncode == 0, run.stderr
  assert run.stdout.startswith('\nHello shiny sun\n')
  assert (tmp_path / 'runs' / 'lessons' / '01_six_tokens.png').exists()


def test_there_are_eleven_lessons():
  numbers = [int(path.stem[:2]) for path in PATHS]
  assert numbers == list(range(1, 12))


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_lesson_is_in_percent_format(path):
  text = path.read_text()
  assert len(text.splitlines()) < 200
  before, *cells = re.split(r'^# %%', text, flags=re.MULTILINE)
  assert not before
  kinds = [cell.partition('\n')[0].strip() for cell in cells]
  assert set(kinds) == {'', '[markdown]'}
  bodies = [cell.partition('\n')[2] for cell in cells]
  # The first cell is the docstring: the title, the command and the figure.
  docstring = ast.get_docstring(ast.parse(bodies[0]))
  assert kinds[0] == '[markdown]'
  assert docstring == ast.get_docstring(ast.parse(text))
  assert docstring.startswith(f'# {int(path.stem[:2])}. ')
  assert f'`python lessons/{path.name} [FOLDER]`' in docstring
  assert f'`{path.stem[:2]}_' in docstring
  for kind, body in zip(kinds[1:], bodies[1:]):
    assert body.strip()
    if kind == '[markdown]':
      lines = body.rstrip().splitlines()
      assert all(line == '#' or line.startswith('# ') for line in lines)
    else:
      assert ast.parse(body).body


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_lesson_is_in_the_table(path):
  rows = (FOLDER / 'README.md').read_text().splitlines()
  [row] = [row for row in rows if f'({path.name})' in row]
  _, link, idea, command, _ = row.split('|')
  assert link.strip().startswith('[')
  assert idea.strip().endswith('.')
  assert command.strip() == f'`python lessons/{path.name}`'


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_lesson_is_a_notebook(path):
  jupytext = pytest.importorskip('jupytext')
  notebook = jupytext.reads(
    jupytext.writes(jupytext.read(path), 'ipynb'), 'ipynb'
  )
  cells = re.split(r'^# %%', path.read_text(), flags=re.MULTILINE)[1:]
  assert len(notebook.cells) == len(cells)
  for cell, written in zip(notebook.cells, cells):
    kind, _, body = written.partition('\n')
    if kind.strip() != '[markdown]':
      assert cell.cell_type == 'code'
      assert cell.source == body.strip()
      continue
    assert cell.cell_type == 'markdown'
    if body.startswith('"""'):
      assert cell.source == body.strip().strip('"').strip()
    else:
      prose = [x.removeprefix('#').removeprefix(' ') for x in body.split('\n')]
      assert cell.source == '\n'.join(prose).strip()
