"""Rows from what a page holds: the model's own weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from attn import masks, mods
from attn.modules import HeadCall
from attn.training import head_rows
from attn.training.head_rows import rows_of_call
from tests.view_cases import ATTENTIONS, T, calls_and_weights


@pytest.mark.parametrize('name', ATTENTIONS)
def test_rows_are_the_weights_of_the_model(name, monkeypatch):
  ((call,), (weights,)) = calls_and_weights(name)
  # A few rows at a time, as of long texts.
  monkeypatch.setattr(head_rows, '_AT_ONCE', 1000)
  rows = rows_of_call(call)
  assert 1 <= rows.at_once < T
  chosen = np.array([T - 1, 0, 7, 7])
  np.testing.assert_allclose(
    rows.weights(chosen), weights[:, chosen], rtol=0, atol=3e-4
  )
  # Linear in the length: a window of a global pattern is one progression more.
  assert len(rows.progressions) <= 3 * T


def _call(**changes):
  """One head of three tokens, whose scores are all 0."""
  x = jnp.zeros((1, 3, 1, 2))
  fields = {
    **{'kind': 'softmax', 'query': x, 'key': x, 'scale': None, 'mask': None},
    **{'score_mod': None, 'sink': None, 'number': None},
    'attend': lambda value: jnp.full((1, 3, 1, 2), value.mean()),
  }
  return HeadCall(**(fields | changes))


def test_by_hand():
  def attend(value):
    weights = jnp.array([[1.0, 0, 0], [0.25, 0.75, 0], [0, 0.25, 0.75]])
    return jnp.einsum('ts,bsnv->btnv', weights, value)

  # The key before counts a third: log 3 less for each step back.
  def nearer(score, b, n, q, k):
    return score - jnp.log(3.0) * (q - k).astype(score.dtype)

  mask = masks.causal() & masks.sliding_window(1, 0)
  rows = rows_of_call(_call(mask=mask, score_mod=nearer, attend=attend))
  found = rows.weights(np.array([2, 0]))
  np.testing.assert_allclose(
    found, [[[0, 0.25, 0.75], [1, 0, 0]]], rtol=1e-6, atol=0
  )
  assert rows.progressions.tolist() == [[0, 1, 1], [0, 2, 1], [1, 2, 1]]


def test_what_it_does_not_know_is_refused():
  random = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 1, 2)))
  query = 3 * random.astype(jnp.float32)

  def attend(value):
    import attn

    return attn.attention(query, query, value, score_mod=score_mod)

  for score_mod in (
    mods.temperature(0.5),
    lambda score, b, n, q, k: jnp.where(q == 2, 2 * score, score),
  ):
    call = _call(query=query, key=query, score_mod=score_mod, attend=attend)
    with pytest.raises(ValueError, match='model: its scores are changed in a'):
      rows_of_call(call)
  with pytest.raises(ValueError, match='mask: got a ArrayImpl, wanted a mask'):
    rows_of_call(_call(mask=jnp.ones((3, 3), bool)))


@pytest.mark.parametrize(
  ('places', 'expected'),
  [
    ([], []),
    ([4], [(4, 1, 1)]),
    ([0, 1, 2, 3], [(0, 4, 1)]),
    ([1, 4, 7], [(1, 3, 3)]),
    ([0, 1, 5, 6, 7], [(0, 2, 1), (5, 3, 1)]),
    ([0, 5, 6, 7, 9], [(0, 2, 5), (6, 2, 1), (9, 1, 1)]),
  ],
)
def test_places_are_taken_apart(places, expected):
  found = head_rows._taken_apart(np.array(places, int))
  assert found == expected
  again = [a + i * step for a, count, step in found for i in range(count)]
  assert again == places
