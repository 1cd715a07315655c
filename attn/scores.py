"""How well does each query match each key?  One head, one formula a function.

Every function here maps `query [..., T, H]` and `key [..., S, H]` to
`scores [..., T, S]`: before masking, before softmax.  None of them knows about
heads or batches: many heads are a `jax.vmap` over the head axis, batches are a
`jax.vmap` over batches (leading axes that both arrays share work as well).

  dot product   q·k · scale             Luong 2015, Vaswani 2017
  bilinear      q·W·k                   Luong 2015, "general"
  concat        v·tanh([q; k]·W)        Luong 2015
  additive      v·tanh(q·W_q + k·W_k)   Bahdanau 2015
  location      q·W, no key at all      Luong 2015
  cosine        q·k / (|q| |k|) · scale
  l2            -|q - k|² · scale

Products of float16 and bfloat16 arrays are summed in float32; scores come back
in the dtype of the query.
"""

import jax
import jax.numpy as jnp

from attn.precision import at_least_float32

Array = jax.Array


def dot_product_scores(
  query: Array, key: Array, *, scale: float | Array | None = None
) -> Array:
  """Scaled dot products of queries and keys.

    scores[t, s] = scale * Σ_h query[t, h] key[s, h]

  Dividing by √H keeps the variance of a score near 1 for entries of variance
  1; without it softmax saturates and its gradient vanishes as H grows.

  Shapes: T query length, S key length, H head size; ... any leading axes.

  Args:
    query: float[..., T, H].
    key: float[..., S, H].
    scale: Multiplies every score; `H ** -0.5` if None.

  Returns:
    float[..., T, S] in the dtype of query.

  Raises:
    ValueError: if query and key have no T, S or H axis, or their H differ.

  Example:
    >>> dot_product_scores(jnp.eye(2), jnp.eye(2), scale=3.0)
    Array([[3., 0.],
           [0., 3.]], dtype=float32)

  References:
    Vaswani et al., 2017, section 3.2.1. https://arxiv.org/abs/1706.03762
  """
  _check_pair(query, key)
  factor = max(query.shape[-1], 1) ** -0.5 if scale is None else scale
  products = _matmul(query, jnp.swapaxes(key, -1, -2))
  return (factor * products).astype(query.dtype)


def bilinear_scores(query: Array, key: Array, w: Array) -> Array:
  """Dot products through a learned matrix: Luong's "general" score.

    scores[t, s] = query[t] · W · key[s]

  Shapes: query and key may have different sizes, H and J.

  Args:
    query: float[..., T, H].
    key: float[..., S, J].
    w: float[H, J].

  Returns:
    float[..., T, S] in the dtype of query.

  Raises:
    ValueError: if w is not [H, J].

  Example:
    >>> flip = jnp.array([[0., 1.], [1., 0.]])
    >>> bilinear_scores(jnp.eye(2), jnp.eye(2), flip)
    Array([[0., 1.],
           [1., 0.]], dtype=float32)

  References:
    Luong et al., 2015, section 3.1. https://arxiv.org/abs/1508.04025
  """
  _check_pair(query, key, same_size=False)
  _check_weight('w', w, (query.shape[-1], key.shape[-1]))
  mixed = _matmul(query, w).astype(query.dtype)
  return dot_product_scores(mixed, key, scale=1.0)


def additive_scores(
  query: Array,
  key: Array,
  w_query: Array | None,
  w_key: Array | None,
  v: Array,
  *,
  coverage: Array | None = None,
  w_coverage: Array | None = None,
) -> Array:
  """A small feed-forward network compares query and key.

    scores[t, s] = v · tanh(query[t] W_query + key[s] W_key)

  The first attention ever used for translation.  Unlike a dot product it holds
  a [T, S, A] array, so it costs A times the memory; `additive_attention` does
  without.  A decoder sees the same keys at each step: project them once, and
  pass `w_key=None`.

  With coverage, how much attention each key has had so far, the network also
  sees that, and can pass over what is done with:

    scores[t, s] = v · tanh(query[t] W_query + key[s] W_key
                            + coverage[t, s] w_coverage)

  Shapes: query and key may have different sizes, H and J; A is the width of
  the network.

  Args:
    query: float[..., T, H].
    key: float[..., S, J].
    w_query: float[H, A]; None if query is projected already, [..., T, A].
    w_key: float[J, A]; None if key is projected already, [..., S, A].
    v: float[A].
    coverage: float[..., T, S], as `attn.coverage` gives it; or None.
    w_coverage: float[A], given if and only if coverage is.

  Returns:
    float[..., T, S] in the dtype of query.

  Raises:
    ValueError: if a weight has not the shape above, coverage is not
      [..., T, S], or one of coverage and w_coverage is given alone.

  Example:
    >>> query, key = jnp.array([[1.]]), jnp.array([[1.], [-1.]])
    >>> one = jnp.ones((1, 1))
    >>> additive_scores(query, key, one, one, jnp.ones(1))
    Array([[0.964, 0.   ]], dtype=float32)
    >>> projected = key @ one  # once, for all steps
    >>> additive_scores(query, projected, one, None, jnp.ones(1))
    Array([[0.964, 0.   ]], dtype=float32)

  References:
    Bahdanau et al., 2015, appendix A.1.2. https://arxiv.org/abs/1409.0473
    Tu et al., 2016, section 3.1.2 (coverage). https://arxiv.org/abs/1601.04811
    See et al., 2017, section 2.3 (coverage). https://arxiv.org/abs/1704.04368
  """
  _check_pair(query, key, same_size=False)
  width = v.shape[-1] if v.ndim else 0
  _check_weight('v', v, (width,))
  projected_query = _project('query', query, w_query, width)
  projected_key = _project('key', key, w_key, width)
  hidden = projected_query[..., :, None, :] + projected_key[..., None, :, :]
  seen = _covered(coverage, w_coverage, hidden.shape)
  hidden = jnp.tanh(hidden if seen is None else hidden + seen)
  return _matmul(hidden, v.astype(hidden.dtype)).astype(query.dtype)


def concat_scores(query: Array, key: Array, w: Array, v: Array) -> Array:
  """Luong's "concat" score: additive attention with its two weights stacked.

    scores[t, s] = v · tanh([query[t]; key[s]] W)

  Shapes: query and key may have different sizes, H and J; A is the width of
  the network.

  Args:
    query: float[..., T, H].
    key: float[..., S, J].
    w: float[H + J, A].
    v: float[A].

  Returns:
    float[..., T, S] in the dtype of query.

  Raises:
    ValueError: if w is not [H + J, A] or v is not [A].

  Example:
    >>> query, key = jnp.array([[1.]]), jnp.array([[1.], [-1.]])
    >>> concat_scores(query, key, jnp.ones((2, 1)), jnp.ones(1))
    Array([[0.964, 0.   ]], dtype=float32)

  References:
    Luong et al., 2015, section 3.1. https://arxiv.org/abs/1508.04025
  """
  _check_pair(query, key, same_size=False)
  width = v.shape[-1] if v.ndim else 0
  size = query.shape[-1]
  _check_weight('v', v, (width,))
  _check_weight('w', w, (size + key.shape[-1], width))
  return additive_scores(query, key, w[:size], w[size:], v)


def location_scores(query: Array, w: Array) -> Array:
  """Luong's "location" score: where to look follows from the query alone.

    scores[t, s] = query[t] · W[:, s]

  Without a look at the keys it can only learn positions, and knows no more of
  them than W has columns.

  Args:
    query: float[..., T, H].
    w: float[H, S].

  Returns:
    float[..., T, S] in the dtype of query.

  Raises:
    ValueError: if query has no T or H axis, or w is not [H, S].

  Example:
    >>> location_scores(jnp.array([[1., 2.]]), jnp.array([[3., 0.], [0., 4.]]))
    Array([[3., 8.]], dtype=float32)

  References:
    Luong et al., 2015, section 3.1. https://arxiv.org/abs/1508.04025
  """
  _check_sequence('query', query)
  if w.ndim != 2 or w.shape[0] != query.shape[-1]:
    raise ValueError(
      f'w: got shape {w.shape}, wanted ({query.shape[-1]}, key length)'
    )
  return _matmul(query, w).astype(query.dtype)


def cosine_scores(
  query: Array, key: Array, *, scale: float | Array = 1.0
) -> Array:
  """Cosines of the angles between queries and keys.

    scores[t, s] = scale * query[t] · key[s] / (|query[t]| |key[s]|)

  A query or key of length 0 has no direction: its scores are 0.

  Args:
    query: float[..., T, H].
    key: float[..., S, H].
    scale: Multiplies every score; without it softmax over cosines is flat.

  Returns:
    float[..., T, S] in the dtype of query, within ±scale.

  Raises:
    ValueError: if query and key have no T, S or H axis, or their H differ.

  Example:
    >>> cosine_scores(jnp.array([[3., 4.]]), jnp.array([[30., 40.], [4., -3.]]))
    Array([[ 1., -0.]], dtype=float32)

  References:
    Graves et al., 2014, section 3.3.1. https://arxiv.org/abs/1410.5401
  """
  _check_pair(query, key)
  return dot_product_scores(_unit(query), _unit(key), scale=scale)


def l2_scores(query: Array, key: Array, *, scale: float | Array = 1.0) -> Array:
  """Negative squared Euclidean distances: the nearest key scores highest.

    scores[t, s] = -scale * Σ_h (query[t, h] - key[s, h])²

  Args:
    query: float[..., T, H].
    key: float[..., S, H].
    scale: Multiplies every score.

  Returns:
    float[..., T, S] in the dtype of query, never above 0 for scale >= 0.

  Raises:
    ValueError: if query and key have no T, S or H axis, or their H differ.

  Example:
    >>> l2_scores(jnp.array([[1., 1.]]), jnp.array([[1., 1.], [1., 3.]]))
    Array([[-0., -4.]], dtype=float32)

  References:
    Kim et al., 2021, section 3.2. https://arxiv.org/abs/2006.04710
  """
  _check_pair(query, key)
  wide = at_least_float32(query.dtype)
  query_wide, key_wide = query.astype(wide), key.astype(wide)
  # |q|² + |k|² - 2 q·k would be cheaper and cancels badly for near neighbours.
  difference = query_wide[..., :, None, :] - key_wide[..., None, :, :]
  return (-scale * jnp.square(difference).sum(-1)).astype(query.dtype)


def _matmul(a: Array, b: Array) -> Array:
  wide = at_least_float32(a.dtype)
  return jnp.matmul(a, b, preferred_element_type=wide)


def _unit(x: Array) -> Array:
  wide = x.astype(at_least_float32(x.dtype))
  squared = jnp.square(wide).sum(-1, keepdims=True)
  # The inner where keeps √0 out of the gradient: its derivative is infinite.
  length = jnp.sqrt(jnp.where(squared == 0, 1, squared))
  return (wide / length).astype(x.dtype)


def _project(name: str, x: Array, w: Array | None, width: int) -> Array:
  """[..., H] → [..., A] in at least float32; as it is where w is None."""
  if w is not None:
    _check_weight(f'w_{name}', w, (x.shape[-1], width))
    return _matmul(x, w)
  if x.shape[-1] != width:
    raise ValueError(
      f'{name}: got size {x.shape[-1]} (shape {x.shape}) and no w_{name}, '
      f"wanted it projected to {width}, v's size"
    )
  return x.astype(at_least_float32(x.dtype))


def _covered(
  coverage: Array | None, w_coverage: Array | None, shape: tuple[int, ...]
) -> Array | None:
  """What coverage adds to the hidden layer, whose shape is [..., T, S, A]."""
  if coverage is None and w_coverage is None:
    return None
  if coverage is None or w_coverage is None:
    missing = 'coverage' if coverage is None else 'w_coverage'
    raise ValueError(
      f'{missing}: got None, wanted both of coverage and w_coverage or neither'
    )
  if coverage.shape != shape[:-1]:
    raise ValueError(
      f'coverage: got shape {coverage.shape}, wanted {shape[:-1]}'
    )
  _check_weight('w_coverage', w_coverage, shape[-1:])
  wide = at_least_float32(coverage.dtype)
  return coverage[..., None].astype(wide) * w_coverage.astype(wide)


def _check_pair(query: Array, key: Array, same_size: bool = True) -> None:
  _check_sequence('query', query)
  _check_sequence('key', key)
  if same_size and query.shape[-1] != key.shape[-1]:
    raise ValueError(
      f'key: got head size {key.shape[-1]} (shape {key.shape}), wanted '
      f"{query.shape[-1]}, the query's"
    )


def _check_sequence(name: str, x: Array) -> None:
  if x.ndim < 2:
    raise ValueError(
      f'{name}: got shape {x.shape}, wanted at least two axes, length and '
      'head size'
    )


def _check_weight(name: str, x: Array, shape: tuple[int, ...]) -> None:
  if x.shape != shape:
    raise ValueError(f'{name}: got shape {x.shape}, wanted {shape}')
