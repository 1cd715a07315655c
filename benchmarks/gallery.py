"""The gallery of masks and score changes: python -m benchmarks.gallery.

What each entry of `benchmarks.catalogue` costs at T = 8192, how long it takes
beside the same call written out, what its weights look like; and the page that
shows it all, docs/gallery.md.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from attn.training import command_line
from attn.training.errors import UserError
from benchmarks import gallery_page, machine, pairing, results
from benchmarks.catalogue import ENTRIES, Entry, Size, observe
from benchmarks.compare import progress

_ROOT = pathlib.Path(__file__).parents[1]
_RESULTS = _ROOT / 'benchmarks' / 'results' / 'gallery.json'
_DOCS = _ROOT / 'docs'

# Where costs are told, where times are taken: dense has to fit there.
COSTED = Size(length=8192, heads=8)
TIMED = Size(length=2048, heads=4)
_QUICK = Size(length=64)

_ROUNDS = 3


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_list('entries', list(ENTRIES), 'Which to measure.')
  flags.DEFINE_bool('measure', True, 'False to draw and write the page only.')
  flags.DEFINE_bool('quick', False, 'Tiny sizes, to see the program work.')
  flags.DEFINE_string(
    'out',
    None,
    'Where the figures are kept as JSON; others in the file stay. By default '
    'benchmarks/results/gallery.json, and nowhere with --quick.',
  )
  flags.DEFINE_string(
    'docs', str(_DOCS), 'Where gallery.md is written; not with --quick.'
  )


def main() -> None:
  """Flags in, one call."""
  values = flags.FLAGS
  unknown = sorted(set(values.entries) - set(ENTRIES))
  if unknown:
    raise UserError(f'--entries: no {unknown[0]}, wanted of {list(ENTRIES)}')
  out = results.destination(values.out, None if values.quick else _RESULTS)
  costed, timed = (_QUICK, _QUICK) if values.quick else (COSTED, TIMED)
  for name in values.entries if values.measure else ():
    progress(name)
    found = measure(ENTRIES[name], costed, timed)
    if out is None:
      print(gallery_page.figures_of(found))
    else:
      results.update(out, 'gallery', {name: found})
  if not values.quick:
    assert out is not None
    gallery_page.write(pathlib.Path(values.docs), results.read(out))


def measure(entry: Entry, costed: Size, timed: Size) -> dict[str, Any]:
  """What an entry costs, and how fast it is.

  Args:
    entry: The entry.
    costed: Where costs are told.
    timed: Where times are taken, of it and of the same written out.

  Returns:
    A record, ready for JSON.
  """
  cost = cost_of(entry, costed)
  return {
    'machine': machine.describe(),
    'costed': vars(costed),
    'given': {name: _shown(x) for name, x in entry.given(costed).items()},
    'cost': cost,
    'timed': vars(timed),
    # What makes no call has nothing to be compared with.
    'times_dense': _times(entry, timed) if cost else None,
  }


def cost_of(entry: Entry, size: Size) -> dict[str, Any] | None:
  """What `attn.explain` tells of all calls of an entry; nothing is computed.

  Args:
    entry: The entry.
    size: At which.

  Returns:
    Blocks, those visited, their shape, FLOPs of the matrix products, and those
    of full attention; None if the entry makes no call.
  """
  fixed, floats = _split(entry.at(size))
  arrays = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in _inputs(size, 1)]
  with observe.calls() as calls:
    jax.eval_shape(
      lambda arrays, floats: entry.attend(*arrays, **fixed, **floats),
      *(arrays, floats),
    )
  if not calls:
    return None
  scores = size.batch * size.heads * size.length**2
  return {
    'implementation': calls[0].implementation,
    'calls': len(calls),
    'block_shape': list(calls[0].block_shape),
    'blocks': sum(x.blocks for x in calls),
    'blocks_visited': sum(x.blocks_visited for x in calls),
    'flops': sum(x.flops for x in calls),
    'flops_of_full': 4 * scores * size.head_size,
  }


def _times(entry: Entry, size: Size) -> dict[str, Any]:
  """The time of dense over ours, forward and with the gradient."""
  found = {}
  for direction, wrap in (('forward', _forward), ('with_gradient', _both)):
    programs, outputs = {}, {}
    for name, implementation in (('ours', None), ('dense', 'dense')):
      program = wrap(entry, size)
      with observe.calls(implementation):
        outputs[name] = jax.block_until_ready(program())
      programs[name] = program
    seconds = pairing.measure_all(
      {
        name: lambda program=program: jax.block_until_ready(program())
        for name, program in programs.items()
      },
      _ROUNDS,
    )
    ratios = pairing.ratios(seconds['dense'], seconds['ours'])
    found[direction] = {
      **vars(pairing.spread(ratios)),
      'milliseconds': 1e3 * pairing.spread(seconds['ours']).median,
      'difference': _difference(outputs['ours'], outputs['dense']),
    }
  return found


def _forward(entry: Entry, size: Size) -> Callable[[], Any]:
  fixed, floats = _split(entry.at(size))
  run = jax.jit(lambda arrays, floats: entry.attend(*arrays, **fixed, **floats))
  arrays = _inputs(size, 1)
  return lambda: run(arrays, floats)


def _both(entry: Entry, size: Size) -> Callable[[], Any]:
  fixed, floats = _split(entry.at(size))
  *arrays, probe = _inputs(size, 1, count=4)

  def loss(arrays: list[jax.Array], floats: dict[str, jax.Array]) -> jax.Array:
    return (entry.attend(*arrays, **fixed, **floats) * probe).sum()

  run = jax.jit(jax.value_and_grad(loss))
  return lambda: run(arrays, floats)


def _inputs(size: Size, seed: int, count: int = 3) -> list[jax.Array]:
  """Query, key and value; a cotangent, where four are wanted."""
  shape = (size.batch, size.length, size.heads, size.head_size)
  rngs = jax.random.split(jax.random.key(seed), count)
  return [jax.random.normal(rng, shape) for rng in rngs]


def _split(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """What a program is compiled with, and what it is called with: floats."""
  floats = {
    name: x
    for name, x in given.items()
    if isinstance(x, (jax.Array, jax.ShapeDtypeStruct))
    and jnp.issubdtype(x.dtype, jnp.floating)
  }
  return {k: x for k, x in given.items() if k not in floats}, floats


def _difference(one: Any, other: Any) -> float:
  """The largest, over the largest number there is."""
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other))
  return max(
    float(jnp.abs(x - y).max() / jnp.abs(y).max().clip(1e-9)) for x, y in pairs
  )


def _shown(x: Any) -> Any:
  if not isinstance(x, np.ndarray):
    return x
  return f'{jax.dtypes.canonicalize_dtype(x.dtype)}{list(x.shape)}'


if __name__ == '__main__':
  command_line.run(main, define_flags)
