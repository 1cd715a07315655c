"""The end of a run: what it learned, in numbers, words and pictures."""

import json
import statistics
import time
from typing import Any

import jax
import numpy as np

from attn.modules import CausalLM
from attn.training.artifacts import replace_file
from attn.training.batches import Text, ToyLanguage
from attn.training.config import Config
from attn.training.experiment import make_model
from attn.training.figures import (
  draw_attention_maps,
  draw_gaze,
  draw_loss_curve,
)
from attn.training.generate import generate
from attn.training.report import write_report
from attn.training.run_directory import RunDirectory

# Characters of a sample; a story of the toy language ends itself before.
_SAMPLE_LENGTH = 240


def finish(
  config: Config,
  run: RunDirectory,
  data: ToyLanguage | Text,
  model: CausalLM,
  params: Any,
  started: float,
) -> dict[str, Any]:
  """Write samples, figures, the report and, last of all, the summary.

  Args:
    config: The experiment.
    run: Its directory, with all metrics.
    data: What it was trained on.
    model: The model.
    params: Its final parameters.
    started: When the run started, on the monotonic clock.

  Returns:
    The summary.
  """
  history = run.read_metrics()
  summary = _summarise(config, history, params)
  samples = _draw_samples(config, data, model, params)
  replace_file(run.path / 'samples.txt', '\n'.join([*samples, '']).encode())
  text, far = data.example()
  marked = np.flatnonzero(far).tolist()
  weights = _attention_weights(config, data, params, text)
  _draw(run, history, summary, text, marked, weights)
  summary['seconds'] = round(time.monotonic() - started, 1)
  write_report(
    run.path / 'report.html',
    title=f'Run {run.path.name}',
    summary=summary,
    history=history,
    floor=summary.get('floor'),
    samples=samples,
    text=text,
    weights=weights,
    marked=marked,
  )
  replace_file(run.summary, json.dumps(summary, indent=2).encode())
  print(_tell(run, summary, samples), flush=True)
  return summary


def _summarise(
  config: Config, history: list[dict[str, Any]], params: Any
) -> dict[str, Any]:
  speeds = [
    line['tokens_per_second'] for line in history if line['split'] == 'train'
  ]
  last = [line for line in history if line['split'] == 'validation'][-1]
  judged = {
    name: value
    for name, value in last.items()
    if name not in ('step', 'seconds', 'split')
  }
  return {
    'steps': config.steps,
    'seconds': 0.0,
    'tokens_per_second': round(statistics.median(speeds)),
    'parameters': sum(x.size for x in jax.tree.leaves(params)),
    **judged,
  }


def _draw_samples(
  config: Config,
  data: ToyLanguage | Text,
  model: CausalLM,
  params: Any,
) -> list[str]:
  start = '\n' if '\n' in data.tokenizer.characters else ' '
  if model.config.given:
    start = data.example()[0][: model.config.given]
  drawn = generate(
    model,
    params,
    data.tokenizer.encode(start),
    length=min(_SAMPLE_LENGTH, config.context),
    seed=config.seed,
    temperature=config.eval.temperature,
    samples=config.eval.samples,
  )
  texts = [data.tokenizer.decode(tokens.tolist()) for tokens in drawn]
  if model.config.given:
    texts = [start.removeprefix('\n') + text for text in texts]
  if config.task == 'toy_language':
    return [text.split('\n', 1)[0] for text in texts]
  return texts


def _attention_weights(
  config: Config,
  data: ToyLanguage | Text,
  params: Any,
  text: str,
) -> np.ndarray:
  """float[L, N, T, T] over a text; no layers where attention is left out."""
  tokens = data.tokenizer.encode(text)
  if config.model.attention == 'none':
    return np.zeros((0, 0, len(tokens), len(tokens)), np.float32)
  model = make_model(config, data.tokenizer.vocab_size, capture_weights=True)
  _, captured = jax.jit(
    lambda params, tokens: model.apply(
      {'params': params}, tokens, mutable=['intermediates']
    )
  )(params, tokens[None])
  layers = captured['intermediates']
  return np.stack(
    [
      np.asarray(layers[f'block_{i}']['attention']['weights'][0])[0]
      for i in range(config.model.num_layers)
    ]
  )


def _draw(
  run: RunDirectory,
  history: list[dict[str, Any]],
  summary: dict[str, Any],
  text: str,
  marked: list[int],
  weights: np.ndarray,
) -> None:
  run.figures.mkdir(exist_ok=True)
  draw_loss_curve(run.figures / 'loss.png', history, summary.get('floor'))
  if len(weights):
    draw_attention_maps(run.figures / 'attention.png', text, weights, marked)
  if len(weights) and marked:
    # Row t predicts the character after t: the first far fact is the pronoun.
    query = marked[0]
    answer = text[query + 1 :].split(maxsplit=1)[0]
    draw_gaze(run.figures / 'gaze.png', text, weights, query, answer)


def _tell(
  run: RunDirectory, summary: dict[str, Any], samples: list[str]
) -> str:
  lines = [
    '',
    f'{run.path} is finished: {summary["steps"]} steps, '
    f'{summary["seconds"]:.0f} s, '
    f'{summary["tokens_per_second"]:,} tokens/s',
  ]
  lines.append(f'  loss               {summary["loss"]:.4f} nats per character')
  if 'floor' in summary:
    lines.append(f'  floor              {summary["floor"]:.4f}')
    lines.append(f'  gap                {summary["gap"]:.4f}')
  if 'far_fact_accuracy' in summary:
    lines.append(
      f'  far-fact accuracy  {summary["far_fact_accuracy"]:.1%}'
      f'  (by chance {summary["far_fact_chance"]:.1%})'
    )
  lines += [
    '',
    'samples:',
    *(f'  {sample}' for sample in samples),
    '',
    'wrote:',
  ]
  lines += [
    f'  {path}'
    for path in (
      *sorted(run.figures.glob('*.png')),
      run.path / 'report.html',
      run.path / 'samples.txt',
      run.metrics,
      run.summary,
    )
  ]
  return '\n'.join(lines)
