"""Files of source TAB target: what is read, and what is refused where."""

import re

import pytest

from attn.training.errors import UserError
from attn.training.parallel_text import read_parallel_text

GOOD = [f'Wort {i}\tword {i}'.encode() for i in range(1, 24)]


def read(tmp_path, lines, max_words=5, **options):
  path = tmp_path / 'pairs.tsv'
  path.write_bytes(lines if isinstance(lines, bytes) else b'\n'.join(lines))
  return read_parallel_text(path, max_words=max_words, **options)


def test_lines_are_split_by_their_number(tmp_path):
  text = read(tmp_path, [b'a\tb'] * 2 + GOOD + [b'a\tb'] * 18)
  assert [pair.source for pair in text.validation] == [('Wort', '8'), ('a',)]
  assert [pair.target for pair in text.test] == [('word', '18'), ('b',)]
  assert len(text.train) == 39
  assert text.train[2].source == ('Wort', '1')
  assert all(pair.alignment is None for pair in text.train)


@pytest.mark.parametrize('end', [b'', b'\n', b'\r\n'])
def test_ends_of_lines_and_a_mark_of_byte_order_are_no_words(tmp_path, end):
  mark = b'\r\n' if end == b'\r\n' else b'\n'
  lines = b'\xef\xbb\xbf' + mark.join(GOOD) + end
  text = read(tmp_path, lines)
  assert text.train[0].source == ('Wort', '1')
  assert text.train[-1].target == ('word', '23')
  assert len(text.train) == 21


def test_characters(tmp_path):
  text = read(tmp_path, GOOD, max_words=7, unit='character')
  assert text.train[0].target == ('w', 'o', 'r', 'd', ' ', '1')


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    (b'Hut hat', 'line 7: got no tab, wanted one, between source and target'),
    (b'', 'line 7: got no tab, wanted one'),
    (b'Hut\that\tcap', 'line 7: got 2 tabs, wanted one'),
    (b'\that', 'line 7: the source is empty'),
    (b'Hut\t \r', 'line 7: the target is empty'),
    (b'H\xfcte\thats', 'line 7 is not UTF-8 (byte 2 of the line: invalid'),
    (b'a b c d e f\tx', 'line 7: the source has 6 words, more than the limit'),
    (b'a\tu v, x y', 'line 7: the target has 5 words, more than the limit'),
  ],
)
def test_bad_lines_are_named(tmp_path, line, message):
  with pytest.raises(UserError, match=re.escape(message)) as caught:
    read(tmp_path, [*GOOD[:6], line, *GOOD[7:]], max_words=4)
  assert 'pairs.tsv' in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_line_at_the_limit_is_good(tmp_path):
  assert read(tmp_path, [*GOOD, b'a b c d\tu v w x'], max_words=4).train


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (b'', 'is empty'),
    (b'\xef\xbb\xbf', 'is empty'),
    (GOOD[:19], 'got 19 lines, wanted at least 20'),
  ],
)
def test_too_little_is_refused(tmp_path, lines, message):
  with pytest.raises(UserError, match=message):
    read(tmp_path, lines)


def test_twenty_lines_are_enough(tmp_path):
  text = read(tmp_path, GOOD[:20])
  assert [len(part) for part in text] == [18, 1, 1]


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path):
  for path in (tmp_path / 'none.tsv', tmp_path):
    with pytest.raises(UserError, match=f'data: {re.escape(str(path))}: '):
      read_parallel_text(path, max_words=5)
