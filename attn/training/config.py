"""What a config may be.

The fields and what they mean stand in `configs/tiny.py`, and those of a
translation in `configs/translate_bahdanau.py`; every other config has the same.
"""

import math
from collections.abc import Mapping
from typing import Any

from attn.modules.sharding import DATA, FSDP, SEQUENCE, TENSOR
from attn.training.errors import UserError

# An ml_collections.ConfigDict.  Its fields are made when it runs, so a type
# checker cannot know them.
Config = Any

LANGUAGE_TASKS = ('toy_language', 'text')
# Two made up here, and one from a file.
TRANSLATION_TASKS = ('translation', 'dates', 'parallel_text')
TASKS = LANGUAGE_TASKS + TRANSLATION_TASKS

# Tasks that read the file `data`.
_OF_A_FILE = ('text', 'parallel_text')

# Fields with a least value; what a module checks itself is not repeated here.
_LEAST = {
  'seed': 0,
  'steps': 1,
  'optimizer.warmup_steps': 0,
  'optimizer.accumulate': 1,
  'optimizer.learning_rate': 0,
  'optimizer.weight_decay': 0,
  'optimizer.spike_factor': 0,
  'eval.every': 1,
  'eval.log_every': 1,
  'eval.samples': 1,
  'checkpoint.every': 1,
  'checkpoint.keep': 1,
}
_LEAST_OF_LANGUAGE = {
  'batch_size': 1,
  'context': 1,
  'steps_at_once': 1,
  'optimizer.adam_learning_rate': 0,
  'optimizer.table_learning_rate': 0,
  'optimizer.table_decay': 0,
  'distributed.timeout': 1,
  'eval.rows': 1,
  'eval.temperature': 0,
}
_LEAST_OF_TRANSLATION = {
  'batch_tokens': 1,
  'max_words': 4,
  'eval.pairs': 1,
  'eval.test_pairs': 1,
  'eval.beam': 1,
  'eval.length_penalty': 0,
}


def check_config(config: Config) -> None:
  """Refuse what no experiment can be.

  Raises:
    UserError: naming the field, its value and what was wanted.
  """
  if config.task not in TASKS:
    raise UserError(
      f'config.task: got {config.task!r}, wanted one of {", ".join(TASKS)}'
    )
  of_language = config.task in LANGUAGE_TASKS
  if of_language != ('context' in config):
    kind = LANGUAGE_TASKS if 'context' in config else TRANSLATION_TASKS
    raise UserError(
      f'config.task: got {config.task!r}, wanted one of {", ".join(kind)}, '
      'which this config is made for'
    )
  least_of_task = _LEAST_OF_LANGUAGE if of_language else _LEAST_OF_TRANSLATION
  for name, least in {**_LEAST, **least_of_task}.items():
    value = _field(config, name)
    # Written so that NaN is refused too.
    if not (value >= least and math.isfinite(value)):
      raise UserError(f'config.{name}: got {value}, wanted at least {least}')
  if not (config.optimizer.clip_norm > 0):
    raise UserError(
      f'config.optimizer.clip_norm: got {config.optimizer.clip_norm}, wanted '
      'more than 0'
    )
  for name in ('beta1', 'beta2', 'final_fraction', 'decay_fraction'):
    value = config.optimizer.get(name, 0)
    if not 0 <= value <= 1:
      raise UserError(
        f'config.optimizer.{name}: got {value}, wanted a number in [0, 1]'
      )
  if of_language:
    _check_division(config)
  if not of_language and config.optimizer.accumulate != 1:
    raise UserError(
      f'config.optimizer.accumulate: got {config.optimizer.accumulate}, wanted '
      '1: the batches of a translation differ in their rows'
    )
  if config.task in _OF_A_FILE and not config.data:
    raise UserError(
      f'config.data: got no path, wanted one for task {config.task!r}'
    )


def _check_division(config: Config) -> None:
  """Intervals go into calls, and none is left."""
  for name in ('steps', 'eval.every', 'eval.log_every', 'checkpoint.every'):
    if _field(config, name) % config.steps_at_once:
      raise UserError(
        f'config.steps_at_once: got {config.steps_at_once}, wanted a divisor '
        f'of {name} {_field(config, name)}'
      )


def check_mesh(config: Config, sizes: Mapping[str, int]) -> None:
  """Refuse what a mesh cannot divide.

  Args:
    config: Of a language task.
    sizes: Devices along each axis of the mesh.

  Raises:
    UserError: naming the axis, or the field, and what was wanted.
  """
  model, rows = config.model, config.batch_size
  for axis, name, size in (
    (DATA, 'batch_size', rows),
    (FSDP, f'batch_size {rows} / mesh.data', rows // sizes[DATA]),
    (SEQUENCE, 'context', config.context),
    (TENSOR, 'model.num_heads', model.num_heads),
  ):
    if size % sizes[axis]:
      raise UserError(
        f'config.mesh.{axis}: got {sizes[axis]}, wanted a divisor of {name} '
        f'{sizes[DATA] if "/" in name else size}'
      )
  parts, devices = config.optimizer.accumulate, sizes[DATA] * sizes[FSDP]
  if rows // devices % parts:
    told = f'batch_size {rows}'
    if devices > 1:
      told += f' / {devices}, mesh.data x mesh.fsdp'
    raise UserError(
      f'config.optimizer.accumulate: got {parts}, wanted a divisor of {told}'
    )


def task_of_file(config: Config) -> str:
  """The task of a config once it is to read a file."""
  language = config.task in LANGUAGE_TASKS
  return 'text' if language else 'parallel_text'


def _field(config: Config, name: str) -> float:
  for part in name.split('.'):
    config = config[part]
  return config
