"""Models that others trained: generated from, and trained further."""

import dataclasses
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from attn.interop import (
  HuggingFaceModel,
  load_huggingface,
  load_huggingface_config,
)
from attn.modules import CausalLMConfig
from attn.training.config import Config
from attn.training.errors import UserError
from attn.training.tokenizer import Tokenizer


def read_imported(directory: str) -> HuggingFaceModel:
  """A directory of Hugging Face; raises UserError if it is none."""
  try:
    return load_huggingface(directory)
  except ValueError as error:
    raise UserError(str(error)) from error


def imported_tokenizer(directory: str, *, special: bool = False) -> Tokenizer:
  """The tokenizer that came with a model.

  Args:
    directory: Of the model.
    special: As in `FileTokenizer`.

  Raises:
    UserError: if there is no tokenizer.json, or it is not the model's.
  """
  # Imported here: few need the library.
  from attn.training.file_tokenizer import FileTokenizer

  path = pathlib.Path(directory) / 'tokenizer.json'
  try:
    vocab_size = load_huggingface_config(directory).vocab_size
    return FileTokenizer.read(path, vocab_size, special=special)
  except ValueError as error:
    raise UserError(str(error)) from error


def adopt(config: Config, directory: str) -> None:
  """Make an experiment go on with a model that is there.

  Its shape becomes `config.model`, but for the rate of dropout and the
  implementation, which are the experiment's own.

  Raises:
    UserError: if directory holds no model, or the experiment reads no text or
      reads more of it at once than the model.
  """
  if config.task != 'text':
    raise UserError(
      f'init_from: wanted a text, --data=PATH; config.task is {config.task!r}'
    )
  try:
    shape = load_huggingface_config(directory)
  except ValueError as error:
    raise UserError(str(error)) from error
  if config.context > shape.context:
    raise UserError(
      f'config.context: got {config.context}, wanted at most {shape.context}, '
      f'the context of {directory}'
    )
  fields = dataclasses.asdict(shape)
  for name in ('vocab_size', 'context'):
    del fields[name]
  for name in ('dropout_rate', 'implementation'):
    fields[name] = config.model[name]
  with config.unlocked():
    config.init_from = directory
    config.model = ml_collections.ConfigDict(fields)


def imported_params(directory: str, shape: CausalLMConfig) -> Any:
  """The parameters of a model, in float32, for a context perhaps shorter."""
  params = float32(read_imported(directory).params)
  if shape.positions == 'learned':
    table = params['position_embed']['embedding'][: shape.context]
    params['position_embed'] = {'embedding': table}
  return params


def float32(params: Any) -> Any:
  """Parameters of any dtype, in float32."""
  return jax.tree.map(lambda x: np.asarray(x, np.float32), params)
