"""torch.nn.MultiheadAttention in and out, against NumPy; no PyTorch here.

parity/ asks PyTorch itself.
"""

import jax
import numpy as np
import pytest

from attn.interop import from_torch, mask_from_torch, to_torch
from attn.modules import MultiHeadAttention
from tests import interop_cases, module_cases
from tests.checks import assert_close
from tests.interop_cases import DK, DV, B, D, N, S, T

_PACKED = {'in_proj_weight': (3 * D, D), 'out_proj.weight': (D, D)}
_SEPARATE = {
  'q_proj_weight': (D, D),
  'k_proj_weight': (D, DK),
  'v_proj_weight': (D, DV),
  'out_proj.weight': (D, D),
}
_BIASES = {'in_proj_bias': (3 * D,), 'out_proj.bias': (D,)}
_STATES = {
  'packed': interop_cases.draw(_PACKED),
  'packed, bias': interop_cases.draw(_PACKED | _BIASES),
  'separate': interop_cases.draw(_SEPARATE),
  'separate, bias': interop_cases.draw(_SEPARATE | _BIASES),
}


def _theirs(state, query, key, value, **options):
  """What torch computes, in float64."""
  state = {name: np.float64(x) for name, x in state.items()}
  if 'in_proj_weight' in state:
    weights = np.split(state['in_proj_weight'], 3)
  else:
    weights = [state[f'{x}_proj_weight'] for x in 'qkv']
  biases = np.split(state.get('in_proj_bias', np.zeros(3 * D)), 3)
  projected = [
    np.float64(x) @ weight.T + bias
    for x, weight, bias in zip((query, key, value), weights, biases)
  ]
  context = interop_cases.attend(*projected, **options)
  return context @ state['out_proj.weight'].T + state.get('out_proj.bias', 0)


@pytest.mark.parametrize('name', _STATES)
def test_computes_what_torch_does(name):
  state = _STATES[name]
  is_separate = 'q_proj_weight' in state
  x, key, value = interop_cases.inputs(
    D, DK if is_separate else D, DV if is_separate else D
  )
  layer, params = from_torch(state, num_heads=N)
  found = module_cases.run(layer, {'params': params}, x, key, value)
  assert_close(found, _theirs(state, x, key, value), 2e-6)
  if not is_separate:
    found = module_cases.run(layer, {'params': params}, x, key)
    assert_close(found, _theirs(state, x, key, key), 2e-6)
    found = module_cases.run(layer, {'params': params}, x)
    assert_close(found, _theirs(state, x, x, x), 2e-6)


@pytest.mark.parametrize('name', _STATES)
def test_there_and_back_no_bit_changes(name):
  layer, params = from_torch(_STATES[name], num_heads=N)
  interop_cases.same(to_torch(layer, params), _STATES[name])


def test_a_layer_of_ours_goes_there_and_back():
  layer = MultiHeadAttention(N, use_bias=True)
  x, source = interop_cases.inputs(D, DK)
  params = layer.init(jax.random.key(0), x, source)['params']
  state = to_torch(layer, params)
  assert state['k_proj_weight'].shape == (D, DK)
  # So that PyTorch may take them as they are.
  assert all(x.flags.writeable for x in state.values())
  again, back = from_torch(state, num_heads=N)
  assert again == layer
  jax.tree.map(np.testing.assert_array_equal, back, params)


def test_a_token_of_zeros_is_a_sink():
  state = _STATES['packed']
  (x,) = interop_cases.inputs(D)
  layer, params = from_torch(state, num_heads=N, add_zero_attn=True)
  found = module_cases.run(layer, {'params': params}, x)
  assert_close(found, _theirs(state, x, x, x, sink=np.zeros(N)), 2e-6)
  interop_cases.same(to_torch(layer, params), state)
  params['sink'] = params['sink'] + 1
  with pytest.raises(ValueError, match='sink: got numbers other than 0'):
    to_torch(layer, params)


@pytest.mark.parametrize('name', ['packed, bias', 'separate, bias'])
def test_what_is_spoilt_is_named(name):
  free = {('k_proj_weight', 1), ('v_proj_weight', 1)}
  for state, error, named in interop_cases.spoilt(_STATES[name], free):
    with pytest.raises(error) as raised:
      from_torch(state, num_heads=N)
    assert named in str(raised.value), str(raised.value)


def test_what_cannot_be_is_refused():
  state = _STATES['packed']
  token = np.zeros((1, 1, D), np.float32)
  with pytest.raises(ValueError, match='bias_k: got a learned token'):
    from_torch({**state, 'bias_k': token, 'bias_v': token}, num_heads=N)
  for num_heads in (0, 3):
    with pytest.raises(ValueError, match=f'num_heads: got {num_heads}, wanted'):
      from_torch(state, num_heads=num_heads)
  with pytest.raises(ValueError, match=r"'out_proj.weight' is missing"):
    from_torch({}, num_heads=N)
  x, *_ = interop_cases.inputs(D)
  for name, options in (
    ('num_kv_heads', {'num_kv_heads': 1}),
    ('rope_base', {'rope_base': 1e4}),
    ('qk_norm', {'qk_norm': True}),
    ('score', {'score': 'cosine'}),
    ('score_mod', {'score_mod': lambda score, b, n, q, k: 2 * score}),
    ('out_bias', {'out_bias': True}),
    ('out/kernel', {'out_dim': D + 1}),
    ('query/kernel', {'head_dim': 3}),
  ):
    layer = MultiHeadAttention(N, **options)
    params = interop_cases.zeros(layer, x) if '/' in name else {}
    with pytest.raises(ValueError, match=f'{name}: '):
      to_torch(layer, params)
  layer, params = from_torch(state, num_heads=N)
  del params['value']
  with pytest.raises(ValueError, match="'value/kernel' is missing"):
    to_torch(layer, params)
  params['value'] = params['other'] = params['key']
  with pytest.raises(ValueError, match="'other/kernel' is surplus"):
    to_torch(layer, params)


def test_masks_have_the_other_polarity():
  hidden = np.random.default_rng(0).random((B * N, T, S)) < 0.5
  padding = np.array([[False] * S, [False] * (S - 2) + [True] * 2])
  assert mask_from_torch() is None
  np.testing.assert_array_equal(
    mask_from_torch(hidden[0])[0, 0], np.logical_not(hidden[0])
  )
  np.testing.assert_array_equal(
    mask_from_torch(None, padding)[:, 0, 0], np.logical_not(padding)
  )
  both = mask_from_torch(hidden, padding, num_heads=N)
  floats = [np.where(mask, -np.inf, 0.0) for mask in (hidden, padding)]
  np.testing.assert_array_equal(mask_from_torch(*floats, num_heads=N), both)
  for b, n, t, s in np.ndindex(B, N, T, S):
    seen = not hidden[N * b + n, t, s] and not padding[b, s]
    assert both[b, n, t, s] == seen


def test_masks_that_are_none_are_refused():
  with pytest.raises(ValueError, match='attn_mask: got floats other than 0'):
    mask_from_torch(np.full((T, S), 0.5))
  with pytest.raises(TypeError, match='attn_mask: got dtype int64'):
    mask_from_torch(np.ones((T, S), np.int64))
  with pytest.raises(ValueError, match=r'attn_mask: got shape \(3, 3, 5\)'):
    mask_from_torch(np.ones((3, T, S), bool), num_heads=N)
  with pytest.raises(ValueError, match=r'key_padding_mask: got shape \(2, 4\)'):
    mask_from_torch(np.ones((T, S), bool), np.ones((B, S - 1), bool))
