"""Every file of configs/ describes a run that can begin."""

import importlib
import pathlib

import jax
import pytest

from attn.training import language_model
from attn.training.config import LANGUAGE_TASKS, check_config
from attn.training.experiment import (
  init_encoder_decoder,
  make_config_optimizer,
  make_encoder_decoder,
  make_model,
)

FOLDER = pathlib.Path(__file__).parent.parent / 'configs'
NAMES = sorted(path.stem for path in FOLDER.glob('*.py'))


@pytest.mark.parametrize('name', NAMES)
def test_a_config_can_begin(name: str):
  module = importlib.import_module(f'configs.{name}')
  assert f'python train.py --config=configs/{name}.py' in module.__doc__
  config = module.get_config()
  check_config(config)
  optimizer = make_config_optimizer(config)

  def begin(rng):
    if config.task in LANGUAGE_TASKS:
      params = language_model.init(make_model(config, vocab_size=65), rng)
    else:
      model = make_encoder_decoder(config, 11, 13)
      params = init_encoder_decoder(model, rng)
    return params, optimizer.init(params)

  params, _ = jax.eval_shape(begin, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(params)) > 10_000
