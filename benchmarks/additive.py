"""Additive attention beside itself written out: python -m benchmarks.additive.

Memory where the hidden layer would be gigabytes, and time where it still fits.
Forward+backward is the context, and the gradients of query, key, value and all
three weights for a given cotangent.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import attn
from attn.training import command_line
from benchmarks import machine, results, table
from benchmarks.compare import Options, compare, progress
from benchmarks.contenders import BOTH, FORWARD, Contender, Program
from benchmarks.problem import Problem
from benchmarks.results import MIB, Bar, Row

Array = jax.Array

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'additive.json'
_OURS, _WRITTEN_OUT = 'attn', 'written out'

# The width of the network is the head size, as in the paper.
_PLAIN = {'heads': 1, 'kv_heads': 1, 'head_dim': 128, 'is_causal': False}
_SHORT, _LONG = Problem(512, **_PLAIN), Problem(4096, **_PLAIN)

_BARS = {
  'short_512': (
    Bar(_WRITTEN_OUT, 'ratio', 1.0, True, FORWARD, f'{_WRITTEN_OUT} / ours'),
    Bar(_WRITTEN_OUT, 'ratio', 1.0, True, BOTH, f'{_WRITTEN_OUT} / ours'),
  ),
  'long_4096': (
    Bar(_OURS, 'temporary_bytes', 256 * MIB, False, BOTH, 'temporaries'),
  ),
}


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_integer('rounds', 7, 'Paired rounds.', lower_bound=1)
  flags.DEFINE_float(
    'budget', 30.0, 'Seconds for each contender.', lower_bound=0.0
  )
  flags.DEFINE_bool('quick', False, 'Tiny sizes, to see the program work.')
  flags.DEFINE_string(
    'out',
    None,
    'Where the cases are kept as JSON.  By default '
    'benchmarks/results/additive.json, and nowhere with --quick.',
  )


def main() -> None:
  """Flags in, one call."""
  jax.config.update('jax_platforms', 'cpu')
  values = flags.FLAGS
  options = Options(values.rounds, values.budget, quick=values.quick)
  out = None if values.quick else _RESULTS
  benchmark(options, pathlib.Path(values.out) if values.out else out)


def benchmark(options: Options, out: pathlib.Path | None) -> None:
  """Run both cases, print their table, keep them as JSON.

  Args:
    options: How to measure.
    out: The results file; None for nowhere.

  Raises:
    UserError: if the file cannot be written.
  """
  if out is not None:
    results.check_writable(out)
  description = machine.describe()
  problems = {'short_512': _SHORT, 'long_4096': _LONG}
  if options.quick:
    problems = {name: _tiny(x) for name, x in problems.items()}
  rows = {
    'short_512': _race(problems['short_512'], options),
    'long_4096': _memory(problems['long_4096'], options),
  }
  # At tiny sizes the bars mean nothing.
  bars = {} if options.quick else _BARS
  verdicts = {
    name: [results.judge(bar, rows[name]) for bar in of_case]
    for name, of_case in bars.items()
  }
  if out is not None:
    records = {
      name: results.record(
        'additive attention',
        rows[name],
        verdicts.get(name, []),
        problem=dataclasses.asdict(problems[name]),
        options=dataclasses.asdict(options),
        machine=description,
      )
      for name in rows
    }
    results.update(out, 'additive', records)
  print(machine.summary(description))
  print(f'load before: {description["load_before"]}')
  if options.quick:
    print('Tiny sizes: these figures mean nothing.')
  print(f'\n{table.results(rows, {name: {} for name in rows})}')
  if verdicts:
    print(f'\n{table.verdicts(verdicts)}')


def _race(problem: Problem, options: Options) -> list[Row]:
  """Ours against the formula as it is written."""
  field = [_contender(_OURS, _ours), _contender(_WRITTEN_OUT, _written_out)]
  rows = []
  for direction in options.directions:
    rows += compare(problem, field, direction, options)
  return rows


def _memory(problem: Problem, options: Options) -> list[Row]:
  """Ours run; the other only compiled, to see what it would take."""
  rows = []
  for direction in options.directions:
    field = [_contender(_OURS, _ours)]
    rows += compare(problem, field, direction, options)
    progress(f'  {direction}: {_WRITTEN_OUT}')
    compiled, seconds = _compile(_written_out, problem, direction)
    rows.append(
      Row(
        _WRITTEN_OUT,
        direction,
        compile_seconds=seconds,
        temporary_bytes=_scratch(compiled),
        note='not run',
      )
    )
  return rows


def _ours(
  query: Array, key: Array, value: Array, w_query: Array, w_key: Array, v: Array
) -> Array:
  return attn.additive_attention(query, key, value, w_query, w_key, v)


def _written_out(
  query: Array, key: Array, value: Array, w_query: Array, w_key: Array, v: Array
) -> Array:
  """For one head of one sequence, [1, T, 1, H]; without help from attn."""
  query, key, value = (x[0, :, 0] for x in (query, key, value))
  hidden = (query @ w_query)[:, None] + (key @ w_key)[None]
  weights = jax.nn.softmax(jnp.tanh(hidden) @ v)
  return (weights @ value)[None, :, None]


def _contender(name: str, call: Callable[..., Array]) -> Contender:
  def prepare(problem: Problem, direction: str) -> Program:
    compiled, seconds = _compile(call, problem, direction)
    arguments = jax.device_put(_arrays(problem, direction))
    return Program(
      run=lambda: jax.block_until_ready(compiled(*arguments)),
      outputs=lambda result: [np.asarray(x) for x in jax.tree.leaves(result)],
      compile_seconds=seconds,
      temporary_bytes=_scratch(compiled),
    )

  return Contender(name, prepare)


def _compile(
  call: Callable[..., Array], problem: Problem, direction: str
) -> tuple[Any, float]:
  """The program, and the seconds to trace and compile it."""

  def both(cotangent, *arguments):
    context, pull = jax.vjp(call, *arguments)
    return context, pull(cotangent)

  shapes = [
    jax.ShapeDtypeStruct(shape, jnp.float32)
    for shape in _shapes(problem, direction)
  ]
  start = time.perf_counter()
  function = jax.jit(both if direction == BOTH else call)
  compiled = function.lower(*shapes).compile()
  return compiled, time.perf_counter() - start


def _scratch(compiled: Any) -> int | None:
  memory = compiled.memory_analysis()
  return None if memory is None else int(memory.temp_size_in_bytes)


def _shapes(problem: Problem, direction: str) -> list[tuple[int, ...]]:
  """Of the cotangent where there is one, the rows and the weights."""
  rows, width = problem.query_shape, problem.head_dim
  weights = [(width, width), (width, width), (width,)]
  return [*([rows] if direction == BOTH else []), rows, rows, rows, *weights]


def _arrays(problem: Problem, direction: str) -> list[np.ndarray]:
  """Random numbers, of a size that leaves tanh its slope."""
  rng = np.random.default_rng(problem.seed)
  return [
    rng.standard_normal(shape, np.float32)
    * np.float32(shape[0] ** -0.5 if len(shape) == 2 else 1)
    for shape in _shapes(problem, direction)
  ]


def _tiny(problem: Problem) -> Problem:
  return dataclasses.replace(problem, length=problem.length // 16, head_dim=8)


if __name__ == '__main__':
  command_line.run(main, define_flags)
