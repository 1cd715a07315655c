"""The families of models that are known, as tables: nothing here computes.

A family says how its config.json names what `CausalLMConfig` names, and how its
tensors are called and laid out.  A shape is written in letters: V vocabulary,
C context, D width, F feed-forward, H head size, Q = N H, K H = all key/value
heads.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

# A field without this must be in config.json.
REQUIRED = object()


class Field(NamedTuple):
  """A field of config.json that means what one of `CausalLMConfig` means.

  Attributes:
    ours: Its name there.
    kind: Its type; a float may be written as a whole number.
    default: Where it is not written.
    null: What null means; REQUIRED where it means nothing.
  """

  ours: str
  kind: type
  default: Any = REQUIRED
  null: Any = REQUIRED


class Tensor(NamedTuple):
  """A tensor, and the parameters it holds.

  Attributes:
    theirs: Its name; of a layer, after the layer's.
    ours: The parameter, or several that lie beside each other in it.
    axes: Its shape, in letters.
    transposed: Whether it is [out, in], and ours [in, out].
    needs: A field of `CausalLMConfig` without which there is none; 'untied' for
      a vocabulary head of its own.
  """

  theirs: str
  ours: tuple[str, ...]
  axes: tuple[str, ...]
  transposed: bool = False
  needs: str | None = None


class Family(NamedTuple):
  """What tells the models of a family from others.

  Attributes:
    architecture: The class of `transformers`.
    prefix: Of the names of its tensors, but for the vocabulary head's.
    layer: Of the names of a layer's tensors, before its number.
    fixed: Fields of `CausalLMConfig` that are the same in all of them.
    fields: Name in config.json -> field.
    activations: Name in config.json -> activation.
    activation_field: Where that name stands.
    pinned: Fields of config.json of which only these values are understood, the
      first of them where there is none.
    ignored: Fields of config.json that do not change what is computed.
    windows: Which layers have a window: 'none', 'all', 'alternating', or 'some'
      where config.json tells.
    sliding_window: Width where config.json does not say.
    whole: Tensors of the model.
    of_layer: Tensors of each layer.
    buffers: Ends of names of tensors that are no parameters.
    dropouts: Fields of config.json that hold a rate of dropout.
  """

  architecture: str
  prefix: str
  layer: str
  fixed: Mapping[str, Any]
  fields: Mapping[str, Field]
  activations: Mapping[str, str]
  activation_field: str
  pinned: Mapping[str, tuple[Any, ...]]
  ignored: frozenset[str]
  windows: str
  sliding_window: int | None
  whole: tuple[Tensor, ...]
  of_layer: tuple[Tensor, ...]
  buffers: tuple[str, ...]
  dropouts: tuple[str, ...]


# How a text is begun, ended, drawn and stored, and how a model was trained.
_IGNORED = frozenset(
  [
    '_attn_implementation',
    '_attn_implementation_autoset',
    '_name_or_path',
    '_num_labels',
    'architectures',
    'bos_token_id',
    'cache_implementation',
    'chunk_size_feed_forward',
    'dtype',
    'eos_token_id',
    'gradient_checkpointing',
    'id2label',
    'initializer_range',
    'keys_to_ignore_at_inference',
    'label2id',
    'model_type',
    'output_attentions',
    'output_hidden_states',
    'pad_token_id',
    'problem_type',
    'return_dict',
    'sep_token_id',
    'task_specific_params',
    'torch_dtype',
    'transformers_version',
    'use_cache',
    'use_return_dict',
  ]
)

_PINNED = {'is_encoder_decoder': (False,), 'add_cross_attention': (False,)}

_ROTARY = {
  'attention': 'full',
  'positions': 'rotary',
  'norm': 'rmsnorm',
  'activation': 'swiglu',
}

_ROTARY_FIELDS = {
  'vocab_size': Field('vocab_size', int),
  'hidden_size': Field('embed_dim', int),
  'intermediate_size': Field('mlp_dim', int),
  'num_hidden_layers': Field('num_layers', int),
  'num_attention_heads': Field('num_heads', int),
  'num_key_value_heads': Field('num_kv_heads', int, default=0, null=0),
  'head_dim': Field('head_dim', int, default=0, null=0),
  'max_position_embeddings': Field('context', int),
  'rms_norm_eps': Field('norm_epsilon', float, default=1e-6),
  'tie_word_embeddings': Field('tied_head', bool, default=False),
}

_GATES = {
  'silu': 'swiglu',
  'swish': 'swiglu',
  'gelu_pytorch_tanh': 'geglu',
  'gelu_new': 'geglu',
}


def _linear(theirs: str, ours: str, axes: str, bias: str) -> tuple[Tensor, ...]:
  out, into = axes.split()
  return (
    Tensor(f'{theirs}.weight', (f'{ours}/kernel',), (out, into), True),
    Tensor(f'{theirs}.bias', (f'{ours}/bias',), (out,), needs=bias),
  )


def _norm(theirs: str, ours: str, axis: str = 'D', needs: Any = None) -> Tensor:
  return Tensor(f'{theirs}.weight', (f'{ours}/scale',), (axis,), needs=needs)


_ROTARY_WHOLE = (
  Tensor('embed_tokens.weight', ('embed/embedding',), ('V', 'D')),
  _norm('norm', 'final_norm'),
  Tensor('lm_head.weight', ('head/kernel',), ('V', 'D'), True, 'untied'),
)

_ROTARY_LAYER = (
  _norm('input_layernorm', 'attention_norm'),
  *_linear('self_attn.q_proj', 'attention/query', 'Q D', 'attention_bias'),
  *_linear('self_attn.k_proj', 'attention/key', 'KH D', 'attention_bias'),
  *_linear('self_attn.v_proj', 'attention/value', 'KH D', 'attention_bias'),
  *_linear('self_attn.o_proj', 'attention/out', 'D Q', 'attention_bias'),
  _norm('self_attn.q_norm', 'attention/query_norm', 'H', 'qk_norm'),
  _norm('self_attn.k_norm', 'attention/key_norm', 'H', 'qk_norm'),
  *_linear('mlp.gate_proj', 'feed_forward/gate', 'F D', 'mlp_bias'),
  *_linear('mlp.up_proj', 'feed_forward/in', 'F D', 'mlp_bias'),
  *_linear('mlp.down_proj', 'feed_forward/out', 'D F', 'mlp_bias'),
)

_PRE_NORM_LAYER = (
  *_ROTARY_LAYER,
  _norm('post_attention_layernorm', 'feed_forward_norm'),
)

LLAMA = Family(
  architecture='LlamaForCausalLM',
  prefix='model.',
  layer='layers.',
  fixed=_ROTARY,
  fields={
    **_ROTARY_FIELDS,
    'attention_bias': Field('attention_bias', bool, default=False),
    'mlp_bias': Field('mlp_bias', bool, default=False),
  },
  activations=_GATES,
  activation_field='hidden_act',
  pinned=_PINNED,
  # It cuts a product into parts, and adds them up.
  ignored=_IGNORED | {'pretraining_tp'},
  windows='none',
  sliding_window=None,
  whole=_ROTARY_WHOLE,
  of_layer=_PRE_NORM_LAYER,
  buffers=('.rotary_emb.inv_freq',),
  dropouts=('attention_dropout',),
)

MISTRAL = LLAMA._replace(
  architecture='MistralForCausalLM',
  fields={
    **_ROTARY_FIELDS,
    'num_key_value_heads': Field('num_kv_heads', int, default=8, null=0),
  },
  ignored=_IGNORED,
  windows='all',
  sliding_window=4096,
)

GEMMA2 = LLAMA._replace(
  architecture='Gemma2ForCausalLM',
  fixed={
    **_ROTARY,
    'norm': 'rmsnorm1p',
    'activation': 'geglu',
    'post_norm': True,
    'embed_scale': True,
  },
  fields={
    **_ROTARY_FIELDS,
    'num_key_value_heads': Field('num_kv_heads', int, default=4, null=0),
    'head_dim': Field('head_dim', int, default=256),
    'tie_word_embeddings': Field('tied_head', bool, default=True),
    'attention_bias': Field('attention_bias', bool, default=False),
    'query_pre_attn_scalar': Field('query_scalar', int, default=256),
    'attn_logit_softcapping': Field('soft_cap', float, 50.0, null=0.0),
    'final_logit_softcapping': Field('logit_cap', float, 30.0, null=0.0),
  },
  activations={'gelu_pytorch_tanh': 'geglu', 'gelu_new': 'geglu'},
  activation_field='hidden_activation',
  pinned={**_PINNED, 'use_bidirectional_attention': (None, False)},
  # `transformers` reads hidden_activation in its place.
  ignored=_IGNORED | {'hidden_act'},
  windows='alternating',
  sliding_window=4096,
  of_layer=(
    *_ROTARY_LAYER,
    _norm('post_attention_layernorm', 'attention_post_norm'),
    _norm('pre_feedforward_layernorm', 'feed_forward_norm'),
    _norm('post_feedforward_layernorm', 'feed_forward_post_norm'),
  ),
)

QWEN3 = LLAMA._replace(
  architecture='Qwen3ForCausalLM',
  fixed={**_ROTARY, 'qk_norm': True},
  fields={
    **_ROTARY_FIELDS,
    'head_dim': Field('head_dim', int, default=128),
    'attention_bias': Field('attention_bias', bool, default=False),
  },
  ignored=_IGNORED,
  windows='some',
  sliding_window=4096,
)

GPT2 = Family(
  architecture='GPT2LMHeadModel',
  prefix='transformer.',
  layer='h.',
  fixed={
    'attention': 'full',
    'positions': 'learned',
    'norm': 'layernorm',
    'norm_bias': True,
    'attention_bias': True,
    'mlp_bias': True,
    'num_kv_heads': 0,
  },
  fields={
    'vocab_size': Field('vocab_size', int),
    'n_positions': Field('context', int),
    'n_embd': Field('embed_dim', int),
    'n_layer': Field('num_layers', int),
    'n_head': Field('num_heads', int),
    # Null stands for four times the width.
    'n_inner': Field('mlp_dim', int, default=0, null=0),
    'layer_norm_epsilon': Field('norm_epsilon', float, default=1e-5),
    'tie_word_embeddings': Field('tied_head', bool, default=True),
  },
  activations={
    'gelu_new': 'gelu',
    'gelu_pytorch_tanh': 'gelu',
    'gelu': 'gelu_exact',
  },
  activation_field='activation_function',
  pinned={
    **_PINNED,
    'scale_attn_weights': (True,),
    'scale_attn_by_inverse_layer_idx': (False,),
  },
  ignored=_IGNORED
  | frozenset(
    [
      'n_ctx',
      'reorder_and_upcast_attn',
      'summary_activation',
      'summary_first_dropout',
      'summary_proj_to_labels',
      'summary_type',
      'summary_use_proj',
    ]
  ),
  windows='none',
  sliding_window=None,
  whole=(
    Tensor('wte.weight', ('embed/embedding',), ('V', 'D')),
    Tensor('wpe.weight', ('position_embed/embedding',), ('C', 'D')),
    _norm('ln_f', 'final_norm'),
    Tensor('ln_f.bias', ('final_norm/bias',), ('D',)),
    Tensor('lm_head.weight', ('head/kernel',), ('V', 'D'), True, 'untied'),
  ),
  of_layer=(
    _norm('ln_1', 'attention_norm'),
    Tensor('ln_1.bias', ('attention_norm/bias',), ('D',)),
    *(
      Tensor(
        f'attn.c_attn.{theirs}',
        tuple(f'attention/{name}/{ours}' for name in ('query', 'key', 'value')),
        axes,
      )
      for theirs, ours, axes in (
        ('weight', 'kernel', ('D', '3D')),
        ('bias', 'bias', ('3D',)),
      )
    ),
    Tensor('attn.c_proj.weight', ('attention/out/kernel',), ('D', 'D')),
    Tensor('attn.c_proj.bias', ('attention/out/bias',), ('D',)),
    _norm('ln_2', 'feed_forward_norm'),
    Tensor('ln_2.bias', ('feed_forward_norm/bias',), ('D',)),
    Tensor('mlp.c_fc.weight', ('feed_forward/in/kernel',), ('D', 'F')),
    Tensor('mlp.c_fc.bias', ('feed_forward/in/bias',), ('F',)),
    Tensor('mlp.c_proj.weight', ('feed_forward/out/kernel',), ('F', 'D')),
    Tensor('mlp.c_proj.bias', ('feed_forward/out/bias',), ('D',)),
  ),
  # Causal masks.
  buffers=('.attn.bias', '.attn.masked_bias'),
  dropouts=('embd_pdrop', 'attn_pdrop', 'resid_pdrop'),
)

# In the order in which a model that is written is tried.
FAMILIES: Mapping[str, Family] = MappingProxyType(
  {
    'llama': LLAMA,
    'mistral': MISTRAL,
    'qwen3': QWEN3,
    'gemma2': GEMMA2,
    'gpt2': GPT2,
  }
)
