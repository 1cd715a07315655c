"""The translation benchmark: that it is fair, and that it runs."""

import importlib
import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import processes
import pytest

from attn.training.config import check_config
from attn.training.experiment import make_encoder_decoder, make_pairs
from benchmarks import translation

pytestmark = pytest.mark.xdist_group('translation_run')


def config_of(name: str):
  of_config, changes = translation.MECHANISMS[name]
  config = importlib.import_module(f'configs.{of_config}').get_config()
  config.model.update(changes)
  return config


def parameters(name: str) -> int:
  """How many there are; nothing is computed."""
  config = config_of(name)
  data = make_pairs(config)
  model = make_encoder_decoder(
    config, data.source_tokenizer.vocab_size, data.target_tokenizer.vocab_size
  )
  token = jnp.zeros((1, 1), jnp.int32)
  shapes = jax.eval_shape(
    lambda rng: model.init(rng, token, token == 0, token), jax.random.key(0)
  )
  return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def test_the_five_have_equal_parameters_and_steps():
  five = ('bottleneck', 'lstm', 'bahdanau', 'luong', 'transformer')
  sizes = [parameters(name) for name in five]
  assert max(sizes) / min(sizes) <= 1.05
  assert len({config_of(name).steps for name in five}) == 1
  assert len({config_of(name).batch_tokens for name in five}) == 1


@pytest.mark.parametrize('name', translation.MECHANISMS)
def test_every_mechanism_has_a_config(name: str):
  check_config(config_of(name))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    [sys.executable, '-m', 'benchmarks.translation', *arguments],
    cwd=processes.ROOT,
    capture_output=True,
    text=True,
  )


def test_quick(tmp_path):
  out, figure = tmp_path / 'out.json', tmp_path / 'length.png'
  result = run(
    '--quick',
    '--mechanisms=bottleneck,luong local-p',
    f'--out={out}',
    f'--figure={figure}',
  )
  assert result.returncode == 0, result.stderr
  cases = json.loads(out.read_text())['cases']
  assert list(cases) == ['bottleneck', 'luong local-p']
  assert cases['luong local-p']['config']['model']['locality'] == 'local-p'
  assert 'alignment_error_rate' in cases['luong local-p']['summary']
  assert 'alignment_error_rate' not in cases['bottleneck']['summary']
  assert figure.stat().st_size > 1000
  table = result.stdout.strip().splitlines()[-2:]
  assert [line.split('  ')[0] for line in table] == list(cases)


def test_an_unknown_mechanism_is_refused():
  result = run('--mechanisms=telepathy')
  assert result.returncode == 2
  (line,) = result.stderr.strip().splitlines()
  assert "--mechanisms: got 'telepathy', wanted names from bottleneck" in line
