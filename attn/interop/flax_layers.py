"""Flax's own attention layers, Linen and NNX: their parameters, in and out."""

from typing import Any

import numpy as np

from attn.interop.states import (
  PROJECTIONS,
  Arrays,
  Imported,
  State,
  check_plain,
  flatten,
  projections,
)
from attn.modules import MultiHeadAttention

_NORMS = ('query_ln', 'key_ln')


def from_flax(params: State) -> Imported:
  """A layer that computes what Flax's own multi-head attention does.

  That is `flax.linen.MultiHeadDotProductAttention`, `MultiHeadAttention` and
  `flax.nnx.MultiHeadAttention`: the same parameters, but there each projection
  has an axis of heads.

    query.kernel [D, N, H] → [D, N H],   out.kernel [N, H, Do] → [N H, Do]

  What Flax calls with (inputs_q, inputs_k, inputs_v) is called with the same
  three here.

  Args:
    params: Nested mappings of float[...]: of Linen `variables['params']`, of
      NNX `nnx.to_pure_dict(nnx.state(layer, nnx.Param))`.

  Returns:
    The layer, and its parameters in their dtype.

  Raises:
    ValueError: naming the parameter, if one is missing, surplus or of another
      shape; or if there is a query_ln or key_ln (normalize_qk), which subtract
      the mean, where qk_norm here does not.
    TypeError: if something is no array of floats, or dtypes differ.

  Example:
    >>> kernel = np.ones((8, 2, 4), np.float32)
    >>> names = ('query', 'key', 'value')
    >>> theirs = {name: {'kernel': kernel} for name in names}
    >>> theirs['out'] = {'kernel': np.ones((2, 4, 8), np.float32)}
    >>> layer, params = from_flax(theirs)
    >>> layer.num_heads, params['out']['kernel'].shape
    (2, (8, 8))

  References:
    https://flax-linen.readthedocs.io/en/latest/api_reference/flax.linen/layers.html
  """
  flat = flatten(params)
  for name in flat:
    if name.startswith(_NORMS):
      raise ValueError(
        f'{name}: got a LayerNorm of queries or keys (normalize_qk), wanted '
        'none: qk_norm divides by the root mean square alone'
      )
  kernels = [f'{name}/kernel' for name in PROJECTIONS]
  biases = [f'{name}/bias' for name in PROJECTIONS]
  arrays = Arrays(flat, (*kernels, *biases))
  _, heads, head_dim = arrays.take('query/kernel', None, None, None).shape
  ours: dict[str, Any] = {}
  for name in PROJECTIONS[:3]:
    kernel = arrays.take(f'{name}/kernel', None, heads, head_dim)
    ours[name] = {'kernel': kernel.reshape(len(kernel), -1)}
  out = arrays.take('out/kernel', heads, head_dim, None)
  ours['out'] = {'kernel': out.reshape(-1, out.shape[-1])}
  use_bias = any(name in arrays for name in biases)
  if use_bias:
    for name in PROJECTIONS[:3]:
      bias = arrays.take(f'{name}/bias', heads, head_dim)
      ours[name]['bias'] = bias.reshape(-1)
    ours['out']['bias'] = arrays.take('out/bias', out.shape[-1])
  layer = MultiHeadAttention(
    heads, head_dim=head_dim, use_bias=use_bias, out_dim=out.shape[-1]
  )
  return Imported(layer, ours)


def to_flax(
  layer: MultiHeadAttention, params: State
) -> dict[str, dict[str, np.ndarray]]:
  """The parameters of Flax's own layer that computes the same.

  The way back from `from_flax`.  Of NNX, `nnx.update(theirs, params)` takes
  them.

  Args:
    layer: Without grouped queries, rotation, mods or anything else that Flax's
      layer does not have.
    params: Its parameters.

  Returns:
    Nested dictionaries; qkv_features is N H there, and out_features as here.

  Raises:
    ValueError: naming the attribute, if the layer does more; naming the
      parameter, if one is missing, surplus or of another shape.
    TypeError: if a parameter is no array of floats.

  Example:
    >>> layer = MultiHeadAttention(2)
    >>> kernels = {'kernel': np.eye(8, dtype=np.float32)}
    >>> names = ('query', 'key', 'value', 'out')
    >>> theirs = to_flax(layer, dict.fromkeys(names, kernels))
    >>> theirs['query']['kernel'].shape, theirs['out']['kernel'].shape
    ((8, 2, 4), (2, 4, 8))
  """
  check_plain(layer, [])
  if layer.out_bias not in (None, layer.use_bias):
    raise ValueError(
      f'out_bias: got {layer.out_bias}, wanted use_bias {layer.use_bias}: in '
      'Flax all projections have a bias, or none'
    )
  if layer.out_dim == 0:
    raise ValueError('out_dim: got 0, wanted a W_out: Flax always has one')
  arrays = projections(layer, params)
  heads = layer.num_heads
  theirs: dict[str, dict[str, np.ndarray]] = {}
  for name in PROJECTIONS[:3]:
    kernel = arrays.take(f'{name}/kernel', None, None)
    theirs[name] = {'kernel': kernel.reshape(len(kernel), heads, -1)}
    if layer.use_bias:
      bias = arrays.take(f'{name}/bias', None)
      theirs[name]['bias'] = bias.reshape(heads, -1)
  out = arrays.take('out/kernel', None, None)
  theirs['out'] = {'kernel': out.reshape(heads, -1, out.shape[-1])}
  if layer.use_bias:
    theirs['out']['bias'] = arrays.take('out/bias', out.shape[-1])
  return theirs
