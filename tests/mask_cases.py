"""Masks, and the rules that they stand for."""

import jax.numpy as jnp
import numpy as np

from attn import masks
from tests.inputs import B, N, S, T, booleans

_LENGTHS = np.array([4, 0, 7])
_QUERY_LENGTHS = np.array([5, 3, 0])
_QUERY_IDS = np.array([[0, 0, 1, 1, 2], [3, 3, 3, 3, 3], [0, 1, 0, 1, 0]])
KEY_IDS = np.array(
  [[0, 1, 1, 2, 2, 2, 4], [0, 3, 0, 3, 0, 3, 0], [1, 1, 1, 0, 0, 0, 2]]
)
_ARRAY = np.asarray(booleans(B, N, T, S))

_AROUND = ((0, 0), (0, 0), (2, 0), (1, 0))


_LAYOUT = np.array([[True, False, True], [False, True, True]])

# Tokens 1 and 2 follow 0, 3 and 5 follow 1, 4 begins anew, 6 follows 4.
_PARENTS = (-1, 0, 0, 1, -1, 1, 4)


def _descends(q, k):
  while q > k:
    q = _PARENTS[q]
  return q == k


def _odd(b, n, q, k):
  return (q + k) % 2 == 1


def _below(b, n, q, k, lengths):
  return q + k < lengths[b] + n


# Name: a mask for the sizes in tests/inputs.py, and the rule it stands for.
CASES = {
  'causal': (lambda: masks.causal(), lambda b, n, q, k: k <= q),
  'causal later': (lambda: masks.causal(2), lambda b, n, q, k: k <= q + 2),
  'causal earlier': (lambda: masks.causal(-2), lambda b, n, q, k: k <= q - 2),
  'window': (
    lambda: masks.sliding_window(2, 1),
    lambda b, n, q, k: -2 <= k - q <= 1,
  ),
  'key padding': (
    lambda: masks.padding(jnp.asarray(_LENGTHS)),
    lambda b, n, q, k: k < _LENGTHS[b],
  ),
  'query padding': (
    lambda: masks.padding(query_lengths=jnp.asarray(_QUERY_LENGTHS)),
    lambda b, n, q, k: q < _QUERY_LENGTHS[b],
  ),
  'padding': (
    lambda: masks.padding(jnp.asarray(_LENGTHS), jnp.asarray(_QUERY_LENGTHS)),
    lambda b, n, q, k: k < _LENGTHS[b] and q < _QUERY_LENGTHS[b],
  ),
  'segments': (
    lambda: masks.segments(jnp.asarray(_QUERY_IDS), jnp.asarray(KEY_IDS)),
    lambda b, n, q, k: _QUERY_IDS[b, q] == KEY_IDS[b, k],
  ),
  'segments of one batch': (
    lambda: masks.segments(jnp.asarray(_QUERY_IDS[0]), jnp.asarray(KEY_IDS)),
    lambda b, n, q, k: _QUERY_IDS[0, q] == KEY_IDS[b, k],
  ),
  'dense': (
    lambda: masks.dense(jnp.asarray(_ARRAY)),
    lambda b, n, q, k: _ARRAY[b, n, q, k],
  ),
  'dense for keys': (
    lambda: masks.dense(jnp.asarray(_ARRAY[0, :, :1])),
    lambda b, n, q, k: _ARRAY[0, n, 0, k],
  ),
  'dense for queries': (
    lambda: masks.dense(jnp.asarray(_ARRAY[:, :1, :, :1])),
    lambda b, n, q, k: _ARRAY[b, 0, q, 0],
  ),
  'causal by array': (
    lambda: masks.causal(jnp.array(1)),
    lambda b, n, q, k: k <= q + 1,
  ),
  'dilated': (lambda: masks.dilated(3), lambda b, n, q, k: abs(q - k) % 3 == 0),
  'chunked': (lambda: masks.chunked(2), lambda b, n, q, k: q // 2 == k // 2),
  'prefix': (lambda: masks.prefix(3), lambda b, n, q, k: k < 3),
  'prefix by array': (
    lambda: masks.prefix(jnp.array(4)),
    lambda b, n, q, k: k < 4,
  ),
  'prefixes': (
    lambda: masks.causal() | masks.prefix(jnp.asarray(_LENGTHS)),
    lambda b, n, q, k: k <= q or k < _LENGTHS[b],
  ),
  'global tokens': (
    lambda: masks.global_tokens(2),
    lambda b, n, q, k: q < 2 or k < 2,
  ),
  'global positions': (
    lambda: masks.global_tokens([5, 1, 5]),
    lambda b, n, q, k: q in (1, 5) or k in (1, 5),
  ),
  'block diagonal': (
    lambda: masks.block_diagonal([1, 3]),
    lambda b, n, q, k: q == k == 0 or (1 <= q < 4 and 1 <= k < 4),
  ),
  'block diagonal for other keys': (
    lambda: masks.block_diagonal([1, 0, 4], [2, 2, 3]),
    lambda b, n, q, k: (q == 0 and k < 2) or (q >= 1 and k >= 4),
  ),
  'neighbourhood': (
    lambda: masks.neighbourhood_2d(2, 3, 1),
    lambda b, n, q, k: (
      k < 6 and abs(k // 3 - q // 3) <= 1 and abs(k % 3 - q % 3) <= 1
    ),
  ),
  'flat neighbourhood': (
    lambda: masks.neighbourhood_2d(3, 2, (0, 1)),
    lambda b, n, q, k: k < 6 and k // 2 == q // 2,
  ),
  'windows': (
    lambda: masks.windows_2d(2, 3, (2, 2), (1, 1)),
    lambda b, n, q, k: (
      k < 6 and q // 3 == k // 3 and (q % 3 >= 1) == (k % 3 >= 1)
    ),
  ),
  'between chunks': (
    lambda: masks.between_chunks(masks.causal(), 2),
    lambda b, n, q, k: k // 2 <= q // 2,
  ),
  'between chunks by array': (
    lambda: masks.between_chunks(masks.dense(jnp.asarray(_LAYOUT)), 3).shift(
      -1, -2
    ),
    lambda b, n, q, k: _LAYOUT[(q + 1) // 3, (k + 2) // 3],
  ),
  'block diffusion': (
    lambda: masks.block_diffusion(4, 2).shift(queries=-1),
    lambda b, n, q, k: (
      (q + 1) // 2 == k // 2
      if q + 1 < 4 and k < 4
      else (k - 4) // 2 < (q + 1) // 2
      if q + 1 < 4
      else k >= 4 and k // 2 <= (q + 1) // 2
    ),
  ),
  'tree': (
    lambda: masks.tree(_PARENTS).shift(queries=-2),
    lambda b, n, q, k: _descends(q + 2, k),
  ),
  'per head': (
    lambda: masks.per_head(
      [
        masks.causal(),
        masks.dense(jnp.asarray(_ARRAY)),
        masks.causal(),
        masks.segments(jnp.asarray(_QUERY_IDS), jnp.asarray(KEY_IDS)),
      ]
    ),
    lambda b, n, q, k: (
      k <= q
      if n in (0, 2)
      else _ARRAY[b, 1, q, k]
      if n == 1
      else _QUERY_IDS[b, q] == KEY_IDS[b, k]
    ),
  ),
  'function': (
    lambda: masks.from_fn(_odd),
    lambda b, n, q, k: (q + k) % 2 == 1,
  ),
  'function of all': (
    lambda: masks.from_fn(
      _below, jnp.asarray(_LENGTHS), batch=len(_LENGTHS), heads=N
    ),
    lambda b, n, q, k: q + k < _LENGTHS[b] + n,
  ),
  'shifted': (
    lambda: masks.causal().shift(queries=2, keys=3),
    lambda b, n, q, k: k - 3 <= q - 2,
  ),
  'shifted back': (
    lambda: masks.chunked(3).shift(queries=-1, keys=-2),
    lambda b, n, q, k: (q + 1) // 3 == (k + 2) // 3,
  ),
  'shifted arrays': (
    lambda: masks.segments(
      jnp.asarray(_QUERY_IDS[:, 2:]), jnp.asarray(KEY_IDS[:, 1:])
    ).shift(2, 1),
    lambda b, n, q, k: q >= 2 and k >= 1 and _QUERY_IDS[b, q] == KEY_IDS[b, k],
  ),
  'shifted back arrays': (
    lambda: masks.dense(jnp.asarray(np.pad(_ARRAY, _AROUND))).shift(-2, -1),
    lambda b, n, q, k: _ARRAY[b, n, q, k],
  ),
  # Shifting moves in nothing that is allowed, also where it is denied.
  'shifted not': (
    lambda: (~masks.dense(jnp.asarray(_ARRAY[0, 0, :, :4]))).shift(0, 3),
    lambda b, n, q, k: k >= 3 and not _ARRAY[0, 0, q, k - 3],
  ),
  'not': (lambda: ~masks.causal(), lambda b, n, q, k: k > q),
  'and': (
    lambda: masks.causal(1) & masks.padding(jnp.asarray(_LENGTHS)),
    lambda b, n, q, k: k <= q + 1 and k < _LENGTHS[b],
  ),
  'or': (
    lambda: masks.dense(jnp.asarray(_ARRAY[0])) | ~masks.sliding_window(9, 1),
    lambda b, n, q, k: _ARRAY[0, n, q, k] or k > q + 1,
  ),
  'expression': (
    lambda: (
      masks.causal()
      & ~(
        masks.sliding_window(1, 1)
        | masks.segments(jnp.asarray(_QUERY_IDS), jnp.asarray(KEY_IDS))
      )
    ),
    lambda b, n, q, k: (
      k <= q and not (abs(k - q) <= 1 or _QUERY_IDS[b, q] == KEY_IDS[b, k])
    ),
  ),
}
