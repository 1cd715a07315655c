"""Who can compute attention in JAX: ours, `jax.nn` and Flax.

A contender turns a problem and a direction into a program that is ready to be
timed, or says why it cannot.  Each gets the problem in the words that serve it
best; where two would do, the faster one is taken, and a note says which.
PyTorch's are in `torch_contenders`.
"""

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np

import attn
from benchmarks import machine
from benchmarks import problem as problems
from benchmarks.problem import Problem

FORWARD = 'forward'
BOTH = 'forward+backward'

# Of the memory that is free, what one program may take.
_SHARE_OF_MEMORY = 0.85


class Unavailable(Exception):
  """Why a contender does not take part; a row of the table says it."""


@dataclasses.dataclass(frozen=True)
class Program:
  """Ready to be timed.

  Attributes:
    run: Computes to completion, and returns what `outputs` understands.
    outputs: Context, then for both directions the three gradients, in the
      layout of attn, as NumPy arrays.
    compile_seconds: Tracing included; None where nothing is compiled.
    temporary_bytes: Beside arguments and results; None if nobody tells.
    note: For the table.
  """

  run: Callable[[], Any]
  outputs: Callable[[Any], list[np.ndarray]]
  compile_seconds: float | None = None
  temporary_bytes: int | None = None
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Contender:
  """One who takes part.

  Attributes:
    name: For the table and the JSON.
    prepare: From problem and direction to a program; may raise Unavailable.
    is_checked: Whether its outputs must equal those of the reference.
  """

  name: str
  prepare: Callable[[Problem, str], Program]
  is_checked: bool = True


@dataclasses.dataclass(frozen=True)
class Spelling:
  """One way to write a problem down for a JAX function.

  Attributes:
    call: From (query, key, value, extras) to the context.
    extras: Masks and biases: arguments of the compiled program, since a
      compiler may fold constants.
    note: What is special about it.
  """

  call: Callable[..., Any]
  extras: Any
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A compiled JAX program, and what is known before it ran.

  Attributes:
    call: The executable.
    seconds: To trace and compile it.
    temporary_bytes: Its scratch memory; None if nobody tells.
    needed_bytes: Scratch and results; 0 if nobody tells.
  """

  call: Callable[..., Any]
  seconds: float
  temporary_bytes: int | None
  needed_bytes: int


def first_line(error: Exception) -> str:
  """An exception for the table."""
  line = (str(error).strip().splitlines() or [''])[0]
  return f'{type(error).__name__}: {without_paths(line)}'


def without_paths(line: str) -> str:
  """Shortened, and without what tells of somebody's disk.

  >>> without_paths('no compiler in /home/mia/bin: give up')
  'no compiler in … give up'
  """
  return re.sub(r'/[^\s\'"]*', '…', line)[:120]


def check_memory(needed: int, what: str) -> None:
  """Raise Unavailable rather than have the machine swap or kill.

  Args:
    needed: Bytes beyond what is held already.
    what: Who needs them.
  """
  free = machine.available_bytes()
  if free is not None and needed > _SHARE_OF_MEMORY * free:
    raise Unavailable(
      f'{what} needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free'
    )


def compile_call(
  call: Callable[..., Any], problem: Problem, direction: str, extras: Any
) -> Compiled:
  """Compile a JAX function for a problem, without making the problem's arrays.

  Args:
    call: From (query, key, value, extras) to the context.
    problem: Fixes the shapes.
    direction: FORWARD or BOTH.
    extras: Passed on to call.
  """

  def both(query, key, value, cotangent, extras):
    context, pull = jax.vjp(lambda *qkv: call(*qkv, extras), query, key, value)
    return (context, *pull(cotangent))

  shapes = [problem.query_shape, problem.key_shape, problem.key_shape]
  if direction == BOTH:
    shapes.append(problem.query_shape)
  arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  function = jax.jit(both if direction == BOTH else call)
  start = time.perf_counter()
  compiled = function.lower(*arrays, extras).compile()
  seconds = time.perf_counter() - start
  memory = compiled.memory_analysis()
  if memory is None:
    return Compiled(compiled, seconds, None, 0)
  temporary = int(memory.temp_size_in_bytes)
  needed = temporary + int(memory.output_size_in_bytes)
  return Compiled(compiled, seconds, temporary, needed)


def jax_contender(
  name: str, spellings: Callable[[Problem], list[Spelling]]
) -> Contender:
  """A contender written in JAX.

  Args:
    name: For the table.
    spellings: Ways to write a problem down; the fastest is taken.
  """

  def prepare(problem: Problem, direction: str) -> Program:
    found = [
      _load(name, spelling, problem, direction)
      for spelling in spellings(problem)
    ]
    return found[0] if len(found) == 1 else _fastest(found)

  return Contender(name, prepare)


def _load(
  name: str, spelling: Spelling, problem: Problem, direction: str
) -> Program:
  compiled = compile_call(spelling.call, problem, direction, spelling.extras)
  check_memory(compiled.needed_bytes, name)
  arrays = problems.arrays(problem)[: 4 if direction == BOTH else 3]
  arguments = jax.device_put((*arrays, spelling.extras))

  def outputs(result):
    return [np.asarray(x) for x in jax.tree.leaves(result)]

  return Program(
    run=lambda: jax.block_until_ready(compiled.call(*arguments)),
    outputs=outputs,
    compile_seconds=compiled.seconds,
    temporary_bytes=compiled.temporary_bytes,
    note=spelling.note,
  )


def _fastest(programs: list[Program]) -> Program:
  times = []
  for program in programs:
    program.run()
    start = time.perf_counter()
    program.run()
    times.append(time.perf_counter() - start)
  best = times.index(min(times))
  others = ', '.join(
    f'{program.note}: {times[i] / times[best]:.2f} times as long'
    for i, program in enumerate(programs)
    if i != best
  )
  note = f'{programs[best].note} ({others})'
  return dataclasses.replace(programs[best], note=note)


def ours(implementation: str | None = None) -> Contender:
  """`attn.attention`, by its own choice or by a named implementation."""
  name = f'attn:{implementation}' if implementation else 'attn'
  return jax_contender(
    name, lambda problem: [our_spelling(problem, implementation)]
  )


def our_spelling(
  problem: Problem, implementation: str | None = None
) -> Spelling:
  """The problem with mask objects and score modifications."""

  def call(query, key, value, extras):
    mask, slopes = extras
    return attn.attention(
      query,
      key,
      value,
      mask=mask,
      score_mod=problems.our_score_mod(slopes),
      implementation=implementation,
    )

  slopes = jnp.asarray(problems.slopes(problem)) if problem.alibi else None
  return Spelling(call, (problems.our_mask(problem), slopes))


def ours_without_alibi() -> Contender:
  """What ALiBi costs us: the same call without it."""
  whole = ours()

  def prepare(problem: Problem, direction: str) -> Program:
    plain = dataclasses.replace(problem, alibi=False)
    program = whole.prepare(plain, direction)
    return dataclasses.replace(program, note='ours, without ALiBi')

  return Contender('attn:plain', prepare, is_checked=False)


def has_implementation(name: str) -> bool:
  """Whether the front door knows an implementation of this name."""
  x = jax.ShapeDtypeStruct((1, 1, 1), jnp.float32)
  try:
    jax.eval_shape(lambda x: attn.attention(x, x, x, implementation=name), x)
  except ValueError:
    return False
  return True


def jax_nn_spellings(problem: Problem) -> list[Spelling]:
  """The problem for `jax.nn`: by keyword, as an array, or both."""

  def by_keyword(query, key, value, bias):
    window = problem.window
    return jax.nn.dot_product_attention(
      query,
      key,
      value,
      bias,
      is_causal=problem.is_causal,
      local_window_size=None if window is None else (window, 0),
    )

  def by_array(query, key, value, mask_and_bias):
    mask, bias = mask_and_bias
    return jax.nn.dot_product_attention(query, key, value, bias, mask)

  bias = problems.bias_array(problem) if problem.alibi else None
  keyword = Spelling(by_keyword, bias, 'mask by keyword')
  if problem.is_plain:
    return [dataclasses.replace(keyword, note='')]
  mask = problems.mask_array(problem)[None, None]
  array = Spelling(by_array, (mask, bias), 'mask as an array')
  return [array] if problem.documents else [keyword, array]


def _flax_spellings(problem: Problem) -> list[Spelling]:
  groups = problem.heads // problem.kv_heads

  def call(query, key, value, mask_and_bias):
    mask, bias = mask_and_bias
    if groups > 1:
      key, value = (jnp.repeat(x, groups, axis=-2) for x in (key, value))
    return flax.linen.dot_product_attention(query, key, value, bias, mask)

  mask = problems.mask_array(problem)[None, None]
  bias = problems.bias_array(problem) if problem.alibi else None
  note = 'key and value repeated' if groups > 1 else ''
  return [Spelling(call, (mask, bias), note)]


JAX_NN = jax_contender('jax.nn', jax_nn_spellings)
FLAX = jax_contender('flax.linen', _flax_spellings)
