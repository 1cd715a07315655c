"""What a score modification is, and how they combine."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# What a mod fixes: batch size and heads, and never a length; None where any
# size will do.
Extents = tuple[int | None, int | None, int | None, int | None]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Mod:
  """A formula, and what it is applied with.

  Attributes:
    formula: `formula(score, b, n, q, k, **arrays, **constants)`.
    arrays: Its arrays and inner mods by name: the leaves.
    constants: Its other arguments, as pairs of name and value.
    extents: Sizes of (batch, heads, queries, keys) that the arrays fix.

  Example:
    >>> from attn import mods
    >>> mod = mods.compose(mods.soft_cap(30.0), mods.alibi(8))
    >>> mod == mods.compose(mods.soft_cap(30.0), mods.alibi(8))
    True
    >>> mods.temperature(2.0)(jnp.float32(3), 0, 0, 0, 0)
    Array(1.5, dtype=float32)
  """

  formula: Callable[..., Array]
  arrays: dict[str, Any]
  constants: tuple[tuple[str, Any], ...] = ()
  extents: Extents = (None, None, None, None)

  def __call__(
    self, score: Array, b: Array, n: Array, q: Array, k: Array
  ) -> Array:
    """Modify one score.

    Args:
      score: float[], in at least float32.
      b: int32, index of the batch element, flat over all batch axes.
      n: int32, index of the query head.
      q: int32, index of the query.
      k: int32, index of the key.

    Returns:
      float[] in the dtype of score.
    """
    arguments = {**self.arrays, **dict(self.constants)}
    return self.formula(score, b, n, q, k, **arguments)

  def draw(
    self, num_queries: int, num_keys: int, *, score: float = 0.0, head: int = 0
  ) -> str:
    """What becomes of equal scores in one head of the first batch element.

    Args:
      num_queries: T, the rows.
      num_keys: S, the columns.
      score: What all scores are.
      head: Which head.

    Returns:
      A matrix, to print.
    """
    q, k = (jnp.arange(x, dtype=jnp.int32) for x in (num_queries, num_keys))
    one_query = jax.vmap(self, in_axes=(None, None, None, None, 0))
    all_queries = jax.vmap(one_query, in_axes=(None, None, None, 0, None))
    rows = all_queries(jnp.float32(score), jnp.int32(0), jnp.int32(head), q, k)
    rows = np.asarray(rows) + 0.0  # there is no need to show a -0
    return '\n'.join(' '.join(f'{x:7.4f}' for x in row) for row in rows)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Mod) and self._key() == other._key()

  def __hash__(self) -> int:
    return hash(self._key())

  def __repr__(self) -> str:
    shown = [
      f'{name}={_show(value)}'
      for name, value in (*self.arrays.items(), *self.constants)
    ]
    return f'{self.formula.__name__.strip("_")}({", ".join(shown)})'

  def _key(self) -> tuple[Any, ...]:
    # Arrays have no truth value to compare by: they compare by identity.
    arrays = tuple(
      (name, value if isinstance(value, Mod) else id(value))
      for name, value in self.arrays.items()
    )
    return (self.formula, arrays, self.constants)


jax.tree_util.register_dataclass(
  Mod, ['arrays'], ['formula', 'constants', 'extents']
)


def make(
  formula: Callable[..., Array],
  arguments: dict[str, Any],
  *,
  heads: int | None = None,
  batch: int | None = None,
) -> Mod:
  """A mod; arrays and mods among the arguments are leaves, the rest static."""
  arrays = {
    name: value
    for name, value in arguments.items()
    if isinstance(value, (jax.Array, Mod))
  }
  constants = tuple(x for x in arguments.items() if x[0] not in arrays)
  return Mod(formula, arrays, constants, (batch, heads, None, None))


def compose(*mods: Callable[..., Array]) -> Mod:
  """Apply one mod after the other, from left to right.

    mods[-1](... mods[0](score))

  Args:
    *mods: At least one; mods made here, or any functions
      `(score, b, n, q, k) -> score`.

  Returns:
    A mod; the arrays of the mods are its arrays.  What other functions capture
    is not among them.

  Raises:
    TypeError: if one is not a function.
    ValueError: if there is none, or two are for different numbers of heads or
      of batch elements.

  Example:
    >>> from attn.mods import soft_cap, temperature
    >>> halve_then_cap = compose(temperature(2.0), soft_cap(1.0))
    >>> print(halve_then_cap.draw(1, 1, score=1e3))
     1.0000
  """
  if not mods:
    raise ValueError('mods: got none, wanted at least one')
  for mod in mods:
    _check_callable('mods', mod)
  names = ('batch sizes', 'numbers of heads')
  batch, heads = (
    _agree('mods', name, [_extents(mod)[axis] for mod in mods])
    for axis, name in enumerate(names)
  )
  named = {f'mod_{i}': mod for i, mod in enumerate(mods)}
  return make(_compose, named, heads=heads, batch=batch)


def with_offset(mod: Callable[..., Array], offset: int | Array) -> Mod:
  """Count the queries from another place than the keys.

    mod(score, b, n, q + offset, k)

  When T queries continue a sequence whose S keys include them, the offset is
  S - T: query 0 is token S - T, as in `attn.masks.causal`.  An array makes no
  new program for every step of decoding.

  Args:
    mod: A mod made here, or any function `(score, b, n, q, k) -> score`.
    offset: One whole number, or int[*B], one for each batch element.

  Returns:
    A mod; its arrays are those of mod, and offset if it is one.

  Raises:
    TypeError: if mod is not a function, or offset not of integers.
    ValueError: if mod is for another batch size than offset.

  Example:
    >>> from attn.mods import alibi
    >>> print(with_offset(alibi(2), 3).draw(1, 4))  # token 3, and 0 to 3
    -0.1875 -0.1250 -0.0625  0.0000
  """
  _check_callable('mod', mod)
  batch, heads, _, _ = _extents(mod)
  if isinstance(offset, (int, np.integer)):
    offset = int(offset)
  else:
    offset = jnp.asarray(offset)
    if not jnp.issubdtype(offset.dtype, jnp.integer):
      raise TypeError(f'offset: got dtype {offset.dtype}, wanted integers')
    if offset.ndim:
      batch = _agree('offset', 'batch sizes', [batch, offset.size])
  arguments = {'mod': mod, 'offset': offset}
  return make(_with_offset, arguments, heads=heads, batch=batch)


def _compose(
  score: Array, b: Array, n: Array, q: Array, k: Array, **mods: Any
) -> Array:
  for i in range(len(mods)):
    score = mods[f'mod_{i}'](score, b, n, q, k)
  return score


def _with_offset(
  score: Array,
  b: Array,
  n: Array,
  q: Array,
  k: Array,
  *,
  mod: Callable[..., Array],
  offset: int | Array,
) -> Array:
  if isinstance(offset, jax.Array):
    offset = offset.reshape(-1)[b] if offset.ndim else offset
    offset = offset.astype(jnp.int32)
  return mod(score, b, n, q + offset, k)


def _check_callable(name: str, mod: Any) -> None:
  if not callable(mod):
    raise TypeError(
      f'{name}: got {mod!r}, wanted a function (score, b, n, q, k) -> score'
    )


def _extents(mod: Any) -> Extents:
  return mod.extents if isinstance(mod, Mod) else (None, None, None, None)


def _agree(name: str, what: str, sizes: list[int | None]) -> int | None:
  known = sorted({size for size in sizes if size is not None})
  if len(known) > 1:
    raise ValueError(f'{name}: got mods for different {what}, {known}')
  return known[0] if known else None


def _show(value: Any) -> str:
  if isinstance(value, jax.Array):
    return f'{value.dtype}{list(value.shape)}'
  return getattr(value, '__name__', repr(value))
