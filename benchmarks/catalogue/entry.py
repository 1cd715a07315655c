"""One entry of the gallery: a function whose body is the code to show."""

import ast
import dataclasses
import inspect
import math
import textwrap
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# Text and address.
Paper = tuple[str, str]

# What grows with T and S and not with their product.
LINEAR = 'T + S'

# More numbers than this are not drawn at random, but all 0: they are for
# finding out what a call costs, and take no room.
_MOST = 2**25


@dataclasses.dataclass(frozen=True)
class Size:
  """What an entry is shown at.

  Attributes:
    length: T and S.
    batch: B.
    heads: N.
    head_size: H.
  """

  length: int
  batch: int = 1
  heads: int = 2
  head_size: int = 64

  @property
  def stretch(self) -> int:
    """A window: of T = 8192, 256; of short texts a quarter."""
    return max(self.length // 32, min(8, self.length // 4))

  @property
  def chunk(self) -> int:
    """A chunk: of T = 8192, 64."""
    return max(self.length // 128, min(8, self.length // 4))

  @property
  def picture(self) -> tuple[int, int]:
    """Height and width of the squarest picture of T pixels."""
    height = math.isqrt(self.length)
    while self.length % height:
      height -= 1
    return height, self.length // height


@dataclasses.dataclass(frozen=True)
class Entry:
  """A way of attending.

  Attributes:
    title: Its heading.
    formula: What it computes, as plain text.
    papers: Who described it.
    attend: `attend(query, key, value, **given)` → context; linear in value.
    given: What else `attend` is called with, at a size: numbers and NumPy
      arrays.
    memory: What its memory is proportional to, and why if not to T + S.
    draw_scores: Whether the drawing needs scores that differ.
  """

  title: str
  formula: str
  papers: tuple[Paper, ...]
  attend: Callable[..., Array]
  given: Callable[[Size], dict[str, Any]]
  memory: str = LINEAR
  draw_scores: bool = False

  @property
  def name(self) -> str:
    """The function's."""
    return self.attend.__name__

  @property
  def idea(self) -> str:
    """In words: the function's docstring."""
    return inspect.getdoc(self.attend) or ''

  @property
  def code(self) -> str:
    """The body of the function, with its result named context."""
    source = textwrap.dedent(inspect.getsource(self.attend))
    [function] = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    _, first, *_ = function.body  # after the docstring
    last = function.body[-1]
    lines = source.splitlines()
    start = first.lineno - 1
    lines[last.lineno - 1] = lines[last.lineno - 1].replace(
      'return ', 'context = ', 1
    )
    return textwrap.dedent('\n'.join(lines[start:]))

  def at(self, size: Size) -> dict[str, Any]:
    """What `attend` is called with at a size; arrays are JAX's."""
    return {
      name: _as_jax(x) if isinstance(x, np.ndarray) else x
      for name, x in self.given(size).items()
    }


def entry(
  title: str,
  formula: str,
  *papers: Paper,
  given: Callable[[Size], dict[str, Any]] = lambda size: {},
  memory: str = LINEAR,
  draw_scores: bool = False,
) -> Callable[[Callable[..., Array]], Entry]:
  """Make an `Entry` of a function; see there."""

  def decorate(attend: Callable[..., Array]) -> Entry:
    return Entry(title, formula, papers, attend, given, memory, draw_scores)

  return decorate


def gather(module: types.ModuleType) -> tuple[Entry, ...]:
  """The entries of a module, in its order."""
  return tuple(x for x in vars(module).values() if isinstance(x, Entry))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
  """Independent normal numbers, the same in every run.

  >>> noise(3).round(2)
  array([ 0.13, -0.13,  0.64])
  """
  if math.prod(shape) > _MOST:
    return np.broadcast_to(np.float32(0), shape)
  return np.random.default_rng(seed).normal(size=shape)


def documents(length: int) -> np.ndarray:
  """Ids of documents that fill a row: each a third of what is left.

  >>> documents(9)
  array([0, 0, 0, 1, 1, 2, 3, 4, 5])
  """
  ids, number = [], 0
  while len(ids) < length:
    # Twelve at most, of texts that are long.
    size = max((length - len(ids)) // 3, length // 16, 1)
    ids += [number] * size
    number += 1
  return np.array(ids[:length])


def _as_jax(x: np.ndarray) -> Any:
  if x.size > _MOST and x.dtype.kind == 'f':
    return jax.ShapeDtypeStruct(x.shape, jnp.float32)
  if x.dtype.kind == 'i' and x.dtype != np.int8:
    return jnp.asarray(x, jnp.int32)
  return jnp.asarray(x)
