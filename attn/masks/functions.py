"""Masks that are a function of one's own."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.masks.arguments import array, at_trace_time, is_traced, whole
from attn.masks.base import Ask, Extents, Mask, value
from attn.masks.facts import Facts, Region, exactly

Array = jax.Array

# A function is compiled for an axis so long, or four times as long, and so on.
_ROOM = 64


@value(arrays=('arrays',), numbers=('fn', 'batch', 'heads'))
class FromFn(Mask):
  """See `from_fn`."""

  fn: Callable[..., Any]
  arrays: tuple[Array, ...]
  batch: int | None
  heads: int | None

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, FromFn):
      return NotImplemented
    return self._identity == other._identity

  def __hash__(self) -> int:
    return hash(self._identity)

  @property
  def _identity(self) -> tuple[Any, ...]:
    # Arrays have no truth value to compare by.
    return (self.fn, self.batch, self.heads, *map(id, self.arrays))

  @property
  def extents(self) -> Extents:
    """What one was told."""
    return (self.batch, self.heads, None, None)

  @property
  def starts_at_zero(self) -> tuple[bool, bool]:
    """Whoever wrote it thought of indices from 0 on."""
    return (True, True)

  def __call__(self, b: Any, n: Any, q: Any, k: Any) -> Any:
    """What the function returns."""
    if any(isinstance(x, jax.Array) for x in (b, n, q, k)):
      return _map(self.fn, self.arrays, b, n, q, k)
    if any(is_traced(x) for x in self.arrays):
      return _map(self.fn, self.arrays, b, n, q, k)
    return _map_numpy(self.fn, self.arrays, b, n, q, k)

  def _facts(self, region: Region, ask: Ask) -> Facts:
    if not any(is_traced(x) for x in self.arrays):
      return super()._facts(region, ask)
    b = region.b if self.batch is not None else region.b[:1]
    n = region.n if self.heads is not None else region.n[:, :1]
    shape = np.broadcast_shapes(b.shape, n.shape, region.shape)
    sides = [
      int((last - first).max(initial=0)) + 1
      for first, last in (
        (region.q_first, region.q_last),
        (region.k_first, region.k_last),
      )
    ]

    def one(block: tuple[Array, ...]) -> tuple[Array, Array]:
      b, n, q_first, q_last, k_first, k_last = block
      q, k = (
        jnp.minimum(first + jnp.arange(side, dtype=jnp.int32), last)
        for first, last, side in (
          (q_first, q_last, sides[0]),
          (k_first, k_last, sides[1]),
        )
      )
      allowed = _map(self.fn, self.arrays, b, n, q[:, None], k)
      return allowed.any(), allowed.all()

    # A block at a time: all of them are T×S entries.
    blocks = (
      *(b, n, region.q_first, region.q_last, region.k_first, region.k_last),
    )
    some, every = jax.lax.map(
      one, tuple(jnp.asarray(np.broadcast_to(x, shape).ravel()) for x in blocks)
    )
    return exactly(some.reshape(shape), every.reshape(shape))


def from_fn(
  fn: Callable[..., Any],
  *arrays: Array,
  batch: int | None = None,
  heads: int | None = None,
) -> Mask:
  """Any function of one's own.

    fn(b, n, q, k, *arrays)

  The function is traced, for one entry: it gets int32 scalars, and computes
  with `jax.numpy`.  So an index beyond the end of an array reads what JAX reads
  there, its last entry; give it arrays as long as what they are looked up by.

    >>> print(from_fn(lambda b, n, q, k: (q + k) % 3 == 0).draw(3, 4))
    1 0 0 1
    0 0 1 0
    0 1 0 0
    >>> seen = jnp.array([True, False, True])
    >>> print(from_fn(lambda b, n, q, k, seen: seen[k], seen).draw(2, 3))
    1 0 1
    1 0 1

  Args:
    fn: Static: two masks are one to `jit` if their functions are, so make it
      once, not anew for every call.
    *arrays: Whatever it computes with, of any shape; they may be traced.
    batch: B, if fn depends on b.
    heads: N, if fn depends on n.

  Returns:
    A mask; the arrays are its arrays.  Nothing is known of it but what its
    entries say, so `blocks` computes them, a block at a time.

  Raises:
    TypeError: if fn is not a function, or returns anything but one bool.
    ValueError: if it raises an error, depends on b or n, of which the number
      was not given, or captures a traced array, which belongs to `arrays`.

  References:
    Dong et al., 2024 (FlexAttention). https://arxiv.org/abs/2412.05496
  """
  try:
    hash(fn)
  except TypeError as error:
    raise TypeError(f'fn: got {fn!r}, wanted it hashable') from error
  if not callable(fn):
    raise TypeError(f'fn: got {fn!r}, wanted a function')
  given = tuple(array(f'arrays[{i}]', x) for i, x in enumerate(arrays))
  sizes = {
    name: None if size is None else whole(name, size, 0)
    for name, size in (('batch', batch), ('heads', heads))
  }
  _check(fn, given, sizes)
  return FromFn(fn, given, sizes['batch'], sizes['heads'])


def _check(
  fn: Callable[..., Any],
  arrays: tuple[Array, ...],
  sizes: dict[str, int | None],
) -> None:
  index = jax.ShapeDtypeStruct((), jnp.int32)
  shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]
  try:
    traced, out = jax.make_jaxpr(fn, return_shape=True)(
      *(index, index, index, index), *shapes
    )
  except Exception as error:
    raise ValueError(
      f'fn: raised {type(error).__name__} for one entry (b, n, q, k, *arrays): '
      f'{error}'
    ) from error
  shape, dtype = getattr(out, 'shape', None), getattr(out, 'dtype', None)
  if shape != () or dtype != jnp.bool_:
    raise TypeError(f'fn: returned {out}, wanted one bool')
  if any(is_traced(x) for x in traced.consts):
    raise ValueError(
      'fn: captures an array that is being traced; hand it over, '
      'from_fn(fn, array), and take it as an argument after k'
    )
  used = [x for equation in traced.eqns for x in equation.invars]
  used += traced.jaxpr.outvars
  for variable, letter, name in zip(
    traced.jaxpr.invars, 'bn', ('batch', 'heads')
  ):
    if sizes[name] is None and any(x is variable for x in used):
      raise ValueError(
        f'fn: depends on {letter}; say how many there are: '
        f'from_fn(fn, ..., {name}=...)'
      )


def _map(
  fn: Callable[..., Any], arrays: tuple[Array, ...], *indices: Any
) -> Array:
  """Call fn for each of the indices, which broadcast."""
  one = jnp.vectorize(lambda *entry: fn(*entry, *arrays))
  return one(*(jnp.asarray(x, jnp.int32) for x in indices))


@functools.partial(jax.jit, static_argnums=0)
def _map_compiled(
  fn: Callable[..., Any], arrays: tuple[Array, ...], indices: list[Array]
) -> Array:
  return _map(fn, arrays, *indices)


def _map_numpy(
  fn: Callable[..., Any], arrays: tuple[Array, ...], *indices: Any
) -> np.ndarray:
  """`_map` with an answer now, also while jit is tracing."""
  shape = np.broadcast_shapes(*(np.shape(x) for x in indices))
  axes = max(len(shape), 1)
  number, room = (*shape, 1)[0], _ROOM
  # Few lengths, so that few programs are compiled.
  while room < number:
    room *= 4

  def pad(index: Any) -> np.ndarray:
    index = np.asarray(index, np.int32)
    index = index.reshape((1,) * (axes - index.ndim) + index.shape)
    rest = 0 if len(index) == 1 else room - number
    return np.pad(index, [(0, rest)] + [(0, 0)] * (axes - 1), mode='edge')

  if 0 in shape:
    return np.zeros(shape, bool)
  with at_trace_time():
    allowed = _map_compiled(fn, arrays, [pad(x) for x in indices])
    return np.asarray(allowed)[:number].reshape(shape)
