"""What each way of drawing does to five tokens, worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn.training.sampling import Sampling, draw, log_probabilities

# Probabilities of five tokens, and the logits that mean them.
CHANCES = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
LOGITS = jnp.log(jnp.asarray(CHANCES, jnp.float32)) + 3


@pytest.mark.parametrize(
  ('fields', 'expected'),
  [
    ({}, [0.1, 0.4, 0.05, 0.25, 0.2]),
    # 0.4 squared is 0.16 of 0.275.
    ({'temperature': 0.5}, CHANCES**2 / 0.275),
    ({'temperature': 0}, [0, 1, 0, 0, 0]),
    ({'top_k': 2}, [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
    ({'top_k': 9}, CHANCES),
    # 0.4 and 0.25 are not enough, with 0.2 they are more.
    ({'top_p': 0.7}, [0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85]),
    ({'top_p': 0.3}, [0, 1, 0, 0, 0]),
    # At least 0.18.
    ({'min_p': 0.45}, [0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85]),
    ({'min_p': 1.0}, [0, 1, 0, 0, 0]),
    # Of the two that are left the first has 0.4 / 0.65 < 0.7.
    ({'top_k': 2, 'top_p': 0.7}, [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
  ],
)
def test_what_a_token_is_drawn_with(fields, expected):
  got = log_probabilities(LOGITS, Sampling(**fields))
  np.testing.assert_allclose(np.exp(got), expected, rtol=2e-5, atol=1e-7)


def test_top_p_of_equals_keeps_all_of_them():
  got = log_probabilities(jnp.zeros(4), Sampling(top_p=0.6))
  np.testing.assert_allclose(np.exp(got), np.full(4, 0.25), rtol=1e-6)


def test_what_occurred_is_punished_whatever_its_sign():
  logits = jnp.array([2.0, -1.0, 2.0, -1.0])
  occurred = jnp.array([True, True, False, False])
  got = log_probabilities(logits, Sampling(repetition_penalty=2.0), occurred)
  expected = jax.nn.log_softmax(jnp.array([1.0, -2.0, 2.0, -1.0]))
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_draws_follow_the_chances():
  rows = 20_000
  rngs = jax.random.split(jax.random.key(0), rows)
  logits = jnp.broadcast_to(LOGITS, (rows, 5))
  drawn = draw(logits, Sampling(top_k=3), rngs)
  got = np.bincount(drawn, minlength=5) / rows
  expected = np.array([0, 0.4, 0, 0.25, 0.2]) / 0.85
  # Four standard deviations of a frequency.
  tolerance = 4 * np.sqrt(expected * (1 - expected) / rows)
  assert (abs(got - expected) <= tolerance).all()


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'temperature': -0.5}, '^temperature: got -0.5, wanted at least 0'),
    ({'temperature': float('nan')}, '^temperature: got nan, wanted at least 0'),
    ({'top_k': 0}, '^top_k: got 0, wanted at least 1'),
    ({'top_p': 0.0}, '^top_p: got 0.0, wanted more than 0 and at most 1'),
    ({'top_p': 1.5}, '^top_p: got 1.5, wanted more than 0 and at most 1'),
    ({'min_p': -0.1}, '^min_p: got -0.1, wanted from 0 to 1'),
    ({'repetition_penalty': 0.0}, '^repetition_penalty: got 0.0, wanted more'),
  ],
)
def test_out_of_range(fields, message):
  with pytest.raises(ValueError, match=message):
    Sampling(**fields)
