"""A sequence on eight devices beside one device.  python -m benchmarks.ring.

The devices are parts of this machine's CPU: what is measured is that results
are the same, what memory each device needs, and who has how much to do; not how
fast it is.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import attn
from attn.backends.layout import Layout, part_of
from attn.backends.ring_plan import Ring, make_ring_plan, visits
from attn.call import prepare
from attn.training import command_line
from attn.training.errors import UserError
from benchmarks import machine, results
from benchmarks.ring_masks import make_masks

Array = jax.Array

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'ring.json'
_AXIS = 'sequence'
# Elements of a batch, query heads, key/value heads, and their sizes.
_BATCH, _HEADS, _KV_HEADS, _SIZE = 2, 2, 1, 16


class Inputs(NamedTuple):
  """Query, key, value, and what the context is multiplied by for a loss."""

  query: Array
  key: Array
  value: Array
  wave: Array


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_integer('length', 32768, 'T and S.', lower_bound=16)
  flags.DEFINE_integer('devices', 8, 'Parts of the sequence.', lower_bound=2)
  flags.DEFINE_list('masks', [], 'Names of masks; all by default.')
  flags.DEFINE_string(
    'out',
    str(_RESULTS),
    "Where the figures are kept as JSON; '' for nowhere.",
  )


def main() -> None:
  """Flags in, one call for each mask."""
  values = flags.FLAGS
  out = pathlib.Path(values.out) if values.out else None
  if out is not None:
    results.check_writable(out)
  jax.config.update('jax_num_cpu_devices', values.devices)
  found = make_masks(_BATCH, _HEADS, values.length)
  unknown = sorted(set(values.masks) - set(found))
  if unknown:
    raise UserError(f'--masks: got {unknown}, wanted some of {sorted(found)}')
  mesh = make_mesh(values.devices)
  if not values.masks:
    record = memory(mesh, values.length)
    _keep(out, 'memory', {'machine': machine.describe(), **record})
    print(f'causal, 8 heads of 64: {record}')
  inputs = make_inputs(values.length)
  for name in values.masks or found:
    record = compare(found[name](), inputs, mesh)
    _keep(out, name, record)
    print(f'{name}: {record}', flush=True)


def _keep(out: pathlib.Path | None, name: str, record: dict[str, Any]) -> None:
  if out is not None:
    results.update(out, 'ring', {name: record})


def make_mesh(devices: int) -> Mesh:
  """A mesh of the first devices there are."""
  return jax.make_mesh(
    (devices,),
    (_AXIS,),
    axis_types=(AxisType.Auto,),
    devices=jax.devices()[:devices],
  )


def make_inputs(
  length: int,
  batch: int = _BATCH,
  heads: int = _HEADS,
  kv_heads: int = _KV_HEADS,
  size: int = _SIZE,
) -> Inputs:
  """Independent normal numbers."""
  rng = np.random.default_rng(0)
  shapes = [(batch, length, n, size) for n in (heads, kv_heads, kv_heads, heads)]
  return Inputs(*(rng.standard_normal(x, np.float32) for x in shapes))


def compare(mask: attn.masks.Mask, inputs: Inputs, mesh: Mesh) -> dict[str, Any]:
  """One mask: results, memory and work, on one device and on those of a mesh.

  Returns:
    Largest differences, of gradients in proportion to the largest; temporary
    bytes of a device; and what `work` says.
  """
  record = work(mask, inputs, mesh)
  outputs, memories = [], []
  for put, compute in (_on_one(mask), _on_mesh(mask, mesh)):
    arrays = put(inputs)
    context, forward_bytes = _run(compute, arrays)
    gradients, gradient_bytes = _run(_gradient(compute), arrays)
    outputs.append((context, *gradients))
    memories.append((forward_bytes, gradient_bytes))
  one, ring = outputs
  context_error, *gradient_errors = (
    float(np.abs(x - y).max()) / max(float(np.abs(x).max()), 1e-30)
    for x, y in zip(one, ring)
  )
  context_error *= float(np.abs(one[0]).max())
  return {
    'context_difference': context_error,
    'gradient_difference': max(gradient_errors),
    'temporary_bytes_one': memories[0],
    'temporary_bytes_device': memories[1],
    **record,
  }


def memory(mesh: Mesh, length: int) -> dict[str, Any]:
  """Temporary bytes with a causal mask and heads of a usual size."""
  inputs = make_inputs(length, 1, 8, 8, 64)
  record = {}
  for name, (put, compute) in (
    ('one', _on_one(attn.masks.causal())),
    ('device', _on_mesh(attn.masks.causal(), mesh)),
  ):
    arrays = put(inputs)
    record[f'temporary_bytes_{name}'] = [
      _compile(f, arrays)[1] for f in (compute, _gradient(compute))
    ]
  return record


def work(mask: attn.masks.Mask, inputs: Inputs, mesh: Mesh) -> dict[str, Any]:
  """What devices visit, by the plan that the program is made from."""
  ring, found = count(mask, inputs, mesh)
  per_device = found.sum(1)
  return {
    'order': 'zigzag' if ring.parts == 2 else 'in order',
    'steps': len(ring.steps),
    'steps_left_out': ring.devices - len(ring.steps),
    'idle': int((found[:, list(ring.steps)] == 0).sum()),
    'visits': per_device.tolist(),
    'balance': float(per_device.max() / max(per_device.mean(), 1e-30)),
  }


def count(
  mask: attn.masks.Mask, inputs: Inputs, mesh: Mesh, **options: Any
) -> tuple[Ring, np.ndarray]:
  """The ring, and the tiles of each device in each step."""
  call = prepare(*(jnp.asarray(x) for x in inputs[:3]), mask=mask)
  layout = Layout(mesh, _AXIS, (), (), (mesh.size, 1, 1))
  plan = make_ring_plan(
    call, part_of(call, layout), _AXIS, mesh.size, **options
  )
  return plan[0], visits(*plan)


def _on_one(mask: attn.masks.Mask) -> tuple[Any, Callable[..., Array]]:
  put = functools.partial(jax.device_put, device=jax.devices()[0])
  return put, functools.partial(
    attn.attention, mask=mask, implementation='blockwise'
  )


def _on_mesh(
  mask: attn.masks.Mask, mesh: Mesh
) -> tuple[Any, Callable[..., Array]]:
  sharding = NamedSharding(mesh, P(None, _AXIS))
  put = functools.partial(jax.device_put, device=sharding)
  return put, functools.partial(attn.ring_attention, mask=mask, mesh=mesh)


def _gradient(compute: Callable[..., Array]) -> Callable[..., Any]:
  def loss(query: Array, key: Array, value: Array, wave: Array) -> Array:
    return (compute(query, key, value) * wave).sum()

  return jax.grad(loss, argnums=(0, 1, 2))


def _compile(compute: Callable[..., Any], arrays: Inputs) -> tuple[Any, int]:
  """A compiled program, and its temporary bytes on a device."""

  def of_inputs(*arrays: Array) -> Any:
    return compute(*arrays)

  used = arrays[:3] if _takes_three(compute) else arrays
  compiled = jax.jit(of_inputs).lower(*used).compile()
  return compiled, compiled.memory_analysis().temp_size_in_bytes


def _takes_three(compute: Callable[..., Any]) -> bool:
  return isinstance(compute, functools.partial)


def _run(compute: Callable[..., Any], arrays: Inputs) -> tuple[Any, int]:
  compiled, size = _compile(compute, arrays)
  used = arrays[:3] if _takes_three(compute) else arrays
  return jax.tree.map(np.asarray, compiled(*used)), size


if __name__ == '__main__':
  command_line.run(main, define_flags)
