"""Directories that lie, by name: how each came to, and what is said of it."""

import json
import struct

import numpy as np

from tests.hostile_changes import (
  EMBED,
  FILE,
  HUGE,
  INDEX,
  LAST,
  config,
  data,
  entry,
  header,
  index,
  rope,
  shard,
  tensors,
  tensors_of,
  text,
  without,
  write,
)
from tests.huggingface_cases import D, H, V

# Of a safetensors file.
_HEADERS = {
  'empty': (data(lambda x: b''), 'is too short'),
  'seven bytes': (data(lambda x: x[:7]), 'is too short'),
  'header cut off': (data(lambda x: x[:50]), 'header is said to have'),
  'length of the whole world': (
    data(lambda x: b'\xff' * 8 + x[8:]),
    'header is said to have 18446744073709551615 bytes',
  ),
  'length a terabyte': (
    data(lambda x: struct.pack('<Q', HUGE) + x[8:]),
    'header is said to have 1099511627776 bytes',
  ),
  'length too short': (
    data(lambda x: struct.pack('<Q', 20) + x[8:]),
    'is not valid JSON',
  ),
  'length one too long': (
    data(
      lambda x: struct.pack('<Q', struct.unpack('<Q', x[:8])[0] + 1) + x[8:]
    ),
    'is not valid JSON',
  ),
  'data cut off': (data(lambda x: x[:-1]), 'tensor .* ends at byte'),
  'data too long': (
    data(lambda x: x + b'x'),
    '1 bytes belong to no tensor',
  ),
  'no JSON': (header(lambda _: b'{"a": '), 'is not valid JSON'),
  'no UTF-8': (header(lambda _: b'{"\xff": 1}'), 'is not valid JSON'),
  'a list': (header(lambda _: b'[]'), 'is no JSON object'),
  'deeply nested': (header(lambda _: b'[' * 100_000), 'is not valid JSON'),
  'a name twice': (
    header(
      lambda header: (
        json.dumps(header)[:-1] + ', "lm_head.weight": 1}'
      ).encode()
    ),
    'lm_head.weight is there twice',
  ),
  'not a number': (
    entry(LAST, shape=[float('nan'), 2]),
    'NaN is not a finite number',
  ),
  'an entry that is none': (
    header(lambda header: header.update({LAST: 3})),
    f'tensor {LAST}: got 3, wanted dtype, shape, offsets',
  ),
  'a field too many': (entry(LAST, code='x'), f'tensor {LAST}: got'),
  'a field too few': (
    header(lambda header: header[LAST].pop('shape') and None),
    f'tensor {LAST}: got',
  ),
  'shape too large': (entry(LAST, shape=[HUGE, D]), f'tensor {LAST}: got'),
  'shape beyond numbers': (
    entry(LAST, shape=[2**62] * 60),
    f'tensor {LAST}: got',
  ),
  'shape of 65 axes': (
    entry(LAST, shape=[1] * 65),
    f'tensor {LAST}: got shape',
  ),
  'shape negative': (
    entry(LAST, shape=[-V, -D]),
    f'tensor {LAST}: got shape .-13, -12., wanted whole numbers',
  ),
  'shape of booleans': (
    entry(LAST, shape=[True, D]),
    f'tensor {LAST}: got shape .True, 12., wanted whole numbers',
  ),
  'shape of fractions': (
    entry(LAST, shape=[V + 0.0, D]),
    f'tensor {LAST}: got shape',
  ),
  'shape a word': (entry(LAST, shape='big'), f'tensor {LAST}: got shape'),
  'offsets beyond the end': (
    entry(LAST, data_offsets=[HUGE, HUGE + 4 * V * D]),
    f'tensor {LAST}: ends at byte',
  ),
  'offsets overlapping': (
    entry(EMBED, data_offsets=[0, 4 * V * D]),
    'tensor .*: begins at byte 0, and so overlaps the one',
  ),
  'offsets with a gap': (
    header(lambda header: header.pop('model.norm.weight') and None),
    'leaves a gap after|belong to no tensor',
  ),
  'offsets backwards': (
    entry(LAST, data_offsets=[4 * V * D, 0]),
    f'tensor {LAST}: got offsets .624, 0., wanted a beginning and an end',
  ),
  'offsets negative': (
    entry(LAST, data_offsets=[-4 * V * D, 0]),
    f'tensor {LAST}: got offsets',
  ),
  'three offsets': (
    entry(LAST, data_offsets=[0, 4, 4 * V * D]),
    f'tensor {LAST}: got offsets',
  ),
  'dtype of another width': (
    entry(LAST, dtype='F64'),
    f'tensor {LAST}: got 624 bytes, wanted those of shape .13, 12. and dtype',
  ),
  'dtype unknown': (
    entry(LAST, dtype='PICKLE'),
    f"tensor {LAST}: got dtype 'PICKLE', wanted one of F64, F32, F16, BF16",
  ),
  'dtype a number': (entry(LAST, dtype=32), f'tensor {LAST}: got dtype 32'),
  'metadata that hides a tensor': (
    header(lambda header: header.update(__metadata__=header.pop(LAST))),
    'leaves a gap after|belong to no tensor',
  ),
}

# Of headers that are large, or hard to speak of in a line.
_BOMBS = {
  'header of lists': (
    header(lambda _: b'{"a": [' + b'[],' * 87_000 + b'[]]}'),
    'tensor a: got .*, wanted dtype, shape, offsets',
  ),
  'header of objects': (
    header(lambda _: b'{"__metadata__": [' + b'{},' * 87_000 + b'{}]}'),
    'belong to no tensor',
  ),
  'header larger than its share': (
    header(lambda _: b'{"a": [' + b'[],' * (2**17) + b'[]]}'),
    'its header has 393227 bytes, wanted at most 262144',
  ),
  'a name of two lines': (
    header(lambda header: header.update({'a\nb': header.pop(LAST)})),
    r"is not valid JSON: got a name 'a\\nb', wanted printable",
  ),
  'a name without end': (
    header(lambda header: header.update({'a' * 2**17: header.pop(LAST)})),
    "is not valid JSON: got a name 'aaaa",
  ),
  'a name that is no Unicode': (
    header(lambda header: header.update({'\ud800': header.pop(LAST)})),
    r"is not valid JSON: got a name '\\ud800', wanted printable",
  ),
  'a number without end': (
    header(lambda _: b'{"a": 1' + b'0' * 2**17 + b'.0}'),
    'is not a finite number',
  ),
  'dtype without end': (
    entry(LAST, dtype='F' * 2**17),
    f'tensor {LAST}: got dtype .FFFF',
  ),
  'many axes of nothing': (
    entry(LAST, shape=[0] * 2**16, data_offsets=[0, 0]),
    f'tensor {LAST}: got shape .0, 0,',
  ),
  'nothing, as large as the world': (
    tensors(lm_head__weight=np.zeros((0, 2**40), np.float32)),
    f'tensor {LAST}: got shape .0, 1099511627776., wanted .13, 12.',
  ),
}

# Of tensors that are not the model's.
_MODELS = {
  'integers': (
    tensors(lm_head__weight=np.zeros((V, D), np.int32)),
    f"{FILE}: tensor {LAST}: got dtype 'I32'",
  ),
  'shape transposed': (
    tensors(lm_head__weight=np.zeros((D, V), np.float32)),
    rf'{FILE}: tensor {LAST}: got shape \(12, 13\), wanted \(13, 12\)',
  ),
  'an axis too many': (
    tensors(model__norm__weight=np.zeros((D, 1), np.float32)),
    rf'{FILE}: tensor model.norm.weight: got shape \(12, 1\), wanted \(12,\)',
  ),
  'a head too narrow': (
    tensors(
      **{'model__layers__1__self_attn__q_norm__weight': np.zeros(H - 1, 'f')}
    ),
    r'tensor model.layers.1.self_attn.q_norm.weight: got shape \(3,\)',
  ),
  'missing': (
    tensors(model__norm__weight=None),
    'tensor model.norm.weight: is in no file, but qwen3 with 2 layers has one',
  ),
  'one layer missing': (
    config(num_hidden_layers=3, layer_types=['full_attention'] * 3),
    'tensor model.layers.2.input_layernorm.weight: is in no file',
  ),
  'a billion layers': (
    config(num_hidden_layers=10**9, layer_types=None),
    'tensor model.layers.2.input_layernorm.weight: is in no file',
  ),
  'a layer too many': (
    config(num_hidden_layers=1, layer_types=['full_attention']),
    rf'{FILE}: tensor model.layers.1.\S+: has no place in the model',
  ),
  'a head that is not the embedding': (
    config(tie_word_embeddings=True),
    f'{FILE}: tensor {LAST}: is not the embedding',
  ),
  'surplus': (
    tensors(model__layers__0__self_attn__q_proj__bias=np.zeros(24, 'f')),
    'tensor model.layers.0.self_attn.q_proj.bias: has no place in the model',
  ),
  'of another family': (
    lambda folder: write(folder, 'qwen3', tensors=tensors_of('mistral')),
    'tensor model.layers.0.self_attn.q_norm.weight: is in no file',
  ),
}

# Of config.json.
_CONFIGS = {
  'config empty': (text(b''), 'config.json: is not valid JSON'),
  'config a list': (text(b'[1]'), 'config.json: is no JSON object'),
  'config infinite': (
    text(b'{"vocab_size": 1e999}'),
    '1e999 is not a finite',
  ),
  'config with a number of 5000 digits': (
    text(b'{"vocab_size": ' + b'9' * 5000 + b'}'),
    'config.json: is not valid JSON',
  ),
  'config of lists': (
    text(b'{"model_type": [' + b'[],' * 87_000 + b'[]]}'),
    r'config.json: model_type: got \[\[\], ',
  ),
  'config of megabytes': (
    text(b'{"vocab_size": [' + b'[],' * 2**20 + b'[]]}'),
    'config.json: has 3145748 bytes, wanted at most 262144 of JSON',
  ),
  'a field of two lines': (
    config(**{'a\nb': 1}),
    r"config.json: is not valid JSON: got a name 'a\\nb'",
  ),
  'config missing': (
    lambda folder: (folder / 'config.json').unlink(),
    'config.json: No such file',
  ),
  'config a directory': (
    lambda folder: (
      (folder / 'config.json').unlink(),
      (folder / 'config.json').mkdir(),
    ),
    'config.json: is not a regular file',
  ),
  'unknown family': (
    config(model_type='bert'),
    "config.json: model_type: got 'bert', wanted one of llama, mistral",
  ),
  'family a list': (config(model_type=['llama']), 'model_type: got'),
  'no family': (without('model_type'), 'model_type: got nothing'),
  'unknown architecture': (
    config(architectures=['Qwen3ForTokenClassification']),
    r'architectures: got .*, wanted \[.Qwen3ForCausalLM.\]',
  ),
  'unknown field': (
    config(quantization_config={'bits': 4}),
    'quantization_config: got .*, wanted no such field',
  ),
  'field of another family': (
    config(final_logit_softcapping=30.0),
    'final_logit_softcapping: got 30.0, wanted no such field',
  ),
  'field missing': (
    without('hidden_size'),
    r'hidden_size: got nothing, wanted a value',
  ),
  'size null': (config(vocab_size=None), 'vocab_size: got None'),
  'size a word': (
    config(vocab_size='13'),
    "vocab_size: got '13', wanted a w",
  ),
  'size true': (
    config(hidden_size=True),
    'hidden_size: got True, wanted a w',
  ),
  'size a fraction': (
    config(hidden_size=12.5),
    'hidden_size: got 12.5',
  ),
  'size 0': (
    config(num_attention_heads=0),
    'num_attention_heads: got 0',
  ),
  'size negative': (
    config(num_key_value_heads=-3),
    'value_heads: got -3',
  ),
  'size too large': (
    config(max_position_embeddings=10**30),
    'max_position_embeddings: got 1000000000000000000000000000000, wanted more',
  ),
  'a vocabulary of two billion': (
    config(vocab_size=2**31 - 1),
    rf'tensor {EMBED}: got shape \(13, 12\), wanted \(2147483647, 12\)',
  ),
  'a context of two billion': (
    config('gpt2', n_positions=2**31 - 1, n_ctx=None),
    r'wpe.weight: got shape \(11, 12\), wanted \(2147483647, 12\)',
  ),
  'a head of two billion': (
    config(head_dim=2**31 - 2),
    r'q_proj.weight: got shape \(24, 12\), wanted \(12884901876, 12\)',
  ),
  'a width of two billion': (
    config(hidden_size=2**31 - 1),
    rf'tensor {EMBED}: got shape \(13, 12\), wanted \(13, 2147483647\)',
  ),
  'a feed-forward of two billion': (
    config(intermediate_size=2**31 - 1),
    r'mlp.\w+.weight: got shape .*, wanted .*2147483647',
  ),
  'a window of two billion and a wrong head': (
    config('mistral', sliding_window=2**31 - 1, num_key_value_heads=6),
    r'k_proj.weight: got shape \(12, 12\), wanted \(24, 12\)',
  ),
  'heads that do not divide': (
    config(num_key_value_heads=4),
    'num_key_value_heads: got 4, wanted 0 or a divisor of num_heads 6',
  ),
  'head odd': (
    config(head_dim=3),
    'num_attention_heads: .*even head size',
  ),
  'epsilon negative': (
    config(rms_norm_eps=-1e-6),
    'rms_norm_eps: got -1e-06',
  ),
  'a flag of 1': (
    config(tie_word_embeddings=1),
    'embeddings: got 1, wanted',
  ),
  'unknown activation': (
    config(hidden_act='tanh'),
    "hidden_act: got 'tanh', wanted one of silu",
  ),
  'encoder': (
    config(is_encoder_decoder=True),
    'is_encoder_decoder: got True, wanted False',
  ),
  'scores scaled by layer': (
    config('gpt2', scale_attn_by_inverse_layer_idx=True),
    'scale_attn_by_inverse_layer_idx: got True, wanted False',
  ),
  'both ways': (
    config('gemma2', use_bidirectional_attention=True),
    'use_bidirectional_attention: got True, wanted None',
  ),
  'cap 0': (
    config('gemma2', attn_logit_softcapping=0.0),
    'attn_logit_softcapping: got 0.0, wanted more than 0',
  ),
  'a window of nothing': (
    config('gemma2', sliding_window=None),
    'sliding_window: got None, wanted a width: layers have a window',
  ),
  'windows out of order': (
    config('gemma2', layer_types=['full_attention', 'sliding_attention']),
    'layer_types: got .*, wanted full_attention in every n-th layer',
  ),
  'windows of too few layers': (
    config('gemma2', layer_types=['full_attention']),
    'layer_types: got .*, wanted a list of 2',
  ),
  'windows of an unknown kind': (
    config('gemma2', layer_types=['chunked_attention'] * 2),
    'layer_types: got .*, wanted of full_attention',
  ),
  'windows from a layer on': (
    config(
      use_sliding_window=True,
      sliding_window=3,
      max_window_layers=1,
      layer_types=None,
    ),
    'max_window_layers: got 1, wanted 0, or 2 and more',
  ),
  'end of text a word': (
    config(eos_token_id='<|end|>'),
    'eos_token_id: got',
  ),
  'rotation unknown': (
    rope(rope_type='longrope', factor=2.0),
    "rope_parameters.rope_type: got 'longrope', wanted one of default",
  ),
  'rotation without its factor': (
    rope(rope_type='linear'),
    'rope_parameters.factor: got None, wanted a number for linear',
  ),
  'rotation with a field unknown': (
    rope(rope_type='linear', factor=2.0, speed=3.0),
    'rope_parameters.speed: got 3.0, wanted no such field in linear',
  ),
  'rotation of half a head': (
    rope(rope_type='default', partial_rotary_factor=0.5),
    'rope_parameters.partial_rotary_factor: got 0.5, wanted 1',
  ),
  'rotation the wrong way': (
    rope(rope_type='linear', factor=-2.0),
    'rope_parameters.factor: got -2.0, wanted a positive number',
  ),
  'rotation said twice': (
    config(rope_scaling={'type': 'linear', 'factor': 2.0}),
    'rope_scaling: got .*, wanted none beside rope_parameters',
  ),
  'two bases': (
    config(rope_theta=7.0),
    'rope_theta: got 7.0, wanted 500.0, as beside rope_type',
  ),
}

# Of several files.
_SHARDS = {
  'a shard above': (
    shard(EMBED, '../model.safetensors'),
    f'{INDEX}: weight_map: tensor {EMBED}: got .*, wanted a safetensors file',
  ),
  'a shard elsewhere': (
    shard(EMBED, '/tmp/model.safetensors'),
    f'{INDEX}: weight_map: tensor {EMBED}: got',
  ),
  'a shard that is a pickle': (
    shard(EMBED, 'pytorch_model.bin'),
    f'{INDEX}: weight_map: tensor {EMBED}: got .pytorch_model.bin.',
  ),
  'a shard that is a number': (shard(EMBED, 3), f'tensor {EMBED}: got 3'),
  'a shard of two lines': (
    shard(EMBED, 'a\nb.safetensors'),
    rf"tensor {EMBED}: got 'a\\nb.safetensors', wanted a safetensors file",
  ),
  'a shard whose name has no end': (
    shard(EMBED, 'a' * 2**17 + '.safetensors'),
    f"tensor {EMBED}: got 'aaaa",
  ),
  'an index of megabytes': (
    index(lambda _, said: said['weight_map'].update({'a' * 2**20: 'b'})),
    f'{INDEX}: has .* bytes, wanted at most 262144 of JSON',
  ),
  'a shard that is missing': (
    shard(EMBED, 'model-00009-of-00003.safetensors'),
    'model-00009-of-00003.safetensors: No such file',
  ),
  'a shard without the tensor': (
    shard('model.extra', 'model-00001-of-00003.safetensors'),
    'model-00001-of-00003.safetensors: tensor model.extra: is not there',
  ),
  'a tensor of which the index is silent': (
    index(lambda _, index: index['weight_map'].pop(EMBED) and None),
    rf'tensor {EMBED}: {INDEX} does not say so',
  ),
  'an index without a map': (
    index(lambda *_: {}),
    'weight_map: wanted names',
  ),
  'an index of a list': (
    index(lambda *_: [1]),
    f'{INDEX}: is no JSON obj',
  ),
  'a shard cut off': (
    index(
      lambda folder, _: (
        (folder / 'model-00002-of-00003.safetensors').write_bytes(b'12345678')
        and None
      )
    ),
    'model-00002-of-00003.safetensors: its header is said to have',
  ),
  'nothing': (
    lambda folder: (folder / FILE).unlink(),
    f'holds neither {FILE} nor {INDEX}',
  ),
}

CASES = _HEADERS | _BOMBS | _MODELS | _CONFIGS | _SHARDS
