"""Search: what is found, and that it is the best of what was looked at."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attn.modules.encoder_decoder import Decoded, Encoded
from attn.training import translate as search
from attn.training.word_tokenizer import BOS, EOS, PAD
from tests import encoder_decoder_cases as cases

V, MOST = 6, 4


class Table:
  """A model whose logits stand in a table: of source, place and last token."""

  def __init__(self, seed: int, sharpness: float = 2.0) -> None:
    """Args: the seed of the table; how far its logits lie apart."""
    rng = np.random.default_rng(seed)
    self.table = rng.normal(0, sharpness, (3, MOST, V, V)).astype(np.float32)
    # A model that was trained never writes these.
    self.table[..., [PAD, BOS]] = -30

  def apply(self, variables, *args, method, **kwargs):
    """As a module's."""
    return getattr(self, f'_{method}')(*args, **kwargs)

  def _encode(self, source, source_mask, *, max_length):
    del max_length
    which = jnp.where(source_mask, source, 0).sum(1) % 3
    return Encoded(which, jnp.zeros_like(which))

  def _decode_step(self, tokens, memory, state):
    logits = jnp.asarray(self.table)[memory, state, tokens]
    return Decoded(logits, None), state + 1

  def nats(self, which: int, tokens: tuple[int, ...]) -> float:
    """Log-probability of a whole translation, in float64."""
    total, last = 0.0, BOS
    for place, token in enumerate(tokens):
      logits = self.table[which, place, last].astype(np.float64)
      total += logits[token] - np.log(np.exp(logits).sum())
      last = token
    return total


def everything() -> list[tuple[int, ...]]:
  """All translations: they end with EOS, or for want of room."""
  words = [t for t in range(V) if t not in (PAD, BOS, EOS)]
  found = []
  for length in range(MOST):
    found += [(*x, EOS) for x in itertools.product(words, repeat=length)]
  return [*found, *itertools.product(words, repeat=MOST)]


def norm(length: int, penalty: float) -> float:
  return ((5 + length) / 6) ** penalty


SOURCE = jnp.array([[3, 0], [1, 3], [5, 3]])  # tables 0, 1 and 2


def run(table: Table, beam: int, penalty: float = 0.0, source=SOURCE):
  return search.translate(
    table,
    {},
    source,
    jnp.ones(source.shape, bool),
    beam=beam,
    max_length=MOST,
    length_penalty=penalty,
  )


def stripped(tokens: np.ndarray) -> tuple[int, ...]:
  return tuple(int(t) for t in tokens if t != PAD)


@pytest.fixture(scope='module', params=range(3))
def table(request: pytest.FixtureRequest) -> Table:
  return Table(request.param)


def test_a_beam_of_1_is_greedy(table: Table):
  found = run(table, beam=1)
  for which in range(3):
    wanted, last = [], BOS
    while len(wanted) < MOST and last != EOS:
      last = int(table.table[which, len(wanted), last].argmax())
      wanted.append(last)
    assert stripped(found.tokens[which]) == tuple(wanted)
    np.testing.assert_allclose(
      found.scores[which], table.nats(which, tuple(wanted)), rtol=1e-5
    )


@pytest.mark.parametrize('penalty', [0.0, 0.6, 2.0])
def test_a_beam_of_all_finds_the_best(table: Table, penalty: float):
  # As many beams as there are translations: nothing is ever dropped.
  found = run(table, beam=len(everything()), penalty=penalty)
  for which in range(3):
    scores = {
      tokens: table.nats(which, tokens) / norm(len(tokens), penalty)
      for tokens in everything()
    }
    best = max(scores, key=lambda tokens: scores[tokens])
    assert stripped(found.tokens[which]) == best
    np.testing.assert_allclose(found.scores[which], scores[best], rtol=1e-4)


def test_a_length_penalty_makes_longer_translations():
  tables = [Table(seed, sharpness=0.5) for seed in range(3)]

  def mean(penalty: float) -> float:
    found = [run(t, beam=8, penalty=penalty).tokens for t in tables]
    return float(np.mean([(np.asarray(x) != PAD).sum(-1) for x in found]))

  assert mean(0.0) < mean(1.0) < mean(4.0)


@pytest.mark.parametrize('beam', [2, 3, 5])
def test_a_wider_beam_never_scores_below_greedy(beam: int):
  """Also where the greedy beginning is not among the best on the way."""
  better = 0
  for seed in range(12):
    table = Table(seed, sharpness=1.0)
    greedy, wide = (np.asarray(run(table, k, 0.6).scores) for k in (1, beam))
    assert (wide >= greedy - 1e-6).all()
    better += int((wide > greedy + 1e-3).sum())
  assert better > 3


def test_each_sentence_is_translated_as_if_alone(table: Table):
  together = run(table, beam=3, penalty=0.6)
  for i in range(3):
    alone = run(table, beam=3, penalty=0.6, source=SOURCE[i : i + 1])
    np.testing.assert_array_equal(together.tokens[i], alone.tokens[0])
    np.testing.assert_allclose(together.scores[i], alone.scores[0], rtol=1e-6)


def test_no_beams_are_the_same():
  """A beam that holds one beginning twice is a narrower beam."""
  table = Table(5, sharpness=0.5)
  beams = search._Beams(
    step=jnp.int32(0),
    tokens=jnp.full((1, 4, MOST), PAD),
    totals=jnp.array([[0.0, -jnp.inf, -jnp.inf, -jnp.inf]]),
    ended=jnp.zeros((1, 4), bool),
    state=jnp.zeros(4),
  )
  for place in range(2):
    last = jnp.where(place == 0, BOS, beams.tokens[0, :, max(place - 1, 0)])
    logits = jnp.asarray(table.table)[0, place, last]
    beams = search._extend(beams, jax.nn.log_softmax(logits)[None])
  real = [stripped(x) for x in np.asarray(beams.tokens[0])]
  assert len(set(real)) == 4


@pytest.mark.parametrize(
  'name', ['bottleneck', 'lstm', 'bahdanau', 'general, local-p', 'transformer']
)
def test_with_the_models_themselves(name: str):
  """Greedy is the likeliest token of every step; a beam is never below it."""
  model, variables = cases.model_of(name)
  source, mask = jnp.asarray(cases.SOURCE), jnp.asarray(cases.SOURCE_MASK)
  length = cases.T + 1

  def run(beam: int) -> search.Translations:
    return search.translate(
      model,
      variables['params'],
      source,
      mask,
      beam=beam,
      max_length=length,
      length_penalty=0.6,
    )

  memory, state = model.apply(
    variables, source, mask, max_length=length, method='encode'
  )
  step = jax.jit(functools.partial(model.apply, method='decode_step'))
  last = np.full(cases.B, BOS)
  wanted, totals = np.full((cases.B, length), PAD), np.zeros(cases.B)
  for place in range(length):
    decoded, state = step(variables, jnp.asarray(last), memory, state)
    nats = np.asarray(jax.nn.log_softmax(decoded.logits))
    ended = (wanted == EOS).any(1)
    last = np.where(ended, PAD, nats.argmax(1))
    totals += np.where(ended, 0, nats.max(1))
    wanted[:, place] = last
  greedy, wide = run(1), run(4)
  np.testing.assert_array_equal(greedy.tokens, wanted)
  lengths = (wanted != PAD).sum(1)
  scores = totals / ((5 + lengths) / 6) ** 0.6
  np.testing.assert_allclose(greedy.scores, scores, rtol=1e-4)
  assert (np.asarray(wide.scores) >= np.asarray(greedy.scores) - 1e-6).all()
