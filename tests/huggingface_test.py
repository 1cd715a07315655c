"""Models in directories of Hugging Face: in, and out again."""

import dataclasses
import json
import pathlib
import shutil
import tempfile

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from safetensors.numpy import load_file

from attn.interop import load_huggingface, save_huggingface
from attn.modules import CausalLM
from attn.rope_scaling import RopeScaling
from tests.causal_lm_cases import config_of
from tests.huggingface_cases import (
  CONFIGS,
  C,
  D,
  H,
  K,
  N,
  V,
  W,
  shapes_of,
  tensors_of,
  write,
)
from tests.module_cases import random_parameters, run

_TOKENS = np.array([[3, 11, 0, 7, 5]])


class _InFolder(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder)

  def load(self, family, config=None, **options):
    config = None if config is None else CONFIGS[family] | config
    folder = write(self.folder / 'in', family, config=config, **options)
    return load_huggingface(folder)


class LoadTest(_InFolder):
  @parameterized.parameters(*CONFIGS)
  def test_parameters_are_those_of_the_model(self, family):
    model = self.load(family)
    self.assertEqual(model.family, family)
    wanted = jax.eval_shape(
      CausalLM(model.config).init, jax.random.key(0), _TOKENS
    )['params']
    chex.assert_trees_all_equal_shapes_and_dtypes(model.params, wanted)

  def test_matrices_are_transposed_and_heads_in_their_order(self):
    raw, params = tensors_of('llama'), self.load('llama').params
    layer = params['block_1']
    for ours, theirs in (
      (layer['attention']['query'], 'self_attn.q_proj'),
      (layer['attention']['out'], 'self_attn.o_proj'),
      (layer['feed_forward']['gate'], 'mlp.gate_proj'),
      (layer['feed_forward']['in'], 'mlp.up_proj'),
    ):
      weight = raw[f'model.layers.1.{theirs}.weight']
      np.testing.assert_array_equal(ours['kernel'], weight.T)
      bias = raw[f'model.layers.1.{theirs}.bias']
      np.testing.assert_array_equal(ours['bias'], bias)
    np.testing.assert_array_equal(
      params['head']['kernel'], raw['lm_head.weight'].T
    )

  def test_gpt2_keeps_query_key_and_value_side_by_side(self):
    raw = tensors_of('gpt2')['transformer.h.0.attn.c_attn.weight']
    attention = self.load('gpt2').params['block_0']['attention']
    for i, name in enumerate(('query', 'key', 'value')):
      part = raw[:, i * D : (i + 1) * D]
      np.testing.assert_array_equal(attention[name]['kernel'], part)

  def test_what_config_json_says(self):
    gemma = self.load('gemma2').config
    self.assertEqual(gemma.pattern, 'alternating')
    for name, value in {
      'vocab_size': V,
      'context': C,
      'head_dim': H,
      'num_heads': N,
      'num_kv_heads': K,
      'window': W,
      'full_every': 2,
      'query_scalar': 7,
      'soft_cap': 50.0,
      'logit_cap': 30.0,
      'rope_base': 500.0,
      'norm_epsilon': 1e-5,
      'norm': 'rmsnorm1p',
      'activation': 'geglu',
      'tied_head': True,
      'embed_scale': True,
      'post_norm': True,
    }.items():
      self.assertEqual(getattr(gemma, name), value, name)
    gpt2 = self.load('gpt2')
    self.assertEqual(gpt2.config.mlp_dim, 4 * D)
    self.assertEqual(gpt2.config.dropout_rate, 0)
    self.assertEqual(gpt2.ends, (3,))
    self.assertIsNone(gpt2.tokenizer)
    self.assertEqual(self.load('llama', {'eos_token_id': [4, 2]}).ends, (4, 2))
    self.assertEqual(self.load('llama', {'eos_token_id': None}).ends, ())

  @parameterized.parameters(
    ('mistral', {}, 'sliding_window'),
    ('mistral', {'sliding_window': None}, 'full'),
    ('gemma2', {'layer_types': None}, 'alternating'),
    ('gemma2', {'layer_types': ['full_attention'] * 2}, 'full'),
    ('gemma2', {'layer_types': ['sliding_attention'] * 2}, 'sliding_window'),
    ('qwen3', {'sliding_window': W}, 'full'),
    ('qwen3', {'use_sliding_window': True}, 'full'),
    (
      'qwen3',
      {
        'sliding_window': W,
        'use_sliding_window': True,
        'max_window_layers': 0,
        'layer_types': None,
      },
      'sliding_window',
    ),
    (
      'qwen3',
      {'sliding_window': W, 'use_sliding_window': True, 'layer_types': None},
      'full',
    ),
  )
  def test_which_layers_have_a_window(self, family, changes, pattern):
    self.assertEqual(self.load(family, changes).config.pattern, pattern)

  @parameterized.parameters(
    ({'rope_type': 'default', 'rope_theta': 9.0}, None),
    ({'type': 'linear', 'factor': 2}, RopeScaling('linear', 2)),
    ({'rope_type': 'dynamic', 'factor': 2.0}, RopeScaling('dynamic', 2.0)),
    (
      {
        'rope_type': 'llama3',
        'factor': 8.0,
        'low_freq_factor': 2.0,
        'high_freq_factor': 3.0,
        'original_max_position_embeddings': 5,
      },
      RopeScaling('llama3', 8.0, 5, 2.0, 3.0),
    ),
    (
      {'rope_type': 'yarn', 'factor': 4.0, 'beta_fast': None},
      RopeScaling('yarn', 4.0, C),
    ),
    (
      {'rope_type': 'yarn', 'original_max_position_embeddings': 10},
      RopeScaling('yarn', C / 10, 10),
    ),
    (
      {
        'rope_type': 'yarn',
        'factor': float(np.e),
        'mscale': 2.0,
        'mscale_all_dim': 1.0,
        'truncate': False,
      },
      RopeScaling(
        'yarn', float(np.e), C, attention_factor=1.2 / 1.1, truncate=False
      ),
    ),
  )
  def test_rotary_scalings_in_both_spellings(self, said, scaling):
    new = self.load('llama', {'rope_parameters': {'rope_theta': 9.0} | said})
    old = {'rope_parameters': None, 'rope_theta': 9.0, 'rope_scaling': said}
    for config in (new.config, self.load('llama', old).config):
      self.assertEqual(config.rope_base, 9.0)
      self.assertEqual(config.rope_scaling, scaling)

  def test_shards_are_one_model(self):
    whole = self.load('llama').params
    shutil.rmtree(self.folder / 'in')
    chex.assert_trees_all_equal(self.load('llama', shards=3).params, whole)

  def test_names_without_a_prefix_and_buffers_beside_them(self):
    raw = tensors_of('gpt2')
    bare = {x.removeprefix('transformer.'): y for x, y in raw.items()}
    bare['h.1.attn.bias'] = np.ones((1, 1, C, C), np.uint8)
    expected = self.load('gpt2').params
    chex.assert_trees_all_equal(
      self.load('gpt2', tensors=bare).params, expected
    )

  def test_a_tied_head_may_be_written_all_the_same(self):
    raw = tensors_of('gemma2')
    raw['lm_head.weight'] = raw['model.embed_tokens.weight']
    self.assertNotIn('head', self.load('gemma2', tensors=raw).params)
    raw['lm_head.weight'] = raw['lm_head.weight'] + 1
    with self.assertRaisesRegex(
      ValueError, r'model.safetensors: tensor lm_head.weight: is not the embed'
    ):
      self.load('gemma2', tensors=raw)

  @parameterized.parameters('float64', 'float16', 'bfloat16')
  def test_dtypes_are_kept(self, name):
    dtype = jnp.dtype(name)
    raw = tensors_of('qwen3', dtype)
    params = self.load('qwen3', tensors=raw).params
    chex.assert_trees_all_equal_dtypes(
      params, jax.tree.map(lambda x: np.zeros((), dtype), params)
    )
    save_huggingface(
      self.folder / 'out', self.load('qwen3').config, params, family='qwen3'
    )
    again = load_huggingface(self.folder / 'out')
    chex.assert_trees_all_equal(again.params, params)
    said = json.loads((self.folder / 'out/config.json').read_text())
    self.assertEqual(said['dtype'], name)


class SaveTest(_InFolder):
  @parameterized.product(family=list(CONFIGS), shard_bytes=(2**30, 2000))
  def test_what_was_read_is_written_bit_by_bit(self, family, shard_bytes):
    model = self.load(family)
    out = self.folder / 'out'
    name = save_huggingface(
      out,
      model.config,
      model.params,
      family=family,
      tokenizer='{}',
      ends=model.ends,
      shard_bytes=shard_bytes,
    )
    self.assertEqual(name, family)
    shards = sorted(out.glob('*.safetensors'))
    self.assertEqual(len(shards) > 1, shard_bytes == 2000)
    written = {}
    for shard in shards:
      written |= load_file(shard)
    raw = tensors_of(family)
    self.assertEqual(written.keys(), raw.keys())
    for tensor, x in raw.items():
      self.assertEqual(x.tobytes(), written[tensor].tobytes(), tensor)
      self.assertEqual(x.shape, written[tensor].shape)
    again = load_huggingface(out)
    self.assertEqual(again.family, family)
    self.assertEqual(again.ends, model.ends)
    self.assertEqual(again.tokenizer, out / 'tokenizer.json')
    chex.assert_trees_all_equal(again.params, model.params)
    # Fields are spelled out that may be left open.
    spelled_out = {
      'num_kv_heads': model.config.num_kv_heads or N,
      'head_dim': again.config.head_dim,
      'query_scalar': again.config.query_scalar,
    }
    if family == 'gpt2':
      spelled_out = {}
    self.assertEqual(
      again.config, dataclasses.replace(model.config, **spelled_out)
    )
    said = json.loads((out / 'config.json').read_text())
    # Windows are spelled in more than one way, and dropout is not kept.
    others = {'bos_token_id', 'n_inner', 'max_window_layers'}
    for field in CONFIGS[family].keys() & said.keys() - others:
      if 'drop' not in field:
        self.assertEqual(said[field], CONFIGS[family][field], field)

  @parameterized.parameters(
    ('llama', {'qk_norm': False}),
    ('llama', {'qk_norm': False, 'rope_scaling': RopeScaling('yarn', 3.0, 5)}),
    ('llama', {'qk_norm': False, 'rope_scaling': RopeScaling('dynamic', 3.0)}),
    ('mistral', {'qk_norm': False, 'attention': 'sliding_window'}),
    ('qwen3', {}),
    ('qwen3', {'attention': 'alternating', 'num_layers': 4}),
    ('qwen3', {'attention': 'multi_query', 'tied_head': True}),
    (
      'gemma2',
      {
        'qk_norm': False,
        'norm': 'rmsnorm1p',
        'post_norm': True,
        'embed_scale': True,
        'activation': 'geglu',
        'soft_cap': 3.0,
      },
    ),
    (
      'gpt2',
      {
        'qk_norm': False,
        'positions': 'learned',
        'norm': 'layernorm',
        'norm_bias': True,
        'mlp_bias': True,
        'attention_bias': True,
        'num_kv_heads': 0,
        'activation': 'gelu',
      },
    ),
  )
  def test_a_model_trained_here_finds_its_family(self, family, changes):
    config = config_of(**{'activation': 'swiglu'} | changes)
    params = random_parameters(CausalLM(config), _TOKENS)['params']
    out = self.folder / 'out'
    self.assertEqual(save_huggingface(out, config, params), family)
    model = load_huggingface(out)
    logits = [
      run(CausalLM(shape), {'params': x}, _TOKENS)
      for shape, x in ((config, params), (model.config, model.params))
    ]
    np.testing.assert_array_equal(*logits)

  @parameterized.parameters(
    ({}, {'family': 'bert'}, "family: got 'bert', wanted one of llama, mist"),
    ({'activation': 'relu2'}, {}, 'family: no place .*qwen3: .*hidden_act'),
    ({'sinks': True}, {}, 'qwen3: sinks: got True, wanted False'),
    ({}, {'family': 'llama'}, 'llama: qk_norm: got True, wanted False'),
    ({'attention': 'dilated'}, {}, r'qwen3: attention: .*dilated'),
    ({'ngrams': 2}, {}, 'qwen3: ngrams: got 2, wanted 0'),
    ({'positions': 'alibi'}, {}, 'qwen3: positions: got .alibi., wanted .rot'),
    ({}, {'shard_bytes': 0}, 'shard_bytes: got 0, wanted at least 1'),
  )
  def test_refuses_what_no_family_holds(self, changes, options, message):
    config = config_of(**{'activation': 'swiglu'} | changes)
    params = random_parameters(
      CausalLM(config_of(activation='swiglu')), _TOKENS
    )
    with self.assertRaisesRegex(ValueError, message):
      save_huggingface(self.folder / 'x', config, params['params'], **options)
    self.assertFalse((self.folder / 'x').exists())

  def test_refuses_other_parameters_and_full_directories(self):
    model = self.load('llama')

    def save(folder, **changes):
      params = {**model.params, **changes}
      save_huggingface(self.folder / folder, model.config, params)

    with self.assertRaisesRegex(ValueError, 'directory: .* is not empty'):
      save('in')
    with self.assertRaisesRegex(ValueError, 'params: got extra/x, wanted noth'):
      save('x', extra={'x': np.zeros(3)})
    with self.assertRaisesRegex(ValueError, 'params: got no final_norm/scale'):
      save('x', final_norm={})
    with self.assertRaisesRegex(
      ValueError, r'params: final_norm/scale: got \(3,\) .* wanted \(12,\)'
    ):
      save('x', final_norm={'scale': np.zeros(3)})
    self.assertFalse((self.folder / 'x').exists())


class CasesTest(absltest.TestCase):
  def test_there_is_a_case_for_every_family(self):
    self.assertEqual(len(shapes_of('gpt2')), 4 + 2 * 12)
    self.assertLen(CONFIGS, 5)


if __name__ == '__main__':
  absltest.main()
