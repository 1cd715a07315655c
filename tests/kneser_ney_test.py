"""Counted n-grams: against loops over the text, and what they must not see."""

import collections

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from attn.modules import CausalLM, KneserNey, count_ngrams
from attn.modules.ngram_counts import COUNTS, PARTS, apart
from attn.training import batches, devices, language_model, optimizer, step
from configs import tiny
from tests.causal_lm_cases import config_of

V, LONGEST, ROWS = 5, 3, 400
# Some tokens follow others more than once, some never.
_RNG = np.random.default_rng(0)
TEXT = np.concatenate(
  [np.tile(_RNG.integers(0, V, 7), 9), _RNG.integers(0, V, 140)]
).astype(np.int32)
QUERY = np.concatenate([TEXT[30:41], [4, 4, 4, 4]])[None].astype(np.int32)
PLACES = np.arange(QUERY.shape[1])[None]


def followers(k, part):
  """What follows each context of k tokens: {context: {token: count}}."""
  found = collections.defaultdict(collections.Counter)
  for i in range(k, len(TEXT)):
    if i * PARTS // len(TEXT) != part:
      found[tuple(TEXT[i - k : i])][TEXT[i]] += 1
  return found


def ways(k, part):
  """The same, but each counts once for every token before the context."""
  found = collections.defaultdict(collections.Counter)
  for context, after in followers(k + 1, part).items():
    for token in after:
      found[context[1:]][token] += 1
  return found


def by_loops(before, discounts, part):
  """p of each token after `before`, by the shortest context first."""
  p = np.full(V, 1 / V)
  for k in range(min(LONGEST, len(before)) + 1):
    is_all = k in (LONGEST, len(before))
    found = (followers if is_all else ways)(k, part)
    after = found.get(tuple(before[len(before) - k :]), {})
    total = sum(after.values())
    if not total:
      continue
    less = {
      token: min(c, discounts[k][min(c, 3) - 1]) for token, c in after.items()
    }
    p = np.array(
      [
        (after.get(w, 0) - less.get(w, 0) + sum(less.values()) * p[w]) / total
        for w in range(V)
      ]
    )
  return p


def tables(rows=ROWS):
  return count_ngrams(TEXT, V, longest=LONGEST, rows=rows)


def read(params, tokens=QUERY, places=PLACES, part=None, rows=ROWS):
  model = KneserNey(V, LONGEST, rows)
  return np.exp(model.apply({'params': params}, tokens, places, part))


class KneserNeyTest(parameterized.TestCase):
  @parameterized.parameters(None, 0, 3, PARTS - 1)
  def test_is_what_loops_count(self, part):
    params = tables()
    parts = None if part is None else np.full_like(QUERY, part)
    got = read(params, part=parts)[0, :, -1]
    for t in range(QUERY.shape[1]):
      before = QUERY[0, max(0, t + 1 - LONGEST) : t + 1].tolist()
      expected = by_loops(before, params['discounts'], part)
      np.testing.assert_allclose(got[t], expected, rtol=2e-5)

  def test_is_a_distribution_for_every_context(self):
    for rows in (ROWS, 20):
      p = read(tables(rows), rows=rows)
      np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
      self.assertGreater(p.min(), 0)

  def test_the_rarest_contexts_have_no_room(self):
    kept = tables(rows=20)
    whole = tables()
    self.assertTrue(set(kept['contexts']) < set(whole['contexts']))
    self.assertLessEqual(kept['first'].shape[0], 20)
    # No token before: the most frequent context of all.
    self.assertIn(0, kept['contexts'])
    seen = [x['seen'][0][x['seen'][0] > 0] for x in (kept, whole)]
    self.assertGreater(seen[0].mean(), seen[1].mean())

  def test_a_part_is_read_by_the_others(self):
    """What is in one part alone is no surprise, unless that is left out."""
    cut = np.flatnonzero(np.arange(len(TEXT)) * PARTS // len(TEXT) == 4)
    here = TEXT[None, cut[0] : cut[-1] + 1]
    places = np.arange(here.shape[1])[None]
    params = tables()

    def nats(part):
      parts = None if part is None else np.full_like(here, part)
      p = read(params, here, places, parts)[0, :-1, -1]
      return -np.log(p[np.arange(len(p)), here[0, 1:]]).mean()

    self.assertGreater(nats(4), nats(None) + 0.3)
    self.assertLess(nats(7), nats(4))

  def test_a_document_does_not_see_the_one_before_it(self):
    places = np.concatenate([np.arange(6), np.arange(9)])[None]
    packed = read(tables(), places=places)
    alone = read(tables(), QUERY[:, 6:], PLACES[:, :9])
    np.testing.assert_array_equal(packed[:, 6:], alone)

  def test_discounts_are_as_the_paper_says(self):
    """By hand, from counts of counts: n₁ = 8, n₂ = 4, n₃ = 2, n₄ = 1."""
    text = [w for w in range(8) for _ in range(1)]
    text += [w for w in range(8, 12) for _ in range(2)]
    text += [w for w in (12, 13) for _ in range(3)] + [14] * 4
    text = np.array(text)
    d = count_ngrams(text, 15, longest=0, rows=8)['discounts'][0]
    # y = n₁ / (n₁ + 2 n₂) = 1/2
    expected = [1 - 2 * 0.5 * 4 / 8, 2 - 3 * 0.5 * 2 / 4, 3 - 4 * 0.5 * 1 / 2]
    np.testing.assert_allclose(d, expected)


def make_model():
  config = config_of(
    vocab_size=V, context=16, counts=LONGEST, count_rows=ROWS, zero_init=True
  )
  return CausalLM(config)


def make_params(model, rng):
  params = language_model.init(model, rng)
  return {**params, COUNTS: {k: jnp.asarray(x) for k, x in tables().items()}}


def test_a_model_begins_with_what_was_counted():
  model = make_model()
  params = make_params(model, jax.random.key(0))
  logits = model.apply({'params': params}, QUERY)
  got = jax.nn.softmax(logits)
  np.testing.assert_allclose(got, read(tables())[:, :, -1], rtol=1e-5)


@pytest.mark.parametrize('sizes', [{}, {'data': 2}, {'fsdp': 2}])
def test_counts_are_not_learned(sizes):
  """Nor has the optimiser a memory of them, however devices share the work."""
  model = make_model()
  mesh = devices.make_mesh(sizes, devices=jax.devices()[: 2 if sizes else 1])
  options = {**tiny.get_config().optimizer}
  options.pop('accumulate')
  with jax.numpy_dtype_promotion('standard'):
    made = optimizer.make_optimizer(
      steps=4, **{**options, 'name': 'adamw', 'weight_decay': 0.1}
    )
    text = ''.join('abcde'[i] for i in TEXT)
    data = batches.Text(text, 0, 4, 16, parts=PARTS)
    state = step.init_state(lambda rng: make_params(model, rng), made, 0, mesh)
    learned, counted = jax.device_get(apart(state.params))
    for leaf in jax.tree.leaves(state.opt_state):
      assert leaf.size < counted[COUNTS]['seen'].size
    steps = step.make_train_steps(
      lambda *args: language_model.nats(model, *args), made, 0, 1, mesh
    )
    for batch in batches.iterate(data, 0, 4, 2):
      assert batch.part is not None
      state, _ = steps(state, batch)
  after, still = jax.device_get(apart(state.params))
  chex.assert_trees_all_equal(still, counted)
  moved = jax.tree.map(lambda x, y: abs(x - y).max(), learned, after)
  assert moved['trust']['kernel'] > 0
  assert moved['embed']['embedding'] > 0


def test_parts_of_a_batch_are_where_its_windows_are():
  text = ''.join(chr(ord('a') + i) for i in range(26)) * 20
  data = batches.Text(text, 0, 3, 16, parts=PARTS)
  batch = data.train_batch(5)
  assert batch.part is not None
  length = len(data.train_tokens)
  for row, part in zip(batch.inputs, batch.part):
    starts = [
      i
      for i in range(length - 16)
      if (data.train_tokens[i : i + 16] == row).all()
      and (np.arange(i, i + 16) * PARTS // length == part).all()
    ]
    assert starts
  assert data.validation(0).batches[0].part is None
  assert batches.Text(text, 0, 3, 16).train_batch(5).part is None
