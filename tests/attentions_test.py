"""The words for attention."""

import pytest

from attn.modules.attentions import KINDS, PATTERNS, SHORTCUTS, WORDS, parse
from tests.cache_test import config_of


def test_every_word_is_understood():
  for word in WORDS:
    found = parse(word)
    assert found.pattern == (word if word in PATTERNS else 'full')
    assert found.kind == (word if word in KINDS else 'softmax')
    assert found.shortcuts == ((word,) if word in SHORTCUTS else ())


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    ('psychic', "^attention: got 'psychic', wanted one of .*'full'"),
    ('', "^attention: got '', wanted one of"),
    ('full+', r"^attention: got 'full\+', wanted one of"),
    ('full+chunked', r'wanted at most one of .*full.*chunked'),
    ('linear+latent', r'wanted at most one of .*linear.*latent'),
  ],
)
def test_misunderstood(words, message):
  with pytest.raises(ValueError, match=message):
    parse(words)


@pytest.mark.parametrize(
  ('word', 'field', 'value'),
  [
    ('alibi', 'positions', 'alibi'),
    ('sinks', 'sinks', True),
    ('soft_cap', 'soft_cap', 50.0),
    ('multi_query', 'num_kv_heads', 1),
    ('grouped', 'num_kv_heads', 2),
  ],
)
def test_shortcuts_say_what_a_field_says(word, field, value):
  assert getattr(config_of('full'), field) != value
  assert getattr(config_of(f'sliding_window+{word}'), field) == value


@pytest.mark.parametrize(
  ('attention', 'changes', 'message'),
  [
    ('linear+sliding_window', {}, "^attention: got .*wanted pattern 'full'"),
    ('linear+alibi', {}, "^positions: got 'alibi', wanted no bias"),
    ('additive+soft_cap', {}, '^soft_cap: got 50.0, wanted 0 for additive'),
    ('sigmoid+sinks', {}, '^sinks: got True, wanted False for sigmoid'),
    ('latent+multi_query', {}, '^num_kv_heads: got 1, wanted 0 for latent'),
    ('symmetric', {'num_kv_heads': 2}, '^num_kv_heads: got 2, wanted 0'),
    (
      'differential',
      {'positions': 'relative_bias'},
      "^positions: got 'relative_bias', wanted no learned bias",
    ),
    (
      'differential',
      {'embed_dim': 12, 'positions': 'learned'},
      '^num_heads: got 4, wanted head sizes that 2 divides',
    ),
    ('grouped', {'num_heads': 1}, '^num_heads: got 1, wanted even'),
    ('latent', {'latent_dim': -1}, '^latent_dim: got -1, wanted at least 0'),
    ('alternating', {'full_every': 0}, '^full_every: got 0, wanted at least 1'),
  ],
)
def test_contradictions(attention, changes, message):
  with pytest.raises(ValueError, match=message):
    config_of(attention, **changes)
