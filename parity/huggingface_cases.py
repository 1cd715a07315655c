"""Small models of every family, made by `transformers` on the spot."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

V, CONTEXT, LONGEST = 97, 192, 160

_ROTARY = {
  'vocab_size': V,
  'hidden_size': 48,
  'intermediate_size': 80,
  'num_hidden_layers': 4,
  'num_attention_heads': 6,
  'num_key_value_heads': 2,
  'max_position_embeddings': CONTEXT,
  'rms_norm_eps': 1e-5,
  'bos_token_id': None,
  'eos_token_id': None,
  'pad_token_id': None,
}


def _rope(**said: Any) -> dict[str, Any]:
  return {'rope_parameters': {'rope_theta': 1000.0, **said}}


# Name -> class of the config, and what it is called with.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
  'gpt2': (
    'GPT2Config',
    {
      'vocab_size': V,
      'n_positions': CONTEXT,
      'n_embd': 48,
      'n_layer': 3,
      'n_head': 4,
      'bos_token_id': None,
      'eos_token_id': None,
    },
  ),
  'gpt2, wide and exact': (
    'GPT2Config',
    {
      'vocab_size': V,
      'n_positions': CONTEXT,
      'n_embd': 48,
      'n_layer': 2,
      'n_head': 4,
      'n_inner': 70,
      'activation_function': 'gelu',
      'tie_word_embeddings': False,
      'bos_token_id': None,
      'eos_token_id': None,
    },
  ),
  'llama': ('LlamaConfig', _ROTARY),
  'llama with biases, tied': (
    'LlamaConfig',
    _ROTARY
    | {
      'attention_bias': True,
      'mlp_bias': True,
      'head_dim': 10,
      'tie_word_embeddings': True,
    },
  ),
  'llama, linear': (
    'LlamaConfig',
    _ROTARY | _rope(rope_type='linear', factor=4.0),
  ),
  'llama, dynamic': (
    'LlamaConfig',
    _ROTARY | _rope(rope_type='dynamic', factor=4.0),
  ),
  'llama, llama3': (
    'LlamaConfig',
    _ROTARY
    | _rope(
      rope_type='llama3',
      factor=8.0,
      low_freq_factor=1.0,
      high_freq_factor=4.0,
      original_max_position_embeddings=32,
    ),
  ),
  'llama, yarn': (
    'LlamaConfig',
    _ROTARY
    | _rope(rope_type='yarn', factor=6.0, original_max_position_embeddings=32),
  ),
  'mistral': ('MistralConfig', _ROTARY | {'sliding_window': 24}),
  'mistral without a window': (
    'MistralConfig',
    _ROTARY | {'sliding_window': None, 'head_dim': 12},
  ),
  'gemma2': (
    'Gemma2Config',
    _ROTARY
    | {
      'sliding_window': 24,
      'head_dim': 12,
      'query_pre_attn_scalar': 20,
      # Small enough to bend what these models say.
      'attn_logit_softcapping': 2.0,
      'final_logit_softcapping': 3.0,
    },
  ),
  'qwen3': ('Qwen3Config', _ROTARY | {'head_dim': 12}),
  'qwen3 with windows': (
    'Qwen3Config',
    _ROTARY
    | {
      'head_dim': 12,
      'attention_bias': True,
      'use_sliding_window': True,
      'sliding_window': 24,
      'layer_types': 2 * ['sliding_attention', 'full_attention'],
    },
  ),
}

EXACT = tuple(name for name in CASES if name.startswith(('gpt2', 'llama')))


def make(name: str, folder: pathlib.Path, **options: Any) -> Any:
  """A model, also written into a folder; none of its parameters is 0 or 1."""
  kind, fields = CASES[name]
  config = getattr(transformers, kind)(**fields)
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(
    config, attn_implementation='eager'
  ).eval()
  with torch.no_grad():
    for tensor, x in model.named_parameters():
      if tensor.endswith('norm.weight') or '.ln_' in tensor:
        x.add_(0.2 * torch.randn_like(x))
      elif x.ndim == 1:
        x.normal_(std=0.2)
      elif 'embed' in tensor or 'wte' in tensor or 'wpe' in tensor:
        # Gemma multiplies by the root of the width.
        x.normal_(std=0.08 if name == 'gemma2' else 0.5)
      else:
        x.normal_(std=1.5 * x.shape[-1] ** -0.5)
  model.save_pretrained(folder, **options)
  return model


def load(folder: pathlib.Path, dtype: torch.dtype = torch.float32) -> Any:
  """What `transformers` makes of a folder."""
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, attn_implementation='eager', dtype=dtype, local_files_only=True
  )
  return model.eval()


class _Float64(TorchDispatchMode):
  """What is float64, or was an integer, is not rounded to float32."""

  def __torch_dispatch__(
    self, function: Any, types: Any, args: Any = (), kwargs: Any = None
  ) -> Any:
    kwargs = dict(kwargs or {})
    if kwargs.get('dtype') is torch.float32:
      kwargs['dtype'] = torch.float64
    if (
      function is torch.ops.aten._softmax.default
      and args[0].dtype is torch.float64
    ):
      args = (args[0], args[1], False)
    return function(*args, **kwargs)


@contextlib.contextmanager
def float64() -> Iterator[None]:
  """`transformers` rounds norms, angles and weights to float32, whatever the
  dtype of a model.  In here the same code does not.
  """
  torch.set_default_dtype(torch.float64)
  try:
    with _Float64(), torch.no_grad():
      yield
  finally:
    torch.set_default_dtype(torch.float32)
