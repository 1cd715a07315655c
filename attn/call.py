"""One call of attention, checked and brought into canonical shape.

Every backend takes a `Call` and nothing else, so what users may write in many
ways (any batch axes, masks as arrays, lengths, windows) is understood once.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn import masks
from attn.masks.arguments import is_traced
from attn.precision import at_least_float32
from attn.weights import check_rate

Array = jax.Array
ScoreMod = Callable[[Array, Array, Array, Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Call:
  """Arguments of one call: heads and one flat batch axis, no synonyms.

  Attributes:
    query: float[B, T, N, H].
    key: float[B, S, K, H], N a multiple of K.
    value: float[B, S, K, Hv].
    bias: float, four axes that broadcast to [B, N, T, S]; or None.
    mask: All masks of the call in one, or None.
    scale: Multiplies the dot products.
    score_mod: Changes one score, or None.
    sink: float[N], or None.
    dropout_rate: Static, in [0, 1].
    rng: A PRNG key, None where nothing is dropped.
  """

  query: Array
  key: Array
  value: Array
  bias: Array | None
  mask: masks.Mask | None
  scale: float | Array
  score_mod: ScoreMod | None
  sink: Array | None
  dropout_rate: float
  rng: Array | None

  @property
  def sizes(self) -> tuple[int, int, int, int]:
    """(B, N, T, S): the shape that scores would have."""
    batch, num_queries, heads, _ = self.query.shape
    return (batch, heads, num_queries, self.key.shape[1])

  @property
  def compute_dtype(self) -> Any:
    """Float32, or float64 where the inputs are."""
    return at_least_float32(self.query.dtype)


def prepare(
  query: Array,
  key: Array,
  value: Array,
  bias: Array | None = None,
  mask: Array | masks.Mask | None = None,
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
) -> Call:
  """Check the arguments of `attn.attention` and build the `Call`.

  Args: as `attn.attention`.

  Returns:
    The call.

  Raises:
    TypeError, ValueError: as `attn.attention`.
  """
  _check_arrays(query, key, value)
  _check_dropout(dropout_rate, rng)
  if is_traced(is_causal):
    raise TypeError(f'is_causal: got {is_causal}, wanted a static bool')
  batch, scores_shape = query.shape[:-3], _scores_shape(query, key)
  parts = [
    _to_mask(mask, batch, scores_shape),
    masks.causal() if is_causal else None,
    _window(local_window_size),
    _lengths(query_seq_lengths, key_value_seq_lengths, batch),
  ]
  parts = [part for part in parts if part is not None]
  call = Call(
    query=_flatten(query),
    key=_flatten(key),
    value=_flatten(value),
    bias=_to_bias(bias, query.dtype, batch, scores_shape),
    mask=functools.reduce(operator.and_, parts) if parts else None,
    scale=_to_scale(scale, query),
    score_mod=score_mod,
    sink=_to_sink(sink, query),
    dropout_rate=dropout_rate,
    rng=rng if dropout_rate > 0 else None,
  )
  _check_extents(call)
  if 0 in call.sizes:
    # There is no score, and an array of an empty axis cannot be indexed.
    return dataclasses.replace(call, score_mod=None)
  _check_score_mod(call)
  return call


def to_array(name: str, x: Any) -> Array:
  """What may be a list, as an array; refused by the argument's name."""
  try:
    return jnp.asarray(x)
  except (TypeError, ValueError) as error:
    raise TypeError(f'{name}: got {x!r}, wanted an array') from error


def to_arrays(**arguments: Any) -> list[Array]:
  """Each of the arguments as `to_array` makes it."""
  return [to_array(name, x) for name, x in arguments.items()]


def with_batch_of(query: Array, *results: Array) -> tuple[Array, ...]:
  """Results of a `Call`, with the batch axes that the query came with."""
  batch = query.shape[:-3]
  return tuple(x.reshape(*batch, *x.shape[1:]) for x in results)


def check_implementation(name: str | None, known: Iterable[str]) -> None:
  """Refuse one that is not known."""
  if name is not None and name not in known:
    raise ValueError(
      f'implementation: got {name!r}, wanted None or one of '
      f'{", ".join(map(repr, known))}'
    )


def _flatten(x: Array) -> Array:
  return x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])


def _scores_shape(query: Array, key: Array) -> tuple[int, ...]:
  *batch, num_queries, heads, _ = query.shape
  return (*batch, heads, num_queries, key.shape[-3])


def _check_arrays(query: Array, key: Array, value: Array) -> None:
  arrays = {'query': query, 'key': key, 'value': value}
  for name, x in arrays.items():
    if x.ndim < 3:
      raise ValueError(
        f'{name}: got shape {x.shape}, wanted [*B, length, heads, head size]'
      )
    if not jnp.issubdtype(x.dtype, jnp.floating):
      raise TypeError(f'{name}: got dtype {x.dtype}, wanted a float dtype')
    if x.dtype != query.dtype:
      raise TypeError(
        f"{name}: got dtype {x.dtype}, wanted {query.dtype}, the query's"
      )
    if x.shape[:-3] != query.shape[:-3]:
      raise ValueError(
        f'{name}: got batch axes {x.shape[:-3]} (shape {x.shape}), wanted '
        f"{query.shape[:-3]}, the query's"
      )
  if value.shape[:-1] != key.shape[:-1]:
    raise ValueError(
      f'value: got shape {value.shape}, wanted {key.shape[:-1]} and a head '
      "size of its own: key's length and heads"
    )
  if key.shape[-1] != query.shape[-1]:
    raise ValueError(
      f'key: got head size {key.shape[-1]} (shape {key.shape}), wanted '
      f"{query.shape[-1]}, the query's"
    )
  heads, kv_heads = query.shape[-2], key.shape[-2]
  if (heads % kv_heads) if kv_heads else heads:
    raise ValueError(
      f'key: got {kv_heads} heads (shape {key.shape}), wanted a divisor of '
      f"{heads}, the query's heads"
    )


def _broadcastable(
  name: str, x: Array, batch: tuple[int, ...], scores_shape: tuple[int, ...]
) -> Array:
  """Check that x broadcasts to the scores; flatten its batch axes into one."""
  try:
    fits = jnp.broadcast_shapes(x.shape, scores_shape) == scores_shape
  except ValueError:
    fits = False
  if not fits:
    raise ValueError(
      f'{name}: got shape {x.shape}, wanted one that broadcasts to '
      f'{scores_shape}, [*B, N, T, S]'
    )
  x = x.reshape((1,) * (len(scores_shape) - x.ndim) + x.shape)
  if all(size == 1 for size in x.shape[:-3]):
    return x.reshape(1, *x.shape[-3:])
  x = jnp.broadcast_to(x, batch + x.shape[-3:])
  return x.reshape(math.prod(batch), *x.shape[-3:])


def _to_scale(scale: float | Array | None, query: Array) -> float | Array:
  if scale is None:
    return max(query.shape[-1], 1) ** -0.5
  if isinstance(scale, (int, float)):
    return float(scale)  # of np.float64 too, which would widen the scores
  scale = to_array('scale', scale)
  real = (jnp.floating, jnp.integer)
  if not any(jnp.issubdtype(scale.dtype, kind) for kind in real):
    raise TypeError(f'scale: got dtype {scale.dtype}, wanted a number')
  if scale.shape != ():
    raise ValueError(
      f'scale: got shape {scale.shape}, wanted one number; a scale for '
      'each head or key is a score_mod'
    )
  return scale.astype(at_least_float32(query.dtype))


def _to_sink(sink: Array | None, query: Array) -> Array | None:
  if sink is None:
    return None
  sink = to_array('sink', sink)
  heads = (query.shape[-2],)
  if sink.shape != heads:
    raise ValueError(
      f'sink: got shape {sink.shape}, wanted {heads}, one per query head'
    )
  if not jnp.issubdtype(sink.dtype, jnp.floating):
    raise TypeError(f'sink: got dtype {sink.dtype}, wanted a float dtype')
  # Its gradient is a sum over all rows, which must not be taken in bfloat16.
  return sink.astype(at_least_float32(query.dtype))


def _to_bias(
  bias: Array | None,
  dtype: Any,
  batch: tuple[int, ...],
  scores_shape: tuple[int, ...],
) -> Array | None:
  if bias is None:
    return None
  bias = to_array('bias', bias)
  if not jnp.issubdtype(bias.dtype, jnp.floating):
    raise TypeError(
      f'bias: got dtype {bias.dtype}, wanted a float dtype; a boolean array is '
      'a mask'
    )
  if bias.size < math.prod(scores_shape):
    # The gradient of a shared bias is a sum, as that of a sink.
    bias = bias.astype(at_least_float32(dtype))
  return _broadcastable('bias', bias, batch, scores_shape)


def _to_mask(
  mask: Array | masks.Mask | None,
  batch: tuple[int, ...],
  scores_shape: tuple[int, ...],
) -> masks.Mask | None:
  if mask is None:
    return None
  if isinstance(mask, masks.Mask):
    if any(isinstance(x, masks.Mask) for x in jax.tree.leaves(mask)):
      raise TypeError(
        f'mask: got {mask!r}, whose class, or that of a part, is no pytree; '
        'wanted one made with attn.masks.base.value'
      )
    return mask
  if callable(mask):
    raise TypeError(
      f'mask: got {mask!r}, wanted an array or a mask object; a function '
      'becomes one by attn.masks.from_fn'
    )
  mask = to_array('mask', mask)
  if mask.dtype != jnp.bool_:
    raise TypeError(
      f'mask: got dtype {mask.dtype}, wanted bool (True = may attend); a float '
      'array to be added to the scores is a bias'
    )
  return masks.dense(_broadcastable('mask', mask, batch, scores_shape))


def _window(size: int | tuple[int, int] | None) -> masks.Mask | None:
  if size is None:
    return None
  sizes = np.asarray(size)
  whole = np.issubdtype(sizes.dtype, np.integer)
  if sizes.shape not in ((), (2,)) or not whole or (sizes < 0).any():
    raise ValueError(
      f'local_window_size: got {size}, wanted (left, right) of at least 0, or '
      'one number for both'
    )
  left, right = np.broadcast_to(sizes, 2).tolist()
  return masks.sliding_window(left, right)


def _lengths(
  query_lengths: Array | None,
  key_lengths: Array | None,
  batch: tuple[int, ...],
) -> masks.Mask | None:
  lengths = {
    'query_seq_lengths': query_lengths,
    'key_value_seq_lengths': key_lengths,
  }
  for name, x in lengths.items():
    if x is None:
      continue
    x = lengths[name] = to_array(name, x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
      raise TypeError(f'{name}: got dtype {x.dtype}, wanted integers')
    if x.shape != batch and x.shape != (math.prod(batch),):
      raise ValueError(
        f'{name}: got shape {x.shape}, wanted {batch}, the batch axes'
      )
  if query_lengths is None and key_lengths is None:
    return None
  return masks.padding(
    lengths['key_value_seq_lengths'], lengths['query_seq_lengths']
  )


def _check_extents(call: Call) -> None:
  names = ('batch size', 'number of heads', 'query length', 'key length')
  for argument in ('mask', 'score_mod'):
    extents = getattr(getattr(call, argument), 'extents', (None,) * 4)
    for name, got, wanted in zip(names, extents, call.sizes):
      if got is not None and got != wanted:
        raise ValueError(
          f'{argument}: got arrays for {name} {got}, wanted {wanted}'
        )


def _check_score_mod(call: Call) -> None:
  if call.score_mod is None:
    return
  score = jax.ShapeDtypeStruct((), call.compute_dtype)
  index = jax.ShapeDtypeStruct((), jnp.int32)
  try:
    out = jax.eval_shape(call.score_mod, score, index, index, index, index)
  except Exception as error:
    raise ValueError(
      f'score_mod: raised {type(error).__name__} for one score and its indices '
      f'(score, b, n, q, k): {error}'
    ) from error
  shape, dtype = getattr(out, 'shape', None), getattr(out, 'dtype', None)
  if shape != () or dtype != score.dtype:
    raise TypeError(
      f'score_mod: returned {out}, wanted one score of dtype {score.dtype}'
    )


def _check_dropout(rate: float, rng: Array | None) -> None:
  if not isinstance(rate, (int, float, np.number)):
    raise TypeError(f'dropout_rate: got {rate!r}, wanted a static number')
  check_rate('dropout_rate', rate)
  if rate > 0 and rng is None:
    raise ValueError(
      f'rng: got None with dropout_rate {rate}, wanted a PRNG key'
    )
  if rate > 0 and not isinstance(rng, (jax.Array, np.ndarray)):
    raise TypeError(f'rng: got {rng!r}, wanted a PRNG key')
