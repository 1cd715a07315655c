"""Flax's own attention layers in and out: the same numbers, both ways."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx

from attn.interop import from_flax, to_flax
from attn.modules import MultiHeadAttention
from tests import interop_cases, module_cases
from tests.checks import assert_close, compile_fast
from tests.inputs import booleans
from tests.interop_cases import DK, DO, DV, B, D, H, N, S, T

_MASK = np.array(booleans(B, N, T, S).at[..., 0].set(True))
_ATTRIBUTES = {
  'plain': {},
  'without bias': {'use_bias': False},
  'wide': {'qkv_features': 3 * N * H, 'out_features': DO},
}


def _linen(name):
  layer = nn.MultiHeadDotProductAttention(N, **_ATTRIBUTES[name])
  inputs = interop_cases.inputs(D, DK, DV)
  return layer, module_cases.random_parameters(layer, *inputs), inputs


@pytest.mark.parametrize('name', _ATTRIBUTES)
def test_computes_what_linen_does(name):
  theirs, variables, inputs = _linen(name)
  layer, params = from_flax(variables['params'])

  def loss(apply):
    def run(inputs):
      out = apply(*inputs)
      return jax.numpy.sin(out).sum(), out

    return compile_fast(jax.value_and_grad(run, has_aux=True))(inputs)

  wanted = loss(lambda *x: theirs.apply(variables, *x, mask=_MASK))
  found = loss(lambda *x: layer.apply({'params': params}, *x, mask=_MASK))
  assert_close(found, wanted, 1e-5)
  interop_cases.same(_flat(to_flax(layer, params)), _flat(variables['params']))


def _flat(tree):
  return {
    jax.tree_util.keystr(path): np.asarray(x)
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.mark.parametrize('use_bias', [False, True])
def test_computes_what_nnx_does(use_bias):
  layer = nnx.MultiHeadAttention(
    N, D, in_kv_features=DK, use_bias=use_bias, rngs=nnx.Rngs(0), decode=False
  )
  x, source = interop_cases.inputs(D, DK)
  pure = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
  pure = jax.tree.map(lambda p: p + 0.1, pure)
  nnx.update(layer, pure)
  ours, params = from_flax(pure)
  found = module_cases.run(ours, {'params': params}, x, source, mask=_MASK)
  assert_close(found, layer(x, source, mask=_MASK), 1e-5)
  # And ours there.
  changed = jax.tree.map(lambda p: p - 0.3, params)
  nnx.update(layer, to_flax(ours, changed))
  found = module_cases.run(ours, {'params': changed}, x, source, mask=_MASK)
  assert_close(found, layer(x, source, mask=_MASK), 1e-5)


def test_a_layer_of_ours_goes_there_and_back():
  layer = MultiHeadAttention(N, use_bias=True)
  x, source = interop_cases.inputs(D, DK)
  params = interop_cases.zeros(layer, x, source)
  counted = iter(range(8))
  params = jax.tree.map(lambda p: p + next(counted), params)
  again, back = from_flax(to_flax(layer, params))
  assert (again.num_heads, again.head_dim, again.out_dim) == (N, H, D)
  jax.tree.map(np.testing.assert_array_equal, back, params)


def test_what_is_spoilt_is_named():
  _, variables, _ = _linen('plain')
  flat = {
    f'{layer}/{kind}': np.asarray(array)
    for layer, both in variables['params'].items()
    for kind, array in both.items()
  }
  free = {(f'{name}/kernel', 0) for name in ('query', 'key', 'value')}
  free.add(('out/kernel', 2))
  for spoilt, error, named in interop_cases.spoilt(flat, free):
    with pytest.raises(error) as raised:
      from_flax(spoilt)
    assert named in str(raised.value), str(raised.value)


def test_what_cannot_be_is_refused():
  layer = nn.MultiHeadDotProductAttention(N, normalize_qk=True)
  (x,) = interop_cases.inputs(D)
  params = module_cases.random_parameters(layer, x)['params']
  with pytest.raises(
    ValueError, match=r'(query|key)_ln/scale: got a LayerNorm'
  ):
    from_flax(params)
  for name, options in (
    ('out_dim', {'out_dim': 0}),
    ('out_bias', {'out_bias': True}),
    ('num_kv_heads', {'num_kv_heads': 1}),
    ('relative_bias', {'relative_bias': object()}),
  ):
    with pytest.raises(ValueError, match=f'{name}: '):
      to_flax(MultiHeadAttention(N, **options), {})
