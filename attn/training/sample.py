"""Text from a trained run: a story continued, or a sentence translated."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.training import language_model
from attn.training.checkpoints import Checkpoints
from attn.training.config import LANGUAGE_TASKS, Config
from attn.training.errors import UserError
from attn.training.experiment import (
  make_config_optimizer,
  make_encoder_decoder,
  make_model,
)
from attn.training.generate import generate
from attn.training.run_directory import RunDirectory
from attn.training.step import init_state
from attn.training.tokenizer import CharTokenizer
from attn.training.translate import translate
from attn.training.word_tokenizer import BOS, EOS, WordTokenizer


def sample(
  workdir: str,
  prompt: str,
  *,
  length: int,
  temperature: float,
  top_k: int | None,
  seed: int,
  beam: int,
) -> str:
  """Continue or translate a prompt with the model of a run.

  Args:
    workdir: The run directory.
    prompt: Not empty.
    length: How many characters to draw.
    temperature: 0 takes the likeliest character.
    top_k: Draw from the k likeliest only; None for all.
    seed: The same seed draws the same text.
    beam: How many beginnings of a translation are kept.

  Returns:
    The prompt and its continuation; a story of the toy language ends where the
    model ends it.  Of a translation run the translation, and below it whom each
    of its words looked at.

  Raises:
    UserError: if there is no run or no checkpoint, the prompt is empty or has
      characters the model does not know, or a number is out of range.
  """
  run = RunDirectory(workdir)
  config = run.read_config()
  if not prompt:
    raise UserError('prompt: is empty, wanted at least one character')
  if config.task not in LANGUAGE_TASKS:
    return _translated(run, config, prompt, beam)
  tokenizer: CharTokenizer = _load(run, CharTokenizer.load, run.tokenizer)
  try:
    tokens = tokenizer.encode(prompt)
  except UserError as error:
    raise UserError(f'prompt: {error}') from error
  model = make_model(config, tokenizer.vocab_size)
  params = _params(run, config, functools.partial(language_model.init, model))
  try:
    drawn = generate(
      model,
      params,
      tokens,
      length=length,
      seed=seed,
      temperature=temperature,
      top_k=top_k,
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  text = tokenizer.decode(drawn[0].tolist())
  if config.task == 'toy_language':
    text = text.split('\n', 1)[0]
  return prompt + text


def _translated(
  run: RunDirectory, config: Config, prompt: str, beam: int
) -> str:
  if beam < 1:
    raise UserError(f'beam: got {beam}, wanted at least 1')
  source, target = (
    _load(run, WordTokenizer.load, path)
    for path in (run.source_tokenizer, run.target_tokenizer)
  )
  words = source.split(prompt.strip())
  if not words:
    raise UserError(f'prompt: is empty, wanted at least one {source.unit}')
  longest = config.model.max_source_length
  if len(words) > longest:
    raise UserError(
      f'prompt: got {len(words)} {source.unit}s, wanted at most {longest}, '
      'which is config.model.max_source_length'
    )
  model = make_encoder_decoder(config, source.vocab_size, target.vocab_size)
  token = jnp.zeros((1, 1), jnp.int32)
  params = _params(
    run,
    config,
    lambda rng: model.init(rng, token, token == 0, token)['params'],
  )
  tokens = jnp.asarray(source.encode(words))[None]
  mask = jnp.ones(tokens.shape, bool)
  found = translate(
    model,
    params,
    tokens,
    mask,
    beam=beam,
    max_length=config.model.max_target_length,
    length_penalty=config.eval.length_penalty,
  )
  written = [int(x) for x in found.tokens[0] if int(x) != EOS]
  said = target.decode(np.array(written))
  # What came before each word that was said; one input at least.
  inputs = jnp.array([[BOS, *written][: max(len(said), 1)]], jnp.int32)
  weights = model.apply({'params': params}, tokens, mask, inputs).weights
  lines = [target.join(said)]
  unknown = source.unknown(words)
  if unknown:
    lines.append(f'({", ".join(unknown)}: never seen in training)')
  if weights is not None:
    lines += ['', *_looks(said, words, np.asarray(weights[0]))]
  return '\n'.join(lines)


def _looks(
  said: tuple[str, ...], words: tuple[str, ...], weights: np.ndarray
) -> list[str]:
  """A line for each word that was said: where it looked most."""
  width = max(map(len, said), default=0)
  lines = []
  for word, row in zip(said, weights):
    order = [s for s in np.argsort(-row)[:3] if row[s] >= 0.1]
    seen = ', '.join(f'{words[s]} {row[s]:.0%}' for s in order)
    lines.append(f'  {word:<{width}}  ← {seen}')
  return lines


def _load(run: RunDirectory, load: Callable[[Any], Any], path: Any) -> Any:
  try:
    return load(path)
  except (OSError, ValueError) as error:
    raise UserError(f'workdir: {run.path} holds no tokenizer') from error


def _params(
  run: RunDirectory, config: Config, init: Callable[[jax.Array], Any]
) -> Any:
  """Parameters of the newest checkpoint."""
  like = init_state(init, make_config_optimizer(config), config.seed)
  state = None
  if run.checkpoints.is_dir():
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint.keep)
    state = checkpoints.restore(like)
    checkpoints.close()
  if state is None:
    raise UserError(f'workdir: {run.path} has no checkpoint yet')
  return state.params
