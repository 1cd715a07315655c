"""Exported models, run where this package is not."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.export
import numpy as np
import processes
import pytest
import safetensors.numpy

from attn.modules import count_ngrams
from attn.training.export import export_model, flatten, functions
from attn.training.generate import generate
from attn.training.sampling import Sampling
from attn.training.tokenizer import CharTokenizer
from tests import module_cases
from tests.causal_lm_cases import CONTEXT, V, model_of
from tests.checks import assert_same_bits

B, P = 2, 5
_TOKENS = np.array([[3, 11, 0, 7, 5], [8, 2, 9, 1, 1]], np.int32)
_LENGTHS = np.array([5, 3], np.int32)
_TOKENIZER = CharTokenizer('abcdefghijklm')
_STEPS = 2

# Most of what a model may have: each folder holds one.
_MODELS = {
  'windows': {'num_layers': 1, 'attention': 'sliding_window+alibi+sinks'},
  'prefix': {
    **{'num_layers': 1, 'ngrams': 3, 'implementation': 'blockwise'},
    **{'attention': 'prefix', 'prefix_length': 3},
    **{'counts': 2, 'count_rows': 50},
  },
}

# What a user's program does; it knows a folder and nothing of this package.
_PROGRAM = """
import importlib.util, pathlib, re, sys
assert importlib.util.find_spec('attn') is None
import jax, jax.export
import numpy as np
import safetensors.numpy

def load(folder, name):
  data = bytearray((folder / f'{name}.jax').read_bytes())
  return jax.export.deserialize(data).call

for folder in map(pathlib.Path, sys.argv[1:]):
  params = safetensors.numpy.load_file(folder / 'params.safetensors')
  asked = np.load(folder / 'asked.npz')
  tokens, lengths = asked['tokens'], asked['lengths'].copy()
  results = {'forward': load(folder, 'forward')(params, tokens)}
  logits, cache = load(folder, 'prefill')(params, tokens, lengths)
  results['prefill'] = logits
  decode = load(folder, 'decode')
  for i, token in enumerate(asked['following']):
    logits, cache = decode(params, cache, token, lengths)
    lengths = lengths + 1
    results[f'decode_{i}'] = logits
  results |= {f'cache/{name}': x for name, x in cache.items()}
  np.savez(folder / 'found.npz', **results)
assert not [name for name in sys.modules if name.partition('.')[0] == 'attn']
"""


def _run_elsewhere(program, cwd, *arguments):
  """In a process that does not find this package."""
  environment = {**os.environ, 'PYTHONPATH': '', 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    [sys.executable, '-I', '-c', program, *map(str, arguments)],
    cwd=cwd,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def _model_of(name):
  model, variables = model_of(**_MODELS[name])
  config = model.config
  if config.counts:
    text = np.random.default_rng(0).integers(0, V, 200)
    variables['params']['counts'] = count_ngrams(
      text, V, longest=config.counts, rows=config.count_rows
    )
  return model, variables


def _following(model, params):
  """The greedy tokens after each prompt, int32[steps, B]."""
  prompts = [row[:length] for row, length in zip(_TOKENS, _LENGTHS)]
  drawn = generate(
    model,
    params,
    prompts,
    length=_STEPS,
    seed=0,
    sampling=Sampling(temperature=0),
  )
  return np.ascontiguousarray(drawn.T)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  """For each model its folder, which holds what another process found."""
  folders = {}
  for name in _MODELS:
    folder = folders[name] = tmp_path_factory.mktemp('exported') / name
    model, variables = _model_of(name)
    export_model(
      folder,
      model,
      variables['params'],
      _TOKENIZER,
      batch_size=B,
      length=P,
    )
    np.savez(
      folder / 'asked.npz',
      tokens=_TOKENS,
      lengths=_LENGTHS,
      following=_following(model, variables['params']),
    )
  elsewhere = tmp_path_factory.mktemp('elsewhere')
  _run_elsewhere(_PROGRAM, elsewhere, *folders.values())
  return folders


@pytest.mark.parametrize('name', _MODELS)
def test_elsewhere_every_bit_is_the_same(exported, name):
  found = dict(np.load(exported[name] / 'found.npz'))
  following = np.load(exported[name] / 'asked.npz')['following']
  model, variables = _model_of(name)
  params = flatten(variables['params'])
  made = functions(model, batch_size=B, length=P)
  forward, prefill, decode = (
    jax.jit(made[each][0]) for each in ('forward', 'prefill', 'decode')
  )
  expected = {'forward': forward(params, _TOKENS)}
  logits, cache = prefill(params, _TOKENS, _LENGTHS)
  expected['prefill'] = logits
  for i, token in enumerate(following):
    # The tokens that `generate` draws are those the functions prefer.
    np.testing.assert_array_equal(np.argmax(logits, -1), token)
    logits, cache = decode(params, cache, token, _LENGTHS + i)
    expected[f'decode_{i}'] = logits
  expected |= {f'cache/{name}': x for name, x in cache.items()}
  assert set(found) == set(expected)
  assert_same_bits(found, {key: np.asarray(x) for key, x in expected.items()})
  # And they are the model's.
  whole = module_cases.run(model, variables, _TOKENS)
  np.testing.assert_allclose(found['forward'], whole, rtol=1e-4, atol=1e-5)


def test_the_folder_says_what_is_in_it(exported):
  folder = exported['windows']
  about = json.loads((folder / 'export.json').read_text())
  assert about['platforms'] == ['cpu', 'cuda', 'tpu']
  assert about['jax'] == jax.__version__
  arrays = safetensors.numpy.load_file(folder / about['parameters'])
  _, variables = model_of(**_MODELS['windows'])
  assert_same_bits(arrays, flatten(variables['params']))
  for name, function in about['functions'].items():
    data = bytearray((folder / function['file']).read_bytes())
    program = jax.export.deserialize(data)
    assert program.platforms == ('cpu', 'cuda', 'tpu'), name
    for told, avals in (
      (function['arguments'], program.in_avals),
      (function['results'], program.out_avals),
    ):
      assert [(x['dtype'], tuple(x['shape'])) for x in told] == [
        (str(aval.dtype), aval.shape) for aval in avals
      ]
    # The parameters come first, in the order of their names.
    places = [x['place'] for x in function['arguments']]
    assert places[: len(arrays)] == [f'0/{each}' for each in sorted(arrays)]
  logits = about['functions']['forward']['results'][0]
  assert logits == {'place': '', 'dtype': 'float32', 'shape': [B, P, V]}
  assert 'on beyond the context, 7 tokens' in (folder / 'README.md').read_text()


@pytest.mark.xdist_group('trained')
def test_a_run_is_exported_and_its_readme_runs(trained, tmp_path):
  folder = tmp_path / 'export'
  main = str(pathlib.Path('attn') / 'training' / 'export.py')
  flags = f'--workdir={trained}', f'--out={folder}', '--length=16'
  result = processes.run(main, *flags)
  assert result.returncode == 0, result.stderr
  assert f'{folder} holds forward, prefill and decode' in result.stdout
  readme = (folder / 'README.md').read_text()
  assert '{' not in re.sub(r"f'\{name\}", '', readme)
  (program,) = re.findall(r'```python\n(.*?)```', readme, re.DOTALL)
  said = _run_elsewhere(program + '\nprint(logits.shape)', folder)
  tokenizer = (trained / 'tokenizer.json').read_text()
  assert said == f'(1, {len(json.loads(tokenizer)["characters"])})\n'
  assert (folder / 'tokenizer.json').read_text() == tokenizer


@pytest.mark.xdist_group('trained')
def test_mistakes_are_told_in_one_line(trained, tmp_path):
  main = str(pathlib.Path('attn') / 'training' / 'export.py')
  out = f'--out={tmp_path / "export"}'
  for flags, words in (
    ((f'--workdir={tmp_path}',), ('workdir', 'holds no run')),
    ((f'--workdir={trained}', '--batch_size=0'), ('batch_size: got 0',)),
    ((f'--workdir={trained}', '--length=217'), ('length: got 217, wanted 1',)),
  ):
    processes.refused(processes.run(main, out, *flags), *words)
  assert not (tmp_path / 'export').exists()


def test_shapes_are_those_of_the_context():
  model, _ = model_of()
  made = functions(model, batch_size=3, length=2)
  _, (params, cache, token, lengths) = made['decode']
  assert token.shape == lengths.shape == (3,)
  assert cache['block_0/attention/cache/places'].shape == (3, CONTEXT)
  assert params['embed/embedding'].shape[0] == V
