"""attention_fn in Flax's own layers, Linen and NNX: the same numbers."""

import functools
import inspect

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from flax import nnx

import attn
from attn import masks, mods
from attn.modules import attention_fn
from tests.checks import assert_close, compile_fast
from tests.inputs import IMPLEMENTATIONS, booleans, normal

B, T, S, N, D, DS = 2, 5, 7, 3, 12, 11
_MASK = booleans(B, N, T, S).at[..., 0].set(True)

_CASES = {
  'plain': ({}, {}),
  'self': ({}, {'self': True}),
  'mask': ({}, {'mask': _MASK}),
  'mask of numbers': ({}, {'mask': _MASK.astype(jnp.float32)}),
  'causal': (
    {},
    {'self': True, 'mask': nn.make_causal_mask(jnp.ones((B, T)))},
  ),
  'normalised': ({'normalize_qk': True}, {}),
  'wide': ({'qkv_features': 2 * D, 'out_features': 5}, {}),
}


def _linen(**options):
  return nn.MultiHeadDotProductAttention(N, **options)


def _nnx(**options):
  return nnx.MultiHeadAttention(
    N, D, in_kv_features=DS, rngs=nnx.Rngs(0), decode=False, **options
  )


def _inputs(options):
  """What a layer is called with; keys and values from another sequence."""
  options = dict(options)
  x, source = normal(B, T, D), normal(B, S, DS, seed=1)
  return ((x,) if options.pop('self', False) else (x, source)), options


class LinenTest(parameterized.TestCase):
  @parameterized.product(name=tuple(_CASES), implementation=IMPLEMENTATIONS)
  def test_equals_flax(self, name, implementation):
    attributes, options = _CASES[name]
    inputs, options = _inputs(options)
    ours = functools.partial(attention_fn, implementation=implementation)
    layers = _linen(**attributes), _linen(attention_fn=ours, **attributes)
    parameters = layers[0].init(jax.random.key(0), *inputs)

    @compile_fast
    def both(parameters, inputs):
      def run(layer, parameters, inputs):
        out = layer.apply(parameters, *inputs, **options)
        return jnp.sin(out).sum(), out

      return [
        jax.value_and_grad(
          functools.partial(run, layer), argnums=(0, 1), has_aux=True
        )(parameters, inputs)
        for layer in layers
      ]

    flax, own = both(parameters, inputs)
    # The gradient of the keys' bias is 0, but for rounding.
    chex.assert_trees_all_close(own, flax, rtol=1e-5, atol=1e-5)

  def test_the_weights_are_sown(self):
    x, source = normal(B, T, D), normal(B, S, DS, seed=1)
    layers = _linen(), _linen(attention_fn=attention_fn)
    parameters = layers[0].init(jax.random.key(0), x, source)
    flax, own = (
      layer.apply(
        parameters,
        x,
        source,
        mask=_MASK,
        sow_weights=True,
        mutable='intermediates',
      )
      for layer in layers
    )
    assert_close(own, flax, 1e-5)
    (weights,) = own[1]['intermediates']['attention_weights']
    np.testing.assert_array_equal(weights[~_MASK], 0)

  def test_decoding_is_the_whole(self):
    x = normal(B, T, D)
    layer = _linen(attention_fn=attention_fn)
    parameters = layer.init(jax.random.key(0), x)
    mask = nn.make_causal_mask(jnp.ones((B, T)))
    whole = layer.apply(parameters, x, mask=mask)
    decoder = _linen(attention_fn=attention_fn, decode=True)
    cache = decoder.init(jax.random.key(0), x)['cache']

    @compile_fast
    def step(cache, token):
      out, changed = decoder.apply(
        {**parameters, 'cache': cache}, token, mutable='cache'
      )
      return out, changed['cache']

    for t in range(T):
      out, cache = step(cache, x[:, t : t + 1])
      assert_close(out, whole[:, t : t + 1], 1e-5)

  def test_dropout(self):
    x = normal(B, T, D)
    layer = _linen(
      attention_fn=attention_fn, dropout_rate=0.5, broadcast_dropout=False
    )
    parameters = layer.init(jax.random.key(0), x, deterministic=True)

    @compile_fast
    def run(seed):
      rngs = {'dropout': jax.random.key(seed)}
      return layer.apply(parameters, x, deterministic=False, rngs=rngs)

    chex.assert_trees_all_equal(run(1), run(1))
    self.assertGreater(np.abs(run(1) - run(2)).max(), 0.01)
    quiet = layer.apply(parameters, x, deterministic=True)
    assert_close(quiet, _linen().apply(parameters, x), 1e-5)

  def test_bfloat16(self):
    x, dtype = normal(B, T, D), jnp.bfloat16
    layers = _linen(dtype=dtype), _linen(attention_fn=attention_fn, dtype=dtype)
    parameters = layers[0].init(jax.random.key(0), x)
    flax, own = (layer.apply(parameters, x) for layer in layers)
    chex.assert_type(own, dtype)
    assert_close(own, flax, 0.03)

  def test_the_front_door_itself_serves_boolean_masks_without_dropout(self):
    x, source = normal(B, T, D), normal(B, S, DS, seed=1)
    layers = _linen(), _linen(attention_fn=attn.attention)
    parameters = layers[0].init(jax.random.key(0), x, source)
    flax, own = (
      layer.apply(parameters, x, source, mask=_MASK) for layer in layers
    )
    assert_close(own, flax, 1e-5)
    with self.assertRaisesRegex(TypeError, 'mask: got dtype float32'):
      layers[1].apply(parameters, x, source, mask=_MASK.astype(jnp.float32))


class NnxTest(parameterized.TestCase):
  @parameterized.product(
    name=('plain', 'mask', 'mask of numbers', 'wide', 'grouped', 'is_causal'),
    implementation=IMPLEMENTATIONS,
  )
  def test_equals_flax(self, name, implementation):
    attributes, options = _CASES.get(name, ({}, {}))
    if name == 'grouped':
      attributes = {'num_kv_heads': 1}
    if name == 'is_causal':
      options = {'is_causal': True}
    inputs, options = _inputs(options)
    ours = functools.partial(attention_fn, implementation=implementation)
    layers = _nnx(**attributes), _nnx(attention_fn=ours, **attributes)

    def run(layer, inputs):
      graph, state = nnx.split(layer)

      @compile_fast
      def both(state, inputs):
        def loss(state, inputs):
          out = nnx.merge(graph, state)(*inputs, **options)
          return jnp.sin(out).sum(), out

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
          state, inputs
        )

      (loss, out), (of_state, of_inputs) = both(state, inputs)
      return loss, out, jax.tree.leaves(of_state), of_inputs

    flax, own = (run(layer, inputs) for layer in layers)
    chex.assert_trees_all_close(own, flax, rtol=1e-5, atol=1e-5)

  def test_the_weights_are_sown(self):
    x, source = normal(B, T, D), normal(B, S, DS, seed=1)
    weights = []
    for layer in (_nnx(), _nnx(attention_fn=attention_fn)):
      watched = nnx.capture(layer, nnx.Intermediate)
      _, sown = watched(x, source, mask=_MASK, sow_weights=True)
      weights.append(jax.tree.leaves(sown))
    assert_close(weights[1], weights[0], 1e-5)
    chex.assert_shape(weights[1], (B, N, T, S))

  def test_decoding_is_the_whole(self):
    x = normal(B, T, D)
    layer = nnx.MultiHeadAttention(
      N, D, attention_fn=attention_fn, rngs=nnx.Rngs(0)
    )
    whole = layer(x, is_causal=True, decode=False)
    layer.init_cache(x.shape)
    for t in range(T):
      out = layer(x[:, t : t + 1], decode=True)
      assert_close(out, whole[:, t : t + 1], 1e-5)

  def test_dropout(self):
    x, source = normal(B, T, D), normal(B, S, DS, seed=1)
    layer = _nnx(
      attention_fn=attention_fn, dropout_rate=0.5, broadcast_dropout=False
    )

    def run(seed):
      return layer(x, source, deterministic=False, rngs=nnx.Rngs(dropout=seed))

    chex.assert_trees_all_equal(run(1), run(1))
    self.assertGreater(np.abs(run(1) - run(2)).max(), 0.01)
    quiet = layer(x, source, deterministic=True)
    assert_close(quiet, _nnx()(x, source), 1e-5)

  def test_the_front_door_itself_lacks_the_words(self):
    with self.assertRaisesRegex(TypeError, 'unexpected keyword.*dropout_rng'):
      _nnx(attention_fn=attn.attention)(normal(B, T, D), normal(B, S, DS))


class OptionsTest(parameterized.TestCase):
  def test_those_of_attention(self):
    arrays = [normal(B, T, N, D, seed=i) for i in range(3)]
    mask = masks.causal() & masks.sliding_window(1, 0)
    options = {
      'bias': normal(N, T, T, seed=5),
      'score_mod': mods.alibi(N),
      'sink': jnp.ones(N),
      'scale': 0.3,
      'local_window_size': (2, 0),
      'is_causal': True,
    }
    chex.assert_trees_all_equal(
      attention_fn(*arrays, mask=mask, **options),
      attn.attention(*arrays, mask=mask, **options),
    )

  def test_a_partial_keeps_what_flax_passes(self):
    x = normal(B, T, D)
    fn = functools.partial(attention_fn, score_mod=mods.soft_cap(0.1))
    layer, plain = _linen(attention_fn=fn), _linen(attention_fn=attention_fn)
    parameters = layer.init(jax.random.key(0), x)
    mask = jnp.tri(T)[None, None]
    masked = layer.apply(parameters, x, mask=mask)
    self.assertGreater(
      np.abs(masked - plain.apply(parameters, x, mask=mask)).max(), 1e-3
    )
    assert_close(masked[:, :1], plain.apply(parameters, x[:, :1]), 1e-5)

  def test_every_keyword_of_flax_is_known(self):
    ours = set(inspect.signature(attention_fn).parameters)
    for flax in (nn.dot_product_attention, nnx.dot_product_attention):
      theirs = set(inspect.signature(flax).parameters)
      # Only functions that the layers never pass on are not.
      self.assertLessEqual(theirs - ours, {'promote_dtype'})

  def test_no_key_gives_0(self):
    arrays = [normal(B, T, N, D, seed=i) for i in range(3)]
    context = attention_fn(*arrays, mask=jnp.zeros((T, T)).at[1].set(1))
    np.testing.assert_array_equal(context[:, 0], 0)
    self.assertGreater(np.abs(context[:, 1]).min(), 0)

  def test_dtypes_are_promoted(self):
    arrays = [normal(B, T, N, D, seed=i) for i in range(3)]
    context = attention_fn(*arrays, dtype=jnp.bfloat16)
    chex.assert_type(context, jnp.bfloat16)
    arrays[1] = arrays[1].astype(jnp.bfloat16)
    with jax.numpy_dtype_promotion('standard'):
      chex.assert_type(attention_fn(*arrays), jnp.float32)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'precision': 'highest'}, "precision: got 'highest', wanted None"),
    ({'qk_attn_weights_einsum': jnp.einsum}, 'qk_attn_weights_einsum: got'),
    ({'attn_weights_value_einsum': jnp.einsum}, 'attn_weights_value_einsum: g'),
    ({'einsum_dot_general': jnp.dot}, 'einsum_dot_general: got'),
    (
      {'dropout_rate': 0.5},
      'broadcast_dropout: got True, wanted False: each batch element and head',
    ),
    (
      {'dropout_rate': 0.5, 'broadcast_dropout': False},
      'dropout_rng: got None with dropout_rate 0.5, wanted a PRNG key',
    ),
    ({'implementation': 'magic'}, "implementation: got 'magic'"),
  )
  def test_what_is_not_done_here(self, options, message):
    arrays = [normal(B, T, N, D, seed=i) for i in range(3)]
    with self.assertRaisesRegex(ValueError, message):
      attention_fn(*arrays, **options)


if __name__ == '__main__':
  absltest.main()
