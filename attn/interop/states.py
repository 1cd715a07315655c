"""What comes in and goes out: arrays by name, checked one by one."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attn.modules import MultiHeadAttention

State = Mapping[str, Any]
Params = dict[str, dict[str, np.ndarray]]

# In the order in which they are applied.
PROJECTIONS = ('query', 'key', 'value', 'out')

# Attributes of a layer that say nothing about what it computes, or what its
# parameters are checked against.
_FREE = {
  *('num_heads', 'num_kv_heads', 'head_dim', 'use_bias', 'out_bias'),
  *('out_dim', 'dropout_rate', 'kernel_init', 'out_init', 'implementation'),
  *('capture_weights', 'parent', 'name'),
}


class Imported(NamedTuple):
  """A layer, and the parameters it was given.

  Attributes:
    layer: It computes what the other one did.
    params: To be applied with: `layer.apply({'params': params}, x)`.
  """

  layer: MultiHeadAttention
  params: dict[str, Any]


class Arrays:
  """The arrays of a state, each to be taken once, under its name."""

  def __init__(self, state: State, known: Collection[str]) -> None:
    """Args: state: what came.  known: every name that may be in it.

    Raises:
      ValueError: if there is a name beyond them, or two dtypes.
      TypeError: if something is no array of floats.
    """
    for name in state:
      if name not in known:
        raise ValueError(
          f'state: {name!r} is surplus, wanted only {_listed(known)}'
        )
    self._arrays = {name: _array(name, state[name]) for name in state}
    dtypes = {name: x.dtype for name, x in self._arrays.items()}
    for name, dtype in dtypes.items():
      first = next(iter(dtypes))
      if dtype != dtypes[first]:
        raise TypeError(
          f'{name}: got dtype {dtype}, wanted {dtypes[first]} as {first}'
        )

  def __contains__(self, name: str) -> bool:
    return name in self._arrays

  def take(self, name: str, *shape: int | None) -> np.ndarray:
    """An array of this shape; None for a size that may be any.

    Raises:
      ValueError: if it is missing or has another shape.
    """
    if name not in self:
      raise ValueError(f'state: {name!r} is missing')
    array = self._arrays[name]
    fits = array.ndim == len(shape) and all(
      wanted in (None, size) for size, wanted in zip(array.shape, shape)
    )
    if not fits:
      wanted = ', '.join('*' if x is None else str(x) for x in shape)
      raise ValueError(f'{name}: got shape {array.shape}, wanted ({wanted})')
    return array


def flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested mappings as one, with a slash between the names."""
  flat = {}
  for name, inner in tree.items():
    if isinstance(inner, Mapping):
      flat |= flatten(inner, f'{prefix}{name}/')
    else:
      flat[f'{prefix}{name}'] = inner
  return flat


def check_heads(num_heads: int, width: int, name: str) -> int:
  """The head size of so many heads in the width of an array of this name."""
  if num_heads < 1 or width % num_heads:
    raise ValueError(
      f'num_heads: got {num_heads}, wanted a divisor of {width}, the width of '
      f'{name}'
    )
  return width // num_heads


def check_plain(layer: MultiHeadAttention, allowed: Collection[str]) -> None:
  """Refuse a layer that does more than its projections say.

  Raises:
    ValueError: naming the attribute.
  """
  for field in dataclasses.fields(layer):
    if field.name in _FREE or field.name in allowed:
      continue
    value = getattr(layer, field.name)
    if value != field.default:
      raise ValueError(
        f'{field.name}: got {value!r}, wanted {field.default!r}: the other '
        'layer cannot do that'
      )
  if layer.num_kv_heads not in (None, layer.num_heads):
    raise ValueError(
      f'num_kv_heads: got {layer.num_kv_heads}, wanted num_heads '
      f'{layer.num_heads}: the other layer groups no queries'
    )


def projections(layer: MultiHeadAttention, params: State) -> Arrays:
  """The parameters of a layer's projections, 'query/kernel' and so on.

  Shapes are checked: of every kernel the columns, and of every bias.

  Raises:
    ValueError: if one is missing or surplus, or a shape is another one.
    TypeError: if one is no array of floats.
  """
  names = PROJECTIONS if layer.out_dim != 0 else PROJECTIONS[:3]
  known = [f'{name}/kernel' for name in names]
  has_bias = dict.fromkeys(names, layer.use_bias)
  if 'out' in has_bias and layer.out_bias is not None:
    has_bias['out'] = layer.out_bias
  known += [f'{name}/bias' for name in names if has_bias[name]]
  sinks = ['sink'] if layer.sinks else []
  arrays = Arrays(flatten(params), [*known, *sinks])
  kernels = {name: arrays.take(f'{name}/kernel', None, None) for name in names}
  heads = layer.num_heads
  check_heads(heads, kernels['query'].shape[1], 'query/kernel')
  head_dim = kernels['query'].shape[1] // heads
  widths = dict.fromkeys(
    ('key', 'value'), (layer.num_kv_heads or heads) * head_dim
  )
  for name, width in widths.items():
    arrays.take(f'{name}/kernel', None, width)
  if 'out' in kernels:
    out_dim = layer.out_dim or kernels['query'].shape[0]
    arrays.take('out/kernel', heads * head_dim, out_dim)
  for name in names:
    if has_bias[name]:
      arrays.take(f'{name}/bias', kernels[name].shape[1])
  return arrays


def _array(name: str, value: Any) -> np.ndarray:
  if not isinstance(value, np.ndarray | jax.Array):
    raise TypeError(
      f'{name}: got a {type(value).__name__}, wanted an array of NumPy'
    )
  if not jnp.issubdtype(value.dtype, jnp.floating):
    raise TypeError(f'{name}: got dtype {value.dtype}, wanted floats')
  return np.asarray(value)


def _listed(names: Collection[str]) -> str:
  return ', '.join(map(repr, names))
