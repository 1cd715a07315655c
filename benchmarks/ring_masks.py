"""The masks of tests/mask_cases.py, for a sequence of any length."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn import masks

Array = jax.Array
Build = Callable[[], masks.Mask]


def _odd(b: Any, n: Any, q: Any, k: Any) -> Any:
  return (q + k) % 2 == 1


def _below(b: Any, n: Any, q: Any, k: Any, lengths: Array) -> Any:
  return q + k < lengths[b] + n


def make_masks(batch: int, heads: int, length: int) -> dict[str, Build]:
  """As many masks, under the same names, cut to the length as those are.

  Args:
    batch: B.
    heads: N.
    length: T and S, at least 16.

  Returns:
    How to make each: some hold arrays of T×S, not to be held at once.
  """
  part = functools.partial(_part, length)
  rng = np.random.default_rng(0)
  lengths = jnp.asarray([part(4, 7), 0, length][:batch], jnp.int32)
  query_lengths = jnp.asarray([length, part(3, 5), 0][:batch], jnp.int32)
  documents = np.sort(rng.integers(0, 6, (batch, length)))
  ids = jnp.asarray(documents, jnp.int32)
  key_ids = jnp.asarray(documents[:, ::-1].copy(), jnp.int32)
  side = max(int(length**0.5), 2)

  parents = rng.integers(-1, np.arange(length), endpoint=False)

  def array(*shape: int) -> Array:
    # By bytes, because floats of T×S are four times as many.
    seed = np.random.default_rng(1)
    return jnp.asarray(seed.integers(0, 2, shape, np.uint8).astype(bool))

  def segments() -> masks.Mask:
    return masks.segments(ids, key_ids)

  def per_head() -> masks.Mask:
    kinds = [
      masks.causal(),
      masks.dense(array(1, 1, length, length)),
      masks.causal(),
      segments(),
    ]
    return masks.per_head((kinds * heads)[:heads])

  return {
    'causal': masks.causal,
    'causal later': lambda: masks.causal(part(2, 5)),
    'causal earlier': lambda: masks.causal(-part(2, 5)),
    'window': lambda: masks.sliding_window(part(1, 16), part(1, 32)),
    'key padding': lambda: masks.padding(lengths),
    'query padding': lambda: masks.padding(query_lengths=query_lengths),
    'padding': lambda: masks.padding(lengths, query_lengths),
    'segments': segments,
    'segments of one batch': lambda: masks.segments(ids[0], key_ids),
    'dense': lambda: masks.dense(array(1, 1, length, length)),
    'dense for keys': lambda: masks.dense(array(heads, 1, length)),
    'dense for queries': lambda: masks.dense(array(batch, 1, length, 1)),
    'causal by array': lambda: masks.causal(jnp.array(part(1, 7))),
    'dilated': lambda: masks.dilated(3),
    'chunked': lambda: masks.chunked(part(2, 7)),
    'prefix': lambda: masks.prefix(part(3, 7)),
    'prefix by array': lambda: masks.prefix(jnp.array(part(4, 7))),
    'prefixes': lambda: masks.causal() | masks.prefix(lengths),
    'global tokens': lambda: masks.global_tokens(2),
    'global positions': lambda: masks.global_tokens([5, 1, part(1, 2)]),
    'block diagonal': lambda: masks.block_diagonal([part(1, 5), part(3, 5)]),
    'block diagonal for other keys': lambda: masks.block_diagonal(
      [part(1, 5), 0, part(4, 5)], [part(2, 7), part(2, 7), part(3, 7)]
    ),
    'neighbourhood': lambda: masks.neighbourhood_2d(side, side, side // 4),
    'flat neighbourhood': lambda: masks.neighbourhood_2d(
      side, side, (0, side // 4)
    ),
    'windows': lambda: masks.windows_2d(
      side, side, (side // 2, side // 2), (side // 4, side // 4)
    ),
    'between chunks': lambda: masks.between_chunks(masks.causal(), part(1, 8)),
    'between chunks by array': lambda: masks.between_chunks(
      masks.dense(array(8, 8)), length // 8
    ),
    'block diffusion': lambda: masks.block_diffusion(
      length // 2, length // 16
    ).shift(queries=-1),
    'tree': lambda: masks.tree(parents),
    'per head': per_head,
    'function': lambda: masks.from_fn(_odd),
    'function of all': lambda: masks.from_fn(
      _below, lengths, batch=batch, heads=heads
    ),
    'shifted': lambda: masks.causal().shift(part(2, 5), part(3, 7)),
    'shifted back': lambda: masks.chunked(part(3, 7)).shift(
      -part(1, 5), -part(2, 7)
    ),
    'shifted arrays': lambda: masks.segments(
      ids[:, part(2, 5) :], key_ids[:, part(1, 7) :]
    ).shift(part(2, 5), part(1, 7)),
    'shifted back arrays': lambda: masks.dense(
      array(1, 1, length + 2, length + 1)
    ).shift(-2, -1),
    'shifted not': lambda: (~masks.dense(array(length, length - 3))).shift(
      0, 3
    ),
    'not': lambda: ~masks.causal(),
    'and': lambda: masks.causal(part(1, 5)) & masks.padding(lengths),
    'or': lambda: (
      masks.dense(array(1, length, length))
      | ~masks.sliding_window(length, part(1, 5))
    ),
    'expression': lambda: (
      masks.causal()
      & ~(masks.sliding_window(part(1, 5), part(1, 5)) | segments())
    ),
  }


def _part(length: int, share: int, of: int) -> int:
  return length * share // of
