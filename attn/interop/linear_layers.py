"""The teaching form: three linear layers, and perhaps a fourth."""

from typing import Any

import numpy as np

from attn.interop.states import (
  Arrays,
  Imported,
  State,
  check_heads,
  check_plain,
  projections,
)
from attn.modules import MultiHeadAttention

_LAYERS = {'query': 'W_query', 'key': 'W_key', 'value': 'W_value'}


def from_linear_layers(
  state: State, *, num_heads: int = 1, out: str = 'out_proj'
) -> Imported:
  """A layer that computes what three or four linear layers do.

    query, key, value = x W_query.weightᵀ, x W_key.weightᵀ, x W_value.weightᵀ
    out               = merge(attention(query, key, value)) out_proj.weightᵀ

  Textbooks write attention like this, in PyTorch: of one head without out_proj,
  of several with it.  Whether tokens see the future is no parameter: leave out
  a buffer such as `mask`, and call the layer with `mask=masks.causal()`.

  Args:
    state: Name -> float[...] of NumPy: the three weights [N H, D], their
      biases [N H] or none of them, `out_proj.weight` [Do, N H] or none, and
      `out_proj.bias` [Do] or none.
    num_heads: N.
    out: What the fourth layer is called.

  Returns:
    The layer, and its parameters in the dtype of the state.

  Raises:
    ValueError: naming the key, if one is missing, surplus or of another shape,
      or if num_heads does not divide the width of the queries.
    TypeError: if something is no array of floats, or dtypes differ.

  Example:
    >>> weight = np.eye(2, 3, dtype=np.float32)
    >>> names = 'W_query.weight', 'W_key.weight', 'W_value.weight'
    >>> layer, params = from_linear_layers(dict.fromkeys(names, weight))
    >>> layer.apply({'params': params}, np.ones((6, 3), np.float32)).shape
    (6, 2)
  """
  weights = [f'{name}.weight' for name in (*_LAYERS.values(), out)]
  biases = [f'{name}.bias' for name in (*_LAYERS.values(), out)]
  arrays = Arrays(state, (*weights, *biases))
  width, wide = arrays.take(weights[0], None, None).shape
  head_dim = check_heads(num_heads, width, weights[0])
  params: dict[str, Any] = {
    name: {'kernel': arrays.take(f'{theirs}.weight', width, wide).T}
    for name, theirs in _LAYERS.items()
  }
  use_bias = any(name in arrays for name in biases[:3])
  if use_bias:
    for name, theirs in _LAYERS.items():
      params[name]['bias'] = arrays.take(f'{theirs}.bias', width)
  out_dim, out_bias = 0, False
  if weights[3] in arrays or biases[3] in arrays:
    kernel = arrays.take(weights[3], None, width).T
    out_dim, out_bias = kernel.shape[1], biases[3] in arrays
    params['out'] = {'kernel': kernel}
    if out_bias:
      params['out']['bias'] = arrays.take(biases[3], out_dim)
  layer = MultiHeadAttention(
    num_heads,
    head_dim=head_dim,
    use_bias=use_bias,
    out_bias=out_bias,
    out_dim=out_dim,
  )
  return Imported(layer, params)


def to_linear_layers(
  layer: MultiHeadAttention, params: State, *, out: str = 'out_proj'
) -> dict[str, np.ndarray]:
  """The state dict of three or four linear layers that compute the same.

  The way back from `from_linear_layers`.

  Args:
    layer: Without grouped queries, rotation, mods or anything else that is not
      in its projections.
    params: Its parameters.
    out: What to call the fourth layer, which is left out where out_dim is 0.

  Returns:
    Name -> array.

  Raises:
    ValueError: naming the attribute, if the layer does more; naming the
      parameter, if one is missing, surplus or of another shape.
    TypeError: if a parameter is no array of floats.

  Example:
    >>> layer = MultiHeadAttention(1, out_dim=0)
    >>> kernels = {'kernel': np.eye(3, dtype=np.float32)}
    >>> params = {'query': kernels, 'key': kernels, 'value': kernels}
    >>> sorted(to_linear_layers(layer, params))
    ['W_key.weight', 'W_query.weight', 'W_value.weight']
  """
  check_plain(layer, [])
  arrays = projections(layer, params)
  wide = arrays.take('query/kernel', None, None).shape[0]
  state = {}
  for name, theirs in {**_LAYERS, 'out': out}.items():
    rows = None if name == 'out' else wide
    if f'{name}/kernel' in arrays:
      state[f'{theirs}.weight'] = arrays.take(f'{name}/kernel', rows, None).T
    if f'{name}/bias' in arrays:
      state[f'{theirs}.bias'] = arrays.take(f'{name}/bias', None)
  return {name: np.array(x, order='C') for name, x in state.items()}
