"""One problem of attention, in words that every contender can translate."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from attn import masks


@dataclasses.dataclass(frozen=True)
class Problem:
  """What to compute: self-attention of random numbers under a mask.

  Attributes:
    length: T and S.
    batch: B.
    heads: N.
    kv_heads: K.
    head_dim: H.
    window: A query sees itself and this many keys before it; None for all.
    documents: How many, packed into one row; each sees itself only.
    alibi: Scores fall with distance, by a slope for each head.
    is_causal: A query sees no later key.
    seed: Of the numbers and of the documents' lengths.
  """

  length: int
  batch: int = 1
  heads: int = 8
  kv_heads: int = 8
  head_dim: int = 64
  window: int | None = None
  documents: int | None = None
  alibi: bool = False
  is_causal: bool = True
  seed: int = 0

  @property
  def query_shape(self) -> tuple[int, int, int, int]:
    """[B, T, N, H], of the context and its cotangent too."""
    return (self.batch, self.length, self.heads, self.head_dim)

  @property
  def key_shape(self) -> tuple[int, int, int, int]:
    """[B, S, K, H], of the values too."""
    return (self.batch, self.length, self.kv_heads, self.head_dim)

  @property
  def is_plain(self) -> bool:
    """Whether `is_causal` says all about the mask."""
    return self.window is None and self.documents is None


def tiny(problem: Problem) -> Problem:
  """The same problem at a size that takes no time."""
  return dataclasses.replace(
    problem,
    length=max(problem.length // 64, 32),
    batch=min(problem.batch, 2),
    heads=4,
    kv_heads=4 * problem.kv_heads // problem.heads,
    head_dim=8,
    window=problem.window and max(problem.window // 64, 1),
    documents=problem.documents and 3,
  )


@functools.lru_cache(maxsize=1)
def arrays(problem: Problem) -> tuple[np.ndarray, ...]:
  """Query, key, value and the context's cotangent, float32."""
  rng = np.random.default_rng(problem.seed)
  q, k = problem.query_shape, problem.key_shape
  return tuple(rng.standard_normal(shape, np.float32) for shape in (q, k, k, q))


def document_ids(problem: Problem) -> np.ndarray:
  """int32[T]: the document of each token; lengths are random, none is empty."""
  count = problem.documents or 1
  rng = np.random.default_rng(problem.seed)
  inner = np.arange(1, problem.length)
  starts = rng.choice(inner, count - 1, replace=False)
  ids = np.zeros(problem.length, np.int32)
  ids[starts] = 1
  return ids.cumsum(dtype=np.int32)


def our_mask(problem: Problem) -> masks.Mask | None:
  """The mask as a user of attn writes it."""
  parts = [masks.causal()] if problem.is_causal else []
  if problem.window is not None:
    parts.append(masks.sliding_window(problem.window, 0))
  if problem.documents is not None:
    parts.append(masks.segments(jnp.asarray(document_ids(problem))))
  return functools.reduce(lambda x, y: x & y, parts) if parts else None


def our_score_mod(slopes: jax.Array | None) -> Callable | None:
  """ALiBi as a user of attn writes it; None where there are no slopes."""
  if slopes is None:
    return None

  def alibi(score, b, n, q, k):
    return score - slopes[n] * (q - k).astype(score.dtype)

  return alibi


@functools.lru_cache(maxsize=1)
def mask_array(problem: Problem) -> np.ndarray:
  """bool[T, S], without help from attn.masks, which is under test too."""
  q = np.arange(problem.length)[:, None]
  k = np.arange(problem.length)[None, :]
  allowed = np.ones((problem.length, problem.length), bool)
  if problem.is_causal:
    allowed &= k <= q
  if problem.window is not None:
    allowed &= k >= q - problem.window
  if problem.documents is not None:
    ids = document_ids(problem)
    allowed &= ids[:, None] == ids[None, :]
  return allowed


def slopes(problem: Problem) -> np.ndarray:
  """float32[N]: how steeply each head's scores fall."""
  n = np.arange(1, problem.heads + 1)
  return (2.0 ** (-8.0 * n / problem.heads)).astype(np.float32)


def bias_array(problem: Problem) -> np.ndarray:
  """float32[1, N, T, S]: ALiBi written out; meaningless where masked."""
  q = np.arange(problem.length, dtype=np.float32)[:, None]
  k = np.arange(problem.length, dtype=np.float32)[None, :]
  return -slopes(problem)[None, :, None, None] * (q - k)
