"""Drawing tokens: the same as asking the model for one token after another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn.modules import CausalLM
from attn.training.generate import generate, stream
from attn.training.sampling import Sampling
from tests.cache_test import config_of

pytestmark = pytest.mark.smoke

CONTEXT = 24
LIKELIEST = Sampling(temperature=0)
PROMPTS = [np.array([2, 7, 1]), np.array([5]), np.array([1, 12, 3, 3, 8])]


@pytest.fixture(scope='module')
def model() -> CausalLM:
  """A model with 13 tokens that sees 24."""
  return CausalLM(config_of('full', positions='learned', tied_head=True))


@pytest.fixture(scope='module')
def params(model: CausalLM):
  """Random parameters, scaled up so that the model has opinions."""
  return params_of(model)


def params_of(model: CausalLM):
  tokens = jnp.zeros((1, 1), jnp.int32)
  params = model.init(jax.random.key(5), tokens)['params']
  return jax.tree.map(lambda x: x * 3, params)


def naive(
  model: CausalLM, params, prompt: np.ndarray, length: int, **options
) -> list[int]:
  """The likeliest tokens, by one call without a cache after another."""
  tokens = np.zeros((1, 40), np.int32)
  tokens[0, : len(prompt)] = prompt
  wide = CausalLM(dataclasses.replace(model.config, context=40))
  run = jax.jit(
    lambda tokens: wide.apply({'params': params}, tokens, **options)
  )
  for place in range(len(prompt), len(prompt) + length):
    tokens[0, place] = int(run(tokens)[0, place - 1].argmax())
  return tokens[0, len(prompt) :][:length].tolist()


def test_prompts_of_several_lengths_are_continued_together(
  model: CausalLM, params
):
  learned = params['position_embed']['embedding']
  longer = jnp.concatenate([learned, jnp.zeros((16, learned.shape[1]))])
  wide = params | {'position_embed': {'embedding': longer}}
  got = generate(model, params, PROMPTS, length=19, seed=0, sampling=LIKELIEST)
  assert got.shape == (3, 19)
  for prompt, row in zip(PROMPTS, got):
    expected = naive(model, wide, prompt, 19)
    assert len(set(expected)) > 2
    assert row.tolist() == expected


@pytest.mark.parametrize('attention', ['full', 'global'])
def test_past_the_context_a_text_slides(attention: str):
  """Each layer then sees the last tokens, as many as the context has."""
  model = CausalLM(config_of(attention, context=12, window=4))
  params = params_of(model)
  seen = model
  if attention == 'full':
    fields = {'attention': 'sliding_window', 'window': 12}
    seen = CausalLM(dataclasses.replace(model.config, **fields))
  got = generate(
    model, params, PROMPTS[:1], length=30, seed=0, sampling=LIKELIEST
  )
  expected = naive(seen, params, PROMPTS[0], 30)
  assert len(set(expected)) > 2
  assert got[0].tolist() == expected


@pytest.mark.parametrize(('prompt_length', 'prefix'), [(3, 3), (8, 4)])
def test_a_prompt_is_read_both_ways(prompt_length: int, prefix: int):
  model = CausalLM(config_of('prefix', prefix_length=4))
  params = params_of(model)
  prompt = np.arange(prompt_length) * 5 % 13
  got = generate(model, params, [prompt], length=9, seed=0, sampling=LIKELIEST)
  expected = naive(model, params, prompt, 9, prefix_length=prefix)
  assert got[0].tolist() == expected
  if prompt_length == 3:  # others may choose the same tokens
    one_way = CausalLM(config_of('full'))
    assert expected != naive(one_way, params, prompt, 9)


def test_a_seed_draws_the_same_whatever_else_is_drawn(model: CausalLM, params):
  def draw(seed: int, prompts, length: int) -> list[list[int]]:
    return generate(model, params, prompts, length=length, seed=seed).tolist()

  together = draw(1, PROMPTS, 19)
  (alone,) = draw(1, PROMPTS[:1], 19)
  assert alone == together[0]
  (shorter,) = draw(1, PROMPTS[:1], 7)
  assert shorter == alone[:7]
  assert draw(2, PROMPTS[:1], 19) != [alone]
  twins = draw(1, PROMPTS[:1] * 2, 19)
  assert twins[0] != twins[1]


def test_pieces_together_are_the_whole(model: CausalLM, params):
  options = {'length': 19, 'seed': 3}
  pieces = list(stream(model, params, PROMPTS, **options))
  assert len(pieces) > 1
  whole = generate(model, params, PROMPTS, **options)
  np.testing.assert_array_equal(np.concatenate(pieces, 1), whole)


def test_frequencies_follow_the_model(model: CausalLM, params):
  rows = 4_000
  logits = model.apply({'params': params}, jnp.array([PROMPTS[0]]))[0, -1]
  expected = np.asarray(jax.nn.softmax(logits / 2))
  drawn = generate(
    model,
    params,
    PROMPTS[:1] * rows,
    length=1,
    seed=0,
    sampling=Sampling(temperature=2.0),
  )
  got = np.bincount(drawn[:, 0], minlength=13) / rows
  # Four standard deviations of a frequency.
  np.testing.assert_array_less(
    abs(got - expected), 4 * np.sqrt(expected / rows) + 1e-9
  )


def test_what_occurred_is_less_likely(model: CausalLM, params):
  """What the prompt says and what was drawn, and nothing else."""
  sampling = Sampling(temperature=0, repetition_penalty=1.5)
  got = generate(model, params, PROMPTS, length=12, seed=0, sampling=sampling)
  run = jax.jit(lambda tokens: model.apply({'params': params}, tokens))
  for prompt, row in zip(PROMPTS, got):
    text = np.concatenate([prompt, row, np.zeros(12, int)])[:CONTEXT]
    logits = np.asarray(run(text[None]))[0]
    for place, token in enumerate(row, len(prompt)):
      here = logits[place - 1]
      punished = np.where(here > 0, here / 1.5, here * 1.5)
      occurred = np.isin(np.arange(13), text[:place])
      assert token == np.where(occurred, punished, here).argmax()
  free = Sampling(temperature=0)
  other = generate(model, params, PROMPTS, length=12, seed=0, sampling=free)
  assert (got != other).any()


@pytest.mark.parametrize(
  ('prompts', 'length', 'message'),
  [
    ([], 2, '^prompts: got none, wanted at least one'),
    ([[]], 2, '^prompt: got 0 tokens, wanted 1 to 24, the context'),
    ([[1], []], 2, '^prompt: got 0 tokens, wanted 1 to 24, the context'),
    ([[1] * 25], 2, '^prompt: got 25 tokens, wanted 1 to 24, the context'),
    ([[1]], 0, '^length: got 0, wanted at least 1'),
    (
      [[1], [2, 3]],
      23,
      '^length: got 23, wanted at most 22: learned positions end with the '
      'context, 24 tokens with the prompt',
    ),
  ],
)
def test_refused(model: CausalLM, params, prompts, length: int, message: str):
  with pytest.raises(ValueError, match=message):
    stream(model, params, [*map(np.array, prompts)], length=length, seed=0)
