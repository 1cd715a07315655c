r"""What would a run need on chips that are not here?

  python -m benchmarks.plan --config=configs/shakespeare_gpu.py \
    --config.mesh.fsdp=-1 --chips=8 --kind=h100

One training step is compiled for so many virtual devices of this CPU, without
memory for a single array; the compiler says what each holds, and what they say
to each other.  Expected is what a roofline allows, no more:

  step = max(operations / rate, bytes touched / bandwidth) + bytes sent / links

Operations are those of the model's products, divided evenly.  Touched are
arguments and results once, and temporaries twice.  On an accelerator programs
fuse otherwise, and it hides some of what is sent behind what is computed: its
temporaries and its time will differ.
"""

import contextlib
import functools
import json
import math
import pathlib
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from attn.modules.sharding import AXES
from attn.training import command_line
from attn.training.config import (
  LANGUAGE_TASKS,
  Config,
  check_config,
  check_mesh,
)
from attn.training.devices import batch_sharding, make_mesh, shardings
from attn.training.errors import UserError
from attn.training.experiment import make_config_optimizer
from attn.training.language_task import LanguageTask
from attn.training.step import State, first_state, jit_train_steps
from benchmarks.chips import CHIPS, Chip
from benchmarks.collectives import Collective, collectives
from benchmarks.table import aligned


def define_flags() -> None:
  """The flags; each field of the config is one as well."""
  config_flags.DEFINE_config_file(
    'config', 'configs/tiny.py', 'The experiment; its mesh as well.'
  )
  flags.DEFINE_integer('chips', 1, 'How many.', lower_bound=1)
  flags.DEFINE_enum('kind', 'h100', sorted(CHIPS), 'Of which kind.')
  flags.DEFINE_string('out', None, 'Where the plan is kept as JSON as well.')


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  plan = make_plan(values.config, values.chips, CHIPS[values.kind])
  if values.out is not None:
    pathlib.Path(values.out).write_text(json.dumps(plan, indent=2) + '\n')
  print(tell(plan, values.kind))


def make_plan(config: Config, chips: int, chip: Chip) -> dict[str, Any]:
  """Compile one step, and read what it needs.

  Args:
    config: Of a language task.
    chips: How many; nothing was computed before, or there are as many devices.
    chip: What one can do.

  Returns:
    Numbers by name; bytes are those of one device.

  Raises:
    UserError: if the config describes no such run.
  """
  check_config(config)
  if config.task not in LANGUAGE_TASKS:
    raise UserError(
      f'config.task: got {config.task!r}, wanted one of '
      f'{", ".join(LANGUAGE_TASKS)}: translation stays on one device'
    )
  # Once something was computed, there are as many as there are.
  with contextlib.suppress(RuntimeError):
    jax.config.update('jax_num_cpu_devices', chips)
  devices = jax.devices('cpu')
  if len(devices) != chips:
    raise UserError(f'--chips: got {chips}, wanted {len(devices)}')
  mesh = make_mesh(config.mesh, devices=devices)
  check_mesh(config, mesh.shape if mesh else dict.fromkeys(AXES, 1))
  task = LanguageTask(config)
  optimizer = make_config_optimizer(config, mesh)
  begin = functools.partial(first_state, task.init, optimizer)
  state = jax.eval_shape(begin, jax.random.key(0))
  batch = jax.tree.map(lambda x: x[None], task.train_batch(0))
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
  there, dealt = None, None
  if mesh is not None:
    there = shardings(state, mesh)
    dealt = jax.tree.map(lambda x: batch_sharding(mesh, x.shape), shapes)
  steps = jit_train_steps(
    task.nats, optimizer, config.seed, config.optimizer.accumulate, mesh
  )
  compiled = steps.lower(_on(state, there), _on(shapes, dealt)).compile()
  memory = compiled.memory_analysis()
  cost = compiled.cost_analysis()
  tokens = config.batch_size * config.context
  said = collectives(compiled.as_text(), chips)
  plan = {
    'chips': chips,
    'mesh': dict(mesh.shape) if mesh else {},
    'parameters': sum(x.size for x in jax.tree.leaves(state.params)),
    'tokens': tokens,
    'flops': task.flops_per_token(state.params) * tokens,
    'compiled_flops': cost['flops'] * chips,
    'state_bytes': _bytes_of_a_device(_on(state, there)),
    'argument_bytes': memory.argument_size_in_bytes,
    'output_bytes': memory.output_size_in_bytes,
    'temporary_bytes': memory.temp_size_in_bytes,
    'collectives': _by_kind(said),
    'sent_bytes': sum(x.sent for x in said),
  }
  return plan | _roofline(plan, chip)


def _on(tree: Any, there: Any) -> Any:
  """Shapes, and where the arrays would be."""
  if there is None:
    return tree
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, there
  )


def _bytes_of_a_device(state: State) -> int:
  """Of parameters and optimiser."""

  def size(x: Any) -> int:
    shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
    return math.prod(shape) * x.dtype.itemsize

  return sum(map(size, jax.tree.leaves((state.params, state.opt_state))))


def _by_kind(said: list[Collective]) -> dict[str, dict[str, float]]:
  found: dict[str, dict[str, float]] = {}
  for x in said:
    entry = found.setdefault(x.kind, {'count': 0, 'bytes': 0, 'sent': 0})
    entry['count'] += x.times
    entry['bytes'] += x.bytes * x.times
    entry['sent'] += x.sent
  return found


def _roofline(plan: dict[str, Any], chip: Chip) -> dict[str, float]:
  touched = plan['argument_bytes'] + plan['output_bytes']
  touched += 2 * plan['temporary_bytes']
  computing = plan['flops'] / plan['chips'] / chip.flops
  touching = touched / chip.bandwidth
  sending = plan['sent_bytes'] / chip.links
  seconds = max(computing, touching) + sending
  held = plan['argument_bytes'] + plan['temporary_bytes']
  return {
    'held_share': held / chip.memory,
    'computing_seconds': computing,
    'touching_seconds': touching,
    'sending_seconds': sending,
    'step_seconds': seconds,
    'tokens_per_second': plan['tokens'] / seconds,
  }


def tell(plan: dict[str, Any], kind: str) -> str:
  """The plan as text."""
  chip = CHIPS[kind]
  axes = ', '.join(f'{axis} {size}' for axis, size in plan['mesh'].items())
  lines = [
    ('chips', f'{plan["chips"]} x {kind} ({chip.source})'),
    ('mesh', axes or 'one device'),
    ('parameters', f'{plan["parameters"]:,}'),
    ('tokens a step', f'{plan["tokens"]:,}'),
    (
      'model FLOPs a step',
      f'{plan["flops"]:.3g}; the compiler counts {plan["compiled_flops"]:.3g}',
    ),
    ('of a device:', ''),
    ('  parameters, optimiser', _size(plan['state_bytes'])),
    ('  arguments', _size(plan['argument_bytes'])),
    ('  temporaries', _size(plan['temporary_bytes'])),
    ('  of its memory', f'{plan["held_share"]:.1%}'),
  ]
  for name, found in plan['collectives'].items():
    told = f'{found["count"]} of {_size(found["bytes"])} in all, '
    lines.append((f'  {name}', told + f'sends {_size(found["sent"])}'))
  lines += [
    ('at best:', ''),
    ('  computing', _time(plan['computing_seconds'])),
    ('  touching memory', _time(plan['touching_seconds'])),
    ('  sending', _time(plan['sending_seconds'])),
    ('  a step', _time(plan['step_seconds'])),
    ('  tokens a second', f'{plan["tokens_per_second"]:,.0f}'),
  ]
  return aligned(('', ''), lines)


def _size(count: float) -> str:
  for unit in ('B', 'KB', 'MB', 'GB'):
    if count < 1000:
      return f'{count:.3g} {unit}'
    count /= 1000
  return f'{count:,.3g} TB'


def _time(seconds: float) -> str:
  return f'{1e3 * seconds:.3g} ms'


if __name__ == '__main__':
  command_line.run(main, define_flags)
