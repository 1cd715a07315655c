"""Training beside PyTorch: python -m benchmarks.training --text=PATH.

nanoGPT's recipe, ours and theirs: first paired, a few steps in turn, then each
from beginning to end, loss against wall time.
"""

import functools
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import matplotlib.figure
from absl import flags

from attn.training import command_line
from attn.training.batches import Text, iterate
from attn.training.config import Config
from attn.training.devices import keep_freed_memory, make_mesh
from attn.training.experiment import make_config_optimizer, make_data
from attn.training.language_task import LanguageTask
from attn.training.loop import train
from attn.training.run_directory import RunDirectory
from attn.training.step import init_state, make_train_steps
from benchmarks import machine, pairing, results
from benchmarks.compare import progress
from benchmarks.table import aligned
from configs import nanogpt_cpu

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'training.json'


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_string('text', None, 'A UTF-8 text to train on.', required=True)
  flags.DEFINE_integer('rounds', 7, 'Paired rounds.')
  flags.DEFINE_integer('steps_at_once', 100, 'Steps of each in a round.')
  flags.DEFINE_bool('whole', True, 'Also train each to its end.')
  flags.DEFINE_bool('quick', False, 'Few steps, to see the program work.')
  flags.DEFINE_string('figure', None, 'Where losses are drawn, as a PNG.')
  flags.DEFINE_string(
    'out',
    None,
    'Where the figures are kept as JSON. By default '
    'benchmarks/results/training.json, and nowhere with --quick.',
  )


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  config: Config = nanogpt_cpu.get_config()
  config.update(task='text', data=values.text)
  rounds, at_once = values.rounds, values.steps_at_once
  if values.quick:
    config.update(steps=6, steps_at_once=1)
    config.eval.update(every=3, log_every=1)
    config.checkpoint.every = 3
    rounds, at_once = 1, 2
  out = results.destination(values.out, None if values.quick else _RESULTS)
  keep_freed_memory()
  progress('paired steps')
  found = {'paired': _paired(config, rounds, at_once)}
  if values.whole:
    progress('attn, from beginning to end')
    found['attn'] = _train_ours(config)
    progress('PyTorch, from beginning to end')
    found['torch'] = _train_theirs(config)
  record = {
    'machine': machine.describe(),
    'config': json.loads(config.to_json_best_effort()),
    **found,
  }
  record['config'].pop('data')
  if out is not None:
    results.update(out, 'training', {'nanogpt_cpu': record})
  print(f'\n{machine.summary(machine.describe())}\n')
  print(_table(found))
  if values.figure and values.whole:
    _draw(pathlib.Path(values.figure), found)


def _paired(config: Config, rounds: int, at_once: int) -> dict[str, Any]:
  """Tokens a second of both, a few steps of each in turn."""
  programs = {
    name: functools.partial(step, at_once)
    for name, step in (
      ('attn', _our_steps(config)),
      ('torch', _their_steps(config)),
    )
  }
  seconds = pairing.measure_all(programs, rounds)
  tokens = at_once * config.batch_size * config.context
  return {
    'ratio': vars(
      pairing.spread(pairing.ratios(seconds['torch'], seconds['attn']))
    ),
    'tokens_per_second': {
      name: tokens / statistics.median(times) for name, times in seconds.items()
    },
  }


def _our_steps(config: Config) -> Callable[[int], None]:
  mesh, at_once = make_mesh(config.mesh), config.steps_at_once
  task = LanguageTask(config)
  optimizer = make_config_optimizer(config, mesh)
  state = init_state(task.init, optimizer, config.seed, mesh)
  step = make_train_steps(task.nats, optimizer, config.seed, 1, mesh)
  batches = iterate(task, 0, 10**9 // at_once * at_once, at_once)

  def run(steps: int) -> None:
    nonlocal state
    for _ in range(steps // at_once):
      state, _ = step(state, next(batches))
    state.step.block_until_ready()

  return run


def _their_steps(config: Config) -> Callable[[int], Any]:
  # PyTorch is for benchmarks alone, and not everywhere.
  from benchmarks.torch_language_model import Trainer

  data = _text(config)
  return Trainer(config, data.tokenizer.vocab_size, data.train_tokens).train


def _train_ours(config: Config) -> dict[str, Any]:
  with tempfile.TemporaryDirectory() as folder:
    summary = train(config, folder)
    history = RunDirectory(folder).read_metrics()
  return {
    'seconds': summary['seconds'],
    'loss': summary['loss'],
    'curve': [
      [line['seconds'], line['loss']]
      for line in history
      if line['split'] == 'validation'
    ],
  }


def _train_theirs(config: Config) -> dict[str, Any]:
  from benchmarks.torch_language_model import Trainer

  start = time.perf_counter()
  data = _text(config)
  trainer = Trainer(config, data.tokenizer.vocab_size, data.train_tokens)
  curve = []
  for _ in range(config.steps // config.eval.every):
    trainer.train(config.eval.every)
    loss = trainer.validate(data.validation_tokens)
    curve.append([time.perf_counter() - start, loss])
  return {'seconds': curve[-1][0], 'loss': curve[-1][1], 'curve': curve}


def _text(config: Config) -> Text:
  data = make_data(config)
  assert isinstance(data, Text)
  return data


def _table(found: dict[str, Any]) -> str:
  lines = []
  for name in ('attn', 'torch'):
    rate = found['paired']['tokens_per_second'][name]
    whole = found.get(name)
    lines.append(
      (
        name,
        f'{rate:,.0f}',
        f'{whole["seconds"]:.0f}' if whole else '',
        f'{whole["loss"]:.4f}' if whole else '',
      )
    )
  ratio = found['paired']['ratio']
  told = aligned(('', 'tokens/s', 'seconds, all in', 'validation loss'), lines)
  return (
    f'{told}\n\nPyTorch time / ours, paired: {ratio["median"]:.2f} '
    f'[{ratio["low"]:.2f}, {ratio["high"]:.2f}]'
  )


def _draw(path: pathlib.Path, found: dict[str, Any]) -> None:
  figure = matplotlib.figure.Figure(figsize=(6, 4), layout='constrained')
  ax = figure.subplots()
  for name in ('attn', 'torch'):
    seconds, losses = zip(*found[name]['curve'])
    ax.plot(seconds, losses, marker='o', label=name)
  ax.set_xlabel('seconds, compilation and evaluation included')
  ax.set_ylabel('validation loss, nats per token')
  ax.legend()
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=144)


if __name__ == '__main__':
  command_line.run(main, define_flags)
