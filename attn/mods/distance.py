"""Mods of how far the key is from the query."""

import jax
import jax.numpy as jnp
import numpy as np

from attn.mods.arguments import floats, of_head, positive
from attn.mods.values import Mod, make, with_offset
from attn.positions import alibi_slopes, relative_buckets

Array = jax.Array


def alibi(slopes: int | Array, *, offset: int | Array = 0) -> Mod:
  """Scores fall with distance, in each head at a rate of its own.

    score - slopes[n] |q + offset - k|

  The paper, where no token sees the future, has q - k.

  Args:
    slopes: float[N]; a number N stands for `attn.alibi_slopes(N)`.
    offset: As in `with_offset`.

  Returns:
    A mod; slopes and offset are its arrays, where they are arrays.

  Raises:
    TypeError: if slopes are neither a whole number nor floats, or offset is not
      of integers.
    ValueError: if there are no slopes, or they have another shape.

  Example:
    >>> print(alibi(8).draw(1, 4, score=2))
     2.0000  1.5000  1.0000  0.5000

  References:
    Press et al., 2022. https://arxiv.org/abs/2108.12409
  """
  if isinstance(slopes, (int, np.integer)):
    heads = alibi_slopes(int(slopes)).size  # refuses a number below 1
    mod = make(_alibi, {'slopes': heads}, heads=heads)
  else:
    slopes = floats('slopes', slopes, 1)
    mod = make(_alibi, {'slopes': slopes}, heads=slopes.size)
  return _moved(mod, offset)


def distance_decay(rate: float | Array, *, offset: int | Array = 0) -> Mod:
  """Weights fade by a constant factor with every step away.

    score + |q + offset - k| log(rate),  so that weight ∝ rate^distance e^score

  RetNet multiplies its scores by rate^distance, and has no softmax.  Where
  there is one, the factor belongs on what the softmax sums, and that is what
  this does: ALiBi with slopes of -log(rate).  (The Forgetting Transformer adds
  logarithms in the same place, of gates that depend on the tokens.)  RetNet's
  own rates are `1 - 2.0 ** (-5 - jnp.arange(N))`.

  Args:
    rate: In (0, 1]; one number, or float[N] for one per head.
    offset: As in `with_offset`.

  Returns:
    A mod; rate and offset are its arrays, where they are arrays.

  Raises:
    TypeError: if rate is not a number or floats, or offset is not of integers.
    ValueError: if rate is outside (0, 1], or an array of more than one axis.

  Example:
    >>> print(distance_decay(0.5).draw(1, 4))  # multiples of log 0.5
     0.0000 -0.6931 -1.3863 -2.0794

  References:
    Sun et al., 2023 (RetNet), section 2.1. https://arxiv.org/abs/2307.08621
    Lin et al., 2025 (forget gates). https://arxiv.org/abs/2503.02130
  """
  return _moved(positive(_distance_decay, 'rate', rate, most=1), offset)


def relative_bias(
  table: Array,
  *,
  bidirectional: bool = True,
  max_distance: int = 128,
  offset: int | Array = 0,
) -> Mod:
  """A learned number for every head and every range of distances.

    score + table[bucket(k - q - offset), n]

  The buckets are those of `attn.relative_buckets`: near distances have one
  each, far ones share.

  Args:
    table: float[num_buckets, N]; gradients reach it.
    bidirectional: Half of the buckets are for keys after the query.  False puts
      all of those into bucket 0: for causal attention.
    max_distance: From here on all distances share the last bucket.
    offset: As in `with_offset`.

  Returns:
    A mod; table is its array, and offset if it is one.

  Raises:
    TypeError: if table is not of floats, or offset not of integers.
    ValueError: if table does not have two axes, or `attn.relative_buckets`
      refuses num_buckets or max_distance.

  Example:
    >>> table = jnp.arange(4.0)[:, None]  # bucket i adds i
    >>> print(relative_bias(table, max_distance=4).draw(2, 4))
     0.0000  3.0000  3.0000  3.0000
     1.0000  0.0000  3.0000  3.0000

  References:
    Raffel et al., 2020 (T5), section 2.1. https://arxiv.org/abs/1910.10683
  """
  table = floats('table', table, 2)
  # What it refuses, it refuses here and not when the mod is applied.
  relative_buckets(
    0, len(table), bidirectional=bidirectional, max_distance=max_distance
  )
  arguments = {
    'table': table,
    'bidirectional': bidirectional,
    'max_distance': max_distance,
  }
  mod = make(_relative_bias, arguments, heads=table.shape[1])
  return _moved(mod, offset)


def _alibi(
  score: Array, b: Array, n: Array, q: Array, k: Array, *, slopes: int | Array
) -> Array:
  if isinstance(slopes, int):
    slopes = alibi_slopes(slopes, score.dtype)
  return score - of_head(slopes, n, score) * _distance(q, k, score)


def _distance_decay(
  score: Array, b: Array, n: Array, q: Array, k: Array, *, rate: float | Array
) -> Array:
  log_rate = jnp.log(of_head(rate, n, score))
  return score + log_rate * _distance(q, k, score)


def _relative_bias(
  score: Array,
  b: Array,
  n: Array,
  q: Array,
  k: Array,
  *,
  table: Array,
  bidirectional: bool,
  max_distance: int,
) -> Array:
  bucket = relative_buckets(
    k - q,
    table.shape[0],
    bidirectional=bidirectional,
    max_distance=max_distance,
  )
  row = of_head(table, n, score)
  return score + row.at[bucket].get(mode='promise_in_bounds')


def _distance(q: Array, k: Array, score: Array) -> Array:
  return jnp.abs(k - q).astype(score.dtype)


def _moved(mod: Mod, offset: int | Array) -> Mod:
  if isinstance(offset, (int, np.integer)) and offset == 0:
    return mod
  return with_offset(mod, offset)
