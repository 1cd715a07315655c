"""CausalLM: every flag that chooses what attention sees and how it scores."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from attn.modules import CausalLM
from tests import module_cases
from tests.causal_lm_cases import (
  CONTEXT,
  RESTARTED,
  SEGMENTS,
  TOKENS,
  B,
  K,
  L,
  N,
  T,
  V,
  assert_sees,
  by_hand,
  config_of,
  model_of,
  score_mod_of,
  sees,
)
from tests.checks import assert_close
from tests.inputs import IMPLEMENTATIONS
from tests.module_cases import (
  assert_every_parameter_learns,
  compile_fast,
  run,
  shapes,
)

# Every one changes what the default computes.
_FLAGS = {
  'sliding_window': {'attention': 'sliding_window'},
  'dilated': {'attention': 'dilated', 'dilation': 2, 'window': 2},
  'chunked': {'attention': 'chunked', 'chunk_size': 2},
  'global': {'attention': 'global', 'global_tokens': 1, 'window': 1},
  'prefix': {'attention': 'prefix', 'prefix_length': 3},
  'alibi': {'positions': 'alibi'},
  'relative_bias': {
    'positions': 'relative_bias',
    'relative_buckets': 3,
    'relative_max_distance': 3,
  },
  'relative_bias of a prefix': {
    'attention': 'prefix',
    'prefix_length': 2,
    'positions': 'relative_bias',
    'relative_buckets': 6,
    'relative_max_distance': 3,
  },
  'soft_cap': {'soft_cap': 0.5},
  'sinks': {'sinks': True},
  'all': {
    'attention': 'global',
    'global_tokens': 2,
    'positions': 'alibi',
    'soft_cap': 0.5,
    'sinks': True,
  },
}


class FlagsTest(parameterized.TestCase):
  @parameterized.parameters(*_FLAGS)
  def test_equals_kernels_multiplied_by_hand(self, name):
    model, parameters = model_of(**_FLAGS[name])
    # Where documents begin anywhere, and where they do not.
    for positions in (RESTARTED, np.array([[6, 0, 1, 1, 4], [2, 5, 3, 6, 0]])):
      logits = run(
        model, parameters, TOKENS, positions=positions, segment_ids=SEGMENTS
      )
      expected = by_hand(
        model.config,
        jax.tree.map(np.float64, parameters['params']),
        positions,
      )
      assert_close(logits, expected, 5e-6)

  @parameterized.parameters(*_FLAGS)
  def test_changes_what_is_computed(self, name):
    model, parameters = model_of(num_layers=1, **_FLAGS[name])
    default = CausalLM(config_of(num_layers=1))
    logits, plain = (run(m, parameters, TOKENS) for m in (model, default))
    chex.assert_tree_all_finite(logits)
    self.assertGreater(np.abs(logits - plain).max(), 1e-3)

  @parameterized.parameters(*_FLAGS)
  def test_sees_what_it_may_and_nothing_else(self, name):
    model, parameters = model_of(num_layers=1, **_FLAGS[name])
    seen = sees(model.config)
    assert_sees(model, parameters, seen)
    # But for the prefix, no token sees the future.
    given = model.config.given
    np.testing.assert_array_equal(np.triu(seen, 1)[:, given:], 0)

  @parameterized.parameters(*_FLAGS)
  def test_documents_packed_are_documents_apart(self, name):
    model, parameters = model_of(num_layers=1, **_FLAGS[name])
    packed = run(
      model, parameters, TOKENS, segment_ids=SEGMENTS, positions=RESTARTED
    )
    short = run(model, parameters, np.stack([TOKENS[0, :2], TOKENS[1, 3:]]))
    long = run(model, parameters, np.stack([TOKENS[0, 2:], TOKENS[1, :3]]))
    assert_close(packed[0], np.concatenate([short[0], long[0]]), 1e-6)
    assert_close(packed[1], np.concatenate([long[1], short[1]]), 1e-6)

  @parameterized.parameters(*_FLAGS)
  def test_every_parameter_learns(self, name):
    model, parameters = model_of(num_layers=1, **_FLAGS[name])
    assert_every_parameter_learns(model, parameters, TOKENS)

  @parameterized.parameters(*((name,) for name in IMPLEMENTATIONS))
  def test_every_implementation_computes_the_same(self, implementation):
    for name in ('all', 'relative_bias of a prefix'):
      model, parameters = model_of(num_layers=1, **_FLAGS[name])
      other = CausalLM(
        config_of(num_layers=1, implementation=implementation, **_FLAGS[name])
      )
      assert_close(
        run(other, parameters, TOKENS, segment_ids=SEGMENTS),
        run(model, parameters, TOKENS, segment_ids=SEGMENTS),
        1e-6,
      )


class ParametersTest(parameterized.TestCase):
  def test_the_default_has_none_of_them(self):
    _, default = model_of()
    for name in ('alibi', 'soft_cap', 'global', 'prefix'):
      _, parameters = model_of(**_FLAGS[name])
      self.assertEqual(shapes(parameters), shapes(default))
    for name, path, shape in (
      ('sinks', 'sink', (N,)),
      ('relative_bias', 'relative_bias/table', (3, N)),
    ):
      _, parameters = model_of(**_FLAGS[name])
      more = {f'block_{i}/attention/{path}': shape for i in range(L)}
      self.assertEqual(shapes(parameters), shapes(default) | more)

  def test_start(self):
    model = CausalLM(config_of(positions='relative_bias', sinks=True))

    @compile_fast
    def start():
      rng = jax.random.key(0, impl='rbg')
      return model.init(rng, TOKENS)['params']['block_1']['attention']

    attention = start()
    np.testing.assert_array_equal(attention['sink'], 0)
    table = attention['relative_bias']['table']
    self.assertAlmostEqual(float(table.std()), 0.02, delta=0.005)


class CapturedWeightsTest(parameterized.TestCase):
  @parameterized.parameters(*_FLAGS)
  def test_are_the_weights(self, name):
    model, parameters = model_of(num_layers=1, **_FLAGS[name])
    logits = run(model, parameters, TOKENS)
    watched = CausalLM(model.config, capture_weights=True)
    same, sown = run(watched, parameters, TOKENS, mutable='intermediates')
    assert_close(same, logits, 1e-6)
    (weights,) = sown['intermediates']['block_0']['attention']['weights']
    chex.assert_shape(weights, (B, N, T, T))
    np.testing.assert_array_equal(weights[:, :, ~sees(model.config)], 0)
    numbers = jax.tree.map(np.float64, parameters['params'])
    block, config = numbers['block_0'], model.config
    x = numbers['embed']['embedding'][TOKENS]
    _, expected = module_cases.multi_head(
      block['attention'],
      module_cases.norm('rmsnorm', block['attention_norm'], x),
      num_heads=N,
      num_kv_heads=K,
      rope_base=50.0 if config.positions == 'rotary' else None,
      mask=sees(config),
      score_mod=score_mod_of(config, block['attention']),
    )
    assert_close(weights, expected, 5e-6)
    # A sink takes its share and gives nothing back.
    self.assertEqual(config.sinks, bool(weights.sum(-1).max() < 0.999))


class PrefixTest(parameterized.TestCase):
  def test_its_length_may_change_without_a_new_program(self):
    model, parameters = model_of(num_layers=1, **_FLAGS['prefix'])
    traced = []

    @compile_fast
    def logits(length):
      traced.append(length)
      return model.apply(parameters, TOKENS, prefix_length=length)

    for length in (0, 1, 3, 5):
      other = CausalLM(
        config_of(
          num_layers=1, attention='prefix', prefix_length=max(length, 1)
        )
      )
      # A prefix of one token is none.
      expected = run(other, parameters, TOKENS)
      assert_close(logits(jnp.int32(length)), expected, 1e-6)
    self.assertLen(traced, 1)

  def test_no_target_is_seen_after_it(self):
    model, parameters = model_of(num_layers=1, **_FLAGS['prefix'])
    given = model.config.given
    seen = sees(model.config)
    # Row t tells token t + 1: the last row of the prefix is the first that may.
    for t in range(T - 1):
      self.assertEqual(bool(seen[t, t + 1]), t < given - 1)
    tokens = np.tile(TOKENS[0], (2, 1))
    tokens[1, given:] += 1
    logits = run(model, parameters, tokens % V)
    np.testing.assert_array_equal(logits[0, :given], logits[1, :given])

  def test_as_long_as_all_there_is_sees_all(self):
    model, parameters = model_of(
      num_layers=1, attention='prefix', prefix_length=CONTEXT - 1
    )
    assert_sees(model, parameters, np.ones((T, T), bool))


if __name__ == '__main__':
  absltest.main()
