"""CausalLM: the fields by which families of models differ."""

import jax
import numpy as np
from absl.testing import absltest, parameterized

from attn.modules import CausalLM
from attn.rope_scaling import RopeScaling
from tests.causal_lm_cases import (
  RESTARTED,
  SEGMENTS,
  TOKENS,
  by_hand,
  config_of,
  model_of,
)
from tests.checks import assert_close
from tests.module_cases import (
  assert_every_parameter_learns,
  run,
  shapes,
)

_YARN = {'kind': 'yarn', 'factor': 2.0, 'original_context': 40}

# Every one changes what the default computes.
_FLAGS = {
  'head_dim': {'head_dim': 6},
  'query_scalar': {'query_scalar': 3.0},
  'rope_scaling': {'rope_scaling': RopeScaling('linear', 4.0)},
  'rope_scaling by name': {'rope_scaling': _YARN},
  'norm_epsilon': {'norm_epsilon': 0.3},
  'norm_bias': {'norm': 'layernorm', 'norm_bias': True},
  'rmsnorm1p': {'norm': 'rmsnorm1p'},
  'post_norm': {'post_norm': True},
  'attention_bias': {'attention_bias': True},
  'mlp_bias': {'mlp_bias': True},
  'geglu': {'activation': 'geglu'},
  'gelu_exact': {'activation': 'gelu_exact'},
  'embed_scale': {'embed_scale': True},
  'all': {
    'head_dim': 10,
    'query_scalar': 3.0,
    'rope_scaling': _YARN,
    'norm_epsilon': 0.3,
    'norm': 'rmsnorm1p',
    'post_norm': True,
    'attention_bias': True,
    'mlp_bias': True,
    'activation': 'geglu',
    'embed_scale': True,
    'tied_head': True,
    'attention': 'alternating',
  },
}

_LAYER = 'block_0/'


class FamiliesTest(parameterized.TestCase):
  @parameterized.parameters(*sorted(set(_FLAGS) - {'all'}))
  def test_equals_kernels_multiplied_by_hand(self, name):
    model, parameters = model_of(**_FLAGS[name])
    logits = run(
      model, parameters, TOKENS, positions=RESTARTED, segment_ids=SEGMENTS
    )
    expected = by_hand(
      model.config, jax.tree.map(np.float64, parameters['params']), RESTARTED
    )
    assert_close(logits, expected, 1e-5)

  # Of the others, the parameters have other shapes, or the norm another kind.
  @parameterized.parameters(
    *sorted(set(_FLAGS) - {'all', 'head_dim', 'norm_bias', 'geglu'})
  )
  def test_changes_what_is_computed(self, name):
    model, parameters = model_of(num_layers=1, **_FLAGS[name])
    plain = CausalLM(config_of(num_layers=1))
    difference = np.abs(
      run(model, parameters, TOKENS) - run(plain, parameters, TOKENS)
    )
    self.assertGreater(difference.max(), 1e-3)

  def test_head_dim_sets_the_width_of_the_projections(self):
    _, parameters = model_of(num_layers=1, head_dim=10)
    found = shapes(parameters)
    for name, shape in (
      ('query', (24, 60)),
      ('key', (24, 30)),
      ('value', (24, 30)),
      ('out', (60, 24)),
    ):
      self.assertEqual(found[f'{_LAYER}attention/{name}/kernel'], shape)

  def test_every_parameter_learns(self):
    model, parameters = model_of(num_layers=1, **_FLAGS['all'])
    assert_every_parameter_learns(model, parameters, TOKENS)

  def test_without_them_there_are_no_such_parameters(self):
    _, parameters = model_of(num_layers=1)
    _, more = model_of(
      num_layers=1, post_norm=True, attention_bias=True, mlp_bias=True
    )
    extra = {
      f'{_LAYER}attention_post_norm/scale',
      f'{_LAYER}feed_forward_post_norm/scale',
      *(
        f'{_LAYER}attention/{name}/bias'
        for name in ('query', 'key', 'value', 'out')
      ),
      *(f'{_LAYER}feed_forward/{name}/bias' for name in ('in', 'out')),
    }
    self.assertEqual(shapes(more).keys() - shapes(parameters).keys(), extra)


if __name__ == '__main__':
  absltest.main()
