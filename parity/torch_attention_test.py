"""torch.nn.MultiheadAttention and what it becomes: the same numbers."""

import functools

import jax
import numpy as np
import pytest
import torch

from attn.interop import from_torch, mask_from_torch, to_torch
from tests.checks import compile_fast

B, T, S = 2, 5, 7


def _draw(seed):
  """A random configuration of the layer and of its call."""
  choose = np.random.default_rng(seed)
  num_heads = int(choose.integers(1, 4))
  width = num_heads * int(choose.choice([2, 3, 5]))
  kdim, vdim = (
    int(choose.integers(1, 13)) if choose.random() < 0.4 else width
    for _ in range(2)
  )
  return {
    'num_heads': num_heads,
    'width': width,
    'kdim': kdim,
    'vdim': vdim,
    'bias': bool(choose.random() < 0.5),
    'batch_first': bool(choose.random() < 0.5),
    'add_zero_attn': bool(choose.random() < 0.3),
    'is_self': kdim == vdim == width and bool(choose.random() < 0.7),
    'attn_mask': str(choose.choice(['none', 'all', 'heads', 'floats'])),
    'padding': bool(choose.random() < 0.5),
  }


def _inputs(drawn, generator):
  """Query, key and value, batch first; in self-attention one thrice."""
  x = generator.normal(size=(B, T, drawn['width']))
  if drawn['is_self']:
    return [x.astype(np.float32)]
  others = [generator.normal(size=(B, S, drawn[k])) for k in ('kdim', 'vdim')]
  return [np.float32(array) for array in (x, *others)]


def _masks(drawn, generator):
  """Torch's two masks; every query may attend to the first key."""
  length = T if drawn['is_self'] else S
  attn_mask = padding = None
  if drawn['attn_mask'] != 'none':
    shape = (T, length)
    if drawn['attn_mask'] == 'heads':
      shape = B * drawn['num_heads'], *shape
    attn_mask = generator.random(shape) < 0.4
    attn_mask[..., 0] = False
  if drawn['padding']:
    padding = np.arange(length) >= np.array([[length - 2], [length]])
  if drawn['attn_mask'] == 'floats':
    attn_mask = np.float32(np.where(attn_mask, -np.inf, 0))
    if padding is not None:
      padding = np.float32(np.where(padding, -np.inf, 0))
  return attn_mask, padding


def _run_torch(layer, drawn, inputs, masks):
  """Output, averaged weights, and gradients of inputs and parameters."""
  tensors = [torch.from_numpy(x).requires_grad_() for x in inputs]
  called = tensors if len(tensors) == 3 else tensors * 3
  if not drawn['batch_first']:
    called = [x.transpose(0, 1) for x in called]
  attn_mask, padding = (
    None if mask is None else torch.from_numpy(mask) for mask in masks
  )
  out, weights = layer(*called, attn_mask=attn_mask, key_padding_mask=padding)
  if not drawn['batch_first']:
    out = out.transpose(0, 1)
  layer.zero_grad()
  torch.sin(out).sum().backward()
  slopes = {name: x.grad.numpy() for name, x in layer.named_parameters()}
  if drawn['add_zero_attn']:
    weights = weights[..., :-1]
  return (
    out.detach().numpy(),
    weights.detach().numpy(),
    [x.grad.numpy() for x in tensors],
    slopes,
  )


@functools.partial(compile_fast, static_argnums=0)
def _run(layer, params, inputs, mask):
  """The same of ours."""

  def loss(params, inputs):
    out, sown = layer.apply(
      {'params': params}, *inputs, mask=mask, mutable='intermediates'
    )
    (weights,) = sown['intermediates']['weights']
    return jax.numpy.sin(out).sum(), (out, weights.mean(1))

  gradients, (out, weights) = jax.grad(loss, argnums=(0, 1), has_aux=True)(
    params, inputs
  )
  return out, weights, gradients[1], gradients[0]


def _torch_layer(drawn):
  layer = torch.nn.MultiheadAttention(
    drawn['width'],
    drawn['num_heads'],
    bias=drawn['bias'],
    add_zero_attn=drawn['add_zero_attn'],
    kdim=drawn['kdim'],
    vdim=drawn['vdim'],
    batch_first=drawn['batch_first'],
  )
  with torch.no_grad():
    for x in layer.parameters():
      # At its start every bias is 0.
      x.copy_(torch.randn(x.shape) / x.shape[-1] ** 0.5)
  return layer


def _numpy(layer):
  return {name: x.numpy().copy() for name, x in layer.state_dict().items()}


@pytest.mark.parametrize('seed', range(40))
def test_both_ways_the_numbers_are_the_same(seed):
  drawn = _draw(seed)
  torch.manual_seed(seed)
  generator = np.random.default_rng(1000 + seed)
  inputs, masks = _inputs(drawn, generator), _masks(drawn, generator)
  mask = mask_from_torch(*masks, num_heads=drawn['num_heads'])
  theirs = _torch_layer(drawn)
  ours, imported = from_torch(
    _numpy(theirs),
    num_heads=drawn['num_heads'],
    add_zero_attn=drawn['add_zero_attn'],
  )
  ours = ours.clone(capture_weights=True)
  # Their parameters here, and then ours there.
  fresh = ours.init(jax.random.key(seed), *inputs)['params']
  for name in fresh:
    if name != 'sink' and drawn['bias']:
      fresh[name]['bias'] += generator.normal(size=fresh[name]['bias'].shape)
  for params in (imported, fresh):
    state = to_torch(ours, params)
    theirs.load_state_dict(
      {name: torch.from_numpy(x) for name, x in state.items()}
    )
    out, weights, of_inputs, of_params = _run_torch(
      theirs, drawn, inputs, masks
    )
    found = _run(ours, params, inputs, mask)
    np.testing.assert_allclose(found[0], out, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[1], weights, rtol=1e-5, atol=1e-5)
    for x, wanted in zip(found[2], of_inputs):
      np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-5)
    slopes = dict(found[3])
    # Torch does not learn the score of its token of zeros.
    slopes.pop('sink', None)
    slopes = to_torch(ours.clone(sinks=False), slopes)
    assert set(slopes) == set(of_params)
    for name, wanted in of_params.items():
      np.testing.assert_allclose(
        slopes[name], wanted, rtol=1e-5, atol=1e-5, err_msg=name
      )


def test_the_draws_cover_what_they_should():
  drawn = [_draw(seed) for seed in range(40)]
  for name in ('bias', 'batch_first', 'add_zero_attn', 'is_self', 'padding'):
    assert 5 < sum(each[name] for each in drawn) < 35, name
  kinds = [each['attn_mask'] for each in drawn]
  assert min(map(kinds.count, ('none', 'all', 'heads', 'floats'))) > 4
  packed = sum(each['kdim'] == each['vdim'] == each['width'] for each in drawn)
  assert 5 < packed < 35


def test_a_learned_token_is_refused():
  layer = torch.nn.MultiheadAttention(6, 2, add_bias_kv=True)
  with pytest.raises(ValueError, match='bias_k: got a learned token'):
    from_torch(_numpy(layer), num_heads=2)
