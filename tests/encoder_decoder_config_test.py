"""EncoderDecoderConfig: what it accepts, and what it says of the rest."""

import dataclasses

import pytest
from absl.testing import absltest, parameterized

from attn.modules import (
  AdditiveGRU,
  BottleneckGRU,
  EncoderDecoderConfig,
  LuongLSTM,
  ReversedLSTM,
  TranslationTransformer,
  make_encoder_decoder,
)

pytestmark = pytest.mark.smoke

_VALID = EncoderDecoderConfig(
  kind='transformer',
  source_vocab_size=17,
  target_vocab_size=19,
  embed_dim=12,
  hidden_dim=11,
  num_layers=2,
  num_heads=3,
  mlp_dim=13,
  score='general',
  locality='global',
  half_width=2,
  bidirectional=False,
  input_feeding=True,
  coverage=False,
  max_source_length=7,
  max_target_length=5,
  dropout_rate=0.0,
)


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    *(
      ({name: size}, f'^{name}: got {size}, wanted at least 1$')
      for name in (
        'source_vocab_size',
        'target_vocab_size',
        'embed_dim',
        'hidden_dim',
        'num_layers',
        'num_heads',
        'mlp_dim',
        'half_width',
        'max_source_length',
        'max_target_length',
      )
      for size in (0, -1)
    ),
    *(
      (
        {'dropout_rate': rate},
        rf'^dropout_rate: got {rate}, wanted a rate in \[0, 1\)',
      )
      for rate in (-0.1, 1.0, float('nan'))
    ),
    (
      {'kind': 'gru'},
      "^kind: got 'gru', wanted one of .*bottleneck.*lstm.*bahdanau.*luong.*"
      'transformer',
    ),
    (
      {'score': 'additive'},
      "^score: got 'additive', wanted one of .*dot.*general.*concat.*location",
    ),
    (
      {'locality': 'local'},
      "^locality: got 'local', wanted one of .*global.*local-m.*local-p",
    ),
    (
      {'kind': 'luong', 'bidirectional': True, 'score': 'dot'},
      "^score: got 'dot', wanted another than 'dot'",
    ),
    ({'num_heads': 5}, '^num_heads: got 5, wanted a divisor of embed_dim 12'),
    (
      {'num_heads': 12},
      r'^num_heads: got 12, wanted an even head size for rotary positions '
      r'\(embed_dim is 12\)',
    ),
  )
  def test_a_field_that_does_not_fit(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(_VALID, **changes)

  @parameterized.parameters('bottleneck', 'lstm', 'bahdanau', 'luong')
  def test_heads_count_in_a_transformer_alone(self, kind):
    for num_heads in (5, 12):
      config = dataclasses.replace(_VALID, kind=kind, num_heads=num_heads)
      self.assertEqual(config.num_heads, num_heads)

  def test_is_a_value(self):
    self.assertEqual(hash(_VALID), hash(dataclasses.replace(_VALID)))
    with self.assertRaises(dataclasses.FrozenInstanceError):
      _VALID.half_width = 3

  @parameterized.parameters(
    ('bottleneck', BottleneckGRU),
    ('lstm', ReversedLSTM),
    ('bahdanau', AdditiveGRU),
    ('luong', LuongLSTM),
    ('transformer', TranslationTransformer),
  )
  def test_kinds(self, kind, model):
    config = dataclasses.replace(_VALID, kind=kind)
    made = make_encoder_decoder(config)
    self.assertIs(type(made), model)
    self.assertEqual(made.config, config)


if __name__ == '__main__':
  absltest.main()
