"""Directories that lie: one clear error each, and no memory for claims."""

import json
import os
import pathlib
import pickle
import struct
import sys
import tempfile
import tracemalloc
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from attn.interop import load_huggingface
from attn.interop.safetensors_files import read_header, read_tensors
from tests.huggingface_cases import CONFIGS, D, H, V, tensors_of, write

_FILE, _INDEX = 'model.safetensors', 'model.safetensors.index.json'
_EMBED = 'model.embed_tokens.weight'
_LAST = 'lm_head.weight'
_HUGE = 2**40


def _take_apart(path):
  """The header, as an object, and the bytes after it."""
  whole = path.read_bytes()
  (length,) = struct.unpack('<Q', whole[:8])
  return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def _put_together(path, header, data, length=None):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  length = len(text) if length is None else length
  path.write_bytes(struct.pack('<Q', length) + text + data)


def _header(change):
  """A case: `change` is called with the header, and may return another."""

  def spoil(folder):
    header, data = _take_apart(folder / _FILE)
    changed = change(header)
    _put_together(folder / _FILE, header if changed is None else changed, data)

  return spoil


def _entry(name, **fields):
  return _header(lambda header: header[name].update(fields))


def _bytes(change):
  def spoil(folder):
    path = folder / _FILE
    path.write_bytes(change(path.read_bytes()))

  return spoil


def _tensors(family='qwen3', **changes):
  """A case: tensors taken away (None) or put in place of others."""

  def spoil(folder):
    tensors = tensors_of(family) | {
      name.replace('__', '.'): x for name, x in changes.items()
    }
    tensors = {name: x for name, x in tensors.items() if x is not None}
    write(folder, family, tensors=tensors)

  return spoil


def _config(family='qwen3', **changes):
  def spoil(folder):
    write(folder, family, config=CONFIGS[family] | changes)

  return spoil


def _without(name, family='qwen3'):
  def spoil(folder):
    kept = {x: y for x, y in CONFIGS[family].items() if x != name}
    write(folder, family, config=kept)

  return spoil


def _json(text):
  return lambda folder: (folder / 'config.json').write_bytes(text)


def _index(change):
  """A case with several files: `change(folder, index)`."""

  def spoil(folder):
    (folder / _FILE).unlink()
    write(folder, 'qwen3', shards=3)
    index = json.loads((folder / _INDEX).read_text())
    changed = change(folder, index)
    text = json.dumps(index if changed is None else changed)
    (folder / _INDEX).write_text(text)

  return spoil


def _map(name, shard):
  return _index(lambda _, index: index['weight_map'].update({name: shard}))


def _rope(**fields):
  said = {'rope_theta': 9.0, **fields}
  return _config(rope_parameters=said)


# Of a safetensors file.
_HEADERS = {
  'empty': (_bytes(lambda x: b''), 'is too short'),
  'seven bytes': (_bytes(lambda x: x[:7]), 'is too short'),
  'header cut off': (_bytes(lambda x: x[:50]), 'header is said to have'),
  'length of the whole world': (
    _bytes(lambda x: b'\xff' * 8 + x[8:]),
    'header is said to have 18446744073709551615 bytes',
  ),
  'length a terabyte': (
    _bytes(lambda x: struct.pack('<Q', _HUGE) + x[8:]),
    'header is said to have 1099511627776 bytes',
  ),
  'length too short': (
    _bytes(lambda x: struct.pack('<Q', 20) + x[8:]),
    'is not valid JSON',
  ),
  'length one too long': (
    _bytes(
      lambda x: struct.pack('<Q', struct.unpack('<Q', x[:8])[0] + 1) + x[8:]
    ),
    'is not valid JSON',
  ),
  'data cut off': (_bytes(lambda x: x[:-1]), 'tensor .* ends at byte'),
  'data too long': (_bytes(lambda x: x + b'x'), '1 bytes belong to no tensor'),
  'no JSON': (_header(lambda _: b'{"a": '), 'is not valid JSON'),
  'no UTF-8': (_header(lambda _: b'{"\xff": 1}'), 'is not valid JSON'),
  'a list': (_header(lambda _: b'[]'), 'is no JSON object'),
  'deeply nested': (_header(lambda _: b'[' * 100_000), 'is not valid JSON'),
  'a name twice': (
    _header(
      lambda header: (
        json.dumps(header)[:-1] + ', "lm_head.weight": 1}'
      ).encode()
    ),
    'lm_head.weight is there twice',
  ),
  'not a number': (
    _entry(_LAST, shape=[float('nan'), 2]),
    'NaN is not a finite number',
  ),
  'an entry that is none': (
    _header(lambda header: header.update({_LAST: 3})),
    f'tensor {_LAST}: got 3, wanted dtype, shape, offsets',
  ),
  'a field too many': (_entry(_LAST, code='x'), f'tensor {_LAST}: got'),
  'a field too few': (
    _header(lambda header: header[_LAST].pop('shape') and None),
    f'tensor {_LAST}: got',
  ),
  'shape too large': (_entry(_LAST, shape=[_HUGE, D]), f'tensor {_LAST}: got'),
  'shape beyond numbers': (
    _entry(_LAST, shape=[2**62] * 60),
    f'tensor {_LAST}: got',
  ),
  'shape of 65 axes': (
    _entry(_LAST, shape=[1] * 65),
    f'tensor {_LAST}: got shape',
  ),
  'shape negative': (
    _entry(_LAST, shape=[-V, -D]),
    f'tensor {_LAST}: got shape .-13, -12., wanted whole numbers',
  ),
  'shape of booleans': (
    _entry(_LAST, shape=[True, D]),
    f'tensor {_LAST}: got shape .True, 12., wanted whole numbers',
  ),
  'shape of fractions': (
    _entry(_LAST, shape=[V + 0.0, D]),
    f'tensor {_LAST}: got shape',
  ),
  'shape a word': (_entry(_LAST, shape='big'), f'tensor {_LAST}: got shape'),
  'offsets beyond the end': (
    _entry(_LAST, data_offsets=[_HUGE, _HUGE + 4 * V * D]),
    f'tensor {_LAST}: ends at byte',
  ),
  'offsets overlapping': (
    _entry(_EMBED, data_offsets=[0, 4 * V * D]),
    'tensor .*: begins at byte 0, and so overlaps the one',
  ),
  'offsets with a gap': (
    _header(lambda header: header.pop('model.norm.weight') and None),
    'leaves a gap after|belong to no tensor',
  ),
  'offsets backwards': (
    _entry(_LAST, data_offsets=[4 * V * D, 0]),
    f'tensor {_LAST}: got offsets .624, 0., wanted a beginning and an end',
  ),
  'offsets negative': (
    _entry(_LAST, data_offsets=[-4 * V * D, 0]),
    f'tensor {_LAST}: got offsets',
  ),
  'three offsets': (
    _entry(_LAST, data_offsets=[0, 4, 4 * V * D]),
    f'tensor {_LAST}: got offsets',
  ),
  'dtype of another width': (
    _entry(_LAST, dtype='F64'),
    f'tensor {_LAST}: got 624 bytes, wanted those of shape .13, 12. and dtype',
  ),
  'dtype unknown': (
    _entry(_LAST, dtype='PICKLE'),
    f'tensor {_LAST}: got dtype PICKLE, wanted one of F64, F32, F16, BF16',
  ),
  'dtype a number': (_entry(_LAST, dtype=32), f'tensor {_LAST}: got dtype 32'),
  'metadata that hides a tensor': (
    _header(lambda header: header.update(__metadata__=header.pop(_LAST))),
    'leaves a gap after|belong to no tensor',
  ),
}

# Of tensors that are not the model's.
_MODELS = {
  'integers': (
    _tensors(lm_head__weight=np.zeros((V, D), np.int32)),
    f'{_FILE}: tensor {_LAST}: got dtype I32',
  ),
  'shape transposed': (
    _tensors(lm_head__weight=np.zeros((D, V), np.float32)),
    rf'{_FILE}: tensor {_LAST}: got shape \(12, 13\), wanted \(13, 12\)',
  ),
  'an axis too many': (
    _tensors(model__norm__weight=np.zeros((D, 1), np.float32)),
    rf'{_FILE}: tensor model.norm.weight: got shape \(12, 1\), wanted \(12,\)',
  ),
  'a head too narrow': (
    _tensors(
      **{'model__layers__1__self_attn__q_norm__weight': np.zeros(H - 1, 'f')}
    ),
    r'tensor model.layers.1.self_attn.q_norm.weight: got shape \(3,\)',
  ),
  'missing': (
    _tensors(model__norm__weight=None),
    'tensor model.norm.weight: is in no file, but qwen3 with 2 layers has one',
  ),
  'one layer missing': (
    _config(num_hidden_layers=3, layer_types=['full_attention'] * 3),
    'tensor model.layers.2.input_layernorm.weight: is in no file',
  ),
  'a billion layers': (
    _config(num_hidden_layers=10**9, layer_types=None),
    'tensor model.layers.2.input_layernorm.weight: is in no file',
  ),
  'a layer too many': (
    _config(num_hidden_layers=1, layer_types=['full_attention']),
    rf'{_FILE}: tensor model.layers.1.\S+: has no place in the model',
  ),
  'surplus': (
    _tensors(model__layers__0__self_attn__q_proj__bias=np.zeros(24, 'f')),
    'tensor model.layers.0.self_attn.q_proj.bias: has no place in the model',
  ),
  'of another family': (
    lambda folder: write(folder, 'qwen3', tensors=tensors_of('mistral')),
    'tensor model.layers.0.self_attn.q_norm.weight: is in no file',
  ),
}

# Of config.json.
_CONFIGS = {
  'config empty': (_json(b''), 'config.json: is not valid JSON'),
  'config a list': (_json(b'[1]'), 'config.json: is no JSON object'),
  'config infinite': (_json(b'{"vocab_size": 1e999}'), '1e999 is not a finite'),
  'config with a number of 5000 digits': (
    _json(b'{"vocab_size": ' + b'9' * 5000 + b'}'),
    'config.json: is not valid JSON',
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
    _config(model_type='bert'),
    "config.json: model_type: got 'bert', wanted one of llama, mistral",
  ),
  'family a list': (_config(model_type=['llama']), 'model_type: got'),
  'no family': (_without('model_type'), 'model_type: got nothing'),
  'unknown architecture': (
    _config(architectures=['Qwen3ForTokenClassification']),
    r'architectures: got .*, wanted \[.Qwen3ForCausalLM.\]',
  ),
  'unknown field': (
    _config(quantization_config={'bits': 4}),
    'quantization_config: got .*, wanted no such field',
  ),
  'field of another family': (
    _config(final_logit_softcapping=30.0),
    'final_logit_softcapping: got 30.0, wanted no such field',
  ),
  'field missing': (
    _without('hidden_size'),
    r'hidden_size: got nothing, wanted a value',
  ),
  'size null': (_config(vocab_size=None), 'vocab_size: got None'),
  'size a word': (_config(vocab_size='13'), "vocab_size: got '13', wanted a w"),
  'size true': (_config(hidden_size=True), 'hidden_size: got True, wanted a w'),
  'size a fraction': (_config(hidden_size=12.5), 'hidden_size: got 12.5'),
  'size 0': (_config(num_attention_heads=0), 'num_attention_heads: got 0'),
  'size negative': (_config(num_key_value_heads=-3), 'value_heads: got -3'),
  'size too large': (
    _config(max_position_embeddings=10**30),
    'max_position_embeddings: got 1000000000000000000000000000000, wanted more',
  ),
  'a vocabulary of two billion': (
    _config(vocab_size=2**31 - 1),
    rf'tensor {_EMBED}: got shape \(13, 12\), wanted \(2147483647, 12\)',
  ),
  'heads that do not divide': (
    _config(num_key_value_heads=4),
    'num_key_value_heads: got 4, wanted 0 or a divisor of num_heads 6',
  ),
  'head odd': (_config(head_dim=3), 'num_attention_heads: .*even head size'),
  'epsilon negative': (_config(rms_norm_eps=-1e-6), 'rms_norm_eps: got -1e-06'),
  'a flag of 1': (_config(tie_word_embeddings=1), 'embeddings: got 1, wanted'),
  'unknown activation': (
    _config(hidden_act='tanh'),
    "hidden_act: got 'tanh', wanted one of silu",
  ),
  'encoder': (
    _config(is_encoder_decoder=True),
    'is_encoder_decoder: got True, wanted False',
  ),
  'scores scaled by layer': (
    _config('gpt2', scale_attn_by_inverse_layer_idx=True),
    'scale_attn_by_inverse_layer_idx: got True, wanted False',
  ),
  'both ways': (
    _config('gemma2', use_bidirectional_attention=True),
    'use_bidirectional_attention: got True, wanted None',
  ),
  'cap 0': (
    _config('gemma2', attn_logit_softcapping=0.0),
    'attn_logit_softcapping: got 0.0, wanted more than 0',
  ),
  'a window of nothing': (
    _config('gemma2', sliding_window=None),
    'sliding_window: got None, wanted a width: layers have a window',
  ),
  'windows out of order': (
    _config('gemma2', layer_types=['full_attention', 'sliding_attention']),
    'layer_types: got .*, wanted full_attention in every n-th layer',
  ),
  'windows of too few layers': (
    _config('gemma2', layer_types=['full_attention']),
    'layer_types: got .*, wanted a list of 2',
  ),
  'windows of an unknown kind': (
    _config('gemma2', layer_types=['chunked_attention'] * 2),
    'layer_types: got .*, wanted of full_attention',
  ),
  'windows from a layer on': (
    _config(
      use_sliding_window=True,
      sliding_window=3,
      max_window_layers=1,
      layer_types=None,
    ),
    'max_window_layers: got 1, wanted 0, or 2 and more',
  ),
  'end of text a word': (_config(eos_token_id='<|end|>'), 'eos_token_id: got'),
  'rotation unknown': (
    _rope(rope_type='longrope', factor=2.0),
    "rope_parameters.rope_type: got 'longrope', wanted one of default",
  ),
  'rotation without its factor': (
    _rope(rope_type='linear'),
    'rope_parameters.factor: got None, wanted a number for linear',
  ),
  'rotation with a field unknown': (
    _rope(rope_type='linear', factor=2.0, speed=3.0),
    'rope_parameters.speed: got 3.0, wanted no such field in linear',
  ),
  'rotation of half a head': (
    _rope(rope_type='default', partial_rotary_factor=0.5),
    'rope_parameters.partial_rotary_factor: got 0.5, wanted 1',
  ),
  'rotation the wrong way': (
    _rope(rope_type='linear', factor=-2.0),
    'rope_parameters.factor: got -2.0, wanted a positive number',
  ),
  'rotation said twice': (
    _config(rope_scaling={'type': 'linear', 'factor': 2.0}),
    'rope_scaling: got .*, wanted none beside rope_parameters',
  ),
  'two bases': (
    _config(rope_theta=7.0),
    'rope_theta: got 7.0, wanted 500.0, as beside rope_type',
  ),
}

# Of several files.
_SHARDS = {
  'a shard above': (
    _map(_EMBED, '../model.safetensors'),
    f'{_INDEX}: weight_map: tensor {_EMBED}: got .*, wanted a safetensors file',
  ),
  'a shard elsewhere': (
    _map(_EMBED, '/tmp/model.safetensors'),
    f'{_INDEX}: weight_map: tensor {_EMBED}: got',
  ),
  'a shard that is a pickle': (
    _map(_EMBED, 'pytorch_model.bin'),
    f'{_INDEX}: weight_map: tensor {_EMBED}: got .pytorch_model.bin.',
  ),
  'a shard that is a number': (_map(_EMBED, 3), f'tensor {_EMBED}: got 3'),
  'a shard that is missing': (
    _map(_EMBED, 'model-00009-of-00003.safetensors'),
    'model-00009-of-00003.safetensors: No such file',
  ),
  'a shard without the tensor': (
    _map('model.extra', 'model-00001-of-00003.safetensors'),
    'model-00001-of-00003.safetensors: tensor model.extra: is not there',
  ),
  'a tensor of which the index is silent': (
    _index(lambda _, index: index['weight_map'].pop(_EMBED) and None),
    rf'tensor {_EMBED}: {_INDEX} does not say so',
  ),
  'an index without a map': (_index(lambda *_: {}), 'weight_map: wanted names'),
  'an index of a list': (_index(lambda *_: [1]), f'{_INDEX}: is no JSON obj'),
  'a shard cut off': (
    _index(
      lambda folder, _: (
        (folder / 'model-00002-of-00003.safetensors').write_bytes(b'12345678')
        and None
      )
    ),
    'model-00002-of-00003.safetensors: its header is said to have',
  ),
  'nothing': (
    lambda folder: (folder / _FILE).unlink(),
    f'holds neither {_FILE} nor {_INDEX}',
  ),
}

_CASES = _HEADERS | _MODELS | _CONFIGS | _SHARDS


class _Trap:
  """A pickle that leaves a trace when it is opened."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


class HostileTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = write(pathlib.Path(folder) / 'model', 'qwen3')

  @parameterized.named_parameters(
    *((name.replace(' ', '_'), name) for name in _CASES)
  )
  def test_one_clear_error_and_no_memory(self, name):
    load_huggingface(self.folder)  # it is not hostile yet
    spoil, message = _CASES[name]
    spoil(self.folder)
    size = sum(x.stat().st_size for x in self.folder.glob('*.*'))
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    with self.assertRaisesRegex(ValueError, message) as raised:
      load_huggingface(self.folder)
    _, peak = tracemalloc.get_traced_memory()
    # A check of the config traces a function, and what Python makes of JSON is
    # larger than its text.  What is claimed would be gigabytes.
    self.assertLess(peak, 2**20 + 12 * size)
    said = str(raised.exception)
    self.assertIn(str(self.folder), said)
    self.assertNotIn('\n', said)
    self.assertLess(len(said), 400 + len(str(self.folder)))

  def test_there_are_enough(self):
    self.assertGreaterEqual(len(_CASES), 40)

  def test_a_pickle_is_never_opened(self):
    trace = self.folder / 'trace'
    (self.folder / _FILE).rename(self.folder / 'kept')
    for name in ('pytorch_model.bin', 'model.pt', 'training_args.bin'):
      (self.folder / name).write_bytes(pickle.dumps(_Trap(trace)))
    opened = []

    def watch(event, args):
      if event == 'open':
        opened.append(str(args[0]))

    _watchers.append(watch)
    try:
      with self.assertRaisesRegex(
        ValueError, r'holds neither .*; model.pt may run code and is never op'
      ):
        load_huggingface(self.folder)
      (self.folder / 'kept').rename(self.folder / _FILE)
      with mock.patch.object(pickle, 'load', side_effect=AssertionError):
        load_huggingface(self.folder)
    finally:
      _watchers.remove(watch)
    self.assertFalse(trace.exists())
    self.assertTrue(any(x.endswith(_FILE) for x in opened))
    self.assertFalse([x for x in opened if x.endswith(('.bin', '.pt'))])

  def test_what_is_no_regular_file_is_not_read(self):
    # Reading from a pipe would wait for ever.
    (self.folder / _FILE).unlink()
    os.mkfifo(self.folder / _FILE)
    with self.assertRaisesRegex(ValueError, f'{_FILE}: is not a regular file'):
      load_huggingface(self.folder)
    with self.assertRaisesRegex(ValueError, 'nowhere: is no directory'):
      load_huggingface(self.folder / 'nowhere')


class FuzzTest(parameterized.TestCase):
  @parameterized.parameters(*range(4))
  def test_damage_anywhere_is_an_error_or_harmless(self, seed):
    """Bytes of the header changed, cut out or put in: never another error."""
    generator = np.random.default_rng(seed)
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    path = folder / _FILE
    write(folder, 'mistral')
    whole = path.read_bytes()
    (length,) = struct.unpack('<Q', whole[:8])
    refused = 0
    for _ in range(100):
      at = int(generator.integers(8 + length))
      cut = int(generator.integers(3))
      extra = generator.integers(32, 127, int(generator.integers(3)))
      path.write_bytes(
        whole[:at] + extra.astype(np.uint8).tobytes() + whole[at + cut :]
      )
      try:
        header = read_header(path)
        read_tensors(path, header)
      except ValueError as error:
        refused += 1
        self.assertIn(str(path), str(error))
        continue
      for entry in header.values():
        self.assertLessEqual(entry.end, len(whole))
    self.assertGreater(refused, 50)


# An audit hook cannot be taken away, so there is one for all.
_watchers = []


def _audit(event, args):
  for watch in _watchers:
    watch(event, args)


def setUpModule():
  sys.addaudithook(_audit)


if __name__ == '__main__':
  absltest.main()
