"""From scores to weights, and from weights to context.  One head.

Scores become weights by a softmax over the keys that the mask allows; dropout
may thin the weights; the context is the weighted sum of the values.  Two older
ways to normalise, `sum_normalize` and `naive_softmax`, are here to show why
nobody uses them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

from attn.precision import at_least_float32

Array = jax.Array


def softmax(
  scores: Array,
  mask: Array | None = None,
  *,
  sink: float | Array | None = None,
  axis: int = -1,
) -> Array:
  """Softmax over keys, with disallowed keys excluded.

    weights[t, s] = m exp(scores) / (exp(sink) + Σ_s' m exp(scores)),  m = mask

  The maximum is subtracted first, so no score is too large.  Without a sink
  its term is absent and each row sums to 1.  A sink is a score that belongs to
  no key: it takes its share of the weight and gives nothing back.

  Shapes: T query length, S key length; ... any leading axes.

  Args:
    scores: float[..., T, S].  Scaled and biased, not masked.
    mask: bool, broadcastable to scores.  True lets query t attend to key s.
    sink: float, broadcastable to scores without `axis`; None for no sink.
    axis: The axis of the keys.

  Returns:
    float[..., T, S] in the dtype of scores; sums in at least float32.
    Rows sum to 1 (less with a sink); a row with no allowed key is exactly 0,
    and sends no gradient.

  Raises:
    TypeError: if mask is not boolean.
    ValueError: if mask or sink do not broadcast to scores.

  Example:
    >>> softmax(jnp.log(jnp.array([[1., 3.]]))).round(2)
    Array([[0.25, 0.75]], dtype=float32)
    >>> softmax(jnp.zeros((1, 2)), jnp.array([[True, False]]))
    Array([[1., 0.]], dtype=float32)

  References:
    Vaswani et al., 2017, section 3.2.1. https://arxiv.org/abs/1706.03762
    Xiao et al., 2023 (sinks). https://arxiv.org/abs/2309.17453
  """
  dtype = scores.dtype
  scores, sink = _prepare(scores, mask, sink, axis)
  return _softmax(scores, sink, axis).astype(dtype)


def log_normalizer(
  scores: Array,
  mask: Array | None = None,
  *,
  sink: float | Array | None = None,
  axis: int = -1,
) -> Array:
  """Logarithm of softmax's denominator.

    log_normalizer[t] = log(exp(sink) + Σ_s m exp(scores[t, s])),  m = mask

  Two softmaxes over separate keys are merged exactly from their contexts and
  these numbers alone; that is what makes attention by blocks possible.

  Args:
    scores: float[..., T, S].
    mask: bool, broadcastable to scores.
    sink: float, broadcastable to scores without `axis`; None for no sink.
    axis: The axis of the keys.

  Returns:
    float[..., T] in at least float32; -inf where no key is allowed.

  Raises:
    TypeError: if mask is not boolean.
    ValueError: if mask or sink do not broadcast to scores.

  Example:
    >>> log_normalizer(jnp.log(jnp.array([[1., 3.]]))).round(4)
    Array([1.3863], dtype=float32)

  References:
    Milakov and Gimelshein, 2018. https://arxiv.org/abs/1805.02867
  """
  scores, sink = _prepare(scores, mask, sink, axis)
  _, total, maximum = _exponentials(scores, sink, axis)
  log = jnp.log(jnp.where(total == 0, 1, total)) + maximum
  return jnp.where(total == 0, -jnp.inf, log).squeeze(axis)


def naive_softmax(scores: Array) -> Array:
  """The formula as it is written, without subtracting the maximum.

    weights[t, s] = exp(scores[t, s]) / Σ_s' exp(scores[t, s'])

  Overflows to NaN as soon as a score passes 88 in float32.  For lessons only.

  Args:
    scores: float[..., T, S].

  Returns:
    float[..., T, S] in the dtype of scores.

  Example:
    >>> naive_softmax(jnp.array([2., 1., 0.1]))
    Array([0.659 , 0.2424, 0.0986], dtype=float32)
    >>> naive_softmax(jnp.array([100., 0.]))
    Array([nan,  0.], dtype=float32)
  """
  return sum_normalize(jnp.exp(scores))


def sum_normalize(scores: Array) -> Array:
  """Divide by the plain sum.

    weights[t, s] = scores[t, s] / Σ_s' scores[t, s']

  A negative score becomes a negative weight, or makes the sum vanish.  For
  lessons only.

  Args:
    scores: float[..., T, S].

  Returns:
    float[..., T, S] in the dtype of scores.

  Example:
    >>> sum_normalize(jnp.array([3., 1.]))
    Array([0.75, 0.25], dtype=float32)
    >>> sum_normalize(jnp.array([3., -1.]))
    Array([ 1.5, -0.5], dtype=float32)
  """
  return scores / scores.sum(-1, keepdims=True)


def weighted_sum(weights: Array, value: Array) -> Array:
  """The context: values averaged by weight.

    context[t] = Σ_s weights[t, s] value[s]

  Args:
    weights: float[..., T, S].
    value: float[..., S, Hv].

  Returns:
    float[..., T, Hv] in the dtype of value; sums in at least float32.

  Raises:
    ValueError: if weights and value disagree on S.

  Example:
    >>> weighted_sum(jnp.array([[0.25, 0.75]]), jnp.array([[0.], [4.]]))
    Array([[3.]], dtype=float32)

  References:
    Vaswani et al., 2017, section 3.2.1. https://arxiv.org/abs/1706.03762
  """
  if weights.ndim < 1 or value.ndim < 2 or weights.shape[-1] != value.shape[-2]:
    raise ValueError(
      f'value: got shape {value.shape} for weights of shape {weights.shape}, '
      'wanted value [..., S, Hv] for weights [..., T, S]'
    )
  wide = at_least_float32(value.dtype)
  return (weights.astype(wide) @ value.astype(wide)).astype(value.dtype)


def dropout(weights: Array, rate: float, rng: Array) -> Array:
  """Drop weights at random, and scale up the survivors.

    out[t, s] = keep[t, s] weights[t, s] / (1 - rate),  P(keep) = 1 - rate

  Whether (t, s) is kept depends on rng and on the indices alone, not on the
  shape: a part of the array, computed apart, drops the same weights.  Leading
  axes fold their index into rng, one axis after the other, which is what
  `jax.vmap` over `jax.random.fold_in(rng, i)` does.

  Args:
    weights: float[..., T, S].
    rate: Static, in [0, 1].  0 returns weights unchanged, 1 drops all.
    rng: A PRNG key.

  Returns:
    float[..., T, S] in the dtype of weights; its expectation is weights.

  Raises:
    ValueError: if rate is outside [0, 1], or weights has fewer than two axes.

  Example:
    >>> dropout(jnp.ones((2, 4)), 0.5, jax.random.key(0))
    Array([[0., 0., 0., 2.],
           [0., 2., 2., 0.]], dtype=float32)

  References:
    Srivastava et al., 2014. https://jmlr.org/papers/v15/srivastava14a.html
  """
  check_rate('rate', rate)
  if weights.ndim < 2:
    raise ValueError(
      f'weights: got shape {weights.shape}, wanted at least [T, S]'
    )
  if rate == 0:
    return weights
  if weights.ndim > 2:
    rngs = jax.vmap(lambda i: jax.random.fold_in(rng, i))(
      jnp.arange(weights.shape[0])
    )
    return jax.vmap(lambda w, r: dropout(w, rate, r))(weights, rngs)
  num_queries, num_keys = weights.shape
  queries, keys = jnp.arange(num_queries), jnp.arange(num_keys)
  kept = keep(dropout_seed(rng), queries, keys, rate)
  scale = 0.0 if rate == 1 else 1 / (1 - rate)
  return jnp.where(kept, weights * scale, 0)


def dropout_seed(rng: Array) -> Array:
  """The number that `keep` mixes with the indices of one head: uint32[2].

  Args:
    rng: A PRNG key.

  Returns:
    uint32[2].
  """
  return jax.random.bits(rng, (2,), jnp.uint32)


def keep(seed: Array, queries: Array, keys: Array, rate: float) -> Array:
  """Which weights of one head survive dropout, from their indices alone.

  Args:
    seed: uint32[2], as `dropout_seed` gives it.
    queries: int[T], indices of queries.
    keys: int[S], indices of keys.
    rate: The probability to drop, static.

  Returns:
    bool[T, S].

  Example:
    >>> seed = dropout_seed(jax.random.key(0))
    >>> whole = keep(seed, jnp.arange(4), jnp.arange(6), 0.5)
    >>> part = keep(seed, jnp.arange(2, 4), jnp.arange(3, 6), 0.5)
    >>> bool((whole[2:, 3:] == part).all())
    True

  References:
    Salmon et al., 2011 (Threefry). https://doi.org/10.1145/2063384.2063405
  """
  shape = (queries.shape[0], keys.shape[0])
  # A counter-based generator: one hash of (q, k) under the seed.
  counters = jnp.concatenate(
    [
      jnp.broadcast_to(queries[:, None].astype(jnp.uint32), shape).ravel(),
      jnp.broadcast_to(keys[None, :].astype(jnp.uint32), shape).ravel(),
    ]
  )
  bits = threefry_2x32(seed, counters)[: shape[0] * shape[1]].reshape(shape)
  # 24 bits are exact in float32.
  uniform = (bits >> 8).astype(jnp.float32) * 2.0**-24
  return uniform >= rate


def check_rate(name: str, rate: float) -> None:
  """Raise ValueError unless rate is a static number in [0, 1]."""
  if not 0 <= rate <= 1:
    raise ValueError(f'{name}: got {rate}, wanted a probability in [0, 1]')


def _prepare(
  scores: Array,
  mask: Array | None,
  sink: float | Array | None,
  axis: int,
) -> tuple[Array, Array | None]:
  """Scores with -inf where masked, and the sink with an axis of keys of 1."""
  scores = scores.astype(at_least_float32(scores.dtype))
  if mask is not None:
    _check_mask(mask, scores)
    scores = jnp.where(mask, scores, -jnp.inf)
  if sink is not None:
    sink = _align_sink(jnp.asarray(sink, scores.dtype), scores, axis)
  return scores, sink


def _exponentials(
  scores: Array, sink: Array | None, axis: int
) -> tuple[Array, Array, Array]:
  """exp(scores - maximum), its sum with the sink, and the maximum."""
  maximum = scores.max(axis, keepdims=True, initial=-jnp.inf)
  if sink is not None:
    maximum = jnp.maximum(maximum, sink)
  # A row without keys has maximum -inf, and -inf - -inf would be NaN.
  maximum = jax.lax.stop_gradient(jnp.where(maximum == -jnp.inf, 0, maximum))
  exponentials = jnp.exp(scores - maximum)
  total = exponentials.sum(axis, keepdims=True)
  if sink is not None:
    total = total + jnp.exp(sink - maximum)
  return exponentials, total, maximum


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _softmax(scores: Array, sink: Array | None, axis: int) -> Array:
  exponentials, total, _ = _exponentials(scores, sink, axis)
  return exponentials / jnp.where(total == 0, 1, total)


@_softmax.defjvp
def _softmax_jvp(axis: int, primals: Any, tangents: Any) -> Any:
  # Differentiating the exponentials, the sum and the division one by one takes
  # twice the time of this, the same derivative in closed form.
  scores, sink = primals
  scores_dot, sink_dot = tangents
  weights = _softmax(scores, sink, axis)
  mean_dot = (weights * scores_dot).sum(axis, keepdims=True)
  if sink is not None:
    _, total, maximum = _exponentials(scores, sink, axis)
    sink_weight = jnp.exp(sink - maximum) / jnp.where(total == 0, 1, total)
    mean_dot = mean_dot + sink_weight * sink_dot
  return weights, weights * (scores_dot - mean_dot)


def _align_sink(sink: Array, scores: Array, axis: int) -> Array:
  axis %= scores.ndim
  rows = scores.shape[:axis] + scores.shape[axis + 1 :]
  try:
    return jnp.expand_dims(jnp.broadcast_to(sink, rows), axis)
  except ValueError as error:
    raise ValueError(
      f'sink: got shape {sink.shape}, wanted one that broadcasts to {rows}, '
      'scores without the axis of keys'
    ) from error


def _check_mask(mask: Array, scores: Array) -> None:
  if mask.dtype != jnp.bool_:
    raise TypeError(
      f'mask: got dtype {mask.dtype}, wanted bool (True = may attend); a float '
      'mask to be added is called bias'
    )
  try:
    fits = jnp.broadcast_shapes(mask.shape, scores.shape) == scores.shape
  except ValueError:
    fits = False
  if not fits:
    raise ValueError(
      f'mask: got shape {mask.shape}, wanted one that broadcasts to '
      f'{scores.shape}'
    )
