"""Every lesson runs, prints its numbers and draws its figure."""

import ast
import functools
import pathlib
import re
import runpy
import subprocess
import sys

import chex
import numpy as np
import pytest
from matplotlib import image

FOLDER = pathlib.Path(__file__).parents[1] / 'lessons'
PATHS = sorted(FOLDER.glob('[0-9]*.py'))
TOKENS = np.array(
  [
    [0.43, 0.15, 0.89],
    [0.55, 0.87, 0.66],
    [0.57, 0.85, 0.64],
    [0.22, 0.58, 0.33],
    [0.77, 0.25, 0.10],
    [0.05, 0.80, 0.55],
  ]
)

# Numbers with four digits are off by half of the last one at most.
near = functools.partial(chex.assert_trees_all_close, rtol=0, atol=0.51e-4)
same = functools.partial(chex.assert_trees_all_close, rtol=0, atol=2e-6)


def softmax(scores):
  exponentials = np.exp(scores - scores.max(-1, keepdims=True))
  return exponentials / exponentials.sum(-1, keepdims=True)


def array(x):
  return np.asarray(x, np.float64)


def check_01_weight_free(lesson, printed):
  near(array(lesson['scores']), np.array([0.7842, 1.3569, 1.2487]))
  near(array(lesson['weights']), np.array([0.2291, 0.4063, 0.3646]))
  near(array(lesson['context']), np.array([0.3990, 0.3854, 0.8610]))
  near(lesson['rounded_context'], np.array([0.3990, 0.3854, 0.8610]))
  near(lesson['article_context'], np.array([0.3992, 0.3858, 0.8610]))
  assert '0.3990    0.3854    0.8610' in printed
  assert '0.3992    0.3858    0.8610' in printed

  scores = np.array([0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865])
  weights = np.array([0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581])
  context = np.array([0.4419, 0.6515, 0.5683])
  for form in ('loop', 'matrix'):
    near(array(lesson[f'{form}_scores'][1]), scores)
    near(array(lesson[f'{form}_weights'][1]), weights)
    near(array(lesson[f'{form}_context'][1]), context)
  for form in ('loop', 'matrix', 'library'):
    same(array(lesson[f'{form}_weights']), softmax(TOKENS @ TOKENS.T))
    same(array(lesson[f'{form}_context']), softmax(TOKENS @ TOKENS.T) @ TOKENS)
  assert '0.4419    0.6515    0.5683' in printed


def check_02_why_softmax(lesson, printed):
  weights = np.array([0.6590, 0.2424, 0.0986])
  near(array(lesson['weights']), weights)
  near(array(lesson['stable_large']), weights)
  near(array(lesson['stable_small']), weights)
  assert np.isnan(lesson['naive_large']).all()
  assert np.isnan(lesson['naive_small']).all()
  assert '0.6590    0.2424    0.0986' in printed

  near(array(lesson['sum_positive']), np.array([0.6452, 0.3226, 0.0323]))
  chex.assert_trees_all_close(
    array(lesson['sum_mixed']), np.array([20.0, 10.0, -29.0]), rtol=1e-4
  )
  assert np.isinf(lesson['sum_opposite']).all()

  assert lesson['sizes'] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
  sizes = array(lesson['sizes'])
  plain, scaled = array(lesson['deviations']).T
  chex.assert_trees_all_close(plain, np.sqrt(sizes), rtol=0.05)
  chex.assert_trees_all_close(scaled, np.ones(11), rtol=0.05)
  plain, scaled = array(lesson['typical']).T
  assert scaled.min() > 0.3
  assert plain[-1] < 1e-4 < plain[6] < 0.1
  plain, scaled = array(lesson['mean']).T
  assert scaled.min() > 0.3
  assert plain[-1] < 0.06
  # The Jacobian of one draw, from its closed form.
  scores = array(lesson['query'][0, 0] @ lesson['key'][0].T) / 32
  w = softmax(scores)
  norm = np.linalg.norm(np.diag(w) - np.outer(w, w))
  same(array(lesson['norms'][-1, 1, 0]), norm)


def check_03_query_key_value(lesson, printed):
  heads = [[array(w) for w in head] for head in lesson['heads']]
  past = np.tril(np.ones((6, 6)))
  contexts = []
  for w_query, w_key, w_value in heads:
    scores = TOKENS @ w_query @ (TOKENS @ w_key).T / np.sqrt(2)
    causal = softmax(np.where(past, scores, -np.inf))
    contexts.append(causal @ (TOKENS @ w_value))
    if len(contexts) == 1:
      weights, masked = softmax(scores), causal
      context = weights @ (TOKENS @ w_value)
  near(array(lesson['weights']), weights)
  near(array(lesson['context']), context)
  near(array(lesson['journey_weights']), weights[1])
  near(array(lesson['journey_context']), context[1])
  for name in ('before', 'after', 'causal_weights'):
    near(array(lesson[name]), masked)
    assert not array(lesson[name])[past == 0].any()

  kept = array(lesson['dropped']) > 0
  assert 0 < kept.sum() < 21
  same(array(lesson['dropped'])[kept], 2 * array(lesson['before'])[kept])
  assert (array(lesson['many']) > 0)[:, past > 0].mean() == pytest.approx(
    0.5, abs=0.01
  )
  # A mean of n doubled or dropped weights deviates by weight / √n.
  error = np.abs(array(lesson['average']) - masked)
  assert (error <= 4 * masked / np.sqrt(lesson['DRAWS']) + 1e-6).all()

  for name in ('stacked', 'split', 'called'):
    near(array(lesson[name]), np.concatenate(contexts, -1))
  same(array(lesson['split']), array(lesson['stacked']))
  same(array(lesson['called']), array(lesson['stacked']))
  assert '1 1 1 0 0 0\n' in printed


def check_04_why_three_vectors(lesson, printed):
  chex.assert_shape(lesson['telegrams'], (24, 7))
  curves, errors = lesson['losses'], lesson['role_errors']
  # The best share is 2/7: a name keeps 5/7 and gives 1/21 to each other word.
  share, rest = 5 / 7, 1 / 21
  name = share**2 + (1 - rest) ** 2 + 5 * rest**2
  other = (1 - share) ** 2 + 6 * rest**2
  ratio = np.array([name, other, other, (2 * name + 5 * other) / 7])
  near(array(errors['fixed_ratio']), ratio)
  # One key: half for a name, half for a noun, nothing for filler.
  chex.assert_trees_all_close(
    array(errors['one_key']), np.array([1 / 2, 1 / 2, 0, 2 / 7]), atol=0.01
  )
  assert errors['one_key'][0] >= 0.5 - 1e-6
  assert curves['one_key'].min() >= 2 / 7 - 1e-6
  assert errors['query_and_key'].max() < 1e-3
  assert curves['query_and_key'][-1] < 2e-4

  weights = {name: array(w) for name, w in lesson['weights'].items()}
  for w in weights.values():
    same(w.sum(-1), np.ones(7))
  assert weights['query_and_key'][0, 1] > 0.98  # Pim sees baker,
  assert weights['query_and_key'][1, 0] < 0.01  # baker not Pim.
  w = weights['one_key']
  assert (w <= np.diag(w)[:, None] + 1e-6).all()
  assert w[0, 1] == pytest.approx(w[1, 0], abs=0.01)

  # Keys of any length: nouns are loud; a ring still defeats them.
  assert lesson['loud_curve'][-1] < 1e-3
  lengths = array(lesson['lengths'])
  assert lengths[4:8].min() > lengths[:4].max()
  near(array(lesson['ring_one'][-1]), np.array(2 / 3))
  assert lesson['ring_two'][-1] < 1e-3
  assert 'Pim baker Ola sailor' in printed


def check_05_a_summary_loses(lesson, printed):
  words = lesson['words']
  assert len(words) == 10
  assert sum(map(len, words)) == 50
  assert sorted(words) == sorted(lesson['other'].split())
  assert words != lesson['other'].split()
  shares = dict(zip(words, array(lesson['shares'])))
  by_length = {len(word): share for word, share in shares.items()}
  near(by_length[9], 0.180)
  near(by_length[2], 0.040)
  near(sum(shares.values()), 1.0)
  assert '0.180\n' in printed
  assert '0.040\n' in printed

  for blind in ('sum_gap', 'placed_gap', 'blind_gap'):
    assert lesson[blind] < 1e-6
  assert lesson['seen_gap'] > 0.1
  one, other = array(lesson['seen'])
  same(one.sum(), 1.0)
  same(other.sum(), 1.0)
  quiet, snowy = words.index('quiet'), words.index('snowy')
  assert one[quiet] > 2 * one[snowy]
  assert other[snowy] > 2 * other[quiet]


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_lesson_says_what_it_promises(path, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(
    sys, 'argv', [str(path), str(tmp_path / 'new' / 'folder')]
  )
  monkeypatch.setattr(sys, 'path', [str(FOLDER), *sys.path])
  monkeypatch.chdir(tmp_path)
  lesson = runpy.run_path(str(path), run_name='__main__')
  printed = capsys.readouterr().out
  globals()[f'check_{path.stem}'](lesson, printed)

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


def test_there_are_five_lessons():
  assert [path.stem[:2] for path in PATHS] == ['01', '02', '03', '04', '05']


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
