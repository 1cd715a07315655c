"""Where is a token?  Three answers: add a wave, rotate, or bend the scores.

Attention without positions sees a set, not a sequence.  `sinusoidal_positions`
are added to the embeddings, `apply_rope` rotates queries and keys so that their
dot product depends on the distance alone.  `alibi_slopes` say how steeply each
head's scores fall with distance, and `relative_buckets` which distances share
what a model has learned; `attn.mods` bends the scores by them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from attn.precision import at_least_float32
from attn.rope_scaling import RopeScaling

Array = jax.Array


def sinusoidal_positions(
  positions: Array, size: int, *, base: float = 10_000.0
) -> Array:
  """Sines and cosines of geometrically spaced wavelengths.

    out[p, 2i] = sin(p / base^(2i/size)),  out[p, 2i+1] = cos(the same)

  Args:
    positions: int or float[...], any shape.
    size: Width of an embedding, even.
    base: The longest wavelength is 2π base.

  Returns:
    float32[..., size] (float64 for float64 positions), within ±1.

  Raises:
    ValueError: if size is odd or negative.

  Example:
    >>> sinusoidal_positions(jnp.array([0, 1]), 2).round(3)
    Array([[0.   , 1.   ],
           [0.841, 0.54 ]], dtype=float32)

  References:
    Vaswani et al., 2017, section 3.5. https://arxiv.org/abs/1706.03762
  """
  angles = _angles('size', positions, size, base)
  waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
  return waves.reshape(*positions.shape, size)


def apply_rope(
  x: Array,
  positions: Array,
  *,
  base: float = 10_000.0,
  scaling: RopeScaling | None = None,
) -> Array:
  """Rotate queries or keys by angles proportional to their position.

    (out[i], out[i + H/2]) = rotate((x[i], x[i + H/2]), p / base^(2i/H))

  Two vectors rotated so have a dot product that depends on the difference of
  their positions only.  Dimensions i and i + H/2 form a pair, as in Llama;
  RoFormer pairs neighbours, which is the same up to a fixed permutation of H.

  One head: for `[..., T, N, H]` map over N, with
  `jax.vmap(apply_rope, in_axes=(-2, None), out_axes=-2)`.

  Args:
    x: float[..., T, H], H even.
    positions: int or float, broadcastable to [..., T].
    base: The longest wavelength is 2π base.
    scaling: Divides the frequencies, for contexts longer than a model was
      trained on; see there.

  Returns:
    float[..., T, H] in the dtype of x; angles in at least float32.

  Raises:
    ValueError: if H is odd, or positions do not broadcast to x without H.

  Example:
    >>> apply_rope(jnp.array([[1., 0.]]), jnp.array([jnp.pi / 2])).round(3)
    Array([[-0.,  1.]], dtype=float32)

  References:
    Su et al., 2021, section 3.2. https://arxiv.org/abs/2104.09864
  """
  if x.ndim < 2:
    raise ValueError(f'x: got shape {x.shape}, wanted at least [T, H]')
  try:
    positions = jnp.broadcast_to(positions, x.shape[:-1])
  except ValueError as error:
    raise ValueError(
      f'positions: got shape {positions.shape}, wanted one that broadcasts to '
      f'{x.shape[:-1]}, x without its last axis'
    ) from error
  wide = at_least_float32(x.dtype)
  # Whole positions take the accuracy of x, not float32.
  if not jnp.issubdtype(positions.dtype, jnp.floating):
    positions = positions.astype(wide)
  angles = _angles('x', positions, x.shape[-1], base, scaling)
  cos, sin = jnp.cos(angles).astype(wide), jnp.sin(angles).astype(wide)
  if scaling is not None and scaling.magnitude != 1:
    cos, sin = cos * scaling.magnitude, sin * scaling.magnitude
  first, second = jnp.split(x.astype(wide), 2, axis=-1)
  rotated = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


def alibi_slopes(num_heads: int, dtype: Any = jnp.float32) -> Array:
  """How steeply each head's scores fall with distance, for ALiBi.

    slope[n] = 2^(-8 (n + 1) / N)   for N a power of two

  For other N, the slopes of the largest power of two below N, then every
  other slope of twice that power, as the paper's code does.

  Args:
    num_heads: N, at least 1.
    dtype: Of the slopes.

  Returns:
    float[N], positive; a head adds `-slope * distance` to its scores.

  Raises:
    ValueError: if num_heads is below 1.

  Example:
    >>> alibi_slopes(4)
    Array([0.25  , 0.0625, 0.0156, 0.0039], dtype=float32)

  References:
    Press et al., 2022, section 3. https://arxiv.org/abs/2108.12409
  """
  if num_heads < 1:
    raise ValueError(f'num_heads: got {num_heads}, wanted at least 1')

  def powers(n: int) -> list[float]:
    return [2 ** (-8 * (i + 1) / n) for i in range(n)]

  whole = 1 << (num_heads.bit_length() - 1)
  slopes = powers(whole) + powers(2 * whole)[::2][: num_heads - whole]
  return jnp.array(slopes, dtype)


def relative_buckets(
  distance: int | Array,
  num_buckets: int = 32,
  *,
  bidirectional: bool = True,
  max_distance: int = 128,
) -> Array:
  """The bucket of a distance: near ones have one each, far ones share.

    bucket = d                                             for d < E
    bucket = min(E + ⌊(M - E) log(d / E) / log(D / E)⌋, M - 1)   from E on

  with d how far the key is, D = max_distance, M the buckets for one direction
  and E = ⌊M / 2⌋ those with one distance each.  Bidirectional: M is half of
  num_buckets, and keys after the query have the upper half, of which the first
  is for d = 0 and never used.  Otherwise M is all of them, and keys after the
  query count as d = 0.

  Where (d / E)^(M - E) equals a power of D / E, logarithms in floating point
  fall on either side; here whole numbers are compared instead.

  Args:
    distance: int[...], position of the key less that of the query.
    num_buckets: At least 2 for each direction, and even if there are two.
    bidirectional: Distinguish keys after the query.
    max_distance: D, more than E; from here on all share the last bucket.

  Returns:
    int32[...], from 0 to num_buckets - 1.

  Raises:
    TypeError: if distance is not of integers.
    ValueError: if num_buckets or max_distance is too small, or num_buckets odd.

  Example:
    >>> relative_buckets(jnp.array([0, -1, -7, -8, -15, -16, -128, 1, 128]))
    Array([ 0,  1,  7,  8,  9, 10, 15, 17, 31], dtype=int32)

  References:
    Raffel et al., 2020 (T5), section 2.1. https://arxiv.org/abs/1910.10683
  """
  distance = jnp.asarray(distance)
  if not jnp.issubdtype(distance.dtype, jnp.integer):
    raise TypeError(f'distance: got dtype {distance.dtype}, wanted integers')
  directions = 2 if bidirectional else 1
  size, rest = divmod(num_buckets, directions)
  if size < 2 or rest:
    wanted = 'an even number of at least 4' if bidirectional else 'at least 2'
    raise ValueError(f'num_buckets: got {num_buckets}, wanted {wanted}')
  exact = size // 2
  if max_distance <= exact:
    raise ValueError(
      f'max_distance: got {max_distance}, wanted more than {exact}, the '
      'distances that have a bucket each'
    )
  distance = distance.astype(jnp.int32)
  away = jnp.abs(distance) if bidirectional else jnp.maximum(-distance, 0)
  starts = _bucket_starts(exact, size - exact, max_distance)
  far = (away[..., None] >= jnp.array(starts, jnp.int32)).sum(-1)
  bucket = jnp.minimum(away, exact) + far.astype(jnp.int32)
  if bidirectional:
    bucket = bucket + jnp.where(distance > 0, size, 0).astype(jnp.int32)
  return bucket


def _bucket_starts(exact: int, count: int, max_distance: int) -> list[int]:
  """Where the buckets from the second that is shared to the last begin.

  Of `count` shared buckets, number i begins at the least whole d with
  (d / exact)^count >= (max_distance / exact)^i.
  """
  starts = []
  for i in range(1, count):
    least = max_distance**i * exact ** (count - i)
    # A float tells it to within one; whole numbers decide.
    d = int(exact * (max_distance / exact) ** (i / count)) - 1
    while d**count < least:
      d += 1
    starts.append(d)
  return starts


def _angles(
  name: str,
  positions: Array,
  size: int,
  base: float,
  scaling: RopeScaling | None = None,
) -> Array:
  """[..., size / 2]: each position times each frequency."""
  if size < 0 or size % 2:
    raise ValueError(f'{name}: got size {size}, wanted an even size')
  wide = at_least_float32(positions.dtype)
  if scaling is not None:
    frequencies = jnp.asarray(scaling.frequencies(size, base), wide)
    return positions[..., None].astype(wide) * frequencies
  exponents = jnp.arange(0, size, 2, dtype=wide) / max(size, 1)
  return positions[..., None].astype(wide) * base**-exponents
