"""Additive attention of many heads, in linear memory."""

from typing import Any

import jax
import jax.numpy as jnp

from attn.backends.additive import AdditiveCall
from attn.backends.blockwise import blockwise
from attn.backends.dense import dense
from attn.call import check_implementation, prepare, with_batch_of
from attn.masks import Mask
from attn.precision import at_least_float32

Array = jax.Array

_BACKENDS = {'dense': dense, 'blockwise': blockwise}

# Under so many numbers in the hidden layers of all heads, writing them out is
# as fast on a CPU, and its program compiles sooner.  Elsewhere a loop over
# hidden units costs more than it saves, until memory counts.
_BLOCKWISE_FROM_ON_CPU, _BLOCKWISE_FROM = 2**18, 2**26


def additive_attention(
  query: Array,
  key: Array,
  value: Array,
  w_query: Array | None,
  w_key: Array | None,
  v: Array,
  *,
  mask: Array | Mask | None = None,
  return_residual: bool = False,
  implementation: str | None = None,
) -> Any:
  """Attention whose scores are those of a small network: Bahdanau's.

    scores  = v · tanh(query W_query + key W_key)
    weights = softmax(scores, where mask allows)
    context = weights value

  As written, the hidden layer of the network is [T, S, A], gigabytes where
  `attention` would need megabytes.  Here it is computed tile by tile and one
  hidden unit after the other, forward and in every derivative: memory grows
  with T + S, and tiles that the mask hides are skipped.

  It keeps the promises of `attention`: a row that may attend to nothing gives
  exactly 0 and sends exactly 0 gradient, also to the weights; what is masked
  cannot leak, not even as NaN; any lengths and sizes, empty ones included.

  Shapes: *B any batch axes; T query length, S key length, N query heads,
  K key/value heads (N a multiple of K: query head n reads key/value head
  n // (N/K)), H and J sizes of query and key, A width of the network, Hv size
  of the values.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, J].
    value: float[*B, S, K, Hv].
    w_query: float[H, A], or [N, H, A] for weights of each head; None if query
      is projected already, to A.
    w_key: float[J, A], or [K, J, A]; None if key is projected already, to A.
    v: float[A], or [N, A].
    mask: bool, broadcastable to [*B, N, T, S], True = may attend; or a mask
      object from `attn.masks`.
    return_residual: Whether to return the log-normalizers too.
    implementation: 'dense' writes out every hidden unit of every score and is
      the specification, 'blockwise' needs linear memory; None chooses.

  Returns:
    The context, float[*B, T, N, Hv] in the dtype of query.  With
    return_residual also log Σ_s exp(scores), [*B, T, N] in at least float32.

  Raises:
    TypeError: if arrays are no floats or of several dtypes, or mask is neither
      boolean nor a mask object.
    ValueError: if an argument has not the shape above, mask does not broadcast,
      or implementation is unknown.

  Example:
    >>> query, key = jnp.zeros((3, 1, 1)), jnp.array([0., 9.])[:, None, None]
    >>> one = jnp.ones((1, 1))
    >>> context = additive_attention(query, key, key, one, one, jnp.ones(1))
    >>> context[:, 0, 0].round(3)  # 9 / (1 + exp(tanh(0) - tanh(9)))
    Array([6.58, 6.58, 6.58], dtype=float32)

  References:
    Bahdanau et al., 2015, appendix A.1.2. https://arxiv.org/abs/1409.0473
    Rabe and Staats, 2021 (linear memory). https://arxiv.org/abs/2112.05682
  """
  check_implementation(implementation, _BACKENDS)
  call = _prepare(query, key, value, w_query, w_key, v, mask)
  context, residual = _BACKENDS[implementation or _choose(call)](call)
  context, residual = with_batch_of(query, context, residual)
  context = context.astype(query.dtype)
  return (context, residual) if return_residual else context


def _choose(call: AdditiveCall) -> str:
  batch, heads, num_queries, num_keys = call.sizes
  hidden = batch * heads * num_queries * num_keys * call.v.shape[1]
  on_cpu = jax.default_backend() == 'cpu'
  limit = _BLOCKWISE_FROM_ON_CPU if on_cpu else _BLOCKWISE_FROM
  return 'dense' if hidden < limit else 'blockwise'


def _prepare(
  query: Array,
  key: Array,
  value: Array,
  w_query: Array | None,
  w_key: Array | None,
  v: Array,
  mask: Array | Mask | None,
) -> AdditiveCall:
  """Check the arguments, and project queries and keys."""
  weights = {'w_query': w_query, 'w_key': w_key, 'v': v}
  given = {name: x for name, x in weights.items() if x is not None}
  _check_floats(query=query, key=key, value=value, **given)
  for name, x in {'query': query, 'key': key}.items():
    if x.ndim < 3:
      raise ValueError(
        f'{name}: got shape {x.shape}, wanted [*B, length, heads, size]'
      )
  width = v.shape[-1] if v.ndim else 0
  heads = query.shape[-2]
  _check_shape('v', v, (width,), heads)
  wide = at_least_float32(query.dtype)
  call = prepare(
    _project('query', query, w_query, width),
    _project('key', key, w_key, width),
    value.astype(wide),
    mask=mask,
    scale=1.0,
  )
  v = jnp.broadcast_to(v.astype(wide), (heads, width))
  return AdditiveCall(**vars(call), v=v)


def _project(name: str, x: Array, w: Array | None, width: int) -> Array:
  """[*B, L, N, H] → [*B, L, N, A]; all NaN where a row holds a NaN or Inf.

  The row itself is 0 before the product: else w would get a NaN for a gradient
  from a row that is masked, as 0 * NaN.
  """
  *_, heads, size = x.shape
  finite = jnp.isfinite(x).all(-1, keepdims=True)
  x = jnp.where(finite, x, 0)
  if w is None:
    if size != width:
      raise ValueError(
        f'{name}: got size {size} and no w_{name}, wanted it projected to '
        f"{width}, v's size"
      )
    x = x.astype(at_least_float32(x.dtype))
  else:
    _check_shape(f'w_{name}', w, (size, width), heads)
    pattern = '...h,ha->...a' if w.ndim == 2 else '...nh,nha->...na'
    x = jnp.einsum(
      pattern, x, w, preferred_element_type=at_least_float32(x.dtype)
    )
  return jnp.where(finite, x, jnp.nan)


def _check_floats(**arrays: Array) -> None:
  dtype = arrays['query'].dtype
  for name, x in arrays.items():
    if not jnp.issubdtype(x.dtype, jnp.floating):
      raise TypeError(f'{name}: got dtype {x.dtype}, wanted a float dtype')
    if x.dtype != dtype:
      raise TypeError(
        f"{name}: got dtype {x.dtype}, wanted {dtype}, the query's"
      )


def _check_shape(
  name: str, x: Array, shape: tuple[int, ...], heads: int
) -> None:
  if x.shape not in (shape, (heads, *shape)):
    raise ValueError(
      f'{name}: got shape {x.shape}, wanted {shape}, or {(heads, *shape)} for '
      'each head its own'
    )
