"""A sentence translated by a trained run, and where its words looked."""

import jax.numpy as jnp
import numpy as np

from attn.training.errors import UserError
from attn.training.run_directory import RunDirectory
from attn.training.trained import load_translation
from attn.training.translate import translate
from attn.training.word_tokenizer import BOS, EOS


def sample_translation(run: RunDirectory, prompt: str, *, beam: int) -> str:
  """Translate a sentence.

  Args:
    run: A run of a translation task.
    prompt: The sentence.
    beam: How many beginnings of the translation are kept.

  Returns:
    The translation, and below it whom each of its words looked at.

  Raises:
    UserError: if there is no run or no checkpoint, the prompt is empty or too
      long, or beam is below 1.
  """
  if beam < 1:
    raise UserError(f'beam: got {beam}, wanted at least 1')
  config, source, target, model, params = load_translation(run)
  words = source.split(prompt.strip())
  if not words:
    raise UserError(f'prompt: is empty, wanted at least one {source.unit}')
  longest = config.model.max_source_length
  if len(words) > longest:
    raise UserError(
      f'prompt: got {len(words)} {source.unit}s, wanted at most {longest}, '
      'which is config.model.max_source_length'
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
