"""What is counted of a model, against a count by hand and against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn.modules import CausalLM
from attn.training.flops import product_rate, training_flops
from tests.causal_lm_cases import config_of


@pytest.mark.parametrize('tied_head', [False, True])
def test_by_hand(tied_head: bool):
  config = config_of(
    num_kv_heads=0, tied_head=tied_head, ngrams=3, ngram_rows=50, ngram_dim=5
  )
  tokens = jnp.zeros((1, 4), jnp.int32)
  params = CausalLM(config).init(jax.random.key(0), tokens)['params']
  d, f = config.embed_dim, config.mlp_dim
  layer = 4 * d * d + 2 * d * f
  matrices = config.num_layers * layer + config.vocab_size * d + 2 * 5 * d
  expected = 6 * matrices + 12 * config.num_layers * d * 2.5
  got = training_flops(params, config.vocab_size, 2.5, tied_head=tied_head)
  assert got == expected


def test_is_about_what_xla_counts():
  """Where all keys are multiplied, be they seen or not."""
  config = config_of(
    vocab_size=64,
    context=64,
    embed_dim=64,
    num_heads=4,
    num_kv_heads=0,
    mlp_dim=256,
    implementation='dense',
  )
  model, tokens = CausalLM(config), jnp.zeros((2, 64), jnp.int32)
  params = model.init(jax.random.key(0), tokens)['params']

  def loss(params):
    return model.apply({'params': params}, tokens).sum()

  lowered = jax.jit(jax.grad(loss)).lower(params)
  counted = lowered.compile().cost_analysis()['flops'] / tokens.size
  ours = training_flops(params, config.vocab_size, 64, tied_head=False)
  # XLA counts additions, roots and exponentials as well.
  np.testing.assert_allclose(ours, counted, rtol=0.15)


def test_rate_is_positive():
  assert product_rate() > 1e6
