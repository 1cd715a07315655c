"""What every entry of the gallery must return, in NumPy, one score at a time.

Nothing here is shared with the library, not even jax.  All arrays have an axis
X in front, of which nothing here knows more: along it the arguments differ by
small imaginary numbers, whose way through these functions is the derivative
(`slopes`).  So complex numbers are compared by their real parts, and nothing is
conjugated.
"""

import numpy as np

from tests import oracles

# An imaginary step: its square is nothing beside 1, so it costs no digits.
_STEP = 1e-30


def _everything(b, n, q, k):
  return True


def _as_it_is(score, b, n, q, k):
  return score


def softmax(scores, allowed, nobody=0.0):
  """Weights; `nobody` is what a key that is none adds to the sum.

  A row that may see nothing is 0.
  """
  powers = np.where(allowed, np.exp(scores), 0)
  total = powers.sum(-1, keepdims=True) + nobody
  return powers / np.where(total == 0, 1, total)


def scores_of(query, key, change=_as_it_is, scale=None):
  """[X, B, N, T, S], each score changed by `change(score, b, n, q, k)`."""
  scale = query.shape[-1] ** -0.5 if scale is None else scale
  shape = (*query.shape[:2], query.shape[3], query.shape[2], key.shape[2])
  scores = np.zeros(shape, complex)
  for b, n, q, k in np.ndindex(*shape[1:]):
    product = (query[:, b, q, n] * key[:, b, k, n]).sum(-1)
    scores[:, b, n, q, k] = change(scale * product, b, n, q, k)
  return scores


def allowed_of(rule, shape):
  """bool[B, N, T, S] of a rule (b, n, q, k)."""
  return np.array([rule(*i) for i in np.ndindex(*shape)], bool).reshape(shape)


def mix(weights, value):
  """[X, B, N, T, S] and [X, B, S, N, Hv] → [X, B, T, N, Hv]."""
  context = [
    weights[..., n, :, :] @ value[..., n, :] for n in range(weights.shape[2])
  ]
  return np.stack(context, -2)


def attend(query, key, value, *, rule=_everything, change=_as_it_is, **options):
  """Softmax attention where `rule` allows, of scores changed by `change`."""
  nobody = options.pop('nobody', 0.0)
  scores = scores_of(query, key, change, **options)
  weights = softmax(scores, allowed_of(rule, scores.shape[1:]), nobody)
  return mix(weights, value)


def slopes(function, arguments):
  """d function / d each of the arguments, entry by entry.

  Args:
    function: Of arrays [X, ...], to [X]; real where its arguments are.
    arguments: Arrays, without the axis X.

  Returns:
    Their gradients.
  """
  gradients = []
  for i, x in enumerate(arguments):
    moved = [np.repeat(np.complex128(y)[None], x.size, 0) for y in arguments]
    moved[i] += 1j * _STEP * np.eye(x.size).reshape(x.size, *x.shape)
    gradients.append((function(*moved).imag / _STEP).reshape(x.shape))
  return gradients


def slope(function, x, direction):
  """The derivative of a function of one array along a direction."""
  return function(x + 1j * _STEP * direction).imag / _STEP


# Masks: name of the entry, and the rule it stands for.


def _big_bird(b, n, q, k, size, chosen):
  i, j = q // size, k // size
  return abs(i - j) <= 1 or i == 0 or j == 0 or chosen[i, j]


def _descends(b, n, q, k, parents):
  while q > k:
    q = parents[q]
  return q == k


def _block_diffusion(b, n, q, k, length, size):
  q_block, k_block = q % length // size, k % length // size
  if q < length:
    return q_block == k_block if k < length else k_block < q_block
  return k >= length and k_block <= q_block


def _near(b, n, q, k, height, width, radius):
  rows, columns = q // width - k // width, q % width - k % width
  return max(abs(rows), abs(columns)) <= radius


def _same_window(q, k, width, side, shift):
  return all(
    (x - shift) // side == (y - shift) // side
    for x, y in zip(divmod(q, width), divmod(k, width))
  )


RULES = {
  'full': _everything,
  'causal': lambda b, n, q, k: k <= q,
  'sliding_window': lambda b, n, q, k, window: q - window < k <= q,
  'local_window': lambda b, n, q, k, window: abs(q - k) <= window,
  'dilated_window': lambda b, n, q, k, window, step: (
    q - k in range(0, step * window, step)
  ),
  'longformer': lambda b, n, q, k, window, count: (
    abs(q - k) <= window or min(q, k) < count
  ),
  'big_bird': _big_bird,
  'streaming': lambda b, n, q, k, window, first: (
    k <= q and (k < first or q - k < window)
  ),
  'strided': lambda b, n, q, k, step: (
    k <= q and (q - k < step or (q - k) % step == 0)
  ),
  'fixed': lambda b, n, q, k, step: (
    k <= q and (q // step == k // step or (k + 1) % step == 0)
  ),
  'log_sparse': lambda b, n, q, k: q - k in (0, 1, 2, 4, 8, 16),
  'chunked': lambda b, n, q, k, size: k <= q and q // size == k // size,
  'chunk_causal': lambda b, n, q, k, size: k // size <= q // size,
  'window_of_head': lambda b, n, q, k, windows: q - windows[n] < k <= q,
  'padding': lambda b, n, q, k, lengths: k < lengths[b],
  'packed_documents': lambda b, n, q, k, ids: k <= q and ids[q] == ids[k],
  'known_blocks': lambda b, n, q, k, sizes: any(
    end - size <= min(q, k) and max(q, k) < end
    for size, end in zip(sizes, np.cumsum(sizes))
  ),
  'shared_prefix': lambda b, n, q, k, shared, ids: (
    k <= q and (k < shared or ids[q] == ids[k])
  ),
  'prefix_lm': lambda b, n, q, k, length: k < length or k <= q,
  'tree_verification': _descends,
  'block_diffusion': _block_diffusion,
  'any_order': lambda b, n, q, k, turn: turn[k] <= turn[q],
  'hashed_buckets': lambda b, n, q, k, query_buckets, key_buckets: (
    query_buckets[b, q] == key_buckets[b, k]
  ),
  'neighbourhood': _near,
  'axial': lambda b, n, q, k, width: (
    q // width == k // width or q % width == k % width
  ),
  'windows': lambda b, n, q, k, height, width, side: _same_window(
    q, k, width, side, 0
  ),
  'shifted_windows': lambda b, n, q, k, height, width, side: _same_window(
    q, k, width, side, side // 2
  ),
  'graph_neighbours': lambda b, n, q, k, edges: edges[q, k],
}


# Changes of a score: name of the entry, and what becomes of the score.


def _picture_bias(score, b, n, q, k, width, table):
  (q_row, q_column), (k_row, k_column) = divmod(q, width), divmod(k, width)
  rows, columns = (table.shape[0] - 1) // 2, (table.shape[1] - 1) // 2
  return score + table[k_row - q_row + rows, k_column - q_column + columns, n]


def _t5(score, b, n, q, k, table, farthest):
  bucket = oracles.relative_bucket(k - q, len(table), max_distance=farthest)
  return score + table[bucket, n]


def _forget(score, b, n, q, k, log_forget):
  return score + log_forget[b, k + 1 : q + 1, n].sum()


CHANGES = {
  'alibi': lambda score, b, n, q, k: (
    score - 2.0 ** (-4 * (n + 1)) * abs(q - k)  # of two heads
  ),
  't5_bias': _t5,
  'distance_decay': lambda score, b, n, q, k, rate: (
    score + abs(q - k) * np.log(rate[n])
  ),
  'sandwich': lambda score, b, n, q, k, rates, ratio: (
    score + sum(np.cos((q - k) * rate) for rate in rates) / ratio[n]
  ),
  'kerple': lambda score, b, n, q, k, power: (
    score - power[n] * np.log(1 + abs(q - k))
  ),
  'learned_centre': lambda score, b, n, q, k, centre, width: (
    score - (k - centre[b, q, n]) ** 2 / (2 * width**2)
  ),
  'picture_bias': _picture_bias,
  'soft_cap': lambda score, b, n, q, k, cap: cap * np.tanh(score / cap),
  'capped_alibi': lambda score, b, n, q, k, cap: (
    cap * np.tanh(score / cap) - 2.0 ** (-4 * (n + 1)) * abs(q - k)
  ),
  'temperature': lambda score, b, n, q, k, temperature: score / temperature[n],
  'scalable_softmax': lambda score, b, n, q, k, rate: (
    score * rate * np.log(q + 1)
  ),
  'forget_gates': _forget,
  'graph_bias': lambda score, b, n, q, k, hops, table: (
    score + table[hops[q, k], n]
  ),
  'pair_bias': lambda score, b, n, q, k, pairs: score + pairs[n, q, k],
}
# Those that see the past only.
_CAUSAL = {'scalable_softmax', 'forget_gates'}


# What is neither.


def _shaw(query, key, value, table, radius):
  def change(score, b, n, q, k):
    distance = min(max(k - q, -radius), radius)
    asked = (query[:, b, q, n] * table[distance + radius]).sum(-1)
    return score + asked * query.shape[-1] ** -0.5

  return attend(query, key, value, change=change)


def _rotary(query, key, value):
  half = query.shape[-1] // 2
  waves = 10_000.0 ** (-np.arange(half) / half)

  def turned(x):
    angles = np.arange(x.shape[2])[:, None, None] * waves
    number = x[..., :half], x[..., half:]
    return np.concatenate(
      [
        number[0] * np.cos(angles) - number[1] * np.sin(angles),
        number[0] * np.sin(angles) + number[1] * np.cos(angles),
      ],
      -1,
    )

  return attend(turned(query), turned(key), value)


def _sinks(query, key, value, sink):
  return attend(query, key, value, nobody=np.exp(sink)[:, None, None])


def _cosine(query, key, value, rate):
  query, key = (
    x / np.sqrt((x * x).sum(-1, keepdims=True)) for x in (query, key)
  )
  return attend(query, key, value, scale=rate)


def _vector_distance(query, key, value):
  def change(score, b, n, q, k):
    away = query[:, b, q, n] - key[:, b, k, n]
    return -(away**2).sum(-1) / query.shape[-1] ** 0.5

  return attend(query, key, value, change=change)


def _talking_heads(query, key, value, before, after):
  scores = scores_of(query, key)
  scores = np.einsum('xbmqk,mn->xbnqk', scores, before)
  weights = np.einsum('xbmqk,mn->xbnqk', softmax(scores, True), after)
  return mix(weights, value)


def _differential(query, key, value, share):
  half = query.shape[-1] // 2
  one, other = (
    softmax(scores_of(query[..., part], key[..., part]), True)
    for part in (slice(0, half), slice(half, None))
  )
  return mix(one - share * other, value)


def _sigmoid(query, key, value):
  scores = scores_of(query, key) - np.log(key.shape[2])
  return mix(1 / (1 + np.exp(-scores)), value)


def _relu(query, key, value):
  scores = scores_of(query, key)
  return mix(np.where(scores.real > 0, scores, 0) / key.shape[2], value)


def _linear(query, key, value):
  def feature(x):
    return np.where(x.real > 0, x + 1, np.exp(x))

  products = scores_of(feature(query), feature(key), scale=1)
  return mix(products / products.sum(-1, keepdims=True), value)


def _top_k(query, key, value, kept):
  scores = scores_of(query, key)
  order = np.argsort(scores.real, -1)
  allowed = np.zeros(scores.shape, bool)
  np.put_along_axis(allowed, order[..., -kept:], True, -1)
  return mix(softmax(scores, allowed), value)


_WHOLE = {
  'shaw': _shaw,
  'rotary': _rotary,
  'sinks': _sinks,
  'off_by_one': lambda query, key, value: attend(query, key, value, nobody=1.0),
  'cosine': _cosine,
  'vector_distance': _vector_distance,
  'talking_heads': _talking_heads,
  'differential': _differential,
  'sigmoid': _sigmoid,
  'relu': _relu,
  'linear': _linear,
  'top_k': _top_k,
}

NAMES = {*RULES, *CHANGES, *_WHOLE}


def context_of(name, query, key, value, **given):
  """What an entry must return, of arrays [X, B, T, N, H]."""
  if name in _WHOLE:
    return _WHOLE[name](query, key, value, **given)
  if name in RULES:
    rule = RULES[name]
    return attend(query, key, value, rule=lambda *i: rule(*i, **given))
  change = CHANGES[name]
  rule = (lambda b, n, q, k: k <= q) if name in _CAUSAL else _everything
  return attend(
    *(query, key, value), rule=rule, change=lambda *i: change(*i, **given)
  )
