"""A sequence on eight devices beside one device.  python -m benchmarks.ring.

The devices are parts of this machine's CPU: what is measured is that results
are the same, what memory each device needs, and who has how much to do; not how
fast it is.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import (
  AxisType,
  Mesh,
  NamedSharding,
  Sharding,
  SingleDeviceSharding,
)
from jax.sharding import PartitionSpec as P

import attn
from attn.backends.layout import Layout, part_of
from attn.backends.ring_plan import Ring, make_ring_plan, visits
from attn.call import prepare
from attn.masks.arrays import Dense
from attn.masks.rows import over_dense
from attn.training import command_line
from attn.training.errors import UserError
from benchmarks import machine, results
from benchmarks.ring_masks import make_masks

Array = jax.Array

_RESULTS = pathlib.Path(__file__).parent / 'results' / 'ring.json'
_AXIS = 'sequence'
# Eight devices on two cores wait longer for each other than XLA thinks right.
_PATIENT = '--xla_cpu_collective_call_terminate_timeout_seconds=3600'
# Elements of a batch, query heads, key/value heads, and their sizes: of what is
# computed, and of what is only compiled, for its memory.
_NARROW, _WIDE = (1, 2, 1, 16), (1, 8, 8, 64)

# (mask, query, key, value) -> context.
Attend = Callable[..., Array]


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
  flags.DEFINE_bool('gradients', True, 'Gradients too: four times the work.')
  flags.DEFINE_string(
    'out',
    str(_RESULTS),
    "Where the figures are kept as JSON; '' for nowhere.",
  )


def main() -> None:
  """Flags in, one call for each mask."""
  values = flags.FLAGS
  out = results.destination(values.out or None, None)
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_PATIENT}'
  jax.config.update('jax_num_cpu_devices', values.devices)
  found = make_masks(*_NARROW[:2], values.length)
  unknown = sorted(set(values.masks) - set(found))
  if unknown:
    raise UserError(f'--masks: got {unknown}, wanted some of {sorted(found)}')
  mesh = make_mesh(values.devices)
  inputs = make_inputs(values.length)
  wide = make_inputs(values.length, *_WIDE)
  wide_masks = make_masks(*_WIDE[:2], values.length)
  print(f'{"mask":30} context gradient  memory steps balance')
  for name in values.masks or found:
    record = {
      **compare(found[name](), inputs, mesh, gradients=values.gradients),
      **work(found[name](), inputs, mesh),
      **memory(wide_masks[name](), wide, mesh),
    }
    if out is not None:
      kept = {'machine': machine.describe(), 'length': values.length, **record}
      results.update(out, 'ring', {name: kept})
    gradient = record.get('gradient_difference', float('nan'))
    print(
      f'{name:30} {record["context_difference"]:.1e} {gradient:8.1e} '
      f'1/{1 / record["share"]:4.1f} {record["steps"]:5} '
      f'{record["balance"]:.3f}',
      flush=True,
    )


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
  batch: int = _NARROW[0],
  heads: int = _NARROW[1],
  kv_heads: int = _NARROW[2],
  size: int = _NARROW[3],
) -> Inputs:
  """Independent normal numbers."""
  rng = np.random.default_rng(0)
  shapes = [
    (batch, length, n, size) for n in (heads, kv_heads, kv_heads, heads)
  ]
  return Inputs(
    *(jnp.asarray(rng.standard_normal(x, np.float32)) for x in shapes)
  )


def compare(
  mask: attn.masks.Mask, inputs: Inputs, mesh: Mesh, *, gradients: bool = True
) -> dict[str, Any]:
  """The results of one device and of those of a mesh.

  Returns:
    Largest differences: of the context, and of the gradients in proportion to
    the largest entry of each.
  """
  found = []
  for put, attend in _sides(mesh):
    arrays, everywhere = put(mask, inputs)
    if gradients:
      outputs = jax.jit(_outputs_of(attend))(everywhere, *arrays)
    else:
      outputs = (jax.jit(attend)(everywhere, *arrays[:3]),)
    found.append(jax.tree.map(np.asarray, outputs))
  (context, *one), (ring_context, *ring) = found
  record = {'context_difference': float(np.abs(context - ring_context).max())}
  if gradients:
    record['gradient_difference'] = max(
      float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-30))
      for x, y in zip(one, ring)
    )
  return record


def memory(mask: attn.masks.Mask, inputs: Inputs, mesh: Mesh) -> dict[str, Any]:
  """Bytes of one device, and of one of a mesh; nothing is computed.

  Returns:
    Temporary bytes, [forward, forward and backward] of either, the worse of
    the quotients, and the bytes that arguments take forward.
  """
  temporary: dict[str, Any] = {}
  arguments: dict[str, Any] = {}
  for name, (put, attend) in zip(('one', 'device'), _sides(mesh, _say_where)):
    arrays, everywhere = put(mask, inputs)
    found = []
    for compute, used in ((attend, arrays[:3]), (_outputs_of(attend), arrays)):
      compiled = jax.jit(compute).lower(everywhere, *used).compile()
      analysis = compiled.memory_analysis()
      assert analysis is not None, 'a compiler that does not tell'
      found.append(analysis)
    temporary[f'temporary_bytes_{name}'] = [x.temp_size_in_bytes for x in found]
    arguments[f'argument_bytes_{name}'] = found[0].argument_size_in_bytes
  pairs = zip(*temporary.values())
  share = max(device / one for one, device in pairs)
  return {**temporary, 'share': share, **arguments}


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


def _say_where(arrays: Any, sharding: Sharding) -> Any:
  """What the compiler must know of arrays that are nowhere yet."""

  def say(x: Array) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  return jax.tree.map(say, arrays)


def _sides(
  mesh: Mesh, place: Callable[[Any, Sharding], Any] = jax.device_put
) -> tuple[tuple[Any, Attend], tuple[Any, Attend]]:
  """How one device and a mesh are given arrays, and how they attend."""

  def on_one(mask: attn.masks.Mask, *arrays: Array) -> Array:
    return attn.attention(*arrays, mask=mask, implementation='blockwise')

  def on_mesh(mask: attn.masks.Mask, *arrays: Array) -> Array:
    return attn.ring_attention(*arrays, mask=mask, mesh=mesh)

  def put_on_one(mask: attn.masks.Mask, inputs: Inputs) -> tuple[Any, Any]:
    first = SingleDeviceSharding(jax.devices()[0])
    return place(inputs, first), place(mask, first)

  def put_on_mesh(mask: attn.masks.Mask, inputs: Inputs) -> tuple[Any, Any]:
    def on(*axes: str | None) -> Sharding:
      return NamedSharding(mesh, P(*axes))

    # Where a mask has a row for each query, a device has those of its own.
    def rows(mask: Dense) -> Dense:
      sharding: Any = on(*[None] * (mask.array.ndim - 2), _AXIS)
      return Dense(sharding)

    where = over_dense(mask, inputs.query.shape[1], rows)
    where = jax.tree.map(
      lambda x: x if isinstance(x, Sharding) else on(), where
    )
    return place(inputs, on(None, _AXIS)), jax.tree.map(place, mask, where)

  return (put_on_one, on_one), (put_on_mesh, on_mesh)


def _outputs_of(attend: Attend) -> Callable[..., Any]:
  return functools.partial(_outputs, attend)


def _outputs(
  attend: Attend, mask: attn.masks.Mask, *arrays: Array
) -> tuple[Array, ...]:
  """The context, and gradients by query, key and value."""
  *inputs, wave = arrays
  context, transpose = jax.vjp(functools.partial(attend, mask), *inputs)
  return (context, *transpose(wave))


if __name__ == '__main__':
  command_line.run(main, define_flags)
