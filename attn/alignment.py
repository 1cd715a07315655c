"""Where a decoder looks next: local windows, and what it has read so far.

Alignment is attention from a target sentence to its source.  Two old ideas
that softmax alone does not have: it moves forward, so a window around one
position is enough (local attention); and it should read every word once, so
what was read is added up and shown to the next step (coverage).  One head.

  centers           p = S · sigmoid(v·tanh(q·W))     Luong 2015, "local-p"
  window            |s - p| <= D                     Luong 2015
  weights           w · exp(-(s - p)² / 2σ²)         Luong 2015
  coverage          c[t] = w[0] + ... + w[t-1]       Tu 2016, See 2017
"""

import jax
import jax.numpy as jnp
import numpy as np

from attn.precision import at_least_float32

Array = jax.Array


def predicted_centers(
  query: Array, w: Array, v: Array, lengths: int | Array
) -> Array:
  """Positions to look at, predicted from the queries: Luong's "local-p".

    centers[t] = length * sigmoid(v · tanh(query[t] W))

  For the monotone "local-m" the center of step t is t itself.

  Shapes: A is the width of the network.

  Args:
    query: float[..., T, H].
    w: float[H, A].
    v: float[A].
    lengths: int or float, broadcastable to [..., T]: how many keys there are.
      Lengths [B] of a batch are lengths[:, None].

  Returns:
    float[..., T] in at least float32, from 0 to length.  No narrower: bfloat16
    cannot count to 257.

  Raises:
    ValueError: if w is not [H, A], v is not [A], query has no T or H axis, or
      lengths do not broadcast.

  Example:
    >>> query, one = jnp.array([[0.], [99.]]), jnp.ones((1, 1))
    >>> predicted_centers(query, one, jnp.array([99.]), 6)
    Array([3., 6.], dtype=float32)

  References:
    Luong et al., 2015, section 3.2. https://arxiv.org/abs/1508.04025
  """
  _check_axes('query', query, 'length and head size')
  width = v.shape[-1] if v.ndim else 0
  for name, x, shape in (
    ('v', v, (width,)),
    ('w', w, (query.shape[-1], width)),
  ):
    if x.shape != shape:
      raise ValueError(f'{name}: got shape {x.shape}, wanted {shape}')
  wide = at_least_float32(query.dtype)
  hidden = jnp.tanh(jnp.matmul(query, w, preferred_element_type=wide))
  share = jax.nn.sigmoid(hidden @ v.astype(wide))
  return _to_rows('lengths', lengths, share.shape, wide) * share


def local_mask(centers: Array, num_keys: int, half_width: float) -> Array:
  """The window around each center, as a mask.

    mask[t, s] = |s - centers[t]| <= half_width

  Args:
    centers: int or float[..., T]; need not be whole.
    num_keys: S, static.
    half_width: D, static, at least 0.

  Returns:
    bool[..., T, S].  Keys beyond either end do not exist: windows there are
    smaller, and a center further out than D sees nothing.

  Raises:
    ValueError: if num_keys or half_width is below 0, or centers has no T axis.

  Example:
    >>> local_mask(jnp.array([0, 1.5]), 4, 1).astype(int)
    Array([[1, 1, 0, 0],
           [0, 1, 1, 0]], dtype=int32)

  References:
    Luong et al., 2015, section 3.2. https://arxiv.org/abs/1508.04025
  """
  if num_keys < 0:
    raise ValueError(f'num_keys: got {num_keys}, wanted at least 0')
  _check_half_width(half_width, half_width >= 0, 'at least 0')
  return jnp.abs(_distances(centers, num_keys)) <= half_width


def local_weights(weights: Array, centers: Array, half_width: float) -> Array:
  """Weights pulled towards their centers by a Gaussian.

    out[t, s] = weights[t, s] * exp(-(s - centers[t])² / (2 σ²)),  σ = D / 2

  Through the Gaussian a predicted center learns: `local_mask`, which hides all
  beyond D, has no derivative.  Rows sum to at most what they did before; as in
  the paper, they are not normalised again.

  Args:
    weights: float[..., T, S].
    centers: int or float[..., T].
    half_width: D, static, above 0.

  Returns:
    float[..., T, S] in the dtype of weights.

  Raises:
    ValueError: if half_width is not above 0, or centers has not the shape of
      weights without S.

  Example:
    >>> local_weights(jnp.full((1, 4), 0.25), jnp.array([1.]), 2)
    Array([[0.1516, 0.25  , 0.1516, 0.0338]], dtype=float32)

  References:
    Luong et al., 2015, section 3.2. https://arxiv.org/abs/1508.04025
  """
  _check_axes('weights', weights, 'T and S')
  _check_half_width(half_width, half_width > 0, 'above 0')
  if centers.shape != weights.shape[:-1]:
    raise ValueError(
      f'centers: got shape {centers.shape}, wanted {weights.shape[:-1]}, '
      'weights without S'
    )
  distances = _distances(centers, weights.shape[-1])
  pull = jnp.exp(-2 * jnp.square(distances / half_width))
  wide = jnp.promote_types(at_least_float32(weights.dtype), pull.dtype)
  return (weights.astype(wide) * pull.astype(wide)).astype(weights.dtype)


def coverage(weights: Array) -> Array:
  """How much attention each key has had before each step.

    coverage[t, s] = Σ_(t' < t) weights[t', s]

  Args:
    weights: float[..., T, S].

  Returns:
    float[..., T, S] in the dtype of weights; sums in at least float32.

  Raises:
    ValueError: if weights has no T or S axis.

  Example:
    >>> coverage(jnp.array([[1., 0.], [0.5, 0.5], [0., 1.]]))
    Array([[0. , 0. ],
           [1. , 0. ],
           [1.5, 0.5]], dtype=float32)

  References:
    Tu et al., 2016, section 3.1. https://arxiv.org/abs/1601.04811
    See et al., 2017, section 2.3. https://arxiv.org/abs/1704.04368
  """
  _check_axes('weights', weights, 'T and S')
  wide = weights.astype(at_least_float32(weights.dtype))
  before = [(0, 0)] * (weights.ndim - 2) + [(1, 0), (0, 0)]
  # Not the inclusive sum less the weights, which would not be 0 where 0 is due.
  shifted = jnp.pad(wide, before)[..., : weights.shape[-2], :]
  return jnp.cumsum(shifted, -2).astype(weights.dtype)


def coverage_loss(weights: Array, mask: Array | None = None) -> Array:
  """How much each step attends again to what was attended to before.

    loss[t] = Σ_s min(weights[t, s], coverage[t, s])

  Args:
    weights: float[..., T, S].
    mask: bool, broadcastable to weights; what is False counts for nothing, nor
      for later steps.  For steps that are padding, [..., T, 1].

  Returns:
    float[..., T] in at least float32; between 0 and the sum of the row.

  Raises:
    TypeError: if mask is not boolean.
    ValueError: if weights has no T or S axis, or mask does not broadcast.

  Example:
    >>> coverage_loss(jnp.array([[1., 0.], [0.5, 0.5], [0., 1.]]))
    Array([0. , 0.5, 0.5], dtype=float32)

  References:
    See et al., 2017, section 2.3. https://arxiv.org/abs/1704.04368
  """
  _check_axes('weights', weights, 'T and S')
  weights = weights.astype(at_least_float32(weights.dtype))
  if mask is not None:
    if mask.dtype != jnp.bool_:
      raise TypeError(f'mask: got dtype {mask.dtype}, wanted bool')
    weights = jnp.where(_to_shape('mask', mask, weights.shape), weights, 0)
  return jnp.minimum(weights, coverage(weights)).sum(-1)


def _distances(centers: Array, num_keys: int) -> Array:
  """From each center to each key, [..., T, S], in at least float32."""
  if centers.ndim < 1:
    raise ValueError(
      f'centers: got shape {centers.shape}, wanted at least one axis, T'
    )
  wide = at_least_float32(centers.dtype)
  return jnp.arange(num_keys, dtype=wide) - centers[..., None].astype(wide)


def _to_rows(
  name: str, x: int | Array, shape: tuple[int, ...], dtype: np.dtype
) -> Array:
  return _to_shape(name, jnp.asarray(x), shape).astype(dtype)


def _to_shape(name: str, x: Array, shape: tuple[int, ...]) -> Array:
  try:
    return jnp.broadcast_to(x, shape)
  except ValueError as error:
    raise ValueError(
      f'{name}: got shape {x.shape}, wanted one that broadcasts to {shape}'
    ) from error


def _check_axes(name: str, x: Array, axes: str) -> None:
  if x.ndim < 2:
    raise ValueError(
      f'{name}: got shape {x.shape}, wanted at least two axes, {axes}'
    )


def _check_half_width(half_width: float, fits: bool, wanted: str) -> None:
  if not fits:
    raise ValueError(f'half_width: got {half_width}, wanted {wanted}')
