"""Cases that are no race: memory, length, compilation, thresholds."""

import dataclasses
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

import attn
from attn import masks
from benchmarks import contenders, long_run
from benchmarks import problem as problems
from benchmarks.compare import Options, compare, progress
from benchmarks.contenders import BOTH
from benchmarks.problem import Problem
from benchmarks.results import Row

# B and N of the grid on which dense meets blockwise.
_CROSSOVER_HEADS = ((1, 1), (1, 8), (12, 4))
_CROSSOVER_LENGTHS = (32, 64, 128, 256, 512, 1024, 2048)
# Numbers alone say what is hidden, or an array of the documents' ids.
_CROSSOVER_DOCUMENTS = {'': None, ' documents': 2}


def memory(problem: Problem, options: Options) -> list[Row]:
  """Scratch memory of programs that are compiled and not run."""
  spelled = {'attn': contenders.our_spelling(problem)}
  for name in options.implementations:
    spelled[f'attn:{name}'] = contenders.our_spelling(problem, name)
  if contenders.JAX_NN.name in options.peers:
    spelled[contenders.JAX_NN.name] = contenders.jax_nn_spellings(problem)[0]
  rows = []
  for direction in options.directions:
    for name, spelling in spelled.items():
      progress(f'  {direction}: {name}')
      compiled = contenders.compile_call(
        spelling.call, problem, direction, spelling.extras
      )
      rows.append(
        Row(
          name,
          direction,
          compile_seconds=compiled.seconds,
          temporary_bytes=compiled.temporary_bytes,
          note='not run',
        )
      )
  return rows


def long(problem: Problem, options: Options) -> list[Row]:
  """One run in a process of its own."""
  direction = options.directions[-1]
  progress(f'  {direction}: attn, in a process of its own')
  return [long_run.run(problem, direction)]


def compilation(named: Mapping[str, Problem], options: Options) -> list[Row]:
  """Seconds to trace and compile ours, for each problem."""
  jax.jit(lambda x: x + 1)(jnp.ones(1))  # the compiler itself wakes up once
  rows = []
  for at, problem in named.items():
    for direction in options.directions:
      progress(f'  {direction} {at}')
      spelling = contenders.our_spelling(problem)
      compiled = contenders.compile_call(
        spelling.call, problem, direction, spelling.extras
      )
      rows.append(Row('attn', direction, at, compile_seconds=compiled.seconds))
  return rows


def recompilations(problem: Problem, options: Options) -> list[Row]:
  """Other documents, other lengths, and no other program."""
  query, key, value, _ = map(jnp.asarray, problems.arrays(problem))
  rows = []
  for direction in options.directions:
    traced = []

    def loss(query, mask, traced=traced):
      traced.append(1)
      return attn.attention(query, key, value, mask=mask).sum()

    step = jax.jit(jax.grad(loss) if direction == BOTH else loss)
    for seed in range(4):
      jax.block_until_ready(step(query, _other_data(problem, seed)))
    rows.append(Row('attn', direction, recompilations=len(traced) - 1))
  return rows


def _other_data(problem: Problem, seed: int) -> masks.Mask:
  """The same kind of mask, with documents and padding of its own."""
  problem = dataclasses.replace(problem, seed=seed)
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, problem.length, problem.batch)
  ids = problems.document_ids(problem)
  return (
    masks.causal()
    & masks.segments(jnp.asarray(ids))
    & masks.padding(jnp.asarray(lengths, jnp.int32))
  )


def crossover(problem: Problem, options: Options) -> list[Row]:
  """Dense against blockwise, from lengths where either must win."""
  names = ('blockwise', 'dense')
  lacking = [x for x in names if not contenders.has_implementation(x)]
  if lacking:
    return [Row('attn', missing=f'no implementation {lacking[0]!r} yet')]
  lengths = _CROSSOVER_LENGTHS[:1] if options.quick else _CROSSOVER_LENGTHS
  pair = [contenders.ours(name) for name in names]
  rows = []
  for (batch, heads), length, (kind, documents) in itertools.product(
    _CROSSOVER_HEADS, lengths, _CROSSOVER_DOCUMENTS.items()
  ):
    here = dataclasses.replace(
      problem,
      batch=batch,
      heads=heads,
      kv_heads=heads,
      length=length,
      documents=documents,
    )
    at = f'B{batch} N{heads} T{length}{kind}'
    for direction in options.directions:
      rows += compare(here, pair, direction, options, at=at)
  return rows
