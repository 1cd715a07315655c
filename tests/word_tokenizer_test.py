"""Words and characters as integers, and back."""

import chex
import numpy as np
import pytest

from attn.training.word_tokenizer import BOS, EOS, PAD, UNK, WordTokenizer


@pytest.fixture
def tokenizer() -> WordTokenizer:
  return WordTokenizer.of([('er', 'sieht', 'Hüte', '.'), ('er', 'singt', '.')])


def test_special_tokens_come_first_then_words_in_order(tokenizer):
  assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
  assert tokenizer.words == ('.', 'Hüte', 'er', 'sieht', 'singt')
  assert tokenizer.vocab_size == 9


def test_encode_and_decode(tokenizer):
  tokens = tokenizer.encode(('er', 'singt', 'nie', '.'))
  chex.assert_trees_all_equal(tokens, np.array([6, 8, 3, 4], np.int32))
  assert tokens.dtype == np.int32
  assert tokenizer.decode(tokens) == ('er', 'singt', '<unk>', '.')
  assert tokenizer.encode(()).shape == (0,)


def test_decode_stops_at_the_end_and_drops_what_is_no_word(tokenizer):
  tokens = np.array([BOS, 6, PAD, 5, EOS, 8, PAD])
  assert tokenizer.decode(tokens) == ('er', 'Hüte')
  assert tokenizer.decode([EOS]) == ()


def test_a_capital_does_no_harm_unless_it_tells_words_apart(tokenizer):
  assert tokenizer.tokens(('Er', 'SINGT')) == [6, 8]
  assert tokenizer.tokens(('hüte',)) == [UNK]
  assert WordTokenizer(('Er', 'er')).tokens(('er', 'Er')) == [5, 4]


def test_unknown_words_are_named_once_in_order(tokenizer):
  words = ('Zoo', 'Er', 'ab', 'Zoo', '.')
  assert tokenizer.unknown(words) == ['Zoo', 'ab']
  assert tokenizer.unknown(('er', '.')) == []


def test_a_special_name_in_a_text_is_no_special_token():
  tokenizer = WordTokenizer.of([('a', '<eos>', '<pad>')])
  assert tokenizer.words == ('a',)
  assert tokenizer.tokens(('<eos>', 'a')) == [UNK, 4]


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ("Wie geht's?", ('Wie', "geht's", '?')),
    ('  drei  Hüte\u00a0... ', ('drei', 'Hüte', '.', '.', '.')),
    ('9,5 E-Mails', ('9', ',', '5', 'E-Mails')),
    (' ', ()),
  ],
)
def test_split_words(text, words):
  assert WordTokenizer(()).split(text) == words


def test_characters_keep_their_blanks():
  tokenizer = WordTokenizer.of(['3 May'], 'character')
  assert tokenizer.words == (' ', '3', 'M', 'a', 'y')
  assert tokenizer.split(' 3 May ') == ('3', ' ', 'M', 'a', 'y')
  assert tokenizer.join(tokenizer.split('3 May')) == '3 May'
  assert WordTokenizer(()).join(('drei', 'Hüte')) == 'drei Hüte'


def test_save_and_load(tokenizer, tmp_path):
  path = tmp_path / 'tokenizer.json'
  for saved in (tokenizer, WordTokenizer('äb', 'character')):
    saved.save(path)
    loaded = WordTokenizer.load(path)
    assert (loaded.words, loaded.unit) == (saved.words, saved.unit)
    assert loaded.tokens(('ä', 'er')) == saved.tokens(('ä', 'er'))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ((('a', 'b', 'a'),), 'words: got one twice'),
    ((('a', '<unk>'),), 'words: got one twice, or one of <pad>, '),
    ((('a',), 'line'), "unit: got 'line', wanted one of word, character"),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    WordTokenizer(*arguments)
