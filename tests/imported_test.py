"""Models that others trained: generated from, and trained further."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest

from attn.interop import load_huggingface, save_huggingface
from attn.modules import CausalLM, CausalLMConfig
from attn.training.byte_pairs import BytePairTokenizer
from attn.training.errors import UserError
from attn.training.file_tokenizer import FileTokenizer
from attn.training.imported import adopt
from attn.training.loop import train
from attn.training.run_directory import RunDirectory
from attn.training.sample import Wishes, sample
from attn.training.to_huggingface import to_huggingface, tokenizer_json
from attn.training.tokenizer import (
  ByteTokenizer,
  CharTokenizer,
  load_tokenizer,
  save_tokenizer,
)
from attn.training.trained import load_imported, load_language
from configs import tiny
from tests import processes
from tests.module_cases import random_parameters

_TEXT = 'the cat sat on the mat, and the hat sat on the cat. ' * 20
_MADE = BytePairTokenizer.of(_TEXT, 270)
# More than there are tokens, as most models have it.
_V, _CONTEXT = 272, 24

_CONFIG = CausalLMConfig(
  vocab_size=_V,
  context=_CONTEXT,
  num_layers=1,
  embed_dim=12,
  num_heads=2,
  num_kv_heads=0,
  mlp_dim=48,
  attention='full',
  window=1,
  positions='learned',
  rope_base=1.0,
  norm='layernorm',
  activation='gelu',
  qk_norm=False,
  tied_head=True,
  dropout_rate=0.0,
  norm_bias=True,
  attention_bias=True,
  mlp_bias=True,
)


def _write(folder: pathlib.Path, ends: tuple[int, ...] = ()) -> str:
  """A GPT-2 that continues the text with random words."""
  params = random_parameters(CausalLM(_CONFIG), np.zeros((1, 1), int))
  save_huggingface(
    folder,
    _CONFIG,
    params['params'],
    tokenizer=_MADE.state()['model'],
    ends=ends,
  )
  return str(folder)


def _wishes(folder: str, length: int = 9) -> Wishes:
  return Wishes(
    length=length,
    sampling={'temperature': 0.0},
    stops=(),
    seed=0,
    draft=None,
    ahead=1,
    beam=1,
    model=folder,
  )


def _greedy(folder: str, prompt: str, length: int) -> list[int]:
  """Without a cache, one token after the other."""
  model = load_huggingface(folder)
  tokens = _MADE.encode(prompt).tolist()
  padded = np.zeros((1, _CONTEXT), np.int32)
  apply = jax.jit(CausalLM(model.config).apply)
  for _ in range(length):
    padded[0, : len(tokens)] = tokens
    logits = apply({'params': model.params}, padded)
    tokens.append(int(logits[0, len(tokens) - 1].argmax()))
  return tokens[-length:]


def test_a_prompt_is_continued_up_to_the_end_of_a_text(tmp_path):
  drawn = _greedy(_write(tmp_path / 'a'), 'the cat', 9)
  said = ''.join(sample('', ['the cat'], _wishes(str(tmp_path / 'a'))))
  assert said == 'the cat' + _MADE.decode(drawn) + '\n'
  end = drawn[4]
  cut = _MADE.decode(drawn[: drawn.index(end)])
  folder = _write(tmp_path / 'b', ends=(end,))
  said = ''.join(sample('', ['the cat'], _wishes(folder)))
  assert said == 'the cat' + cut + '\n'


def test_its_heads_are_viewed(tmp_path):
  folder = _write(tmp_path / 'model')
  main = str(pathlib.Path('attn') / 'training' / 'view.py')
  result = processes.run(main, f'--model={folder}', '--text=the cat')
  assert result.returncode == 0, result.stderr
  page = (tmp_path / 'model' / 'view.html').read_text()
  assert 'Heads of model' in page
  (data,) = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
  read = json.loads(data)
  assert ''.join(read['text']) == 'the cat'
  assert len(read['calls']) == _CONFIG.num_layers
  refused = processes.run(main, f'--model={tmp_path}', '--text=the cat')
  processes.refused(refused, str(tmp_path))


def test_a_run_begins_with_the_model(tmp_path):
  folder = _write(tmp_path / 'model')
  (tmp_path / 'text').write_text(_TEXT)
  config = tiny.get_config()
  # Nothing is learned, so what comes out is what went in.
  config.update({'task': 'text', 'data': str(tmp_path / 'text'), 'steps': 1})
  config.update({'context': 16, 'batch_size': 2})
  config.optimizer.update({'learning_rate': 0.0, 'warmup_steps': 0})
  config.checkpoint.every = config.eval.every = config.eval.log_every = 1
  config.eval.samples = 1
  adopt(config, folder)
  # Optax counts steps in another dtype.
  with jax.numpy_dtype_promotion('standard'):
    train(config, str(tmp_path / 'run'))
  run = load_language(RunDirectory(tmp_path / 'run'))
  expected = load_huggingface(folder).params
  # Of the positions, those that the context has.
  table = expected['position_embed']['embedding'][:16]
  expected['position_embed'] = {'embedding': table}
  jax.tree.map(np.testing.assert_array_equal, run.params, expected)
  assert run.model.config.norm_bias
  assert run.tokenizer == FileTokenizer(_MADE.state()['model'], _V)
  # And out again, as it came.
  assert to_huggingface(str(tmp_path / 'run'), str(tmp_path / 'out')) == 'gpt2'
  again = load_imported(str(tmp_path / 'out'))
  jax.tree.map(np.testing.assert_array_equal, again.params, run.params)
  assert again.tokenizer == run.tokenizer
  with pytest.raises(UserError, match=r'directory: .*out is not empty'):
    to_huggingface(str(tmp_path / 'run'), str(tmp_path / 'out'))
  lines = (tmp_path / 'run/metrics.jsonl').read_text().splitlines()
  assert {json.loads(line)['split'] for line in lines} == {
    'train',
    'validation',
  }


def test_refused(tmp_path):
  folder = _write(tmp_path / 'model')
  config = tiny.get_config()
  with pytest.raises(UserError, match='init_from: wanted a text, --data'):
    adopt(config, folder)
  config.task = 'text'
  with pytest.raises(UserError, match='context: got 216, wanted at most 24'):
    adopt(config, folder)
  with pytest.raises(UserError, match='nowhere: is no directory'):
    adopt(config, str(tmp_path / 'nowhere'))
  with pytest.raises(UserError, match='nowhere: is no directory'):
    list(sample('', ['x'], _wishes(str(tmp_path / 'nowhere'))))
  (tmp_path / 'model/tokenizer.json').write_text('{}')
  with pytest.raises(UserError, match=r'tokenizer.json: is no tokenizer'):
    load_imported(folder)
  (tmp_path / 'model/tokenizer.json').unlink()
  with pytest.raises(UserError, match=r'tokenizer.json: cannot be read'):
    load_imported(folder)


def test_the_tokenizer_of_a_file(tmp_path):
  model = _MADE.state()['model']
  tokenizer = FileTokenizer(model, _V)
  text = 'the née hat'
  np.testing.assert_array_equal(tokenizer.encode(text), _MADE.encode(text))
  assert tokenizer.decode(tokenizer.encode(text)) == text
  lengths = tokenizer.byte_lengths(tokenizer.encode(text))
  assert sum(lengths) == len(text.encode())
  save_tokenizer(tokenizer, tmp_path / 'x')
  assert load_tokenizer(tmp_path / 'x') == tokenizer
  with pytest.raises(
    ValueError, match=r'got token 269, wanted less than .*269'
  ):
    FileTokenizer(model, 269)


@pytest.mark.parametrize(
  'tokenizer', [CharTokenizer.of('né h\nat'), ByteTokenizer(), _MADE]
)
def test_every_tokenizer_leaves_as_a_file(tokenizer):
  file = FileTokenizer(tokenizer_json(tokenizer), tokenizer.vocab_size)
  text = 'hat né\n\n  tea'.replace('e', 'n')
  tokens = tokenizer.encode(text)
  np.testing.assert_array_equal(file.encode(text), tokens)
  assert file.decode(tokens) == text
