"""Three linear layers, or four, in and out: against NumPy."""

import numpy as np
import pytest

from attn import masks
from attn.interop import from_linear_layers, to_linear_layers
from attn.modules import MultiHeadAttention
from tests import interop_cases, module_cases
from tests.checks import assert_close
from tests.interop_cases import DO, H, N, T

_LAYERS = ('W_query', 'W_key', 'W_value')
_WIDE = 11
_THREE = {f'{name}.weight': (N * H, _WIDE) for name in _LAYERS}
_STATES = {
  'three': interop_cases.draw(_THREE),
  'biases': interop_cases.draw(
    _THREE | {f'{name}.bias': (N * H,) for name in _LAYERS}
  ),
  'four': interop_cases.draw(_THREE | {'out_proj.weight': (DO, N * H)}),
  'four, bias': interop_cases.draw(
    _THREE | {'out_proj.weight': (DO, N * H), 'out_proj.bias': (DO,)}
  ),
}


def _theirs(state, x, **options):
  state = {name: np.float64(array) for name, array in state.items()}

  def linear(name, x):
    return x @ state[f'{name}.weight'].T + state.get(f'{name}.bias', 0)

  projected = [linear(name, np.float64(x)) for name in _LAYERS]
  context = interop_cases.attend(*projected, **options)
  return linear('out_proj', context) if 'out_proj.weight' in state else context


@pytest.mark.parametrize('name', _STATES)
def test_computes_what_the_layers_do(name):
  state = _STATES[name]
  (x,) = interop_cases.inputs(_WIDE)
  layer, params = from_linear_layers(state, num_heads=N)
  mask = masks.causal()
  found = module_cases.run(layer, {'params': params}, x, mask=mask)
  expected = _theirs(state, x, mask=np.tri(T, dtype=bool))
  assert_close(found, expected, 2e-6)


def test_the_numbers_of_the_textbook():
  # One head of three tokens, worked by hand: keys are orthogonal, so each
  # token's score with itself is log(3)·√2 / √2, and 0 with the other.
  weight = np.eye(2, dtype=np.float32)
  scaled = weight * np.float32(np.log(3) * 2**0.5)
  state = {'W_query.weight': scaled, 'W_key.weight': weight}
  state['W_value.weight'] = np.float32([[0, 4], [8, 0]])
  layer, params = from_linear_layers(state)
  found = layer.apply({'params': params}, weight)
  # Weights 3/4 and 1/4; values of the tokens are (0, 8) and (4, 0).
  np.testing.assert_allclose(found, [[1, 6], [3, 2]], rtol=1e-6)


@pytest.mark.parametrize('name', _STATES)
def test_there_and_back_no_bit_changes(name):
  layer, params = from_linear_layers(_STATES[name], num_heads=N)
  interop_cases.same(to_linear_layers(layer, params), _STATES[name])


def test_the_fourth_layer_may_have_another_name():
  state = dict(_STATES['four'])
  state['o.weight'] = state.pop('out_proj.weight')
  layer, params = from_linear_layers(state, num_heads=N, out='o')
  interop_cases.same(to_linear_layers(layer, params, out='o'), state)
  with pytest.raises(ValueError, match=r"'o.weight' is surplus"):
    from_linear_layers(state, num_heads=N)


def test_what_is_spoilt_is_named():
  state = interop_cases.draw(
    _THREE
    | {f'{name}.bias': (N * H,) for name in _LAYERS}
    | {'out_proj.weight': (DO, N * H), 'out_proj.bias': (DO,)}
  )
  for spoilt, error, named in interop_cases.spoilt(state):
    if 'out_proj.bias' not in spoilt:
      continue  # The fourth layer may do without.
    if _grew(spoilt, 'out_proj.weight', 0):
      named = 'out_proj.bias'
    with pytest.raises(error) as raised:
      from_linear_layers(spoilt, num_heads=N)
    assert named in str(raised.value), str(raised.value)


def _grew(state, name, axis):
  array = state.get(name)
  return isinstance(array, np.ndarray) and array.shape[axis] == DO + 1


def test_what_cannot_be_is_refused():
  with pytest.raises(ValueError, match='num_heads: got 3, wanted a divisor of'):
    from_linear_layers(_STATES['three'], num_heads=3)
  for name, options in (
    ('num_kv_heads', {'num_kv_heads': 1}),
    ('sigmoid_of', {'sigmoid_of': 5}),
    ('sinks', {'sinks': True}),
  ):
    with pytest.raises(ValueError, match=f'{name}: '):
      to_linear_layers(MultiHeadAttention(N, **options), {})
