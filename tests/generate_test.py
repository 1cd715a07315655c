"""Drawing tokens: the same as asking the model for one token after another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn.modules import CausalLM, CausalLMConfig
from attn.training.generate import generate

pytestmark = pytest.mark.smoke

CONTEXT = 11


@pytest.fixture(scope='module')
def model() -> CausalLM:
  """A model with 13 tokens that sees 11."""
  return CausalLM(
    CausalLMConfig(
      vocab_size=13,
      context=CONTEXT,
      num_layers=2,
      embed_dim=12,
      num_heads=3,
      num_kv_heads=0,
      mlp_dim=7,
      attention='full',
      window=5,
      positions='learned',
      rope_base=100.0,
      norm='layernorm',
      activation='gelu',
      qk_norm=False,
      tied_head=True,
      dropout_rate=0.0,
    )
  )


@pytest.fixture(scope='module')
def params(model: CausalLM):
  """Random parameters, scaled up so that the model has opinions."""
  tokens = jnp.zeros((1, 1), jnp.int32)
  params = model.init(jax.random.key(5), tokens)['params']
  return jax.tree.map(lambda x: x * 3, params)


PROMPT = np.array([2, 7, 1])


def naive(
  model: CausalLM, params, prompt: np.ndarray, length: int, **options
) -> list[int]:
  """The likeliest tokens, by one unpadded call after another."""
  tokens = prompt.tolist()
  for _ in range(length):
    seen = jnp.array([tokens[-CONTEXT:]])
    logits = jax.jit(model.apply)({'params': params}, seen, **options)
    tokens.append(int(logits[0, -1].argmax()))
  return tokens[len(prompt) :]


@pytest.mark.parametrize('prompt_length', [1, 8, 20])
def test_likeliest_tokens_past_the_context(
  model: CausalLM, params, prompt_length: int
):
  prompt = np.arange(prompt_length) * 5 % 13
  got = generate(
    model, params, prompt, length=7, seed=0, temperature=0, samples=2
  )
  expected = naive(model, params, prompt, 7)
  assert len(set(expected)) > 2
  assert got.tolist() == [expected, expected]


@pytest.mark.parametrize(('prompt_length', 'prefix'), [(3, 3), (8, 4)])
def test_a_prompt_is_read_both_ways(
  model: CausalLM, params, prompt_length: int, prefix: int
):
  config = dataclasses.replace(
    model.config, attention='prefix', prefix_length=4
  )
  prompt = np.arange(prompt_length) * 5 % 13
  got = generate(
    CausalLM(config), params, prompt, length=3, seed=0, temperature=0
  )
  expected = naive(CausalLM(config), params, prompt, 3, prefix_length=prefix)
  assert got[0].tolist() == expected
  if prompt_length == 3:  # others may choose the same tokens
    assert expected != naive(model, params, prompt, 3)


def test_top_k_of_1_is_the_likeliest(model: CausalLM, params):
  got = generate(model, params, PROMPT, length=9, seed=3, top_k=1)
  assert got[0].tolist() == naive(model, params, PROMPT, 9)


def test_seed_decides(model: CausalLM, params):
  def draw(seed: int) -> list[int]:
    return generate(model, params, PROMPT, length=30, seed=seed)[0].tolist()

  assert draw(1) == draw(1)
  assert draw(1) != draw(2)


def first_tokens(model: CausalLM, params, **options) -> np.ndarray:
  """Frequencies of the first token in many samples."""
  drawn = generate(
    model, params, PROMPT, length=1, seed=0, samples=20_000, **options
  )
  return np.bincount(drawn[:, 0], minlength=13) / 20_000


@pytest.mark.parametrize('temperature', [0.5, 2.0])
def test_frequencies_follow_temperature(
  model: CausalLM, params, temperature: float
):
  logits = model.apply({'params': params}, jnp.array([PROMPT]))[0, -1]
  expected = np.asarray(jax.nn.softmax(logits / temperature))
  got = first_tokens(model, params, temperature=temperature)
  # Four standard deviations of a frequency.
  np.testing.assert_array_less(
    abs(got - expected), 4 * np.sqrt(expected / 20_000) + 1e-9
  )


def test_frequencies_follow_top_k(model: CausalLM, params):
  logits = np.asarray(model.apply({'params': params}, jnp.array([PROMPT])))
  kept = np.argsort(logits[0, -1])[-3:]
  expected = np.zeros(13)
  expected[kept] = np.exp(logits[0, -1][kept])
  expected /= expected.sum()
  got = first_tokens(model, params, top_k=3)
  assert set(np.flatnonzero(got)) == set(kept.tolist())
  np.testing.assert_allclose(got, expected, atol=0.015)  # 4 sigma


@pytest.mark.parametrize(
  ('prompt', 'options', 'message'),
  [
    ([], {}, 'prompt: got no token, wanted at least 1'),
    ([1], {'temperature': -0.5}, 'temperature: got -0.5, wanted at least 0'),
    ([1], {'temperature': np.nan}, 'temperature: got nan, wanted at least 0'),
    ([1], {'top_k': 0}, 'top_k: got 0, wanted at least 1'),
    ([1], {'samples': 0}, 'samples: got 0, wanted at least 1'),
    ([1], {'length': 0}, 'length: got 0, wanted at least 1'),
  ],
)
def test_refused(model: CausalLM, params, prompt, options, message: str):
  with pytest.raises(ValueError, match=message):
    generate(
      model, params, np.array(prompt), **{'length': 2, 'seed': 0, **options}
    )
