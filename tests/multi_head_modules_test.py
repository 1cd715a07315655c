"""MultiHeadAttention against its own kernels, multiplied by hand."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks
from attn.modules import MultiHeadAttention
from tests import module_cases
from tests.checks import assert_close
from tests.inputs import booleans, normal
from tests.module_cases import (
  DS,
  B,
  D,
  H,
  K,
  N,
  S,
  T,
  assert_dropout,
  assert_every_parameter_learns,
  compile_fast,
  random_parameters,
  reach,
  run,
  shapes,
)

# Neither in order nor the same in both rows.
_POSITIONS = np.array([[0, 3, 4, 1, 9], [5, 2, 2, 7, 30]])
_SOURCE_POSITIONS = np.array([[2, 0, 1, 6, 3, 4, 8], [9, 8, 1, 3, 5, 0, 2]])
_SEGMENTS = np.array([[1, 1, 1, 2, 2], [4, 3, 3, 4, 3]])


def _layer(**options):
  return MultiHeadAttention(N, **{'head_dim': H, **options})


def _grouped(**options):
  return _layer(num_kv_heads=K, **options)


def _by_distance(score, b, n, q, k):
  """A score_mod in which every index counts."""
  return score + 0.1 * (2 * b - (n + 1) * (q - k)).astype(score.dtype)


def _by_distance_in_numpy(score, b, n, q, k):
  return score + 0.1 * (2 * b - (n + 1) * (q - k))


_HAND_CASES = {
  'plain': (_layer(), {}),
  'grouped': (_grouped(), {}),
  'one_kv_head': (_layer(num_kv_heads=1), {}),
  'bias': (_grouped(use_bias=True), {}),
  'cross': (_grouped(), {'source': (B, S, DS)}),
  'qk_norm': (_grouped(qk_norm=True), {}),
  'rope': (_layer(rope_base=50.0), {}),
  'rope_positions': (_grouped(rope_base=50.0), {'positions': _POSITIONS}),
  'mask_array': (_grouped(), {'mask': np.asarray(booleans(B, N, T, T))}),
  'score_mod': (_grouped(score_mod=_by_distance), {}),
  'everything': (
    _grouped(
      rope_base=30.0, qk_norm=True, use_bias=True, score_mod=_by_distance
    ),
    {
      'source': (B, S, DS),
      'mask': np.asarray(booleans(B, 1, T, S)),
      'positions': _POSITIONS,
      'source_positions': _SOURCE_POSITIONS,
    },
  ),
}


class ByHandTest(parameterized.TestCase):
  @parameterized.named_parameters(*((k, *v) for k, v in _HAND_CASES.items()))
  def test_equals_kernels_multiplied_by_hand(self, layer, options):
    # Flax's norms promote dtypes themselves where x is not float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
      x, options = normal(B, T, D, dtype=jnp.float64), dict(options)
      if 'source' in options:
        options['source'] = normal(*options['source'], dtype=jnp.float64)
      parameters = random_parameters(layer, x, options.get('source'))
      actual = run(layer, parameters, x, **options)
      chex.assert_type(actual, jnp.float64)
    options = {name: np.asarray(option) for name, option in options.items()}
    expected, _ = module_cases.multi_head(
      jax.tree.map(np.float64, parameters['params']),
      np.float64(x),
      num_kv_heads=layer.num_kv_heads,
      rope_base=layer.rope_base,
      score_mod=layer.score_mod and _by_distance_in_numpy,
      **options,
    )
    assert_close(actual, expected, 1e-13)

  def test_is_made_of_the_kernels(self):
    x, layer = normal(B, T, D), _grouped(rope_base=50.0)
    parameters = random_parameters(layer, x)
    actual = run(
      layer, parameters, x, mask=masks.causal(), positions=_POSITIONS
    )

    @compile_fast
    def by_hand(kernels):
      heads = {
        name: attn.split_heads(x @ kernels[name]['kernel'], count)
        for name, count in (('query', N), ('key', K), ('value', K))
      }
      for name in ('query', 'key'):
        for n in range(heads[name].shape[2]):
          rotated = attn.apply_rope(heads[name][:, :, n], _POSITIONS, base=50.0)
          heads[name] = heads[name].at[:, :, n].set(rotated)
      context = attn.attention(**heads, is_causal=True)
      return attn.merge_heads(context) @ kernels['out']['kernel']

    assert_close(actual, by_hand(parameters['params']))

  def test_parameters(self):
    kernels = {
      'query/kernel': (D, N * H),
      'key/kernel': (DS, K * H),
      'value/kernel': (DS, K * H),
      'out/kernel': (N * H, D),
    }
    x, source = normal(T, D), normal(S, DS)
    self.assertEqual(shapes(random_parameters(_grouped(), x, source)), kernels)
    others = {
      'query/bias': (N * H,),
      'key/bias': (K * H,),
      'value/bias': (K * H,),
      'out/bias': (D,),
      'query_norm/scale': (H,),
      'key_norm/scale': (H,),
    }
    full = _grouped(use_bias=True, qk_norm=True)
    parameters = random_parameters(full, x, source)
    self.assertEqual(shapes(parameters), kernels | others)
    # Without head_dim, heads share the width.
    parameters = random_parameters(MultiHeadAttention(N), normal(T, N * H))
    square = dict.fromkeys(kernels, (N * H, N * H))
    self.assertEqual(shapes(parameters), square)

  def test_grouped_queries_are_repeated_heads(self):
    x, layer = normal(B, T, D), _grouped(qk_norm=True, rope_base=50.0)
    parameters = random_parameters(layer, x)
    repeated = dict(parameters['params'])
    for name in ('key', 'value'):
      kernel = attn.split_heads(repeated[name]['kernel'], K)
      kernel = attn.merge_heads(attn.repeat_kv(kernel, N // K))
      repeated[name] = {'kernel': kernel}
    expected = run(
      _layer(qk_norm=True, rope_base=50.0), {'params': repeated}, x
    )
    assert_close(run(layer, parameters, x), expected, 1e-6)

  def test_out_init_starts_the_output_and_nothing_else(self):
    layer = _layer(out_init=jax.nn.initializers.zeros)
    start = compile_fast(layer.init)(jax.random.key(0), normal(T, D))['params']
    for name in ('query', 'key', 'value', 'out'):
      self.assertEqual(bool((start[name]['kernel'] == 0).all()), name == 'out')


class PositionsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.x, self.source = normal(B, T, D), normal(B, S, DS, seed=1)
    self.layer = _grouped(rope_base=50.0)

  def test_shifting_all_changes_nothing(self):
    parameters = random_parameters(self.layer, self.x, self.source)
    attend = functools.partial(run, self.layer, parameters, self.x, self.source)
    actual = attend(
      positions=_POSITIONS + 13, source_positions=_SOURCE_POSITIONS + 13
    )
    still = attend(positions=_POSITIONS, source_positions=_SOURCE_POSITIONS)
    assert_close(actual, still, 1e-5)
    # Shifting one side alone does.
    for one_side in (
      attend(positions=_POSITIONS + 13, source_positions=_SOURCE_POSITIONS),
      attend(positions=_POSITIONS, source_positions=_SOURCE_POSITIONS + 13),
    ):
      self.assertGreater(np.abs(one_side - still).max(), 0.1)

  def test_default_is_0_1_2(self):
    parameters = random_parameters(self.layer, self.x)
    actual = run(self.layer, parameters, self.x)
    counted = run(self.layer, parameters, self.x, positions=np.arange(T))
    chex.assert_trees_all_equal(actual, counted)
    spread = run(self.layer, parameters, self.x, positions=2 * np.arange(T))
    self.assertGreater(np.abs(actual - spread).max(), 0.1)

  def test_without_rope_order_is_nothing(self):
    layer, order = _grouped(), np.array([3, 0, 4, 1, 2])
    parameters = random_parameters(layer, self.x)
    plain = run(layer, parameters, self.x)
    placed = run(layer, parameters, self.x, positions=_POSITIONS)
    chex.assert_trees_all_equal(placed, plain)
    assert_close(run(layer, parameters, self.x[:, order]), plain[:, order])


class PropertiesTest(parameterized.TestCase):
  @parameterized.parameters(
    _layer(),
    _grouped(rope_base=50.0),
    _layer(rope_base=50.0, qk_norm=True),
    _grouped(qk_norm=True, use_bias=True),
  )
  def test_causal_mask_leaves_no_way_back_in_time(self, layer):
    x = normal(T, D)
    parameters = random_parameters(layer, x)
    causal = functools.partial(layer.apply, parameters, mask=masks.causal())
    np.testing.assert_array_equal(reach(causal, x), np.tri(T, dtype=bool))

  def test_without_mask_all_see_all(self):
    x, source, layer = normal(T, D), normal(S, DS), _grouped(rope_base=50.0)
    parameters = random_parameters(layer, x, source)
    seen = reach(lambda source: layer.apply(parameters, x, source), source)
    np.testing.assert_array_equal(seen, np.ones((T, S), bool))
    # A query is its own.
    asked = reach(lambda x: layer.apply(parameters, x, source), x)
    np.testing.assert_array_equal(asked, np.eye(T, dtype=bool))

  @parameterized.parameters(
    (masks.causal() & masks.sliding_window(1, 0),),
    (masks.segments(jnp.asarray(_SEGMENTS)),),
  )
  def test_mask_object_is_its_array(self, mask):
    x, layer = normal(B, T, D), _grouped()
    parameters = random_parameters(layer, x)
    actual = run(layer, parameters, x, mask=mask)
    written = compile_fast(lambda: mask.dense(T, T))()
    expected = run(layer, parameters, x, mask=written)
    chex.assert_trees_all_equal(actual, expected)

  def test_qk_norm_forgets_the_length_of_queries_and_keys(self):
    x, layer = normal(B, T, D), _grouped(qk_norm=True)
    parameters = random_parameters(layer, x)
    longer = dict(parameters['params'])
    for name, factor in (('query', 7.0), ('key', 5.0)):
      longer[name] = {'kernel': factor * longer[name]['kernel']}
    actual = run(layer, {'params': longer}, x)
    assert_close(actual, run(layer, parameters, x), 1e-5)

  def test_vmap_is_batch(self):
    x, source = normal(2, 3, T, D), normal(2, 3, S, DS, seed=1)
    layer = _grouped(rope_base=50.0)
    parameters = random_parameters(layer, x, source)

    def one(x, source):
      return layer.apply(parameters, x, source)

    apart = compile_fast(jax.vmap(jax.vmap(one)))(x, source)
    assert_close(run(layer, parameters, x, source), apart, 1e-6)

  def test_every_parameter_learns(self):
    x = normal(B, T, D)
    for layer in (_layer(), _grouped(rope_base=50.0, qk_norm=True)):
      assert_every_parameter_learns(layer, random_parameters(layer, x), x)

  def test_bfloat16_comes_back(self):
    x, layer = normal(B, T, D), _grouped(qk_norm=True, rope_base=50.0)
    parameters = random_parameters(layer, x)
    with jax.numpy_dtype_promotion('standard'):
      narrow = run(layer, parameters, x.astype(jnp.bfloat16))
    chex.assert_type(narrow, jnp.bfloat16)
    assert_close(narrow, run(layer, parameters, x), 0.05)


class CapturedWeightsTest(parameterized.TestCase):
  def _capture(self, layer, x, source=None, **options):
    """Output, weights and parameters."""
    parameters = random_parameters(layer, x, source)
    out, sown = run(
      layer, parameters, x, source, mutable='intermediates', **options
    )
    (weights,) = sown['intermediates']['weights']
    return out, weights, parameters

  def test_are_the_weights(self):
    x, source = normal(B, T, D), normal(B, S, DS, seed=1)
    mask = booleans(B, N, T, S).at[1, 2, 3].set(False)
    options = {'qk_norm': True, 'rope_base': 50.0, 'score_mod': _by_distance}
    layer = _grouped(capture_weights=True, **options)
    out, weights, parameters = self._capture(layer, x, source, mask=mask)
    _, expected = module_cases.multi_head(
      jax.tree.map(np.float64, parameters['params']),
      np.float64(x),
      np.float64(source),
      num_kv_heads=K,
      rope_base=50.0,
      score_mod=_by_distance_in_numpy,
      mask=np.asarray(mask),
    )
    assert_close(weights, expected, 5e-6)
    np.testing.assert_array_equal(weights[~mask], 0)
    assert_close(weights.sum(-1), np.asarray(mask.any(-1)), 1e-6)
    # To capture is not to change.
    quiet = run(_grouped(**options), parameters, x, source, mask=mask)
    assert_close(out, quiet, 1e-7)

  def test_times_values_are_the_context(self):
    x, layer = normal(B, T, D), _grouped(capture_weights=True)
    out, weights, parameters = self._capture(layer, x, mask=masks.causal())
    kernels = jax.tree.map(np.float64, parameters['params'])
    value = module_cases.linear(kernels['value'], np.float64(x))
    value = np.repeat(value.reshape(B, T, K, H), N // K, axis=2)
    context = np.einsum('bnts,bsnh->btnh', np.float64(weights), value)
    context = context.reshape(B, T, N * H)
    assert_close(out, module_cases.linear(kernels['out'], context), 2e-6)

  def test_are_those_before_dropout(self):
    x = normal(B, T, D)
    layer = _layer(capture_weights=True, dropout_rate=0.5)
    _, weights, _ = self._capture(
      layer, x, deterministic=False, rngs={'dropout': jax.random.key(0)}
    )
    assert_close(weights.sum(-1), np.ones((B, N, T)), 1e-6)

  def test_are_not_captured_unasked(self):
    x = normal(B, T, D)
    _, sown = run(
      _layer(), random_parameters(_layer(), x), x, mutable='intermediates'
    )
    self.assertEqual(dict(sown), {})


class DropoutTest(parameterized.TestCase):
  def test_dropout(self):
    x, layer = normal(T, D), _grouped(dropout_rate=0.4)
    parameters = random_parameters(layer, x)
    assert_dropout(layer, _grouped(), parameters, x, keeps_expectation=True)

  def test_is_that_of_attention(self):
    # With the identity for values and output, the output is the weights.
    x, layer = jnp.eye(T), MultiHeadAttention(1, dropout_rate=0.25)
    parameters = random_parameters(layer, x)
    for name in ('value', 'out'):
      parameters['params'][name]['kernel'] = jnp.eye(T)
    weights = run(layer, parameters, x)
    rngs = {'dropout': jax.random.key(1)}
    dropped = run(layer, parameters, x, deterministic=False, rngs=rngs)
    kept = np.asarray(dropped != 0)
    self.assertBetween(kept.mean(), 0.4, 0.99)
    assert_close(dropped, np.where(kept, weights / 0.75, 0), 1e-6)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    (_layer(head_dim=None), r'num_heads: got 6, wanted a divisor of the width'),
    (_layer(num_kv_heads=4), r'num_kv_heads: got 4, wanted a divisor of .* 6'),
    (_layer(num_kv_heads=0), r'num_kv_heads: got 0, wanted a divisor of .* 6'),
    (_layer(num_kv_heads=-1), r'num_kv_heads: got -1, wanted a divisor of'),
    (MultiHeadAttention(0), r'num_heads: got 0, wanted at least 1'),
    (MultiHeadAttention(0, head_dim=H), r'num_heads: got 0, wanted at least 1'),
    (MultiHeadAttention(-1), r'num_heads: got -1, wanted at least 1'),
    (_layer(head_dim=3, rope_base=9.0), r'x: got size 3, wanted an even size'),
    (_layer(implementation='magic'), r"implementation: got 'magic', wanted"),
    (_layer(dropout_rate=-0.1), r'dropout_rate: got -0.1, wanted a prob'),
    (_layer(dropout_rate=1.1), r'dropout_rate: got 1.1, wanted a prob'),
    (_layer(dropout_rate=float('nan')), r'dropout_rate: got nan, wanted a p'),
    (_layer(out_dim=-1), r'out_dim: got -1, wanted at least 0, or None'),
    (_layer(score_mod=lambda *_: 0), r'score_mod: returned .*int32'),
  )
  def test_attributes(self, layer, message):
    with self.assertRaisesRegex((ValueError, TypeError), message):
      random_parameters(layer, normal(B, T, D))

  def test_arguments(self):
    x, layer = normal(B, T, D), _layer(rope_base=9.0)
    cases = (
      (TypeError, r'mask: got dtype float32', {'mask': normal(T, T)}),
      (ValueError, r'mask: got shape \(5, 7\)', {'mask': booleans(T, S)}),
      (ValueError, r'positions: got shape \(7,\)', {'positions': np.arange(S)}),
      (ValueError, r'key: got batch axes \(3,\)', {'source': normal(3, S, D)}),
    )
    for error, message, options in cases:
      with self.assertRaisesRegex(error, message):
        random_parameters(layer, x, **options)

  def test_tokens_are_rows_of_floats(self):
    with self.assertRaisesRegex(ValueError, r'query: got shape \(6, 4\)'):
      random_parameters(_layer(), normal(D))
    with self.assertRaisesRegex(TypeError, 'query: got dtype int32'):
      random_parameters(_layer(), jnp.ones((T, D), int))


if __name__ == '__main__':
  absltest.main()
