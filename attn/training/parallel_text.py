"""Any parallel text: a file of lines with a source, a tab, and its target."""

import codecs
import os
import pathlib
from typing import NamedTuple

from attn.training.errors import UserError
from attn.training.pairs import Pair
from attn.training.word_tokenizer import split

# Of 20 lines, the tenth is for validation and the twentieth for the test.
_PERIOD, _VALIDATION, _TEST = 20, 10, 0


class ParallelText(NamedTuple):
  """The pairs of a file; nobody knows their alignment.

  Attributes:
    train: 18 of 20 lines.
    validation: The 10th, 30th, 50th ... line.
    test: The 20th, 40th, 60th ... line.
  """

  train: list[Pair]
  validation: list[Pair]
  test: list[Pair]


def read_parallel_text(
  path: str | os.PathLike[str],
  *,
  max_words: int,
  unit: str = 'word',
) -> ParallelText:
  r"""Reads a file of source TAB target, one pair a line.

  Args:
    path: The file, in UTF-8.
    max_words: The most tokens that a source or a target may have.
    unit: What a token is: word or character.

  Returns:
    The pairs, split by line number.

  Raises:
    UserError: if the file cannot be read, is empty or has fewer than 20 lines;
      or if a line is not UTF-8, has no tab, or more than one, or an empty
      side, or is too long: the first such line, with its number.

  Example:
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...   _ = file.write('ein Hut\ta hat\n'.encode() * 20)
    ...   file.flush()
    ...   text = read_parallel_text(file.name, max_words=7)
    >>> len(text.train), len(text.validation), len(text.test)
    (18, 1, 1)
    >>> text.test[0].target
    ('a', 'hat')
  """
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise UserError(f'data: {path}: {error.strerror}') from error
  data = data.removeprefix(codecs.BOM_UTF8)
  if not data:
    raise UserError(f'data: {path} is empty')
  lines = data.removesuffix(b'\n').split(b'\n')
  pairs = [
    _read_line(f'data: {path}: line {number}', line, max_words, unit)
    for number, line in enumerate(lines, 1)
  ]
  if len(pairs) < _PERIOD:
    raise UserError(
      f'data: {path}: got {len(pairs)} lines, wanted at least {_PERIOD}: '
      f'of {_PERIOD}, one is kept for validation and one for the test'
    )
  text = ParallelText([], [], [])
  for number, pair in enumerate(pairs, 1):
    part = {_VALIDATION: text.validation, _TEST: text.test}.get(
      number % _PERIOD, text.train
    )
    part.append(pair)
  return text


def _read_line(where: str, line: bytes, max_words: int, unit: str) -> Pair:
  try:
    fields = line.decode('utf-8').split('\t')
  except UnicodeDecodeError as error:
    raise UserError(
      f'{where} is not UTF-8 (byte {error.start + 1} of the line: '
      f'{error.reason})'
    ) from error
  if len(fields) != 2:
    raise UserError(
      f'{where}: got {len(fields) - 1 or "no"} tab{"s" * (len(fields) > 2)}, '
      'wanted one, between source and target'
    )
  sides = []
  for name, field in zip(('source', 'target'), fields):
    words = split(field, unit)
    if not words:
      raise UserError(f'{where}: the {name} is empty')
    if len(words) > max_words:
      raise UserError(
        f'{where}: the {name} has {len(words)} {unit}s, more than the limit '
        f'of {max_words}'
      )
    sides.append(words)
  return Pair(*sides, alignment=None)
