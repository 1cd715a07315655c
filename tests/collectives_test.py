"""What devices say to each other, read from what is compiled."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from benchmarks.collectives import Collective, collectives

_WHOLE = P()
_MESH = functools.cache(
  lambda: jax.make_mesh((2,), ('x',), axis_types=(AxisType.Auto,))
)


def of(function, *shapes, out=_WHOLE) -> list[Collective]:
  """Those of a function of arrays that two devices share by rows."""
  shared = jax.shard_map(
    function, mesh=_MESH(), in_specs=P('x'), out_specs=out, check_vma=False
  )
  arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return collectives(jax.jit(shared).lower(*arrays).compile().as_text(), 2)


def test_a_sum_sends_its_array():
  found = of(lambda x: jax.lax.psum(x, 'x'), (6, 11))
  assert found == [Collective('all-reduce', 3 * 11 * 4, 2, 1)]
  assert found[0].sent == 3 * 11 * 4


def test_in_a_loop_it_is_sent_in_every_turn():
  def turn(_, x):
    return jnp.sin(jax.lax.psum(x, 'x'))

  found = of(lambda x: jax.lax.fori_loop(0, 5, turn, x), (6, 11))
  assert found == [Collective('all-reduce', 3 * 11 * 4, 2, 5)]


@pytest.mark.parametrize(
  ('kind', 'function', 'size', 'sent'),
  [
    (
      'all-gather',
      lambda x: jax.lax.all_gather(x, 'x', tiled=True),
      4 * 7 * 4,
      2 * 7 * 4,
    ),
    (
      'reduce-scatter',
      lambda x: jax.lax.psum_scatter(x, 'x', tiled=True),
      1 * 7 * 4,
      1 * 7 * 4,
    ),
    (
      'collective-permute',
      lambda x: jax.lax.ppermute(x, 'x', [(0, 1), (1, 0)]),
      2 * 7 * 4,
      2 * 7 * 4,
    ),
  ],
)
def test_every_kind(kind: str, function, size: int, sent: int):
  (found,) = of(function, (4, 7), out=P('x'))
  assert (found.kind, found.bytes, found.sent) == (kind, size, sent)


def test_one_device_says_nothing():
  compiled = jax.jit(lambda x: x @ x).lower(jnp.ones((3, 3))).compile()
  assert collectives(compiled.as_text(), 1) == []
