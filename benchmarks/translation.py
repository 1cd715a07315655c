"""Translation by each mechanism in turn: python -m benchmarks.translation.

All at about equal parameters and equal steps, on the same sentences.
"""

import importlib
import json
import pathlib
import tempfile
from typing import Any

from absl import flags

from attn.training import command_line
from attn.training.errors import UserError
from attn.training.loop import train
from attn.training.run_directory import RunDirectory
from attn.training.translation_figures import draw_match_by_length
from benchmarks import machine, results
from benchmarks.compare import progress
from benchmarks.table import summaries

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'translation.json'

# A config each, and what is changed in it.
MECHANISMS: dict[str, tuple[str, dict[str, Any]]] = {
  'bottleneck': ('translate_bottleneck', {}),
  'lstm': ('translate_lstm', {}),
  'bahdanau': ('translate_bahdanau', {}),
  'bahdanau+coverage': ('translate_bahdanau', {'coverage': True}),
  'luong': ('translate_luong', {}),
  # A query is as wide as what one end knows, not both.
  'luong dot': (
    'translate_luong',
    {'score': 'dot', 'bidirectional': False, 'hidden_dim': 220},
  ),
  'luong concat': ('translate_luong', {'score': 'concat'}),
  'luong location': ('translate_luong', {'score': 'location'}),
  'luong local-m': ('translate_luong', {'locality': 'local-m'}),
  'luong local-p': ('translate_luong', {'locality': 'local-p'}),
  'transformer': ('translate_transformer', {}),
}
# Those that a reader wants to see first.
_FIVE = ('bottleneck', 'lstm', 'bahdanau', 'luong', 'transformer')

_HEADINGS = {
  'parameters': ('parameters', '{:,}'),
  'milliseconds_per_step': ('ms/step', '{:.0f}'),
  'seconds': ('seconds', '{:.0f}'),
  'loss': ('loss', '{:.4f}'),
  'exact_match': ('exact match', '{:.1%}'),
  'exact_match_long': ('20 words or more', '{:.1%}'),
  'exact_match_longer': ('longer than trained', '{:.1%}'),
  'bleu': ('BLEU', '{:.1f}'),
  'alignment_error_rate': ('alignment error', '{:.3f}'),
}


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_list(
    'mechanisms', list(_FIVE), f'Which of {", ".join(MECHANISMS)}.'
  )
  flags.DEFINE_integer('steps', 0, "Of each; 0 for the configs' own.")
  flags.DEFINE_string(
    'workdir', None, 'Where the runs are kept; nowhere if not given.'
  )
  flags.DEFINE_string(
    'figure', None, 'Where quality over length is drawn, as a PNG.'
  )
  flags.DEFINE_bool('quick', False, 'Tiny sizes, to see the program work.')
  flags.DEFINE_string(
    'out',
    None,
    'Where the figures are kept as JSON; others in the file stay. By default '
    'benchmarks/results/translation.json, and nowhere with --quick.',
  )


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  for name in values.mechanisms:
    if name not in MECHANISMS:
      raise UserError(
        f'--mechanisms: got {name!r}, wanted names from {", ".join(MECHANISMS)}'
      )
  out = results.destination(values.out, None if values.quick else _RESULTS)
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(values.workdir or scratch)
    found = {
      name: _measure(name, folder, values.steps, values.quick, out)
      for name in values.mechanisms
    }
  if out is not None:
    # What was measured before is shown beside it.
    kept = results.read(out)
    found = {name: kept[name] for name in MECHANISMS if name in kept}
  print(f'\n{machine.summary(machine.describe())}\n')
  print(summaries(found, _HEADINGS))
  if values.figure:
    curves = {name: record['by_length'] for name, record in found.items()}
    draw_match_by_length(pathlib.Path(values.figure), curves)


def _measure(
  name: str,
  folder: pathlib.Path,
  steps: int,
  quick: bool,
  out: pathlib.Path | None,
) -> dict[str, Any]:
  """Train one mechanism, and keep what became of it."""
  progress(name)
  of_config, changes = MECHANISMS[name]
  config = importlib.import_module(f'configs.{of_config}').get_config()
  config.model.update(changes)
  if steps:
    config.steps = steps
  if quick:
    _shrink(config)
  workdir = folder / name.replace(' ', '_')
  summary = train(config, str(workdir))
  lengths = json.loads(RunDirectory(workdir).lengths.read_text())
  record = {
    'machine': machine.describe(),
    'config': config.to_dict(),
    'summary': summary,
    'by_length': lengths,
  }
  if out is not None:
    results.update(out, 'translation', {name: record})
  return record


def _shrink(config: Any) -> None:
  config.update(steps=3, max_words=12, batch_tokens=64)
  config.model.update(embed_dim=8, hidden_dim=8, mlp_dim=8, num_heads=2)
  config.eval.update(every=3, pairs=5, test_pairs=5, log_every=1, samples=1)


if __name__ == '__main__':
  command_line.run(main, define_flags)
