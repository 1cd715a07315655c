"""Looking at weights without writing all T×S of them."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn import masks
from attn.backends.dense import dense_weights
from attn.backends.statistics import AttentionStatistics, statistics
from attn.call import (
  Call,
  ScoreMod,
  prepare,
  to_array,
  to_arrays,
  with_batch_of,
)
from attn.masks.arguments import is_traced

Array = jax.Array


def attention_statistics(
  query: Array,
  key: Array,
  value: Array | None = None,
  bias: Array | None = None,
  mask: Array | masks.Mask | None = None,
  *,
  scale: float | Array | None = None,
  is_causal: bool = False,
  query_seq_lengths: Array | None = None,
  key_value_seq_lengths: Array | None = None,
  local_window_size: int | tuple[int, int] | None = None,
  score_mod: ScoreMod | None = None,
  sink: Array | None = None,
) -> AttentionStatistics:
  """How spread out attention is and where it goes, in linear memory.

    entropy[t]    = -Σ_s weights[t, s] log weights[t, s]
    mass[s]       = Σ_t weights[t, s]
    top_weight[t] = max_s weights[t, s] = weights[t, top_key[t]]
    residual[t]   = log(exp(sink) + Σ_s exp(scores[t, s]))

  for each head, of the weights that `attention` computes from the same
  arguments.  They are never written out: memory is proportional to T + S.  A
  sink is not a key: it takes its share of each row, whose weights then sum to
  less than 1, and has no term in the entropy.

  A row that may attend to nothing has entropy 0, top weight 0 and top key -1.
  A row that `attention` makes NaN has NaN everywhere, top key -1, and makes NaN
  of the mass of the keys it may attend to.

  All but top_key can be differentiated, also in linear memory: for example
  `attention_statistics(query, key).entropy.mean()` as part of a loss.

  Shapes: as `attention`.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, H].
    value: float[*B, S, K, Hv] or None.  Does not change the weights, but NaN or
      Inf in it makes NaN of the rows that may attend to it.
    bias: As in `attention`.
    mask: As in `attention`.
    scale: As in `attention`.
    is_causal: As in `attention`.
    query_seq_lengths: As in `attention`.
    key_value_seq_lengths: As in `attention`.
    local_window_size: As in `attention`.
    score_mod: As in `attention`.
    sink: As in `attention`.

  Returns:
    A named tuple of entropy, float[*B, T, N]; mass, float[*B, S, N], of the
    keys as the query heads see them; top_weight, float[*B, T, N]; top_key,
    int32[*B, T, N], the first key of the highest score, -1 where there is none;
    and residual, float[*B, T, N], -inf where a row may attend to nothing.
    Floats are of at least float32.

  Raises:
    TypeError, ValueError: as `attention`.

  Example:
    >>> x = jnp.ones((3, 1, 4))  # length, heads, head size
    >>> found = attention_statistics(x, x, is_causal=True)
    >>> jnp.exp(found.entropy[:, 0]).round(4)  # keys that each query looks at
    Array([1., 2., 3.], dtype=float32)
    >>> found.mass[:, 0].round(4)
    Array([1.8333, 0.8333, 0.3333], dtype=float32)
    >>> found.top_key[:, 0]
    Array([0, 0, 0], dtype=int32)

  References:
    Zhai et al., 2023 (entropy collapse). https://arxiv.org/abs/2303.06296
    Zhang et al., 2023 (mass of keys). https://arxiv.org/abs/2306.14048
  """
  query, key, value = _arrays(query, key, value)
  call = prepare(
    query,
    key,
    value,
    bias,
    mask,
    scale=scale,
    is_causal=is_causal,
    query_seq_lengths=query_seq_lengths,
    key_value_seq_lengths=key_value_seq_lengths,
    local_window_size=local_window_size,
    score_mod=score_mod,
    sink=sink,
  )
  return AttentionStatistics(*with_batch_of(query, *statistics(call)))


def attention_rows(
  query: Array,
  key: Array,
  value: Array | None = None,
  bias: Array | None = None,
  mask: Array | masks.Mask | None = None,
  *,
  rows: Any,
  scale: float | Array | None = None,
  is_causal: bool = False,
  query_seq_lengths: Array | None = None,
  key_value_seq_lengths: Array | None = None,
  local_window_size: int | tuple[int, int] | None = None,
  score_mod: ScoreMod | None = None,
  sink: Array | None = None,
) -> Array:
  """The weights of a few queries, written out.

    rows[r] → weights[rows[r], :]

  of the weights that `attention` computes from the same arguments.  Mask, bias
  and score_mod see each query at its own position.  Memory is proportional to
  the number of rows times S.

  A row that may attend to nothing is 0.  A row that `attention` makes NaN is
  NaN at the keys that it may attend to, and 0 elsewhere.

  Shapes: as `attention`; R rows.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, H].
    value: float[*B, S, K, Hv] or None; as in `attention_statistics`.
    bias: As in `attention`.
    mask: As in `attention`.
    rows: int[R], positions of queries, in any order, repeated or not.  They may
      be traced; then one outside of 0 to T - 1 gives a row of NaN.
    scale: As in `attention`.
    is_causal: As in `attention`.
    query_seq_lengths: As in `attention`.
    key_value_seq_lengths: As in `attention`.
    local_window_size: As in `attention`.
    score_mod: As in `attention`.
    sink: As in `attention`.

  Returns:
    float[*B, N, R, S] in at least float32.

  Raises:
    TypeError: as `attention`, or if rows are not integers.
    ValueError: as `attention`, or if rows have not one axis, or one that is not
      traced is not the position of a query.

  Example:
    >>> x = jnp.ones((3, 1, 4))  # length, heads, head size
    >>> attention_rows(x, x, is_causal=True, rows=[2, 0]).round(4)
    Array([[[0.3333, 0.3333, 0.3333],
            [1.    , 0.    , 0.    ]]], dtype=float32)
  """
  query, key, value = _arrays(query, key, value)
  call = prepare(
    query,
    key,
    value,
    bias,
    mask,
    scale=scale,
    is_causal=is_causal,
    query_seq_lengths=query_seq_lengths,
    key_value_seq_lengths=key_value_seq_lengths,
    local_window_size=local_window_size,
    score_mod=score_mod,
    sink=sink,
  )
  rows = _to_rows(rows, call)
  last = call.sizes[2] - 1
  weights = dense_weights(_of_rows(call, jnp.clip(rows, 0, max(last, 0))))
  exists = ((rows >= 0) & (rows <= last))[:, None]
  return with_batch_of(query, jnp.where(exists, weights, jnp.nan))[0]


def _arrays(
  query: Array, key: Array, value: Array | None
) -> tuple[Array, Array, Array]:
  query, key = to_arrays(query=query, key=key)
  if value is None:
    value = jnp.zeros((*key.shape[:-1], 0), key.dtype)
  return query, key, to_array('value', value)


def _to_rows(rows: Any, call: Call) -> Array:
  """Check the rows."""
  # An empty list is of floats, to NumPy.
  empty = not isinstance(rows, jax.Array) and not np.size(rows)
  rows = jnp.asarray(rows, jnp.int32) if empty else jnp.asarray(rows)
  if not jnp.issubdtype(rows.dtype, jnp.integer):
    raise TypeError(f'rows: got dtype {rows.dtype}, wanted integers')
  if rows.ndim != 1:
    raise ValueError(f'rows: got shape {rows.shape}, wanted [R]')
  length = call.sizes[2]
  if rows.size and not length:
    raise ValueError(f'rows: got {rows.size}, but query has length 0')
  if not is_traced(rows):
    for row in np.asarray(rows).tolist():
      if not 0 <= row < length:
        raise ValueError(f'rows: got {row}, wanted it from 0 to {length - 1}')
  return rows.astype(jnp.int32)


def _of_rows(call: Call, rows: Array) -> Call:
  """The call with these queries only, each at the position it had."""
  mask, bias, score_mod = call.mask, call.bias, call.score_mod
  if mask is not None:
    mask = masks.dense(_mask_of_rows(mask, rows, call.sizes))
  if bias is not None and bias.shape[2] > 1:
    bias = bias[:, :, rows]

  def with_positions(
    score: Array, b: Array, n: Array, q: Array, k: Array
  ) -> Array:
    assert score_mod is not None
    return score_mod(score, b, n, rows[q], k)

  return dataclasses.replace(
    call,
    query=call.query[:, rows],
    bias=bias,
    mask=mask,
    score_mod=None if score_mod is None else with_positions,
  )


def _mask_of_rows(
  mask: masks.Mask, rows: Array, sizes: tuple[int, int, int, int]
) -> Array:
  """bool[B|1, N|1, R, S]."""
  batch, heads = (
    size if extent is not None else 1
    for size, extent in zip(sizes[:2], mask.extents[:2])
  )
  shape = (batch, heads, rows.size, sizes[3])
  if not math.prod(shape):
    return jnp.zeros(shape, bool)
  b, n, _, k = (
    x.astype(jnp.int32) for x in jnp.ogrid[tuple(map(slice, shape))]
  )
  return jnp.broadcast_to(mask(b, n, rows[:, None], k), shape)
