"""One long problem in a process of its own, whose peak memory is then known.

`run` starts it; the process itself is `python -m benchmarks.long_run PROBLEM`,
with the fields of a `Problem` as JSON, and prints its findings as JSON.
"""

import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import jax

from benchmarks import contenders, machine
from benchmarks.contenders import BOTH, Unavailable
from benchmarks.pairing import spread
from benchmarks.problem import Problem
from benchmarks.results import Row

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(problem: Problem, direction: str) -> Row:
  """Run ours once, elsewhere; the row says the time and the peak memory."""
  row = Row('attn', direction)
  argument = json.dumps([dataclasses.asdict(problem), direction])
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.long_run', argument],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    # The exception comes last, with no advice after it.
    env={**os.environ, 'JAX_TRACEBACK_FILTERING': 'off'},
  )
  if done.returncode != 0:
    last = (done.stderr.strip().splitlines() or ['no message'])[-1]
    last = contenders.without_paths(last)
    missing = f'ended with status {done.returncode}: {last}'
    return dataclasses.replace(row, missing=missing)
  found = json.loads(done.stdout.splitlines()[-1])
  if 'missing' in found:
    return dataclasses.replace(row, missing=found['missing'])
  found['seconds'] = spread([found['seconds']])
  return dataclasses.replace(row, **found)


def measure(problem: Problem, direction: str) -> dict[str, Any]:
  """Compile, make the arrays, run once."""
  spelling = contenders.our_spelling(problem)
  compiled = contenders.compile_call(
    spelling.call, problem, direction, spelling.extras
  )
  shapes = [problem.query_shape, problem.key_shape, problem.key_shape]
  if direction == BOTH:
    shapes.append(problem.query_shape)
  total = sum(4 * math.prod(shape) for shape in shapes)
  try:
    contenders.check_memory(compiled.needed_bytes + total, 'attn')
  except Unavailable as error:
    return {'missing': str(error)}
  rng = jax.random.key(problem.seed)
  arrays = [
    jax.random.normal(jax.random.fold_in(rng, i), shape)
    for i, shape in enumerate(shapes)
  ]
  jax.block_until_ready(arrays)
  start = time.perf_counter()
  result = compiled.call(*arrays, spelling.extras)
  jax.block_until_ready(result)
  seconds = time.perf_counter() - start
  return {
    'seconds': seconds,
    'compile_seconds': compiled.seconds,
    'temporary_bytes': compiled.temporary_bytes,
    'peak_bytes': machine.peak_bytes(),
  }


if __name__ == '__main__':
  jax.config.update('jax_platforms', 'cpu')
  fields, which = json.loads(sys.argv[1])
  print(json.dumps(measure(Problem(**fields), which)))
