"""Generation beside PyTorch: python -m benchmarks.generation.

One text is written token by token by a model of four layers of width 128, with
fresh weights, for the time does not depend on them.  Three ways in turn: ours;
PyTorch that reads the context again for every token, as nanoGPT's sampler does;
PyTorch with a cache of keys and values.
"""

import functools
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags

from attn.training import command_line, language_model
from attn.training.config import Config
from attn.training.devices import keep_freed_memory
from attn.training.experiment import make_model
from attn.training.generate import generate
from benchmarks import machine, pairing, results
from benchmarks.table import aligned
from configs import nanogpt_cpu

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'generation.json'

# As many as tiny Shakespeare has characters.
_VOCABULARY = 65

_WAYS = ('attn', 'torch, all read again', 'torch, cached')


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_integer('length', 1000, 'Tokens to write.')
  flags.DEFINE_integer('context', 1024, 'Tokens that the models can see.')
  flags.DEFINE_integer('rounds', 7, 'Paired rounds.')
  flags.DEFINE_bool('quick', False, 'Few tokens, to see the program work.')
  flags.DEFINE_string(
    'out',
    None,
    'Where the figures are kept as JSON. By default '
    'benchmarks/results/generation.json, and nowhere with --quick.',
  )


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  length, context, rounds = values.length, values.context, values.rounds
  if values.quick:
    length, context, rounds = 9, 16, 1
  out = results.destination(values.out, None if values.quick else _RESULTS)
  keep_freed_memory()
  config: Config = nanogpt_cpu.get_config()
  config.context = context
  writers: dict[str, Callable[[int], Any]] = dict(
    zip(_WAYS, (_ours(config), *_theirs(config)))
  )
  record = {
    'machine': machine.describe(),
    'length': length,
    'context': context,
    **_paired(writers, length, rounds),
  }
  if out is not None:
    results.update(out, 'generation', {'nanogpt_cpu': record})
  print(f'\n{machine.summary(machine.describe())}\n')
  print(_table(record))


def _paired(
  writers: dict[str, Callable[[int], Any]], length: int, rounds: int
) -> dict[str, Any]:
  """Seconds of each, in turn."""
  programs = {
    name: functools.partial(write, length) for name, write in writers.items()
  }
  seconds = pairing.measure_all(programs, rounds)
  ours = seconds[_WAYS[0]]
  return {
    'tokens_per_second': {
      name: length / statistics.median(times) for name, times in seconds.items()
    },
    'ratios': {
      name: vars(pairing.spread(pairing.ratios(seconds[name], ours)))
      for name in _WAYS[1:]
    },
  }


def _ours(config: Config) -> Callable[[int], None]:
  model = make_model(config, _VOCABULARY)
  init = jax.jit(lambda rng: language_model.init(model, rng))
  params = init(jax.random.key(0))

  def write(length: int) -> None:
    prompt = np.zeros(1, np.int32)
    generate(model, params, [prompt], length=length, seed=0)

  return write


def _theirs(config: Config) -> list[Callable[[int], Any]]:
  # PyTorch is for benchmarks alone, and not everywhere.
  from benchmarks.torch_language_model import make_model, write

  model = make_model(config, _VOCABULARY)

  def writer(cached: bool) -> Callable[[int], Any]:
    return lambda length: write(model, [0], length, cached=cached)

  return [writer(cached=False), writer(cached=True)]


def _table(record: dict[str, Any]) -> str:
  lines = []
  for name, rate in record['tokens_per_second'].items():
    ratio = record['ratios'].get(name)
    told = ''
    if ratio is not None:
      told = '{median:.1f} [{low:.1f}, {high:.1f}]'.format(**ratio)
    lines.append((name, f'{rate:,.0f}', told))
  return aligned(('', 'tokens/s', 'its time / ours'), lines)


if __name__ == '__main__':
  command_line.run(main, define_flags)
