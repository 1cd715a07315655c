"""Our best recipe, and what each ingredient brings.

  python -m benchmarks.shakespeare --text=PATH
  python -m benchmarks.shakespeare --text=PATH --without=all --seeds=0

The first trains `configs/shakespeare_cpu.py` from several seeds, each alone;
`python -m benchmarks.training` tells of nanoGPT's recipe, which it is compared
with.  The second leaves out one ingredient after the other.
"""

import json
import multiprocessing
import pathlib
import statistics
import tempfile
from concurrent import futures
from typing import Any

from absl import flags

from attn.training import command_line
from attn.training.config import Config
from attn.training.errors import UserError
from attn.training.loop import train
from attn.training.run_directory import RunDirectory
from benchmarks import machine, results
from benchmarks.compare import progress
from benchmarks.table import aligned
from configs import shakespeare_cpu

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'shakespeare.json'

# Of nanoGPT's recipe for a CPU, as its README says.
_GOAL = 1.88

# What is changed to leave an ingredient out.
INGREDIENTS: dict[str, dict[str, Any]] = {
  'counts of n-grams': {'model.counts': 0},
  'counts of more than 3 tokens': {'model.counts': 3},
  'Muon (AdamW)': {'optimizer.name': 'adamw', 'optimizer.learning_rate': 3e-3},
  'rotary positions (learned)': {'model.positions': 'learned'},
  'norm of queries and keys': {'model.qk_norm': False},
  'squared ReLU (GELU)': {'model.activation': 'gelu'},
  'linear decay (cosine)': {'optimizer.decay_fraction': 0.0},
  'decay of weights': {'optimizer.weight_decay': 0.0},
  'a start at zero': {'model.zero_init': False},
  'norm of embeddings': {'model.embed_norm': False},
  'cap of logits': {'model.logit_cap': 0.0},
  'a context of 256 (64)': {'context': 64, 'batch_size': 32},
}


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_string('text', None, 'A UTF-8 text to train on.', required=True)
  flags.DEFINE_list('seeds', ['0', '1', '2'], 'A run of each.')
  flags.DEFINE_list(
    'without', [], "Ingredients to leave out, one after the other; or 'all'."
  )
  flags.DEFINE_bool('quick', False, 'Few steps, to see the program work.')
  flags.DEFINE_string(
    'out',
    None,
    'Where the figures are kept as JSON; others in the file stay. By default '
    'benchmarks/results/shakespeare.json, and nowhere with --quick.',
  )


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  out = results.destination(values.out, None if values.quick else _RESULTS)
  names = values.without or ['']
  if names == ['all']:
    names = list(INGREDIENTS)
  for name in names:
    if name and name not in INGREDIENTS:
      raise UserError(
        f'--without: got {name!r}, wanted some of {", ".join(INGREDIENTS)}'
      )
  found = {}
  for name in names:
    label = f'without {name}' if name else 'whole'
    config = make_config(values.text, INGREDIENTS.get(name, {}), values.quick)
    found[label] = _measure(label, config, [int(seed) for seed in values.seeds])
    if out is not None:
      results.update(out, 'shakespeare', {label: found[label]})
  if out is not None:
    # What was measured before is shown beside it.
    found = results.read(out)
  print(f'\n{machine.summary(machine.describe())}\n')
  print(_table(found))


def make_config(text: str, changes: dict[str, Any], quick: bool) -> Config:
  """The recipe, with some fields changed."""
  config: Config = shakespeare_cpu.get_config()
  config.update(task='text', data=text)
  config.update_from_flattened_dict(changes)
  if quick:
    config.update(steps=4, steps_at_once=2, batch_size=2, context=16)
    config.model.update(embed_dim=16, mlp_dim=16, counts=2, count_rows=500)
    config.eval.update(every=2, log_every=2)
    config.checkpoint.every = 2
  return config


def _measure(label: str, config: Config, seeds: list[int]) -> dict[str, Any]:
  runs = []
  for seed in seeds:
    progress(f'{label}, seed {seed}')
    config.seed = seed
    with tempfile.TemporaryDirectory() as folder:
      # What one run loads and compiles would serve the next.
      alone = multiprocessing.get_context('spawn')
      with futures.ProcessPoolExecutor(1, alone) as pool:
        summary = pool.submit(train, config, folder).result()
      history = RunDirectory(folder).read_metrics()
    curve = [
      [line['seconds'], line['loss']]
      for line in history
      if line['split'] == 'validation'
    ]
    runs.append({'seed': seed, 'curve': curve, **summary})
  record = json.loads(config.to_json())
  record.pop('data')
  return {'machine': machine.describe(), 'config': record, 'runs': runs}


def _table(found: dict[str, Any]) -> str:
  lines = []
  for label, record in found.items():
    runs = record['runs']
    losses = [run['loss'] for run in runs]
    goal = [
      next((at for at, loss in run['curve'] if loss <= _GOAL), float('inf'))
      for run in runs
    ]
    # A curve's last point is the end of training; figures come after it.
    ends = [run['curve'][-1][0] for run in runs]
    lines.append(
      (
        label,
        str(len(runs)),
        f'{statistics.median(losses):.4f}',
        f'{min(losses):.4f} to {max(losses):.4f}',
        f'{statistics.median(ends):.1f}',
        f'{statistics.median(goal):.1f}',
      )
    )
  headings = (
    *('', 'seeds', 'validation loss', 'least to most'),
    *('seconds', f'seconds to {_GOAL}'),
  )
  return aligned(headings, lines)


if __name__ == '__main__':
  command_line.run(main, define_flags)
