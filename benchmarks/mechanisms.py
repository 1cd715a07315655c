"""Attention by each mechanism in turn: python -m benchmarks.mechanisms.

All at about equal parameters and equal steps, on the same text.
"""

import json
import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from attn.modules import CachePlan, CausalLM
from attn.modules.attentions import KINDS, PATTERNS, SHORTCUTS
from attn.training import command_line, language_model
from attn.training.config import Config
from attn.training.errors import UserError
from attn.training.experiment import make_data, make_model
from attn.training.loop import train
from benchmarks import machine, results
from benchmarks.compare import progress
from benchmarks.table import summaries
from configs import tiny

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'mechanisms.json'

MECHANISMS = (*PATTERNS, *KINDS[1:], *SHORTCUTS)

# The text of which it is told how large its cache is.
_LENGTH = 1024

_HEADINGS = {
  'parameters': ('parameters', '{:,}'),
  'loss': ('loss', '{:.4f}'),
  'far_fact_accuracy': ('far facts', '{:.1%}'),
  'tokens_per_second': ('tokens/s', '{:,.0f}'),
  'cache_bytes_per_token': ('cache bytes a token', '{:,.0f}'),
}


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_list(
    'mechanisms', list(MECHANISMS), 'Words for attention, as in a config.'
  )
  flags.DEFINE_string(
    'text', None, 'A file to learn; the toy language if none.'
  )
  flags.DEFINE_integer('steps', 0, "Of each; 0 for the config's own.")
  flags.DEFINE_bool('quick', False, 'Tiny sizes, to see the program work.')
  flags.DEFINE_string(
    'out',
    None,
    'Where the figures are kept as JSON; others in the file stay. By default '
    'benchmarks/results/mechanisms.json, and nowhere with --quick.',
  )


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  out = results.destination(values.out, None if values.quick else _RESULTS)
  configs = {
    name: _config(name, values.text, values.steps, values.quick)
    for name in values.mechanisms
  }
  found = {}
  for name, (config, vocab_size) in configs.items():
    progress(name)
    found[name] = _measure(config, vocab_size)
    if out is not None:
      results.update(out, 'mechanisms', {name: found[name]})
  if out is not None:
    # What was measured before is shown beside it.
    found = results.read(out)
  print(f'\n{machine.summary(machine.describe())}\n')
  print(summaries(found, _HEADINGS))


def equal_size(config: Config, vocab_size: int) -> Config:
  """The config with a feed-forward as wide as makes its size that of `tiny`.

  What a mechanism adds or saves elsewhere is given to, or taken from, the
  feed-forward.

  Args:
    config: `tiny`, with another attention.
    vocab_size: V.
  """
  plain = _copy(config, 'full')
  wanted = _parameters(plain, vocab_size)

  def of_width(width: int) -> int:
    config.model.mlp_dim = width
    return _parameters(config, vocab_size)

  # Linear in the width.
  first = of_width(1)
  slope = of_width(2) - first
  of_width(max(1 + round((wanted - first) / slope), 1))
  return config


def _copy(config: Config, attention: str) -> Config:
  copy = config.copy_and_resolve_references()
  copy.model.attention = attention
  return copy


def _config(
  name: str, text: str | None, steps: int, quick: bool
) -> tuple[Config, int]:
  """The experiment, and V."""
  config: Config = tiny.get_config()
  if text is not None:
    config.update(task='text', data=text)
  if steps:
    config.steps = steps
  if quick:
    config.update(steps=2, batch_size=2)
    config.model.update(embed_dim=16, mlp_dim=32)
    config.eval.update(every=2, rows=2, log_every=1)
  config = _copy(config, name)
  try:
    vocab_size = make_data(config).tokenizer.vocab_size
    return equal_size(config, vocab_size), vocab_size
  except UserError as error:
    raise UserError(f'--mechanisms: {error}') from error


def _measure(config: Config, vocab_size: int) -> dict[str, Any]:
  """Train one mechanism, and keep what became of it."""
  with tempfile.TemporaryDirectory() as folder:
    summary = train(config, folder)
  return {
    'machine': machine.describe(),
    'config': json.loads(config.to_json()),
    'summary': summary
    | {'cache_bytes_per_token': cache_bytes(config, vocab_size) / _LENGTH},
  }


def cache_bytes(config: Config, vocab_size: int, length: int = _LENGTH) -> int:
  """How large a cache is that serves a text of so many tokens."""
  model, params = _shapes(config, vocab_size)
  tokens = jnp.zeros((1, 1), jnp.int32)
  _, state = jax.eval_shape(
    lambda params: model.apply(
      {'params': params},
      tokens,
      cache=CachePlan(length, first=True),
      mutable=['cache'],
    ),
    params,
  )
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


def _parameters(config: Config, vocab_size: int) -> int:
  _, params = _shapes(config, vocab_size)
  return sum(x.size for x in jax.tree.leaves(params))


def _shapes(config: Config, vocab_size: int) -> tuple[CausalLM, Any]:
  model = make_model(config, vocab_size)
  return model, jax.eval_shape(
    lambda rng: language_model.init(model, rng), jax.random.key(0)
  )


if __name__ == '__main__':
  command_line.run(main, define_flags)
