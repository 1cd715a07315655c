"""Text from a trained run: stories continued, or a sentence translated."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from attn.training.config import LANGUAGE_TASKS
from attn.training.errors import UserError
from attn.training.generate import generate, room, stream
from attn.training.run_directory import RunDirectory
from attn.training.sample_translation import sample_translation
from attn.training.sampling import Sampling
from attn.training.speculative import Speaker, speculate
from attn.training.streaming import stream_text, until
from attn.training.trained import (
  LanguageRun,
  load_imported,
  load_language,
)


@dataclasses.dataclass(frozen=True)
class Wishes:
  """What a user may ask for.

  Attributes:
    length: Tokens to draw; None for 300, or as many as the context has room
      for.
    sampling: The fields of `Sampling`.
    stops: The text ends before any of these.
    seed: The same seed draws the same text.
    draft: The run directory of a smaller model that proposes tokens; None for
      none.
    ahead: How many it proposes.
    beam: How many beginnings of a translation are kept.
    model: A directory of Hugging Face, in place of a run; None for a run.
  """

  length: int | None
  sampling: dict[str, Any]
  stops: Sequence[str]
  seed: int
  draft: str | None
  ahead: int
  beam: int
  model: str | None = None


def sample(
  workdir: str, prompts: Sequence[str], wishes: Wishes
) -> Iterator[str]:
  """Continue or translate prompts with the model of a run.

  Args:
    workdir: The run directory; not looked at where `wishes` names a model.
    prompts: None of them empty.  With one the text comes as it is produced,
      more are continued together.
    wishes: How.

  Yields:
    Pieces of what is to be printed: a prompt and its continuation; a story of
    the toy language ends where the model ends it.  Of a translation run the
    translation, and below it whom each of its words looked at.

  Raises:
    UserError: if there is no run or no checkpoint, a prompt is empty or has
      characters the model does not know, or a number is out of range.
  """
  for prompt in prompts:
    if not prompt:
      raise UserError('prompt: is empty, wanted at least one character')
  if wishes.model is not None:
    yield from _language(load_imported(wishes.model), prompts, wishes)
    return
  run = RunDirectory(workdir)
  config = run.read_config()
  if config.task not in LANGUAGE_TASKS:
    for prompt in prompts:
      yield sample_translation(run, prompt, beam=wishes.beam) + '\n'
    return
  yield from _language(load_language(run), prompts, wishes)


def _language(
  trained: LanguageRun, prompts: Sequence[str], wishes: Wishes
) -> Iterator[str]:
  try:
    yield from _continued(trained, prompts, wishes)
  except ValueError as error:
    raise UserError(str(error)) from error


def _continued(
  trained: LanguageRun, prompts: Sequence[str], wishes: Wishes
) -> Iterator[str]:
  sampling = Sampling(**wishes.sampling)
  if '' in wishes.stops:
    raise UserError('stop: is empty, wanted at least one character')
  stops = list(wishes.stops)
  if trained.config.task == 'toy_language':
    stops.append('\n')
  tokens = [_encode(trained, prompt) for prompt in prompts]
  length = wishes.length
  if length is None:
    length = max(int(min(300, room(trained.model, tokens))), 1)

  def text_of(row: int, drawn: Iterator[np.ndarray]) -> Iterator[str]:
    yield prompts[row]
    drawn = until(drawn, trained.ends)
    yield from stream_text(drawn, trained.tokenizer.decode, stops)
    yield '\n'

  if wishes.draft is not None:
    if len(prompts) > 1:
      raise UserError(f'draft: got {len(prompts)} prompts, wanted one')
    draft = _load_draft(wishes.draft, trained)
    drawn = speculate(
      Speaker(trained.model, trained.params),
      Speaker(draft.model, draft.params),
      tokens[0],
      length=length,
      seed=wishes.seed,
      sampling=sampling,
      ahead=wishes.ahead,
    )
    yield from text_of(0, drawn)
    return
  options: dict[str, Any] = {
    'length': length,
    'seed': wishes.seed,
    'sampling': sampling,
  }
  if len(prompts) == 1:
    pieces = stream(trained.model, trained.params, tokens, **options)
    yield from text_of(0, (piece[0] for piece in pieces))
    return
  rows = generate(trained.model, trained.params, tokens, **options)
  for row, drawn in enumerate(rows):
    yield from text_of(row, iter([drawn]))


def _encode(trained: LanguageRun, prompt: str) -> np.ndarray:
  try:
    return trained.tokenizer.encode(prompt)
  except UserError as error:
    raise UserError(f'prompt: {error}') from error


def _load_draft(workdir: str, trained: LanguageRun) -> LanguageRun:
  draft = load_language(RunDirectory(workdir))
  if draft.tokenizer != trained.tokenizer:
    raise UserError(f'draft: {workdir} has another tokenizer')
  return draft
