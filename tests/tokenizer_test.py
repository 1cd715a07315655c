"""Tokens: every text comes back, and a saved tokenizer is the same."""

import pathlib

import numpy as np
import pytest

from attn.training.byte_pairs import BytePairTokenizer
from attn.training.errors import UserError
from attn.training.tokenizer import (
  ByteTokenizer,
  CharTokenizer,
  load_tokenizer,
  make_tokenizer,
  save_tokenizer,
  share_among_characters,
)

TEXT = 'a rose is a rose, is a rosé. ' * 20
KINDS = ('characters', 'bytes', 'bpe')


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest):
  return make_tokenizer(request.param, TEXT, 270)


def test_a_text_comes_back(tokenizer):
  tokens = tokenizer.encode(TEXT)
  assert tokens.dtype == np.int32
  assert tokens.min() >= 0
  assert tokens.max() < tokenizer.vocab_size
  assert tokenizer.decode(tokens) == TEXT


def test_tokens_stand_for_all_bytes(tokenizer):
  tokens = tokenizer.encode(TEXT)
  lengths = tokenizer.byte_lengths(tokens)
  assert sum(lengths) == len(TEXT.encode())
  if tokenizer.unit != 'byte':
    pieces = [tokenizer.decode([token]) for token in tokens[:8]]
    assert [len(piece.encode()) for piece in pieces] == lengths[:8]


def test_saved_is_loaded(tokenizer, tmp_path: pathlib.Path):
  path = tmp_path / 'tokenizer.json'
  save_tokenizer(tokenizer, path)
  again = load_tokenizer(path)
  assert type(again) is type(tokenizer)
  assert again == tokenizer
  np.testing.assert_array_equal(again.encode(TEXT), tokenizer.encode(TEXT))


def test_sizes():
  assert CharTokenizer.of(TEXT).vocab_size == len(set(TEXT))
  assert ByteTokenizer().vocab_size == 256
  assert BytePairTokenizer.of(TEXT, 262).vocab_size == 262


def test_bytes_know_every_text():
  for tokenizer in (ByteTokenizer(), BytePairTokenizer.of('abc', 256)):
    assert tokenizer.decode(tokenizer.encode('Żółw 龜')) == 'Żółw 龜'


def test_half_a_character_is_broken():
  for tokenizer in (ByteTokenizer(), BytePairTokenizer.of('abc', 256)):
    tokens = tokenizer.encode('é')
    assert len(tokens) == 2
    assert tokenizer.decode(tokens[:1]) == '\ufffd'


def test_what_is_frequent_becomes_one_token():
  tokenizer = BytePairTokenizer.of(TEXT, 270)
  pieces = [tokenizer.decode([x]) for x in tokenizer.encode('is a rose')]
  assert ' rose' in pieces
  assert len(tokenizer.encode(TEXT)) < len(TEXT) / 2


def test_unknown_characters_are_named():
  with pytest.raises(UserError, match=r"'x', 'y'; it knows 'abc'"):
    CharTokenizer.of('cab').encode('yax')


@pytest.mark.parametrize(
  ('kind', 'vocab_size', 'message'),
  [
    ('words', 300, "^tokenizer: got 'words', wanted one of"),
    ('bpe', 255, '^vocab_size: got 255, wanted at least 256'),
  ],
)
def test_refused(kind, vocab_size, message):
  with pytest.raises(ValueError, match=message):
    make_tokenizer(kind, TEXT, vocab_size)


@pytest.mark.parametrize(
  'content',
  ['', '[]', '{}', '{"kind": "bpe", "model": "{}"}', '{"kind": "runes"}'],
)
def test_no_tokenizer(content: str, tmp_path: pathlib.Path):
  path = tmp_path / 'tokenizer.json'
  path.write_text(content)
  with pytest.raises(ValueError, match=r'tokenizer|kind|Expecting'):
    load_tokenizer(path)


def test_attention_among_tokens_is_shared_among_characters():
  """Bytes of 'aé': the second character is two tokens."""
  weights = np.array([[1, 0, 0], [0.25, 0.75, 0], [0.5, 0.2, 0.3]])
  got = share_among_characters(ByteTokenizer(), 'aé', weights)
  np.testing.assert_allclose(got, [[1, 0], [0.5, 0.5]])


def test_a_token_of_several_characters_divides_what_it_gets():
  tokenizer = BytePairTokenizer.of('ab ab ab ab', 258)
  assert [tokenizer.decode([x]) for x in tokenizer.encode('abc')] == ['ab', 'c']
  weights = np.array([[1, 0], [0.6, 0.4]])
  got = share_among_characters(tokenizer, 'abc', weights)
  np.testing.assert_allclose(
    got, [[0.5, 0.5, 0], [0.5, 0.5, 0], [0.3, 0.3, 0.4]]
  )
