"""python -m benchmarks.training, and the PyTorch model that it trains."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn.training import language_model
from attn.training.experiment import make_model
from configs import nanogpt_cpu

torch = pytest.importorskip('torch')

V = 13


def config_of():
  config = nanogpt_cpu.get_config()
  config.update(batch_size=3, context=7, steps=50)
  config.model.update(embed_dim=16, mlp_dim=64, num_layers=2)
  return config


def both():
  """Our model and theirs with the same parameters."""
  from benchmarks.torch_language_model import Trainer

  config = config_of()
  trainer = Trainer(config, V, np.arange(100) % V)
  with torch.no_grad():
    # Numbers so large that the norms' small constants do not show.
    for table in (trainer.model.tokens, trainer.model.places):
      table.weight *= 50
  model = make_model(config, V)
  init = language_model.init(model, jax.random.key(0))
  state = {k: v.detach().numpy() for k, v in trainer.model.named_parameters()}

  def linear(name):
    return {'kernel': state[f'{name}.weight'].T}

  params = {
    'embed': {'embedding': state['tokens.weight']},
    'position_embed': {'embedding': state['places.weight']},
    'final_norm': {'scale': state['norm.weight']},
  }
  for layer in range(2):
    at = f'blocks.{layer}'
    query, key, value = np.split(state[f'{at}.projection.weight'].T, 3, axis=1)
    params[f'block_{layer}'] = {
      'attention': {
        'query': {'kernel': query},
        'key': {'kernel': key},
        'value': {'kernel': value},
        'out': linear(f'{at}.out'),
      },
      'attention_norm': {'scale': state[f'{at}.attention_norm.weight']},
      'feed_forward': {
        'in': linear(f'{at}.widen'),
        'out': linear(f'{at}.narrow'),
      },
      'feed_forward_norm': {'scale': state[f'{at}.feed_forward_norm.weight']},
    }
  assert jax.tree.map(np.shape, init) == jax.tree.map(np.shape, params)
  return config, trainer, model, params


def test_it_is_the_same_model():
  _, trainer, model, params = both()
  tokens = np.random.default_rng(0).integers(0, V, (3, 7))
  ours = model.apply({'params': params}, jnp.asarray(tokens))
  theirs = trainer.model(torch.from_numpy(tokens)).detach().numpy()
  # PyTorch's GELU is exact, Flax's the tanh formula.
  np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_it_is_decoded_with_a_cache_as_at_once():
  _, trainer, _, _ = both()
  tokens = torch.arange(7)[None] % V
  whole = trainer.model(tokens)
  caches = [[] for _ in range(2)]
  parts = [trainer.model(tokens[:, :3], caches)]
  parts += [trainer.model(tokens[:, t : t + 1], caches, t) for t in range(3, 7)]
  torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-5)


def test_it_is_the_same_schedule():
  from benchmarks.torch_language_model import learning_rate

  config, _, _, _ = both()
  config.optimizer.update(warmup_steps=5)
  rates = [learning_rate(step, 50, config.optimizer) for step in range(50)]
  assert max(rates) == config.optimizer.learning_rate
  assert rates[5] == max(rates)
  assert rates[:5] == sorted(rates[:5])
  assert rates[5:] == sorted(rates[5:], reverse=True)
  np.testing.assert_allclose(
    rates[-1], config.optimizer.learning_rate * 0.1, rtol=0.03
  )


def test_validation_is_the_mean_over_every_token():
  _, trainer, _, _ = both()
  tokens = np.random.default_rng(0).integers(0, V, 24)
  total = 0.0
  for start in range(0, 23, 7):
    row = torch.from_numpy(tokens[start : start + 8])[None]
    chances = trainer.model(row[:, :-1]).log_softmax(-1)[0]
    picked = chances[torch.arange(len(chances)), row[0, 1:]]
    total -= float(picked.detach().sum())
  np.testing.assert_allclose(trainer.validate(tokens), total / 23, rtol=1e-5)


def test_quick(tmp_path: pathlib.Path):
  text, out = tmp_path / 'text', tmp_path / 'out.json'
  text.write_text('the cat sat on the mat, the rat sat on the cat. ' * 40)
  figure = tmp_path / 'loss.png'
  command = [sys.executable, '-m', 'benchmarks.training', '--quick']
  result = subprocess.run(
    [*command, f'--text={text}', f'--out={out}', f'--figure={figure}'],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  record = json.loads(out.read_text())['cases']['nanogpt_cpu']
  assert record['paired']['ratio']['median'] > 0
  for name in ('attn', 'torch'):
    assert len(record[name]['curve']) == 2
    assert record[name]['loss'] == record[name]['curve'][-1][1]
    assert f'{record[name]["loss"]:.4f}' in result.stdout
  assert str(text) not in out.read_text()
  assert figure.stat().st_size > 1000
