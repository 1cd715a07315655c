"""A draft changes how fast a text comes, and nothing else."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn.modules import CausalLM
from attn.training.generate import generate
from attn.training.sampling import Sampling, log_probabilities
from attn.training.speculative import Speaker, _kept, speculate
from tests.cache_test import config_of
from tests.generate_test import params_of

PROMPT = np.array([2, 7, 1])


@functools.cache
def speaker_of(attention: str = 'full', **changes) -> Speaker:
  model = CausalLM(config_of(attention, **changes))
  return Speaker(model, params_of(model))


@functools.cache
def likeliest(attention: str) -> np.ndarray:
  """What the large model says by itself."""
  return generate(
    *speaker_of(attention),
    [PROMPT],
    length=17,
    seed=0,
    sampling=Sampling(temperature=0),
  )[0]


@pytest.mark.parametrize('attention', ['full', 'alternating', 'latent'])
@pytest.mark.parametrize('ahead', [1, 4])
def test_the_likeliest_tokens_are_those_of_the_large_model(
  attention: str, ahead: int
):
  large = speaker_of(attention)
  small = speaker_of('sliding_window', num_layers=1, embed_dim=8)
  sampling = Sampling(temperature=0)
  pieces = list(
    speculate(
      large, small, PROMPT, length=17, seed=0, sampling=sampling, ahead=ahead
    )
  )
  np.testing.assert_array_equal(np.concatenate(pieces), likeliest(attention))
  assert max(map(len, pieces)) <= ahead + 1


def test_a_draft_that_is_the_model_itself_is_always_right():
  large = speaker_of()
  pieces = speculate(large, large, PROMPT, length=16, seed=0, ahead=4)
  assert [len(piece) for piece in pieces] == [1, 5, 5, 5]


def test_two_tokens_together_have_the_chances_of_the_large_model():
  """Over many seeds, of the first token and of the two that follow it."""
  large = speaker_of(num_layers=1)
  small = speaker_of(num_layers=1, embed_dim=8)
  sampling = Sampling(temperature=3.0, top_k=3)
  count = 1500
  drawn = np.stack(
    [
      np.concatenate(
        list(
          speculate(
            large, small, PROMPT, length=3, seed=s, sampling=sampling, ahead=2
          )
        )
      )
      for s in range(count)
    ]
  )

  def chances(prompts):
    logits = large.model.apply({'params': large.params}, jnp.array(prompts))
    return np.exp(log_probabilities(logits[:, -1], sampling))

  first = chances([PROMPT])[0]
  second = chances([[*PROMPT, x] for x in range(13)])
  third = chances([[*PROMPT, x, y] for x in range(13) for y in range(13)])
  together = first[:, None] * second
  of_third = (together.reshape(-1, 1) * third).sum(0)
  for places, expected in (
    ((0, 1), together.reshape(-1)),
    ((2,), of_third),
  ):
    code = drawn[:, places] @ 13 ** np.arange(len(places))[::-1]
    got = np.bincount(code, minlength=expected.size) / count
    # Four standard deviations of a frequency.
    tolerance = 4 * np.sqrt(expected * (1 - expected) / count) + 1e-9
    assert (abs(got - expected) <= tolerance).all()


def test_how_many_stand():
  """The second is drawn three times as often as it should be."""
  proposed = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]))
  wanted = jnp.log(jnp.array([[0.8, 0.2], [0.3, 0.7], [1.0, 0.0]]))
  drawn = jnp.array([0, 0, 1])
  rngs = jax.random.split(jax.random.key(0), 3000)
  kept = jax.vmap(lambda rng: _kept(wanted, proposed, drawn, rng))(rngs)
  # The first stands always, the second in one of three, the third never.
  got = np.bincount(kept, minlength=4) / 3000
  np.testing.assert_allclose(got, [0, 2 / 3, 1 / 3, 0], atol=0.035)


@pytest.mark.parametrize(
  ('small', 'options', 'message'),
  [
    ({}, {'ahead': 0}, '^ahead: got 0, wanted at least 1'),
    (
      {},
      {'sampling': Sampling(repetition_penalty=1.1)},
      '^repetition_penalty: got 1.1, wanted 1',
    ),
    ({'vocab_size': 14}, {}, '^draft: got a vocabulary of 14, wanted 13'),
    ({}, {'length': 22}, '^length: got 22 after a prompt of 3, wanted both'),
    (
      {'attention': 'linear'},
      {},
      '^draft: got linear attention, which cannot take back',
    ),
    ({'attention': 'prefix'}, {}, '^draft: got prefix attention'),
  ],
)
def test_refused(small, options, message):
  large = speaker_of()
  config = dataclasses.replace(large.model.config, **small)
  with pytest.raises(ValueError, match=message):
    speculate(
      large,
      Speaker(CausalLM(config), {}),
      PROMPT,
      **{'length': 5, 'seed': 0, **options},
    )
