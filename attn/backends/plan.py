"""Which tiles of the T×S scores a call visits, decided before it runs.

The scores are cut into tiles of block_q queries by block_k keys.  What the
mask hides whole is never visited; what it shows whole is computed without
evaluating the mask.  Numbers alone decide at trace time; where the mask holds
traced arrays, they decide inside the compiled program.
"""

import dataclasses
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attn import masks
from attn.backends.additive import AdditiveCall
from attn.call import Call
from attn.masks.arguments import is_traced

Array = jax.Array

# Sides of tiles to choose from, and what a tile costs on two CPU cores: so many
# nanoseconds for each score, so many for being a tile, however small, and so
# many for a step of a loop, which tiles of several lanes share.
_SIDES = (256, 512, 1024)
_PER_SCORE, _PER_MASKED_SCORE, _PER_TILE, _PER_STEP = 1.0, 1.25, 2.5e4, 8e4
# Where only arrays can tell what is hidden, smaller tiles hide more.
_UNDECIDED_SIDE = 512
# So many scores are computed at once.  Where a lane is several tiles, fewer in
# the derivative, which keeps more of them, and where they would be more than a
# sixteenth of all scores: then memory that is new for each call costs time.
_SCORES_AT_ONCE, _SCORES_OF_TILES_AT_ONCE = 2**20, 2**19
_SHARE_AT_ONCE = 1 / 16
# And of so many queries, forward and in the derivative, to save memory.
_QUERIES_AT_ONCE = 2**15, 2**16
# Additive scores cost far more than tiles do.  These are as large as the caches
# next to a core like them, and small ones hide more.
_ADDITIVE_SIDES = (128, 256)
_ADDITIVE_SCORES_AT_ONCE, _ADDITIVE_SCORES_OF_TILES_AT_ONCE = 2**17, 2**15
# Finer grids take too long to classify.
_MOST_TILES = 2**18


class Chunk(NamedTuple):
  """Lanes that are computed at once.

  Attributes:
    batch: Batch elements.
    heads: Key/value heads of each.
  """

  batch: int
  heads: int

  @property
  def lanes(self) -> int:
    """How many."""
    return self.batch * self.heads


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a call is cut up; static, so that a program is compiled for it.

  Attributes:
    block_q: Queries in a tile.
    block_k: Keys in a tile.
    rows: Tiles along the queries.
    columns: Tiles along the keys.
    full: Tiles (row, column) computed without the mask.
    partial: Tiles computed with it.
    undecided: Tiles that only the mask's arrays can classify, or that differ
      between heads; with these the other two lists are empty.
    chunk: Lanes computed at once.
    derivative_chunk: Likewise where tiles are computed again.
    parts: Stretches of the queries, and of the keys, that are cut into tiles
      each by itself.
  """

  block_q: int
  block_k: int
  rows: int
  columns: int
  full: tuple[tuple[int, int], ...]
  partial: tuple[tuple[int, int], ...]
  undecided: tuple[tuple[int, int], ...]
  chunk: Chunk
  derivative_chunk: Chunk
  parts: int = 1

  @property
  def small(self) -> bool:
    """Whether there is one tile, and that no large one."""
    return (
      self.rows * self.columns == 1 and self.block_q * self.block_k <= 2**16
    )

  @property
  def visited(self) -> int:
    """Tiles that may be computed, of one head."""
    return len(self.full) + len(self.partial) + len(self.undecided)


class _Grid(NamedTuple):
  """Tiles along queries and keys, and their sides."""

  rows: int
  columns: int
  block_q: int
  block_k: int


def make_plan(
  call: Call, sides: tuple[int, int] | None = None
) -> tuple[Plan, np.ndarray | Array | None]:
  """Choose tiles for a call.

  Args:
    call: The call.
    sides: Queries and keys of a tile, with one lane at a time; None for the
      cheapest.

  Returns:
    The plan, and the class of each undecided tile, int8[B|1, K|1, tiles] of
    masks.EMPTY, PARTIAL and FULL; None if nothing is undecided.
  """
  if sides is None:
    grids = [_grid(call, *candidate) for candidate in candidates(call)]
  else:
    rows, columns = (
      math.ceil(x / side) for x, side in zip(call.sizes[2:], sides)
    )
    grids = [_Grid(rows, columns, *sides)]
  # What numbers alone can tell, of each grid: enough to choose one.
  outlines = [_classes(call, grid, outline=True) for grid in grids]
  costs = [_cost(call, g, o) for g, o in zip(grids, outlines)]
  best = int(np.argmin(costs))
  one_by_one = sides is not None
  return _plan(call, grids[best], np.asarray(outlines[best]), one_by_one)


def candidates(call: Call) -> list[tuple[int, int]]:
  """Sides of tiles, in queries and keys, that are worth a try."""
  _, _, num_queries, num_keys = call.sizes
  pairs = itertools.product(_SIDES, _SIDES)
  if isinstance(call, AdditiveCall):
    pairs = [_ADDITIVE_SIDES]
  elif jax.tree.leaves(call.mask):
    return [(_UNDECIDED_SIDE, _UNDECIDED_SIDE)]
  fine = [
    (q, k)
    for q, k in pairs
    if math.ceil(num_queries / q) * math.ceil(num_keys / k) <= _MOST_TILES
  ]
  return fine or [(_SIDES[-1], _SIDES[-1])]


def _grid(call: Call, side_q: int, side_k: int) -> _Grid:
  groups = call.sizes[1] // call.key.shape[2]
  rows, block_q = split(call.sizes[2], queries_in(side_q, groups))
  columns, block_k = split(call.sizes[3], side_k)
  return _Grid(block_q=block_q, block_k=block_k, rows=rows, columns=columns)


def queries_in(side: int, groups: int) -> int:
  """Queries of a tile: the heads of a group are rows of the same tile."""
  return max(side // groups, 16)


def split(length: int, side: int) -> tuple[int, int]:
  """How many tiles a length makes, and the length of one.

  Tiles of nearly one size pad less than full ones and a stub.
  """
  count = math.ceil(length / side)
  size = math.ceil(length / count)
  return count, size if count == 1 else math.ceil(size / 16) * 16


def _classes(call: Call, grid: _Grid, *, outline: bool) -> np.ndarray | Array:
  """Classes [B|1, N|1, rows, columns] of all tiles."""
  if call.mask is None:
    classes = np.full((1, 1, grid.rows, grid.columns), masks.FULL, np.int8)
  else:
    sizes = (*call.sizes[2:], grid.block_q, grid.block_k)
    unknown = outline and not is_known(call)
    classify = call.mask.outline if unknown else call.mask.blocks
    classes = classify(*sizes)
    classes = classes.reshape((1,) * (4 - classes.ndim) + classes.shape)
  last = np.arange(grid.columns) == grid.columns - 1
  ragged = last & (grid.columns * grid.block_k > call.sizes[3])
  array = np if isinstance(classes, np.ndarray) else jnp
  full = classes == masks.FULL
  partial = array.asarray(masks.PARTIAL, classes.dtype)
  return array.where(full & ragged, partial, classes)


def _cost(call: Call, grid: _Grid, outline: np.ndarray | Array) -> float:
  """Estimated nanoseconds for a lane."""
  groups = call.sizes[1] // call.key.shape[2]
  scores = groups * grid.block_q * grid.block_k
  chunk, _ = lanes_at_once(call, *grid)
  return float(cost_of_tiles(np.asarray(outline), scores, chunk.lanes).sum())


def cost_of_tiles(
  classes: np.ndarray, scores: int, lanes: int = 1
) -> np.ndarray:
  """Estimated nanoseconds for each tile of a lane.

  Args:
    classes: int8[B, N, ...].
    scores: In a tile.
    lanes: Computed at once.

  Returns:
    float[...], the mean over batch elements and heads.
  """
  masked, full = (
    (classes == kind).mean((0, 1)) for kind in (masks.PARTIAL, masks.FULL)
  )
  per_tile = (masked + full) * (_PER_TILE + _PER_STEP / lanes)
  return per_tile + scores * (masked * _PER_MASKED_SCORE + full * _PER_SCORE)


def _plan(
  call: Call, grid: _Grid, outline: np.ndarray, one_by_one: bool
) -> tuple[Plan, np.ndarray | Array | None]:
  known = is_known(call)
  one_tile = grid.rows * grid.columns == 1
  everywhere = (outline == outline[:1, :1]).all()
  lists: dict[str, tuple[tuple[int, int], ...]] = {}
  classes = None
  if one_tile and not (known and (outline == masks.FULL).all()):
    lists['partial'] = ((0, 0),)
  elif known and everywhere:
    lists['full'] = _where(outline[0, 0] == masks.FULL)
    lists['partial'] = _where(outline[0, 0] == masks.PARTIAL)
  else:
    listed = _where((outline != masks.EMPTY).any((0, 1)))
    lists['undecided'] = listed
    exact = outline if known else _classes(call, grid, outline=False)
    classes = _of_lanes(call, exact, listed)
  # Where tiles are undecided, each lane skips tiles of its own.
  chunk = again = Chunk(1, 1)
  if not one_by_one and classes is None:
    chunk, again = lanes_at_once(call, *grid)
  plan = Plan(
    block_q=grid.block_q,
    block_k=grid.block_k,
    rows=grid.rows,
    columns=grid.columns,
    full=lists.get('full', ()),
    partial=lists.get('partial', ()),
    undecided=lists.get('undecided', ()),
    chunk=chunk,
    derivative_chunk=again,
  )
  return plan, classes


def _of_lanes(
  call: Call, classes: np.ndarray | Array, listed: tuple[tuple[int, int], ...]
) -> np.ndarray | Array:
  """Of the listed tiles, one class for the query heads of a group."""
  where = np.array(listed, np.int32).reshape(-1, 2)
  return of_groups(call, classes[:, :, where[:, 0], where[:, 1]])


def of_groups(call: Call, classes: np.ndarray | Array) -> np.ndarray | Array:
  """[B|1, N|1, ...] → [B|1, K|1, ...]; PARTIAL where a group's heads differ."""
  if classes.shape[1] == 1:
    return classes
  batch, _, *rest = classes.shape
  classes = classes.reshape(batch, call.key.shape[2], -1, *rest)
  same = (classes == classes[:, :, :1]).all(2)
  array = np if isinstance(classes, np.ndarray) else jnp
  return array.where(same, classes[:, :, 0], np.int8(masks.PARTIAL))


def _where(flags: np.ndarray) -> tuple[tuple[int, int], ...]:
  return tuple((int(i), int(j)) for i, j in np.argwhere(flags))


def lanes_at_once(
  call: Call, rows: int, columns: int, block_q: int, block_k: int
) -> tuple[Chunk, Chunk]:
  """Lanes to compute at once, and in the derivative."""
  batch, heads, _, _ = call.sizes
  kv_heads = call.key.shape[2]
  queries = heads // kv_heads * block_q
  several = rows * columns > 1
  if several and call.bias is not None and min(call.bias.shape[2:]) > 1:
    # Several lanes would each copy all of theirs.
    return Chunk(1, 1), Chunk(1, 1)
  most, fewer = _SCORES_AT_ONCE, _SCORES_OF_TILES_AT_ONCE
  if isinstance(call, AdditiveCall):
    most, fewer = _ADDITIVE_SCORES_AT_ONCE, _ADDITIVE_SCORES_OF_TILES_AT_ONCE
  at_once = most, most
  if several:
    share = int(math.prod(call.sizes) * _SHARE_AT_ONCE)
    at_once = min(max(share, fewer), most), fewer

  def chunk(most_scores: int, most_queries: int) -> Chunk:
    lanes = min(
      most_scores // (queries * block_k), most_queries // (queries * rows)
    )
    lanes = max(lanes, 1)
    if lanes >= kv_heads:
      return Chunk(_divisor(batch, lanes // kv_heads), kv_heads)
    return Chunk(1, _divisor(kv_heads, lanes))

  forward, derivative = map(chunk, at_once, _QUERIES_AT_ONCE)
  return forward, derivative


def _divisor(number: int, most: int) -> int:
  return max(x for x in range(1, number + 1) if number % x == 0 and x <= most)


def is_known(call: Call) -> bool:
  """Whether the mask is part of the program rather than of its input."""
  leaves = jax.tree.leaves(call.mask)
  if any(is_traced(x) for x in leaves):
    return False
  # Outside of any trace the arrays of the next call may hold something else,
  # and a program for these alone would have to be compiled again.
  return not leaves or is_traced(call.query)
