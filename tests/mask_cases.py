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
