"""A run that was trained, read back: its config, tokenizers and parameters."""

import contextlib
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from attn.modules import CausalLM
from attn.training import language_model
from attn.training.checkpoints import Checkpoints
from attn.training.config import LANGUAGE_TASKS, Config
from attn.training.errors import UserError
from attn.training.experiment import (
  init_encoder_decoder,
  make_config_optimizer,
  make_encoder_decoder,
  make_model,
)
from attn.training.imported import (
  float32,
  imported_tokenizer,
  read_imported,
)
from attn.training.run_directory import RunDirectory
from attn.training.step import init_state
from attn.training.tokenizer import Tokenizer, load_tokenizer
from attn.training.word_tokenizer import WordTokenizer


class LanguageRun(NamedTuple):
  """A causal language model.

  Attributes:
    config: The experiment.
    tokenizer: Text to tokens.
    model: The model.
    params: Of its newest checkpoint.
    ends: Tokens that end a text.
  """

  config: Config
  tokenizer: Tokenizer
  model: CausalLM
  params: Any
  ends: tuple[int, ...] = ()


class TranslationRun(NamedTuple):
  """An encoder-decoder.

  Attributes:
    config: The experiment.
    source: The tokenizer of what it reads.
    target: The tokenizer of what it writes.
    model: The model.
    params: Of its newest checkpoint.
  """

  config: Config
  source: WordTokenizer
  target: WordTokenizer
  model: Any
  params: Any


def load_language(run: RunDirectory) -> LanguageRun:
  """Read back a run of a language task.

  Raises:
    UserError: if there is no run or no checkpoint, or it translates.
  """
  config = run.read_config()
  if config.task not in LANGUAGE_TASKS:
    raise UserError(f'workdir: {run.path} translates, wanted a language model')
  tokenizer = _load(run, load_tokenizer, run.tokenizer)
  model = make_model(config, tokenizer.vocab_size)
  init = functools.partial(language_model.init, model)
  return LanguageRun(config, tokenizer, model, _params(run, config, init))


def load_imported(directory: str) -> LanguageRun:
  """A model that others trained, from a directory of Hugging Face.

  Raises:
    UserError: if it holds no such model, or no tokenizer.json.
  """
  model = read_imported(directory)
  tokenizer = imported_tokenizer(directory, special=True)
  return LanguageRun(
    ml_collections.ConfigDict({'task': 'text'}),
    tokenizer,
    CausalLM(model.config),
    jax.tree.map(jnp.asarray, float32(model.params)),
    model.ends,
  )


def load_translation(run: RunDirectory) -> TranslationRun:
  """Read back a run of a translation task; raises as `load_language`."""
  config = run.read_config()
  source = _load(run, WordTokenizer.load, run.source_tokenizer)
  target = _load(run, WordTokenizer.load, run.target_tokenizer)
  model = make_encoder_decoder(config, source.vocab_size, target.vocab_size)
  init = functools.partial(init_encoder_decoder, model)
  params = _params(run, config, init)
  return TranslationRun(config, source, target, model, params)


def _load(
  run: RunDirectory, load: Callable[[pathlib.Path], Any], path: pathlib.Path
) -> Any:
  try:
    loaded = load(path)
  except (OSError, ValueError) as error:
    raise UserError(f'workdir: {run.path} holds no tokenizer') from error
  run.check_seal(path)
  return loaded


def _params(
  run: RunDirectory, config: Config, init: Callable[[jax.Array], Any]
) -> Any:
  """Parameters of the newest checkpoint."""
  like = init_state(init, make_config_optimizer(config), config.seed)
  state = None
  if run.checkpoints.is_dir():
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint.keep)
    with contextlib.closing(checkpoints):
      state = checkpoints.restore(like)
  if state is None:
    raise UserError(f'workdir: {run.path} has no checkpoint yet')
  return state.params
