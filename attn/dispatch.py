"""The front door: one call for every attention, whatever computes it."""

import inspect
from typing import Any

import jax

from attn.backends.blockwise import blockwise
from attn.backends.choice import Explanation, choose, describe
from attn.backends.dense import dense
from attn.call import (
  ScoreMod,
  check_implementation,
  prepare,
  to_arrays,
  with_batch_of,
)
from attn.masks import Mask

Array = jax.Array

# `jax.nn.dot_product_attention` calls its own written-out version 'xla'.
_BACKENDS = {'dense': dense, 'xla': dense, 'blockwise': blockwise}


def attention(
  query: Array,
  key: Array,
  value: Array,
  bias: Array | None = None,
  mask: Array | Mask | None = None,
  *,
  scale: float | Array | None = None,
  is_causal: bool = False,
  query_seq_lengths: Array | None = None,
  key_value_seq_lengths: Array | None = None,
  local_window_size: int | tuple[int, int] | None = None,
  score_mod: ScoreMod | None = None,
  sink: Array | None = None,
  dropout_rate: float = 0.0,
  rng: Array | None = None,
  return_residual: bool = False,
  implementation: str | None = None,
) -> Any:
  """Attention of many heads, with any mask and any change to the scores.

    scores  = score_mod(scale * query keyᵀ) + bias
    weights = dropout(softmax(scores, where mask allows))
    context = weights value

  Takes every call that `jax.nn.dot_product_attention` takes.  All masks given,
  by whatever argument, hold together.

  What is promised, on every implementation, forward and gradient: a row that
  may attend to nothing gives exactly 0 and sends exactly 0 gradient; NaN or
  Inf in a key or value changes no bit of a row that may not attend to it, and
  makes NaN of one that may; a bias of -inf is a mask; float16 and bfloat16 are
  summed in float32; lengths and head sizes may be anything, 0 included.

  Shapes: *B any batch axes, none included; T query length, S key length,
  N query heads, K key/value heads (N a multiple of K: query head n reads
  key/value head n // (N/K)), H head size, Hv head size of the values.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, H].
    value: float[*B, S, K, Hv].
    bias: float, broadcastable to [*B, N, T, S]; added to the scores.
    mask: bool, broadcastable to [*B, N, T, S], True = may attend; or a mask
      object from `attn.masks`.
    scale: Multiplies the dot products; `H ** -0.5` if None.
    is_causal: Query t sees keys up to t, aligned at the top left also where T
      and S differ.  For another alignment pass `masks.causal(offset)`.
    query_seq_lengths: int[*B]; later queries are padding and give 0.
    key_value_seq_lengths: int[*B]; later keys are padding.
    local_window_size: (left, right), how many neighbours are seen on either
      side; one number stands for both.
    score_mod: `score_mod(score, b, n, q, k) -> score`, on scalars: one score
      in float32 (float64 for float64 inputs), batch element (flat over *B),
      query head, query, key.  Arrays it captures are differentiated.
    sink: float[N], a score per head that belongs to no key.
    dropout_rate: Static, in [0, 1].
    rng: A PRNG key; needed where dropout_rate > 0.  The weight (b, n, q, k) is
      dropped or not whatever the other sizes are.
    return_residual: Return also the logarithm of softmax's denominator.
    implementation: 'dense' (every score written out; also called 'xla', as in
      jax.nn), 'blockwise' (memory proportional to T + S, skips what the mask
      hides), or None for the best that serves the call: see `explain`.

  Returns:
    The context, float[*B, T, N, Hv] in the dtype of query.  With
    return_residual also float[*B, T, N] in at least float32, -inf where a row
    may attend to nothing.

  Raises:
    TypeError: if query, key and value are not floats of one dtype, mask is not
      boolean, bias or sink not float, lengths not integers, or score_mod
      returns another shape or dtype.
    ValueError: if shapes, batch axes or head counts do not fit, mask, bias or
      sink do not broadcast, scale is not one number, score_mod raises, a
      window is not one or two numbers of at least 0,
      dropout_rate is outside [0, 1] or has no rng, or implementation is
      unknown.

  Example:
    >>> import jax.numpy as jnp
    >>> x = jnp.ones((1, 3, 2, 4))  # batch, length, heads, head size
    >>> attention(x, x, x, is_causal=True).shape
    (1, 3, 2, 4)
    >>> from attn import masks
    >>> near = masks.causal() & masks.sliding_window(1, 0)
    >>> bool((attention(x, x, x, mask=near) == x).all())
    True

  References:
    Vaswani et al., 2017. https://arxiv.org/abs/1706.03762
    Ainslie et al., 2023 (grouped queries). https://arxiv.org/abs/2305.13245
  """
  query, key, value = to_arrays(query=query, key=key, value=value)
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
    dropout_rate=dropout_rate,
    rng=rng,
  )
  check_implementation(implementation, _BACKENDS)
  name = implementation or choose(call)[0]
  context, residual = _BACKENDS[name](call)
  context, residual = with_batch_of(query, context, residual)
  return (context, residual) if return_residual else context


def explain(
  query: Array,
  key: Array,
  value: Array,
  bias: Array | None = None,
  mask: Array | Mask | None = None,
  *,
  implementation: str | None = None,
  **options: Any,
) -> Explanation:
  """Print and return what `attention` would do with the same arguments.

  Computes no attention.  Arguments may be traced, or shapes alone: inside
  `jax.eval_shape` or `jit` it explains the program being compiled.

  Args:
    query: As in `attention`.
    key: As in `attention`.
    value: As in `attention`.
    bias: As in `attention`.
    mask: As in `attention`.
    implementation: As in `attention`.
    **options: The other options of `attention`.

  Returns:
    The implementation and the reason, each one rejected and why, the blocks
    of scores that exist and that are visited, FLOPs, bytes.

  Raises:
    TypeError, ValueError: as `attention`.

  Example:
    >>> import jax.numpy as jnp
    >>> x = jnp.ones((1, 8192, 8, 64))
    >>> from attn import masks
    >>> near = masks.causal() & masks.sliding_window(256, 0)
    >>> _ = explain(x, x, x, mask=near)  # doctest: +ELLIPSIS
    blockwise: 536,870,912 scores, at least ...
    not dense: ...
    blocks of 256 x 256: 504 visited of 8,192
    forward: ... GFLOP in matrix products
    inputs and outputs: 64.0 MiB, besides about ...
  """
  query, key, value = to_arrays(query=query, key=key, value=value)
  unknown = options.keys() - inspect.signature(attention).parameters.keys()
  if unknown:
    raise TypeError(
      f'options: got {sorted(unknown)}, wanted options of `attention`'
    )
  options.pop('return_residual', None)
  call = prepare(query, key, value, bias, mask, **options)
  check_implementation(implementation, _BACKENDS)
  best, reason, rejected = choose(call)
  if implementation is not None and implementation != best:
    reason = f'asked for; {best} would be chosen: {reason}'
    rejected = {best: f'{implementation} was asked for'}
  explanation = describe(call, implementation or best, reason, rejected)
  print(explanation)
  return explanation
