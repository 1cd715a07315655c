"""MultiHeadAttention with score modifications, learned tables and sinks."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from attn import masks, mods
from attn.modules import (
  FeedForward,
  MultiHeadAttention,
  RelativeBias,
  TransformerBlock,
)
from tests import module_cases, oracles
from tests.checks import assert_close
from tests.inputs import normal
from tests.module_cases import (
  DS,
  B,
  D,
  H,
  K,
  N,
  S,
  T,
  assert_every_parameter_learns,
  compile_fast,
  random_parameters,
  reach,
  run,
  shapes,
)

_TABLE = RelativeBias(num_buckets=6, max_distance=4)
_LEARNED = {'relative_bias': _TABLE, 'sinks': True}


def _layer(**options):
  return MultiHeadAttention(N, num_kv_heads=K, head_dim=H, **options)


def _table_mod(parameters):
  """The rule of `_TABLE`, in NumPy."""
  table = np.float64(parameters['params']['relative_bias']['table'])

  def score_mod(score, b, n, q, k):
    return score + table[oracles.relative_bucket(k - q, 6, max_distance=4), n]

  return score_mod


def _by_hand(parameters, x, source=None, **options):
  return module_cases.multi_head(
    jax.tree.map(np.float64, parameters['params']),
    np.float64(x),
    None if source is None else np.float64(source),
    num_kv_heads=K,
    **options,
  )


class LearnedTest(parameterized.TestCase):
  def test_equals_kernels_multiplied_by_hand(self):
    x, source = normal(B, T, D), normal(B, S, DS, seed=1)
    layer = _layer(capture_weights=True, **_LEARNED)
    parameters = random_parameters(layer, x, source)
    out, sown = run(layer, parameters, x, source, mutable='intermediates')
    expected, weights = _by_hand(
      parameters, x, source, score_mod=_table_mod(parameters)
    )
    assert_close(out, expected, 5e-6)
    assert_close(sown['intermediates']['weights'][0], weights, 5e-6)
    self.assertLess(weights.sum(-1).max(), 0.999)

  def test_parameters(self):
    x = normal(T, D)
    plain = shapes(random_parameters(_layer(), x))
    learned = shapes(random_parameters(_layer(**_LEARNED), x))
    more = {'relative_bias/table': (6, N), 'sink': (N,)}
    self.assertEqual(learned, plain | more)

  def test_every_parameter_learns(self):
    x, layer = normal(B, T, D), _layer(qk_norm=True, **_LEARNED)
    assert_every_parameter_learns(layer, random_parameters(layer, x), x)

  def test_a_table_of_0_and_a_sink_of_minus_infinity_are_nothing(self):
    x, layer = normal(B, T, D), _layer(**_LEARNED)
    parameters = random_parameters(layer, x)
    nothing = parameters['params'] | {
      'sink': jnp.full(N, -jnp.inf),
      'relative_bias': {'table': jnp.zeros((6, N))},
    }
    actual = run(layer, {'params': nothing}, x)
    assert_close(actual, run(_layer(), parameters, x), 1e-6)

  def test_layers_may_share_one_table(self):
    x, table = normal(B, T, D), RelativeBias(num_buckets=6, max_distance=4)
    both = nn.Sequential([_layer(relative_bias=table) for _ in range(2)])
    names = shapes(random_parameters(both, x))
    self.assertLen([name for name in names if 'table' in name], 1)
    self.assertLen([name for name in names if 'query' in name], 2)

  def test_causal_mask_leaves_no_way_back_in_time(self):
    x, layer = normal(T, D), _layer(**_LEARNED)
    parameters = random_parameters(layer, x)
    seen = reach(
      lambda x: layer.apply(
        parameters, x, mask=masks.causal(), score_mod=mods.alibi(N)
      ),
      x,
    )
    np.testing.assert_array_equal(seen, np.tri(T, dtype=bool))


class ScoreModTest(parameterized.TestCase):
  def test_the_layers_own_then_the_table_then_the_calls(self):
    x = normal(B, T, D)
    own, last = mods.soft_cap(0.5), mods.temperature(0.25)
    layer = _layer(score_mod=own, **_LEARNED)
    parameters = random_parameters(layer, x)
    table = _table_mod(parameters)

    def score_mod(score, b, n, q, k):
      return table(0.5 * np.tanh(score / 0.5), b, n, q, k) / 0.25

    actual = run(layer, parameters, x, score_mod=last)
    expected, _ = _by_hand(parameters, x, score_mod=score_mod)
    assert_close(actual, expected, 5e-6)

  def test_of_the_call_is_that_of_the_layer(self):
    x, mod = normal(B, T, D), mods.alibi(N)
    parameters = random_parameters(_layer(), x)
    chex.assert_trees_all_equal(
      run(_layer(), parameters, x, score_mod=mod),
      run(_layer(score_mod=mod), parameters, x),
    )

  def test_its_arrays_are_differentiated(self):
    x, layer = normal(B, T, D), _layer()
    parameters = random_parameters(layer, x)

    @compile_fast
    @jax.grad
    def gradient(slopes):
      out = layer.apply(parameters, x, score_mod=mods.alibi(slopes))
      return jnp.sin(out).sum()

    slopes = jnp.linspace(0.1, 1, N)

    def loss(slopes):
      out, _ = _by_hand(
        parameters,
        x,
        score_mod=lambda score, b, n, q, k: score - slopes[n] * abs(q - k),
      )
      return np.sin(out).sum()

    expected = oracles.jacobian(loss, np.float64(slopes))
    assert_close(gradient(slopes), expected, 1e-5)

  def test_decoding_is_prefill(self):
    x, layer = normal(B, T, D), _layer()
    parameters = random_parameters(layer, x)
    whole = run(
      layer, parameters, x, mask=masks.causal(), score_mod=mods.alibi(N)
    )
    moved = mods.alibi(N, offset=T - 1)
    last = run(layer, parameters, x[:, -1:], x, score_mod=moved)
    assert_close(last, whole[:, -1:], 1e-6)

  def test_of_a_block(self):
    x, mod = normal(B, T, D), mods.distance_decay(0.5)
    with_mod, without = (
      TransformerBlock(attention, FeedForward(7))
      for attention in (_layer(score_mod=mod), _layer())
    )
    parameters = random_parameters(without, x)
    chex.assert_trees_all_equal(
      run(with_mod, parameters, x), run(without, parameters, x, score_mod=mod)
    )

  def test_bfloat16_comes_back(self):
    x, layer = normal(B, T, D), _layer(score_mod=mods.soft_cap(1.0), **_LEARNED)
    parameters = random_parameters(layer, x)
    narrow = run(layer, parameters, x.astype(jnp.bfloat16))
    chex.assert_type(narrow, jnp.bfloat16)
    assert_close(narrow, run(layer, parameters, x), 0.05)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    (RelativeBias(num_buckets=7), 'num_buckets: got 7, wanted an even number'),
    (RelativeBias(max_distance=8), 'max_distance: got 8, wanted more than 8'),
  )
  def test_tables(self, table, message):
    with self.assertRaisesRegex(ValueError, message):
      random_parameters(_layer(relative_bias=table), normal(T, D))


if __name__ == '__main__':
  absltest.main()
