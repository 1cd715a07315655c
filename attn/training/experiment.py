"""From a config to the things it describes: data, model, optimiser."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from attn import modules
from attn.modules import CausalLM, CausalLMConfig, EncoderDecoderConfig
from attn.modules.attentions import parse
from attn.modules.ngram_counts import PARTS
from attn.modules.sharding import DATA
from attn.training.batches import Text, ToyLanguage
from attn.training.config import Config
from attn.training.devices import divides_rows_alone
from attn.training.errors import UserError
from attn.training.imported import imported_tokenizer
from attn.training.optimizer import make_optimizer, make_schedule
from attn.training.pair_batches import TranslationData

# What an error about a text may be about besides the text.
_OF_CONFIG = ('tokenizer:', 'vocab_size:')


def make_data(config: Config) -> ToyLanguage | Text:
  """The data that the config names.

  Raises:
    UserError: if there is none, it is not text, or it is too short.
  """
  model = config.model
  given = 0
  if _pattern(model.attention) == 'prefix':
    given = model.prefix_length
  sizes = (config.seed, config.batch_size, config.context, given)
  counts = model.get('counts', 0)
  if counts and config.task != 'text':
    raise UserError(
      f'config.model.counts: got {counts}, wanted 0: {config.task} is no text '
      'that could be counted; --data=PATH names one'
    )
  if config.task == 'text':
    text = read_text(pathlib.Path(config.data))
    tokenizer = config.tokenizer
    if config.get('init_from'):
      tokenizer = imported_tokenizer(config.init_from)
    try:
      return Text(
        text,
        *sizes,
        tokenizer=tokenizer,
        vocab_size=config.vocab_size,
        parts=PARTS if counts else 0,
      )
    except ValueError as error:
      at = 'config.' if str(error).startswith(_OF_CONFIG) else ''
      where = at or f'data: {config.data}: '
      raise UserError(f'{where}{error}') from error
  try:
    return ToyLanguage(*sizes)
  except ValueError as error:
    message = str(error).replace('given:', 'model.prefix_length:')
    raise UserError(f'config.{message}') from error


def _pattern(attention: str) -> str:
  try:
    return parse(attention).pattern
  except ValueError as error:
    raise UserError(f'config.model.{error}') from error


def read_text(path: pathlib.Path) -> str:
  """A text file, whole.

  Raises:
    UserError: if it is missing, empty, a directory, or not UTF-8.
  """
  try:
    text = path.read_bytes().decode('utf-8')
  except UnicodeDecodeError as error:
    raise UserError(
      f'data: {path} is not UTF-8 (byte {error.start}: {error.reason})'
    ) from error
  except OSError as error:
    raise UserError(f'data: {path}: {error.strerror}') from error
  if not text:
    raise UserError(f'data: {path} is empty')
  return text


def make_model(
  config: Config,
  vocab_size: int,
  *,
  capture_weights: bool = False,
) -> CausalLM:
  """The model that the config describes.

  Raises:
    UserError: if it describes none.
  """
  try:
    shape = CausalLMConfig(
      vocab_size=vocab_size, context=config.context, **config.model
    )
  except ValueError as error:
    raise UserError(f'config.model.{error}') from error
  return CausalLM(shape, capture_weights=capture_weights)


def make_pairs(config: Config) -> TranslationData:
  """The pairs that the config names.

  Raises:
    UserError: if there are none, or they are longer than the model takes.
  """
  size = (config.seed, config.batch_tokens)
  most = config.max_words
  try:
    if config.task == 'parallel_text':
      data = TranslationData.file(config.data, *size, max_words=most)
    elif config.task == 'dates':
      data = TranslationData.dates(*size)
    else:
      data = TranslationData.little_german(*size, max_words=most)
  except ValueError as error:
    raise UserError(f'config.{error}') from error
  for name, needed in (
    ('max_source_length', data.limit.source_length),
    ('max_target_length', data.limit.target_length),
  ):
    if config.model[name] < needed:
      raise UserError(
        f'config.model.{name}: got {config.model[name]}, wanted at least '
        f'{needed}, the longest there is in the data'
      )
  return data


def make_encoder_decoder(
  config: Config, source_vocab_size: int, target_vocab_size: int
) -> Any:
  """The encoder-decoder that the config describes.

  Raises:
    UserError: if it describes none.
  """
  try:
    shape = EncoderDecoderConfig(
      source_vocab_size=source_vocab_size,
      target_vocab_size=target_vocab_size,
      **config.model,
    )
  except ValueError as error:
    raise UserError(f'config.model.{error}') from error
  return modules.make_encoder_decoder(shape)


def init_encoder_decoder(model: Any, rng: jax.Array) -> Any:
  """Fresh parameters."""
  token = jnp.zeros((1, 1), jnp.int32)
  params = model.init(rng, token, token == 0, token)['params']
  return modules.open_forget_gates(params)


def make_config_optimizer(
  config: Config, mesh: Mesh | None = None
) -> optax.GradientTransformation:
  """The optimiser that the config describes, for the devices of a mesh.

  Raises:
    UserError: if it describes none.
  """
  options = dict(config.optimizer)
  # The step accumulates, not the optimiser.
  options.pop('accumulate')
  axis = None
  if mesh is not None and divides_rows_alone(mesh):
    axis, mesh = DATA, None
  try:
    return make_optimizer(steps=config.steps, axis=axis, mesh=mesh, **options)
  except ValueError as error:
    raise UserError(f'config.optimizer.{error}') from error


def make_config_schedule(config: Config) -> optax.Schedule:
  """The learning rate that the config describes, of step 0, 1, ..."""
  options = config.optimizer
  return make_schedule(
    config.steps,
    options.learning_rate,
    options.warmup_steps,
    options.final_fraction,
    options.get('decay_fraction', 0.0),
  )
