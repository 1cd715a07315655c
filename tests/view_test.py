"""The page of heads: its numbers, its size, its mistakes."""

import base64
import json
import pathlib
import re

import numpy as np
import processes
import pytest

from attn.training.errors import UserError
from attn.training.head_rows import rows_of_call
from attn.training.view import _word_tokens, summarize
from tests.view_cases import CONTEXT, T, calls_and_weights, write

MAIN = str(pathlib.Path('attn') / 'training' / 'view.py')


def data_of(path):
  page = path.read_text()
  (data,) = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
  return json.loads(data)


@pytest.mark.parametrize('name', ['softmax', 'difference'])
def test_what_is_said_of_heads_is_so(name):
  ((call,), (weights,)) = calls_and_weights(name)
  found = summarize(rows_of_call(call), side=5)
  weights = np.float64(weights)
  shares = np.abs(weights) / np.abs(weights).sum(-1, keepdims=True)
  logs = np.log(np.where(shares > 0, shares, 1))
  np.testing.assert_allclose(
    found.entropy, -(shares * logs).sum(-1).mean(-1), atol=1e-3
  )
  np.testing.assert_allclose(found.first, weights[:, 1:, 0].mean(-1), atol=1e-3)
  if name == 'softmax':
    sink = 1 - weights.sum(-1).mean(-1)
    assert sink.min() > 0.01
    np.testing.assert_allclose(found.sink, sink, atol=1e-3)
  else:
    assert found.sink is None
  part = np.arange(T) * 5 // T
  for i, j in np.ndindex(5, 5):
    largest = weights[:, part == i][:, :, part == j].max((1, 2))
    np.testing.assert_allclose(found.maps[:, i, j], largest.clip(0), atol=1e-3)


def test_the_page_holds_queries_and_keys_and_no_rows(tmp_path):
  text = 'a bad face ' * 2
  few, data = (
    data_of(write(tmp_path / 'view.html', text=text[:n])) for n in (10, 20)
  )
  # All but the maps, whose size has a limit, is linear in the length.
  small, large = (len(json.dumps(each['calls'])) for each in (few, data))
  assert 1.5 * small < large < 2 * small
  assert data['text'] == list(text[:20])
  assert len(data['statistics']) == data['layers'] * data['heads'] == 6
  query = base64.b64decode(data['calls'][0]['query']['whole'])
  assert len(query) == 20 * 24 * 2


def test_words_begin_where_their_first_token_does():
  pieces = ['Le', 'a', ' hu', 'gs', '.', '\n', 'Ben']
  assert _word_tokens(pieces) == [0, 2, 4, 5, 6]


def test_bad_texts_are_refused(tmp_path):
  path = tmp_path / 'view.html'
  for text, told in (
    ('', 'text: got 0 characters, wanted 1 to 29, the context'),
    ('a' * (CONTEXT + 1), 'text: got 30 characters, wanted 1 to 29'),
    ('Z', "text: got characters that the model never saw, 'Z'"),
  ):
    with pytest.raises(UserError, match=told):
      write(path, text=text)
  assert not path.exists()


@pytest.mark.xdist_group('trained')
def test_a_run_is_viewed(trained, tmp_path):
  path = tmp_path / 'view.html'
  flags = f'--workdir={trained}', f'--out={path}'
  result = processes.run(MAIN, *flags, '--text=Lea hugs a map.')
  assert result.returncode == 0, result.stderr
  assert f"{path} shows 'Lea hugs a map.'" in result.stdout
  assert ''.join(data_of(path)['text']) == 'Lea hugs a map.'
  processes.refused(processes.run(MAIN, *flags), 'text')
  result = processes.run(MAIN, *flags, '--text=Lea 7')
  processes.refused(result, "never saw, '7'")
