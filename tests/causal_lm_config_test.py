"""CausalLMConfig: what it accepts, and what it says of the rest."""

import dataclasses

from absl.testing import absltest, parameterized

from attn.modules import CausalLMConfig

_VALID = CausalLMConfig(
  vocab_size=13,
  context=7,
  num_layers=2,
  embed_dim=12,
  num_heads=6,
  num_kv_heads=3,
  mlp_dim=17,
  attention='full',
  window=2,
  positions='rotary',
  rope_base=50.0,
  norm='rmsnorm',
  activation='relu2',
  qk_norm=True,
  tied_head=False,
  dropout_rate=0.0,
)


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    *(
      ({name: size}, f'{name}: got {size}, wanted at least 1')
      for name in (
        'vocab_size',
        'context',
        'num_layers',
        'embed_dim',
        'num_heads',
        'mlp_dim',
        'window',
        'dilation',
        'chunk_size',
        'global_tokens',
        'prefix_length',
      )
      for size in (0, -1)
    ),
    ({'num_heads': 5}, 'num_heads: got 5, wanted a divisor of embed_dim 12'),
    *(
      (
        {'num_kv_heads': count},
        f'num_kv_heads: got {count}, wanted 0 or a divisor of num_heads 6',
      )
      for count in (-1, 4, 12)
    ),
    *(
      (
        {'dropout_rate': rate},
        rf'dropout_rate: got {rate}, wanted a rate in \[0, 1\)',
      )
      for rate in (-0.1, 1.0, float('nan'))
    ),
    (
      {'attention': 'flash'},
      "attention: got 'flash', wanted one of .*full.*sliding_window.*dilated.*"
      'chunked.*global.*prefix.*none',
    ),
    (
      {'positions': 'gps'},
      "positions: got 'gps', wanted one of "
      '.*learned.*sinusoidal.*rotary.*alibi.*relative_bias.*none',
    ),
    *(
      ({'soft_cap': cap}, f'soft_cap: got {cap}, wanted 0 or a positive number')
      for cap in (-1.0, float('nan'), float('inf'))
    ),
    *(
      ({name: value}, f'{name}: got {value}, wanted {wanted}')
      for name, value, wanted in (
        ('head_dim', -1, 'at least 0'),
        ('query_scalar', -1.0, '0 or a positive number'),
        ('norm_epsilon', 0.0, 'a positive number'),
        ('norm_epsilon', float('nan'), 'a positive number'),
        ('norm_bias', True, 'False for rmsnorm'),
      )
    ),
    (
      {'head_dim': 3},
      'num_heads: got 6, wanted an even head size for rotary positions',
    ),
    (
      {'rope_scaling': {'kind': 'linear', 'factor': 0.5}},
      'rope_scaling: factor: got 0.5, wanted at least 1',
    ),
    ({'rope_scaling': {'kind': 'linear', 'speed': 2}}, 'rope_scaling: .*speed'),
    (
      {'positions': 'none', 'rope_scaling': {'kind': 'linear'}},
      'rope_scaling: got .*, wanted None for none positions',
    ),
    (
      {
        'rope_base': 1.0,
        'rope_scaling': {'kind': 'yarn', 'original_context': 7},
      },
      'rope_base: got 1.0, wanted more than 1 for yarn',
    ),
    *(
      (
        {'attention': 'linear', 'num_kv_heads': 0, name: value},
        f'{name}: got {value}, wanted none for linear attention',
      )
      for name, value in (('head_dim', 4), ('attention_bias', True))
    ),
    (
      {'attention': 'cosine', 'query_scalar': 3.0},
      'query_scalar: got 3.0, wanted 0 for cosine attention',
    ),
    (
      {'implementation': 'magic'},
      "implementation: got 'magic', wanted None or one of 'dense'",
    ),
    (
      {'attention': 'prefix', 'prefix_length': 7},
      'prefix_length: got 7, wanted less than the context, 7',
    ),
    (
      {'positions': 'relative_bias', 'relative_buckets': 1},
      'relative_buckets: got 1, wanted at least 2',
    ),
    (
      {
        'attention': 'prefix',
        'prefix_length': 2,
        'positions': 'relative_bias',
        'relative_buckets': 7,
      },
      'relative_buckets: got 7, wanted an even number of at least 4',
    ),
    (
      {'positions': 'relative_bias', 'relative_max_distance': 16},
      'relative_max_distance: got 16, wanted more than 16',
    ),
    ({'ngrams': 1}, 'ngrams: got 1, wanted 0, 2 or more'),
    ({'ngrams': -2}, 'ngrams: got -2, wanted 0, 2 or more'),
    ({'counts': -1}, 'counts: got -1, wanted at least 0'),
    (
      {'counts': 2, 'vocab_size': 513},
      'counts: got 2, wanted 0 for more than 512 tokens',
    ),
    ({'count_rows': 0}, 'count_rows: got 0, wanted at least 1'),
    ({'ngram_rows': 0}, 'ngram_rows: got 0, wanted at least 1'),
    ({'ngram_dim': 0}, 'ngram_dim: got 0, wanted at least 1'),
    ({'logit_cap': -1.0}, 'logit_cap: got -1.0, wanted 0 or a positive number'),
    ({'kernel_std': -1.0}, 'kernel_std: got -1.0, wanted 0 or a positive numb'),
    ({'norm': 'none'}, "norm: got 'none', wanted one of .*layernorm.*rmsnorm"),
    (
      {'activation': 'relu'},
      "activation: got 'relu', wanted one of .*gelu.*relu2.*swiglu",
    ),
    (
      {'num_heads': 12},
      r'num_heads: got 12, wanted an even head size for rotary positions '
      r'\(embed_dim is 12\)',
    ),
    (
      {'embed_dim': 9, 'num_heads': 3, 'positions': 'sinusoidal'},
      'embed_dim: got 9, wanted an even width for sinusoidal positions',
    ),
    *(
      ({'rope_base': base}, f'rope_base: got {base}, wanted a positive number')
      for base in (0.0, -1.0, float('nan'), float('inf'))
    ),
  )
  def test_a_field_that_does_not_fit(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(_VALID, **changes)

  @parameterized.parameters(
    {'num_kv_heads': 0},
    {'num_kv_heads': 6},
    {'num_heads': 12, 'positions': 'learned'},
    {'rope_base': 0.0, 'positions': 'none'},
    {'embed_dim': 9, 'num_heads': 3, 'positions': 'learned'},
    {'window': 70},
    {'prefix_length': 70},
    {'attention': 'prefix', 'prefix_length': 6},
    {'relative_buckets': 1},
    {'positions': 'relative_bias', 'relative_buckets': 7},
    {'positions': 'alibi', 'num_heads': 12},
    {'soft_cap': 0.5},
    {'ngrams': 2, 'ngram_rows': 1, 'ngram_dim': 1, 'logit_cap': 15.0},
    {'implementation': 'dense'},
    {'head_dim': 10, 'embed_dim': 7},
    {'norm': 'layernorm', 'norm_bias': True},
  )
  def test_fields_that_fit(self, **changes):
    config = dataclasses.replace(_VALID, **changes)
    for name, value in changes.items():
      self.assertEqual(getattr(config, name), value)

  def test_what_is_given(self):
    prefix = dataclasses.replace(_VALID, attention='prefix', prefix_length=3)
    self.assertEqual(prefix.given, 3)
    self.assertEqual(_VALID.given, 0)

  def test_is_a_value(self):
    self.assertEqual(hash(_VALID), hash(dataclasses.replace(_VALID)))
    with self.assertRaises(dataclasses.FrozenInstanceError):
      _VALID.window = 3


if __name__ == '__main__':
  absltest.main()
