"""Hugging Face directories, as `transformers` writes them, made with NumPy.

The names and shapes of their tensors are written out here a second time.
"""

import json
import math

import numpy as np
from safetensors.numpy import save_file

V, C, D, F, L, N, K, H, W = 13, 11, 12, 17, 2, 6, 3, 4, 5

_COMMON = {
  'bos_token_id': 1,
  'dtype': 'float32',
  'eos_token_id': 2,
  'hidden_size': D,
  'initializer_range': 0.02,
  'intermediate_size': F,
  'max_position_embeddings': C,
  'num_attention_heads': N,
  'num_hidden_layers': L,
  'num_key_value_heads': K,
  'attention_dropout': 0.0,
  'pad_token_id': None,
  'rms_norm_eps': 1e-5,
  'rope_parameters': {'rope_theta': 500.0, 'rope_type': 'default'},
  'tie_word_embeddings': False,
  'transformers_version': '5.0.0',
  'use_cache': True,
  'vocab_size': V,
}

CONFIGS = {
  'gpt2': {
    'activation_function': 'gelu_new',
    'add_cross_attention': False,
    'architectures': ['GPT2LMHeadModel'],
    'attn_pdrop': 0.1,
    'bos_token_id': 3,
    'embd_pdrop': 0.1,
    'eos_token_id': 3,
    'layer_norm_epsilon': 1e-5,
    'model_type': 'gpt2',
    'n_ctx': C,
    'n_embd': D,
    'n_head': N,
    'n_inner': None,
    'n_layer': L,
    'n_positions': C,
    'reorder_and_upcast_attn': False,
    'resid_pdrop': 0.1,
    'scale_attn_by_inverse_layer_idx': False,
    'scale_attn_weights': True,
    'summary_type': 'cls_index',
    'tie_word_embeddings': True,
    'vocab_size': V,
  },
  'llama': _COMMON
  | {
    'architectures': ['LlamaForCausalLM'],
    'attention_bias': True,
    'head_dim': D // N,
    'hidden_act': 'silu',
    'mlp_bias': True,
    'model_type': 'llama',
    'pretraining_tp': 1,
  },
  'mistral': _COMMON
  | {
    'architectures': ['MistralForCausalLM'],
    'head_dim': H,
    'hidden_act': 'silu',
    'model_type': 'mistral',
    'sliding_window': W,
  },
  'gemma2': _COMMON
  | {
    'architectures': ['Gemma2ForCausalLM'],
    'attention_bias': False,
    'attn_logit_softcapping': 50.0,
    'final_logit_softcapping': 30.0,
    'head_dim': H,
    'hidden_activation': 'gelu_pytorch_tanh',
    'layer_types': ['sliding_attention', 'full_attention'],
    'model_type': 'gemma2',
    'query_pre_attn_scalar': 7,
    'sliding_window': W,
    'tie_word_embeddings': True,
    'use_bidirectional_attention': None,
  },
  'qwen3': _COMMON
  | {
    'architectures': ['Qwen3ForCausalLM'],
    'attention_bias': False,
    'head_dim': H,
    'hidden_act': 'silu',
    'layer_types': ['full_attention'] * L,
    'max_window_layers': 28,
    'model_type': 'qwen3',
    'sliding_window': None,
    'use_sliding_window': False,
  },
}

_GPT2_LAYER = {
  'ln_1.weight': (D,),
  'ln_1.bias': (D,),
  'attn.c_attn.weight': (D, 3 * D),
  'attn.c_attn.bias': (3 * D,),
  'attn.c_proj.weight': (D, D),
  'attn.c_proj.bias': (D,),
  'ln_2.weight': (D,),
  'ln_2.bias': (D,),
  'mlp.c_fc.weight': (D, 4 * D),
  'mlp.c_fc.bias': (4 * D,),
  'mlp.c_proj.weight': (4 * D, D),
  'mlp.c_proj.bias': (D,),
}


def shapes_of(family, mlp_dim=None):
  """Name -> shape."""
  if family == 'gpt2':
    shapes = {
      'transformer.wte.weight': (V, D),
      'transformer.wpe.weight': (C, D),
      'transformer.ln_f.weight': (D,),
      'transformer.ln_f.bias': (D,),
    }
    for layer in range(L):
      for name, shape in _GPT2_LAYER.items():
        wide = tuple(mlp_dim or x if x == 4 * D else x for x in shape)
        shapes[f'transformer.h.{layer}.{name}'] = wide
    return shapes
  config = CONFIGS[family]
  queries, keys = N * config['head_dim'], K * config['head_dim']
  of_layer = {
    'input_layernorm.weight': (D,),
    'mlp.down_proj.weight': (D, mlp_dim or F),
    'mlp.gate_proj.weight': (mlp_dim or F, D),
    'mlp.up_proj.weight': (mlp_dim or F, D),
    'post_attention_layernorm.weight': (D,),
    'self_attn.k_proj.weight': (keys, D),
    'self_attn.o_proj.weight': (D, queries),
    'self_attn.q_proj.weight': (queries, D),
    'self_attn.v_proj.weight': (keys, D),
  }
  if family == 'llama':
    for name in list(of_layer):
      if 'layernorm' not in name:
        bias = name.replace('weight', 'bias')
        of_layer[bias] = of_layer[name][:1]
  if family == 'gemma2':
    of_layer['pre_feedforward_layernorm.weight'] = (D,)
    of_layer['post_feedforward_layernorm.weight'] = (D,)
  if family == 'qwen3':
    of_layer['self_attn.q_norm.weight'] = (H,)
    of_layer['self_attn.k_norm.weight'] = (H,)
  shapes = {'model.embed_tokens.weight': (V, D), 'model.norm.weight': (D,)}
  for layer in range(L):
    for name, shape in of_layer.items():
      shapes[f'model.layers.{layer}.{name}'] = shape
  if not config['tie_word_embeddings']:
    shapes['lm_head.weight'] = (V, D)
  return shapes


def tensors_of(family, dtype=np.float32, mlp_dim=None):
  """Name -> random numbers."""
  generator = np.random.default_rng(0)
  return {
    name: generator.normal(size=shape).astype(dtype)
    for name, shape in shapes_of(family, mlp_dim).items()
  }


def write(directory, family, *, tensors=None, config=None, shards=1):
  """Write a directory, with another config or tensors perhaps."""
  directory.mkdir(exist_ok=True)
  tensors = tensors_of(family) if tensors is None else tensors
  config = CONFIGS[family] if config is None else config
  (directory / 'config.json').write_text(json.dumps(config))
  if shards == 1:
    save_file(tensors, directory / 'model.safetensors')
    return directory
  names, places = list(tensors), {}
  size = math.ceil(len(names) / shards)
  for i in range(shards):
    name = f'model-{i + 1:05}-of-{shards:05}.safetensors'
    part = {x: tensors[x] for x in names[i * size : (i + 1) * size]}
    save_file(part, directory / name)
    places |= dict.fromkeys(part, name)
  index = {'metadata': {'total_size': 1}, 'weight_map': places}
  (directory / 'model.safetensors.index.json').write_text(json.dumps(index))
  return directory
