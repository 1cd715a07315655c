"""Random masks, and the rules that they stand for, in NumPy.

A rule takes b, n, q and k as arrays of whole numbers that broadcast.  It holds
below 0 too, where `shift` brings it, except where arrays start: `Drawn.starts`
says for queries, and for keys, whether they do.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from attn import masks


@dataclasses.dataclass(frozen=True)
class Drawn:
  """A mask and its rule."""

  mask: masks.Mask
  rule: Callable
  starts: tuple[bool, bool] = (False, False)

  def array(self, sizes):
    """bool[B, N, T, S]."""
    indices = np.ogrid[tuple(slice(size) for size in sizes)]
    return np.broadcast_to(self.rule(*indices), sizes)


def _static(draw):
  """Masks of numbers, by name."""
  small = functools.partial(st.integers, 0)

  def causal():
    offset = draw(st.integers(-3, 5))
    return masks.causal(offset), lambda b, n, q, k: k - q <= offset

  def window():
    left, right = draw(small(4)), draw(small(4))
    rule = lambda b, n, q, k: (-left <= k - q) & (k - q <= right)  # noqa: E731
    return masks.sliding_window(left, right), rule

  def dilated():
    step = draw(st.integers(1, 5))
    return masks.dilated(step), lambda b, n, q, k: (k - q) % step == 0

  def chunked():
    size = draw(st.integers(1, 9))
    return masks.chunked(size), lambda b, n, q, k: q // size == k // size

  def prefix():
    length = draw(small(9))
    return masks.prefix(length), lambda b, n, q, k: k < length + 0 * q

  def global_tokens():
    count = draw(small(4))
    rule = lambda b, n, q, k: (q < count) | (k < count)  # noqa: E731
    return masks.global_tokens(count), rule

  def global_positions():
    places = draw(st.lists(small(12), max_size=4))
    rule = lambda b, n, q, k: np.isin(q, places) | np.isin(k, places)  # noqa: E731
    return masks.global_tokens(places), rule

  def block_diagonal():
    sizes = draw(st.lists(small(7), max_size=5))
    others = sizes if draw(st.booleans()) else draw(st.permutations(sizes))

    def rule(b, n, q, k):
      allowed, q_start, k_start = np.zeros(np.broadcast(q, k).shape, bool), 0, 0
      for rows, columns in zip(sizes, others):
        inside = (q >= q_start) & (q < q_start + rows)
        allowed |= inside & (k >= k_start) & (k < k_start + columns)
        q_start, k_start = q_start + rows, k_start + columns
      return allowed

    return masks.block_diagonal(sizes, others), rule

  def neighbourhood():
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    y, x = draw(small(3)), draw(small(3))

    def rule(b, n, q, k):
      inside = (q >= 0) & (q < height * width) & (k >= 0) & (k < height * width)
      (q_y, q_x), (k_y, k_x) = np.divmod(q, width), np.divmod(k, width)
      return inside & (abs(q_y - k_y) <= y) & (abs(q_x - k_x) <= x)

    return masks.neighbourhood_2d(height, width, (y, x)), rule

  def windows():
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    sizes = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    moves = draw(small(3)), draw(small(3))

    def rule(b, n, q, k):
      inside = (q >= 0) & (q < height * width) & (k >= 0) & (k < height * width)
      for q_at, k_at, size, move in zip(
        np.divmod(q, width), np.divmod(k, width), sizes, moves
      ):
        inside = inside & ((q_at - move) // size == (k_at - move) // size)
      return inside

    return masks.windows_2d(height, width, sizes, moves), rule

  def between_chunks():
    offset, size = draw(st.integers(-2, 2)), draw(st.integers(1, 5))
    mask = masks.between_chunks(masks.causal(offset), size)
    return mask, lambda b, n, q, k: k // size <= q // size + offset

  return {
    'windows': windows,
    'between_chunks': between_chunks,
    'causal': causal,
    'window': window,
    'dilated': dilated,
    'chunked': chunked,
    'prefix': prefix,
    'global_tokens': global_tokens,
    'global_positions': global_positions,
    'block_diagonal': block_diagonal,
    'neighbourhood': neighbourhood,
  }


def _plain(b, n, q, k):
  return (q * 3 + k * 5) % 7 < 3


def _of_head(b, n, q, k):
  return (q + 2 * k + n) % 3 != 0


def _of_batch(b, n, q, k, lengths):
  return q + k < 3 * lengths[b]


def _arrays(draw, batch, sizes):
  """Masks with arrays for these sizes, by name."""
  flat, heads, num_queries, num_keys = sizes
  rng = np.random.default_rng(draw(st.integers(0, 99)))

  def per_element(most):
    numbers = rng.integers(0, most, flat)
    return jnp.asarray(numbers.reshape(batch)), numbers

  def offset():
    number = draw(st.integers(-3, 5))
    return masks.causal(jnp.array(number)), lambda b, n, q, k: k - q <= number

  def prefix():
    array, numbers = per_element(num_keys + 2)
    return masks.prefix(array), lambda b, n, q, k: k < numbers[b]

  def padding():
    array, numbers = per_element(num_keys + 2)
    if draw(st.booleans()):
      return masks.padding(array), lambda b, n, q, k: k < numbers[b]
    others, more = per_element(num_queries + 2)
    rule = lambda b, n, q, k: (k < numbers[b]) & (q < more[b])  # noqa: E731
    return masks.padding(array, others), rule

  def segments():
    different = draw(st.sampled_from((1, 2, 3, 50)))
    ids = rng.integers(0, different, (flat, max(num_queries, num_keys)))
    if draw(st.booleans()):
      ids.sort()
    query_ids, key_ids = ids[:, :num_queries], ids[:, ::-1][:, :num_keys]
    if draw(st.booleans()):
      key_ids = ids[:, :num_keys]
    mask = masks.segments(
      *(
        jnp.asarray(x.reshape(*batch, x.shape[1])) for x in (query_ids, key_ids)
      )
    )
    return mask, lambda b, n, q, k: _at(query_ids, b, q) == _at(key_ids, b, k)

  def dense():
    shape = [size if draw(st.booleans()) else 1 for size in sizes]
    array = rng.uniform(size=shape) < draw(st.sampled_from((0, 0.5, 0.9, 1)))
    mask = masks.dense(jnp.asarray(array))

    def rule(b, n, q, k):
      index = zip(shape, (b, n, q, k))
      return _at(array, *(0 * i if size == 1 else i for size, i in index))

    return mask, rule, (shape[2] != 1, shape[3] != 1)

  def function():
    starts = (True, True)
    if draw(st.booleans()):
      return masks.from_fn(_plain), _plain, starts
    if draw(st.booleans()):
      return masks.from_fn(_of_head, heads=heads), _of_head, starts
    # Nothing can be looked up in an empty array, not even for no one.
    lengths = rng.integers(0, 9, max(flat, 1))
    mask = masks.from_fn(_of_batch, jnp.asarray(lengths), batch=flat)
    return mask, lambda *i: _of_batch(*i, lengths), starts

  def tree():
    tokens = max(num_queries, num_keys)
    parents = [int(rng.integers(-1, i)) for i in range(tokens)]
    descends = np.eye(tokens, dtype=bool)
    for child, parent in enumerate(parents):
      if parent >= 0:
        descends[child] |= descends[parent]
    rows, columns = tokens - num_queries, tokens - num_keys
    mask = masks.tree(parents).shift(-rows, -columns)
    rule = lambda b, n, q, k: _at(descends, q + rows, k + columns)  # noqa: E731
    return mask, rule

  def layout():
    size = draw(st.integers(1, 4))
    chunks = -(-num_queries // size), -(-num_keys // size)
    array = rng.uniform(size=chunks) < draw(st.sampled_from((0, 0.5, 1)))
    mask = masks.between_chunks(masks.dense(jnp.asarray(array)), size)
    # It is for whole chunks: the tokens of the last that are none go first.
    rest = [x * size - y for x, y in zip(chunks, (num_queries, num_keys))]

    def rule(b, n, q, k):
      return _at(array, (q + rest[0]) // size, (k + rest[1]) // size)

    mask = mask.shift(-rest[0], -rest[1])
    starts = tuple(x != 1 for x in chunks)
    return mask, rule, starts

  return {
    'tree': lambda: (*tree(), (True, True)),
    'layout': layout,
    'offset': offset,
    'prefix array': prefix,
    'padding': padding,
    'segments': lambda: (*segments(), (True, True)),
    'dense': dense,
    'function': function,
  }


def _at(array, *index):
  """array[index], and 0 beyond its ends."""
  array = np.pad(array, [(0, 1)] * array.ndim)
  inside = (np.clip(i, 0, s - 1) for i, s in zip(index, array.shape))
  return array[tuple(inside)]


@st.composite
def leaves(draw, batch, sizes):
  """A mask that is not made of others.

  Args:
    draw: By hypothesis.
    batch: The batch axes, of which sizes[0] is the product.
    sizes: (B, N, T, S).

  Returns:
    A `Drawn`.
  """
  assert math.prod(batch) == sizes[0]
  kinds = _static(draw) | _arrays(draw, batch, sizes)
  return Drawn(*kinds[draw(st.sampled_from(sorted(kinds)))]())


@st.composite
def expressions(draw, batch, sizes, depth=3):
  """A mask made of up to 2**depth others.

  Args:
    draw: By hypothesis.
    batch: The batch axes, of which sizes[0] is the product.
    sizes: (B, N, T, S).
    depth: How often masks are combined.

  Returns:
    A `Drawn`.
  """
  kinds = ('leaf', 'not', 'and', 'or', 'shift', 'per head')
  kind = draw(st.sampled_from(kinds)) if depth else 'leaf'
  if kind == 'leaf':
    return draw(leaves(batch, sizes))
  inner = expressions(batch, sizes, depth - 1)
  if kind == 'not':
    one = draw(inner)
    return Drawn(~one.mask, lambda *i: ~one.rule(*i), one.starts)
  if kind == 'shift':
    return _shifted(draw, batch, sizes, depth)
  if kind == 'per head':
    return _per_head(draw, inner, sizes[1])
  one, other = draw(inner), draw(inner)
  starts = tuple(x or y for x, y in zip(one.starts, other.starts))
  if kind == 'and':
    rule = lambda *i: one.rule(*i) & other.rule(*i)  # noqa: E731
    return Drawn(one.mask & other.mask, rule, starts)
  rule = lambda *i: one.rule(*i) | other.rule(*i)  # noqa: E731
  return Drawn(one.mask | other.mask, rule, starts)


def _shifted(draw, batch, sizes, depth):
  *others, num_queries, num_keys = sizes
  rows, columns = (
    draw(st.integers(-3, min(4, size))) for size in (num_queries, num_keys)
  )
  sizes = (*others, num_queries - rows, num_keys - columns)
  inner = draw(expressions(batch, sizes, depth - 1))

  def rule(b, n, q, k):
    q, k = q - rows, k - columns
    allowed = inner.rule(b, n, q, k)
    for starts, index in zip(inner.starts, (q, k)):
      if starts:
        allowed = allowed & (index >= 0)
    return allowed

  return Drawn(inner.mask.shift(rows, columns), rule, inner.starts)


def _per_head(draw, inner, heads):
  some = [draw(inner) for _ in range(min(heads, 2))]
  each = [draw(st.sampled_from(some)) for _ in range(heads)]

  def rule(b, n, q, k):
    picked = (np.equal(n, i) & x.rule(b, n, q, k) for i, x in enumerate(each))
    return functools.reduce(np.logical_or, picked)

  starts = tuple(any(x.starts[i] for x in each) for i in range(2))
  return Drawn(masks.per_head([x.mask for x in each]), rule, starts)
