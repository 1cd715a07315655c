"""What every function of attn must return, in NumPy float64 and plain loops.

Nothing here is shared with the library, not even jax.  Loops run over single
scores, so that no axis can be confused with another.
"""

import fractions
import itertools
import math

import numpy as np


def scores_of(pair, query, key):
  """[..., T, S] from `pair(query[t], key[s])`, for equal leading axes."""
  query, key = np.float64(query), np.float64(key)
  out = np.zeros((*query.shape[:-1], key.shape[-2]))
  for *batch, t, s in np.ndindex(*out.shape):
    out[*batch, t, s] = pair(query[*batch, t], key[*batch, s])
  return out


def dot_product_scores(query, key, scale=None):
  scale = query.shape[-1] ** -0.5 if scale is None else scale
  return scores_of(lambda q, k: scale * np.sum(q * k), query, key)


def bilinear_scores(query, key, w):
  w = np.float64(w)
  return scores_of(lambda q, k: np.sum(w * np.outer(q, k)), query, key)


def additive_scores(query, key, w_query, w_key, v):
  w_query, w_key, v = np.float64(w_query), np.float64(w_key), np.float64(v)

  def pair(q, k):
    hidden = [
      np.tanh(np.sum(q * w_query[:, a]) + np.sum(k * w_key[:, a]))
      for a in range(v.size)
    ]
    return np.sum(v * hidden)

  return scores_of(pair, query, key)


def covered_scores(query, key, w_query, w_key, v, coverage, w_coverage):
  """Additive scores of one head that see coverage, [T, S]."""
  query, key, coverage = map(np.float64, (query, key, coverage))
  out = np.zeros(coverage.shape)
  for t, s in np.ndindex(*out.shape):
    for a in range(np.size(v)):
      hidden = np.sum(query[t] * np.float64(w_query)[:, a])
      hidden += np.sum(key[s] * np.float64(w_key)[:, a])
      hidden += coverage[t, s] * np.float64(w_coverage)[a]
      out[t, s] += np.float64(v)[a] * np.tanh(hidden)
  return out


def location_scores(query, w):
  query, w = np.float64(query), np.float64(w)
  out = np.zeros((*query.shape[:-1], w.shape[1]))
  for *at, s in np.ndindex(*out.shape):
    out[*at, s] = np.sum(query[*at] * w[:, s])
  return out


def concat_scores(query, key, w, v):
  w, v = np.float64(w), np.float64(v)

  def pair(q, k):
    both = np.concatenate([q, k])
    hidden = [np.tanh(np.sum(both * w[:, a])) for a in range(v.size)]
    return np.sum(v * hidden)

  return scores_of(pair, query, key)


def cosine_scores(query, key, scale=1.0):
  def pair(q, k):
    lengths = np.sqrt(np.sum(q * q)) * np.sqrt(np.sum(k * k))
    return scale * np.sum(q * k) / lengths if lengths else 0.0

  return scores_of(pair, query, key)


def l2_scores(query, key, scale=1.0):
  return scores_of(lambda q, k: -scale * np.sum((q - k) ** 2), query, key)


def predicted_centers(query, w, v, lengths):
  query, w, v = np.float64(query), np.float64(w), np.float64(v)
  rows = query.shape[:-1]
  lengths = np.broadcast_to(np.float64(lengths), rows)
  out = np.zeros(rows)
  for at in np.ndindex(*rows):
    hidden = [np.tanh(np.sum(query[at] * w[:, a])) for a in range(v.size)]
    out[at] = lengths[at] / (1 + np.exp(-np.sum(v * hidden)))
  return out


def local_weights(weights, centers, half_width):
  weights, centers = np.float64(weights), np.float64(centers)
  out = np.zeros(weights.shape)
  for *at, s in np.ndindex(*weights.shape):
    variance = (half_width / 2) ** 2
    fall = np.exp(-((s - centers[*at]) ** 2) / (2 * variance))
    out[*at, s] = weights[*at, s] * fall
  return out


def coverage(weights):
  weights = np.float64(weights)
  out = np.zeros(weights.shape)
  for *at, t, s in np.ndindex(*weights.shape):
    for earlier in range(t):
      out[*at, t, s] += weights[*at, earlier, s]
  return out


def coverage_loss(weights, mask=None):
  weights = np.float64(weights)
  if mask is not None:
    weights = weights * np.broadcast_to(np.asarray(mask), weights.shape)
  seen = coverage(weights)
  out = np.zeros(weights.shape[:-1])
  for *at, s in np.ndindex(*weights.shape):
    out[*at] += min(weights[*at, s], seen[*at, s])
  return out


def additive_attention(query, key, value, w_query, w_key, v, mask=None):
  """Context [B, T, N, Hv] and residual [B, T, N].

  Weights are shared, or have an axis of heads in front; None for a side that is
  projected already.
  """
  query, key, value = np.float64(query), np.float64(key), np.float64(value)
  batch, num_queries, heads, _ = query.shape
  num_keys, kv_heads, value_size = value.shape[1:]
  width = np.shape(v)[-1]
  scores_shape = (batch, heads, num_queries, num_keys)
  mask = np.broadcast_to(True if mask is None else mask, scores_shape)

  def of_head(w, n, size, shape):
    if w is None:
      return np.eye(size)
    w = np.float64(w)
    return w if w.ndim == len(shape) else w[n]

  context = np.zeros((batch, num_queries, heads, value_size))
  residual = np.zeros((batch, num_queries, heads))
  for b, n in np.ndindex(batch, heads):
    k = n // (heads // kv_heads)
    scores = additive_scores(
      query[b, :, n],
      key[b, :, k],
      of_head(w_query, n, width, (0, 0)),
      of_head(w_key, k, width, (0, 0)),
      of_head(v, n, width, (0,)),
    )
    for t in range(num_queries):
      weights, _, residual[b, t, n] = softmax_row(scores[t], mask[b, n, t])
      for s in np.flatnonzero(weights):
        context[b, t, n] += weights[s] * value[b, s, k]
  return context, residual


def softmax_row(scores, allowed, sink=None):
  """Weights of one row, the sink's weight, and the log of the denominator."""
  top = [score for score, may in zip(scores, allowed) if may]
  top += [] if sink is None else [sink]
  weights = np.zeros(len(scores))
  if not top:
    return weights, 0.0, -np.inf
  top = max(top)
  for s, (score, may) in enumerate(zip(scores, allowed)):
    weights[s] = np.exp(score - top) if may else 0.0
  sink_weight = 0.0 if sink is None else np.exp(sink - top)
  total = weights.sum() + sink_weight
  return weights / total, sink_weight / total, np.log(total) + top


def softmax(scores, mask=None, sink=None):
  """Weights [..., T, S] and log-normalizers [..., T] over the last axis."""
  scores = np.float64(scores)
  mask = np.broadcast_to(True if mask is None else mask, scores.shape)
  rows = scores.shape[:-1]
  sinks = None if sink is None else np.broadcast_to(np.float64(sink), rows)
  weights, log_normalizers = np.zeros(scores.shape), np.zeros(rows)
  for row in np.ndindex(*rows):
    weights[row], _, log_normalizers[row] = softmax_row(
      scores[row], mask[row], None if sinks is None else sinks[row]
    )
  return weights, log_normalizers


def rope(x, positions, base=10_000.0, scaling=None):
  """Rotation as multiplication by a complex number, of length 1 or nearly."""
  x, half = np.float64(x), x.shape[-1] // 2
  positions = np.broadcast_to(np.float64(positions), x.shape[:-1])
  out = np.zeros_like(x)
  for *at, i in np.ndindex(*x.shape[:-1], half):
    at = tuple(at)
    frequency, length = rope_frequency(i, x.shape[-1], base, scaling)
    turn = length * np.exp(1j * positions[at] * frequency)
    turned = complex(x[*at, i], x[*at, i + half]) * turn
    out[*at, i], out[*at, i + half] = turned.real, turned.imag
  return out


def rope_frequency(i, size, base, scaling=None):
  """Radians per token of pair i, and the length of what it is rotated by."""
  frequency = base ** (-2 * i / size)
  if scaling is None or scaling.kind == 'dynamic':
    return frequency, 1
  stretched, context = frequency / scaling.factor, scaling.original_context
  if scaling.kind == 'linear':
    return stretched, 1
  if scaling.kind == 'llama3':
    wavelength = 2 * math.pi / frequency
    longest = context / scaling.low_freq_factor
    shortest = context / scaling.high_freq_factor
    if wavelength > longest:
      return stretched, 1
    if wavelength < shortest:
      return frequency, 1
    kept = (context / wavelength - scaling.low_freq_factor) / (
      scaling.high_freq_factor - scaling.low_freq_factor
    )
    return kept * frequency + (1 - kept) * stretched, 1

  def place(turns):
    # Where a pair turns so often in the context.
    return size * math.log(context / turns / 2 / math.pi) / 2 / math.log(base)

  first, last = place(scaling.beta_fast), place(scaling.beta_slow)
  if scaling.truncate:
    first, last = math.floor(first), math.ceil(last)
  first, last = max(first, 0), min(last, size - 1)
  share = min(max((i - first) / (last - first), 0), 1)
  length = scaling.attention_factor or 1 + math.log(scaling.factor) / 10
  return share * stretched + (1 - share) * frequency, length


def sinusoidal_positions(positions, size, base=10_000.0):
  out = np.zeros((*np.shape(positions), size))
  for *at, i in np.ndindex(*out.shape):
    angle = np.asarray(positions)[tuple(at)] / base ** (i // 2 * 2 / size)
    out[*at, i] = np.cos(angle) if i % 2 else np.sin(angle)
  return out


def relative_bucket(
  distance, num_buckets=32, *, bidirectional=True, max_distance=128
):
  """T5's bucket of one distance, k - q, in exact fractions."""
  size = num_buckets // 2 if bidirectional else num_buckets
  first = size if bidirectional and distance > 0 else 0
  away = abs(distance) if bidirectional or distance < 0 else 0
  exact = size // 2
  if away < exact:
    return first + int(away)
  bucket = exact
  power = fractions.Fraction(int(away), exact) ** (size - exact)
  step = fractions.Fraction(max_distance, exact)
  while bucket < size - 1 and power >= step ** (bucket + 1 - exact):
    bucket += 1
  return first + bucket


def mask(rule, batch, heads, num_queries, num_keys):
  """bool[B, N, T, S] from `rule(b, n, q, k)`, one entry at a time."""
  out = np.zeros((batch, heads, num_queries, num_keys), bool)
  for at in np.ndindex(*out.shape):
    out[at] = rule(*at)
  return out


class Attention:
  """One call, for arrays [B, T, N, H], [B, S, K, H] and [B, S, K, Hv].

  Attributes, after construction:
    context: [B, T, N, Hv].
    residual: [B, T, N], the log of softmax's denominators.
    weights: [B, N, T, S], before dropout.
  """

  def __init__(
    self,
    query,
    key,
    value,
    bias=None,
    mask=None,
    *,
    scale=None,
    score_mod=None,
    score_mod_slope=None,
    sink=None,
    keep=None,
    dropout_rate=0.0,
  ):
    self.query, self.key = np.float64(query), np.float64(key)
    self.value = np.float64(value)
    batch, num_queries, heads, size = self.query.shape
    _, num_keys, kv_heads, _ = self.key.shape
    self.shape = (batch, heads, num_queries, num_keys)
    self.groups = heads // max(kv_heads, 1)
    self.scale = max(size, 1) ** -0.5 if scale is None else scale
    self.bias_shape = None if bias is None else np.shape(bias)
    bias = np.broadcast_to(np.float64(0 if bias is None else bias), self.shape)
    mask = np.broadcast_to(True if mask is None else mask, self.shape)
    # How much of each weight dropout lets through, and how each score changes
    # with its dot product.
    self.passed = np.ones(self.shape)
    if keep is not None and dropout_rate:
      survivors = np.float64(keep)
      self.passed = survivors / (1 - dropout_rate) if dropout_rate < 1 else 0
      self.passed = np.broadcast_to(self.passed, self.shape)
    self.slopes = np.ones(self.shape)
    self.weights = np.zeros(self.shape)
    self.sink_weights = np.zeros(self.shape[:3])
    self.residual = np.zeros((batch, num_queries, heads))
    self.context = np.zeros((batch, num_queries, heads, self.value.shape[-1]))
    for b, n, t in np.ndindex(*self.shape[:3]):
      scores = np.zeros(num_keys)
      for s in range(num_keys):
        products = self.query[b, t, n] * self.key[b, s, n // self.groups]
        score = self.scale * products.sum()
        if score_mod_slope is not None:
          self.slopes[b, n, t, s] = score_mod_slope(score, b, n, t, s)
        if score_mod is not None:
          score = score_mod(score, b, n, t, s)
        scores[s] = score + bias[b, n, t, s]
      allowed = mask[b, n, t] & (scores != -np.inf)
      weights, self.sink_weights[b, n, t], self.residual[b, t, n] = softmax_row(
        scores, allowed, None if sink is None else np.float64(sink)[n]
      )
      self.weights[b, n, t] = weights
      passed = weights * self.passed[b, n, t]
      for s in range(num_keys):
        if passed[s]:
          self.context[b, t, n] += (
            passed[s] * self.value[b, s, n // self.groups]
          )

  def gradients(self, context_cotangent, residual_cotangent=None):
    """Of Σ context·cotangent + Σ residual·cotangent, by name of argument."""
    batch, heads, num_queries, num_keys = self.shape
    if residual_cotangent is None:
      residual_cotangent = np.zeros((batch, num_queries, heads))
    query, key, value = (np.zeros(x.shape) for x in self._arrays())
    bias, sink = np.zeros(self.shape), np.zeros(heads)
    for b, n, t in np.ndindex(*self.shape[:3]):
      k = n // self.groups
      out = np.float64(context_cotangent)[b, t, n]
      log = np.float64(residual_cotangent)[b, t, n]
      weights, passed = self.weights[b, n, t], self.passed[b, n, t]
      to_weights = passed * (self.value[b, :, k] @ out)
      mean = weights @ to_weights
      to_scores = weights * (to_weights - mean + log)
      sink[n] += self.sink_weights[b, n, t] * (log - mean)
      bias[b, n, t] = to_scores
      to_products = self.scale * self.slopes[b, n, t] * to_scores
      for s in range(num_keys):
        value[b, s, k] += weights[s] * passed[s] * out
        key[b, s, k] += to_products[s] * self.query[b, t, n]
        query[b, t, n] += to_products[s] * self.key[b, s, k]
    gradients = {'query': query, 'key': key, 'value': value, 'sink': sink}
    if self.bias_shape is not None:
      gradients['bias'] = sum_to(bias, self.bias_shape)
    return gradients

  def _arrays(self):
    return self.query, self.key, self.value


def statistics(weights):
  """Of weights [B, N, T, S]: entropy, mass, largest weight and its key.

  [B, T, N], but mass [B, S, N].
  """
  batch, heads, num_queries, num_keys = weights.shape
  entropy, top_weight = np.zeros((2, batch, num_queries, heads))
  top_key = np.full((batch, num_queries, heads), -1)
  mass = np.zeros((batch, num_keys, heads))
  for b, n, t, s in np.ndindex(*weights.shape):
    weight = weights[b, n, t, s]
    mass[b, s, n] += weight
    if weight > 0:
      entropy[b, t, n] -= weight * np.log(weight)
    if weight > top_weight[b, t, n]:
      top_weight[b, t, n], top_key[b, t, n] = weight, s
  return entropy, mass, top_weight, top_key


def sum_to(x, shape):
  """Sum the axes along which an array of `shape` was broadcast to x."""
  x = x.sum(tuple(range(x.ndim - len(shape))))
  stretched = [i for i, size in enumerate(shape) if size == 1]
  return x.sum(tuple(stretched), keepdims=True)


def slope(function, x, direction, step=1e-5):
  """Central difference: how fast `function` changes along `direction`."""
  x, direction = np.float64(x), np.float64(direction)
  up, down = function(x + step * direction), function(x - step * direction)
  return (up - down) / (2 * step)


def jacobian(function, x, step=1e-5):
  """[*out, *x]: central differences, entry by entry."""
  x = np.float64(x)
  columns = []
  for at in itertools.product(*map(range, x.shape)):
    unit = np.zeros(x.shape)
    unit[at] = 1
    columns.append(slope(function, x, unit, step))
  out = np.stack(columns, axis=-1)
  return out.reshape(*out.shape[:-1], *x.shape)
