"""Which implementation serves a call best, and what the call costs."""

import dataclasses
import math

import jax
import numpy as np

from attn import masks
from attn.backends.plan import Plan, make_plan
from attn.call import Call
from attn.masks.arguments import is_traced

Array = jax.Array

# On two CPU cores `blockwise` is no slower at any size where numbers alone say
# what is hidden.  Where arrays say it few scores are faster written out:
# `python -m benchmarks.attention --cases=dense_crossover`.
_BLOCKWISE_FROM_ON_CPU = 2**16
# Elsewhere a loop over tiles costs more than it saves, until memory counts.
_BLOCKWISE_FROM = 2**28


@dataclasses.dataclass(frozen=True)
class Explanation:
  """What `attn.attention` will do with a call.

  Attributes:
    implementation: The one that serves the call.
    reason: Why.
    rejected: The others by name, and why not.
    blocks: Tiles of the scores, of all heads.
    blocks_visited: Those computed; where the mask holds traced arrays, those
      that may be.
    block_shape: Queries and keys of a tile.
    flops: Of the two matrix products, forward.
    bytes: Inputs and outputs.
    temporary_bytes: About what is held besides, forward.
  """

  implementation: str
  reason: str
  rejected: dict[str, str]
  blocks: int
  blocks_visited: int
  block_shape: tuple[int, int]
  flops: int
  bytes: int
  temporary_bytes: int

  def __str__(self) -> str:
    lines = [f'{self.implementation}: {self.reason}']
    lines += [f'not {name}: {why}' for name, why in self.rejected.items()]
    rows, columns = self.block_shape
    lines += [
      f'blocks of {rows} x {columns}: {self.blocks_visited:,} visited of '
      f'{self.blocks:,}',
      f'forward: {self.flops / 1e9:,.3f} GFLOP in matrix products',
      f'inputs and outputs: {_mebibytes(self.bytes)}, besides about '
      f'{_mebibytes(self.temporary_bytes)}',
    ]
    return '\n'.join(lines)


def choose(call: Call) -> tuple[str, str, dict[str, str]]:
  """Choose an implementation from shapes, platform and mask.

  Args:
    call: The call.

  Returns:
    Its name, the reason, and why not the others, by name.
  """
  scores = math.prod(call.sizes)
  platform = jax.default_backend()
  limit = _BLOCKWISE_FROM_ON_CPU if platform == 'cpu' else _BLOCKWISE_FROM
  size = f'{scores:,} scores'
  if scores < limit:
    few = f'{size}, under {limit:,} on a {platform}: writing them out is faster'
    return 'dense', few, {'blockwise': few}
  many = f'{size}, at least {limit:,} on a {platform}'
  return (
    'blockwise',
    f'{many}: tiles need less memory, and hidden ones are skipped',
    {'dense': f'{many}: it would write out every one, hidden or not'},
  )


def describe(
  call: Call, implementation: str, reason: str, rejected: dict[str, str]
) -> Explanation:
  """Work out what a call costs.

  Args:
    call: The call.
    implementation: Who serves it.
    reason: Why.
    rejected: The others, and why not.

  Returns:
    The explanation.
  """
  batch, heads, num_queries, num_keys = call.sizes
  kv_heads, value_size = call.value.shape[2:]
  arrays = [call.query, call.key, call.value, call.bias]
  touched = sum(_bytes(x) for x in arrays if x is not None)
  touched += _bytes(call.query) // max(call.query.shape[3], 1) * value_size
  width = call.compute_dtype.itemsize
  if implementation == 'blockwise' and 0 not in call.sizes:
    plan, classes = make_plan(call)
    visited, total = _visited(call, plan, classes)
    shape = (plan.block_q, plan.block_k)
    lanes = plan.chunk.lanes * heads // kv_heads
    temporary = 2 * lanes * math.prod(shape) * width + touched // 2
  else:
    visited = total = batch * heads
    shape = (num_queries, num_keys)
    temporary = 2 * math.prod(call.sizes) * width
  return Explanation(
    implementation=implementation,
    reason=reason,
    rejected=rejected,
    blocks=total,
    blocks_visited=visited,
    block_shape=shape,
    flops=2 * visited * math.prod(shape) * (call.query.shape[3] + value_size),
    bytes=touched,
    temporary_bytes=temporary,
  )


def _visited(
  call: Call, plan: Plan, classes: np.ndarray | Array | None
) -> tuple[int, int]:
  """Tiles visited, and all tiles, of all heads."""
  batch, heads = call.sizes[:2]
  total = batch * heads * plan.rows * plan.columns
  if classes is None or is_traced(classes):
    return batch * heads * plan.visited, total
  share = (np.asarray(classes) != masks.EMPTY).mean((0, 1)).sum()
  return round(batch * heads * float(share)), total


def _bytes(x: Array) -> int:
  return x.size * x.dtype.itemsize


def _mebibytes(size: int) -> str:
  return f'{size / 2**20:,.1f} MiB'
