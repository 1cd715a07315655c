"""`torch.nn.MultiheadAttention`: its parameters and masks, in and out."""

from typing import Any

import numpy as np

from attn.interop.states import (
  PROJECTIONS,
  Arrays,
  Imported,
  State,
  check_heads,
  check_plain,
  projections,
)
from attn.modules import MultiHeadAttention

_PACKED = 'in_proj_weight'
_SEPARATE = {
  'query': 'q_proj_weight',
  'key': 'k_proj_weight',
  'value': 'v_proj_weight',
}
_OUT = 'out_proj.weight'
_BIASES = ('in_proj_bias', 'out_proj.bias')
_LEARNED_TOKENS = ('bias_k', 'bias_v')


def from_torch(
  state: State, *, num_heads: int, add_zero_attn: bool = False
) -> Imported:
  """A layer that computes what a `torch.nn.MultiheadAttention` does.

    in_proj_weight = [W_queryᵀ; W_keyᵀ; W_valueᵀ],   out_proj.weight = W_outᵀ

  or, where keys and values have widths of their own (kdim, vdim), the first
  three as q_proj_weight, k_proj_weight and v_proj_weight.  What torch calls
  with (query, key, value) is called with (query, key, value) here as well; a
  value that is the key may be left out, and both in self-attention.  The batch
  comes first, whatever torch's batch_first: it says nothing about parameters.
  Masks have the other polarity; see `mask_from_torch`.

  Weights need `capture_weights=True`; torch shows their mean over the heads.
  A query that may attend to nothing gives 0 here, and NaN there.

  Args:
    state: The state dict, name -> float[...] of NumPy; in PyTorch
      `{name: x.numpy() for name, x in layer.state_dict().items()}`.
    num_heads: N, which a state dict does not tell.
    add_zero_attn: What the layer was made with, which it does not tell either:
      it becomes a sink of 0, whose share is missing from captured weights.

  Returns:
    The layer, and its parameters in the dtype of the state.

  Raises:
    ValueError: naming the key, if one is missing, surplus or of another shape;
      if there are bias_k and bias_v, a learned token (add_bias_kv), which the
      layer cannot have; or if num_heads does not divide the width.
    TypeError: if something is no array of floats, or dtypes differ.

  Example:
    >>> state = {'in_proj_weight': np.ones((24, 8), np.float32),
    ...          'out_proj.weight': np.ones((8, 8), np.float32)}
    >>> layer, params = from_torch(state, num_heads=2)
    >>> layer.apply({'params': params}, np.ones((3, 5, 8), np.float32)).shape
    (3, 5, 8)
    >>> sorted(to_torch(layer, params))
    ['in_proj_weight', 'out_proj.weight']

  References:
    https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention
  """
  _refuse_learned_tokens(state)
  is_separate = any(name in state for name in _SEPARATE.values())
  weights = _SEPARATE.values() if is_separate else (_PACKED,)
  arrays = Arrays(state, (*weights, _OUT, *_BIASES))
  width = arrays.take(_OUT, None, None).shape[0]
  arrays.take(_OUT, width, width)
  check_heads(num_heads, width, _OUT)
  params: dict[str, Any] = {}
  if is_separate:
    for name, theirs in _SEPARATE.items():
      columns = width if name == 'query' else None
      params[name] = {'kernel': arrays.take(theirs, width, columns).T}
  else:
    packed = arrays.take(_PACKED, 3 * width, width)
    for name, part in zip(_SEPARATE, np.split(packed, 3)):
      params[name] = {'kernel': part.T}
  params['out'] = {'kernel': arrays.take(_OUT, width, width).T}
  use_bias = any(name in arrays for name in _BIASES)
  if use_bias:
    parts = np.split(arrays.take('in_proj_bias', 3 * width), 3)
    biases = *parts, arrays.take('out_proj.bias', width)
    for name, bias in zip(PROJECTIONS, biases):
      params[name]['bias'] = bias
  if add_zero_attn:
    params['sink'] = np.zeros(num_heads, params['out']['kernel'].dtype)
  layer = MultiHeadAttention(num_heads, use_bias=use_bias, sinks=add_zero_attn)
  return Imported(layer, params)


def to_torch(layer: MultiHeadAttention, params: State) -> dict[str, np.ndarray]:
  """The state dict of a `torch.nn.MultiheadAttention` that computes the same.

  The way back from `from_torch`: the weights are packed where keys and values
  are as wide as the queries, as torch does it.  A sink becomes add_zero_attn.

  Args:
    layer: Without grouped queries, rotation, mods or anything that torch's
      layer does not have.
    params: Its parameters.

  Returns:
    Name -> array, to be given to `load_state_dict` as
    `{name: torch.from_numpy(x) for name, x in state.items()}`.

  Raises:
    ValueError: naming the attribute, if the layer does what torch's cannot;
      naming the parameter, if one is missing, surplus, of another shape, or a
      sink that is not 0.
    TypeError: if a parameter is no array of floats.

  Example:
    >>> layer = MultiHeadAttention(2, use_bias=True)
    >>> x = np.ones((5, 8), np.float32)
    >>> import jax
    >>> params = layer.init(jax.random.key(0), x)['params']
    >>> sorted(to_torch(layer, params))
    ['in_proj_bias', 'in_proj_weight', 'out_proj.bias', 'out_proj.weight']
  """
  check_plain(layer, ['sinks'])
  if layer.out_bias not in (None, layer.use_bias):
    raise ValueError(
      f'out_bias: got {layer.out_bias}, wanted use_bias {layer.use_bias}: in '
      'torch all projections have a bias, or none'
    )
  arrays = projections(layer, params)
  width = arrays.take('query/kernel', None, None).shape[0]
  arrays.take('query/kernel', width, width)
  arrays.take('out/kernel', width, width)
  if layer.sinks and arrays.take('sink', layer.num_heads).any():
    raise ValueError(
      'sink: got numbers other than 0, wanted 0, as torch has it'
    )
  kernels = [arrays.take(f'{x}/kernel', None, width).T for x in _SEPARATE]
  if all(kernel.shape == (width, width) for kernel in kernels):
    state = {_PACKED: np.concatenate(kernels)}
  else:
    state = dict(zip(_SEPARATE.values(), kernels))
  state[_OUT] = arrays.take('out/kernel', width, width).T
  if layer.use_bias:
    biases = [arrays.take(f'{x}/bias', width) for x in PROJECTIONS]
    state['in_proj_bias'] = np.concatenate(biases[:3])
    state['out_proj.bias'] = biases[3]
  return {name: np.array(x, order='C') for name, x in state.items()}


def mask_from_torch(
  attn_mask: Any = None,
  key_padding_mask: Any = None,
  *,
  num_heads: int = 1,
) -> np.ndarray | None:
  """Torch's masks as the one that `MultiHeadAttention` is called with.

    mask = not attn_mask and not key_padding_mask

  There True, or a bias of -inf, hides a key; here True shows it.

  Shapes: B batch, N heads, T queries, S keys.

  Args:
    attn_mask: bool or float, [T, S] or [B N, T, S]; None for none.
    key_padding_mask: bool or float, [B, S]; None for none.
    num_heads: N, to take the first axis of attn_mask apart.

  Returns:
    bool[B|1, N|1, T|1, S]; None if there is no mask.

  Raises:
    ValueError: if a shape is another one, or a float is neither 0 nor -inf,
      which is a bias and no mask.
    TypeError: if a mask is of something else.

  Example:
    >>> mask_from_torch([[False, True], [False, False]])
    array([[[[ True, False],
             [ True,  True]]]])
  """
  shown = None
  if attn_mask is not None:
    shown = _shown('attn_mask', attn_mask)
    if shown.ndim == 3 and num_heads > 0 and not len(shown) % num_heads:
      shown = shown.reshape(-1, num_heads, *shown.shape[1:])
    elif shown.ndim == 2:
      shown = shown[None, None]
    else:
      raise ValueError(
        f'attn_mask: got shape {shown.shape}, wanted [T, S], or [B N, T, S] '
        f'of {num_heads} heads'
      )
  if key_padding_mask is None:
    return shown
  real = _shown('key_padding_mask', key_padding_mask)
  if real.ndim != 2 or (shown is not None and real.shape[1] != shown.shape[3]):
    raise ValueError(
      f'key_padding_mask: got shape {real.shape}, wanted [B, S], of the keys '
      'of attn_mask'
    )
  real = real[:, None, None]
  return real if shown is None else shown & real


def _shown(name: str, hidden: Any) -> np.ndarray:
  hidden = np.asarray(hidden)
  if hidden.dtype == bool:
    return ~hidden
  if not np.issubdtype(hidden.dtype, np.floating):
    raise TypeError(f'{name}: got dtype {hidden.dtype}, wanted bool or floats')
  if not ((hidden == 0) | (hidden == -np.inf)).all():
    raise ValueError(
      f'{name}: got floats other than 0 and -inf, a bias; wanted a mask'
    )
  return hidden == 0


def _refuse_learned_tokens(state: State) -> None:
  for name in _LEARNED_TOKENS:
    if name in state:
      raise ValueError(
        f'{name}: got a learned token (add_bias_kv), wanted none: '
        'MultiHeadAttention has no such key'
      )
