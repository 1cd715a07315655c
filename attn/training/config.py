"""What a config may be.

The fields and what they mean stand in `configs/tiny.py`; every other config
has the same ones.
"""

import math
from typing import Any

from attn.training.errors import UserError

# An ml_collections.ConfigDict.  Its fields are made when it runs, so a type
# checker cannot know them.
Config = Any

TASKS = ('toy_language', 'text')

# Fields with a least value; what a module checks itself is not repeated here.
_LEAST = {
  'seed': 0,
  'steps': 1,
  'batch_size': 1,
  'context': 1,
  'optimizer.warmup_steps': 0,
  'optimizer.accumulate': 1,
  'optimizer.learning_rate': 0,
  'optimizer.weight_decay': 0,
  'eval.every': 1,
  'eval.rows': 1,
  'eval.log_every': 1,
  'eval.samples': 1,
  'eval.temperature': 0,
  'checkpoint.every': 1,
  'checkpoint.keep': 1,
}


def check_config(config: Config) -> None:
  """Refuse what no experiment can be.

  Raises:
    UserError: naming the field, its value and what was wanted.
  """
  for name, least in _LEAST.items():
    value = _field(config, name)
    # Written so that NaN is refused too.
    if not (value >= least and math.isfinite(value)):
      raise UserError(f'config.{name}: got {value}, wanted at least {least}')
  if not (config.optimizer.clip_norm > 0):
    raise UserError(
      f'config.optimizer.clip_norm: got {config.optimizer.clip_norm}, wanted '
      'more than 0'
    )
  for name in ('beta1', 'beta2', 'final_fraction'):
    value = config.optimizer[name]
    if not 0 <= value <= 1:
      raise UserError(
        f'config.optimizer.{name}: got {value}, wanted a number in [0, 1]'
      )
  if config.batch_size % config.optimizer.accumulate:
    raise UserError(
      f'config.optimizer.accumulate: got {config.optimizer.accumulate}, wanted '
      f'a divisor of batch_size {config.batch_size}'
    )
  if config.task not in TASKS:
    raise UserError(
      f'config.task: got {config.task!r}, wanted one of {", ".join(TASKS)}'
    )
  if config.task == 'text' and not config.data:
    raise UserError("config.data: got no path, wanted one for task 'text'")


def _field(config: Config, name: str) -> float:
  for part in name.split('.'):
    config = config[part]
  return config
