"""N-gram embeddings: what stood just before, and nothing else."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from attn.modules.ngrams import NgramEmbed

TOKENS = jnp.asarray(
  np.random.default_rng(0).integers(0, 9, (2, 12)), jnp.int32
)
PLACES = jnp.broadcast_to(jnp.arange(12), TOKENS.shape)


def make(**options) -> tuple[NgramEmbed, dict]:
  embed = NgramEmbed(features=8, longest=3, rows=1024, width=4, **options)
  alone = NgramEmbed(features=8, longest=3, rows=1024, width=4)
  return embed, alone.init(jax.random.key(0), TOKENS, PLACES)


def test_sees_the_last_three_tokens_and_no_more():
  embed, params = make()
  whole = embed.apply(params, TOKENS, PLACES)
  for changed in range(12):
    other = TOKENS.at[:, changed].add(1)
    moved = (embed.apply(params, other, PLACES) != whole).any((0, 2))
    expected = [changed <= place <= changed + 2 for place in range(12)]
    np.testing.assert_array_equal(moved, expected)


def test_order_matters():
  embed, params = make()
  one = embed.apply(params, jnp.array([[1, 2, 3]]), PLACES[:1, :3])
  other = embed.apply(params, jnp.array([[2, 1, 3]]), PLACES[:1, :3])
  assert float(abs(one[0, 2] - other[0, 2]).max()) > 1e-3


def test_is_the_sum_of_its_tables():
  """By hand: rows for the pair and the triple, side by side, times W."""
  embed, params = make()
  tables, out = params['params'], embed.apply(params, TOKENS, PLACES)
  w = tables['out']['kernel']
  pair, triple = (tables[f'table_{n}']['embedding'] for n in (2, 3))
  at = np.asarray(out[0, 5])
  parts = (pair @ w[:4])[:, None] + (triple @ w[4:])[None]
  assert float(abs(parts - at).max(-1).min()) < 1e-5


def test_a_document_does_not_see_the_one_before_it():
  embed, params = make()
  places = jnp.concatenate([jnp.arange(5), jnp.arange(7)])[None]
  packed = embed.apply(params, TOKENS[:1], places)
  alone = embed.apply(params, TOKENS[:1, 5:], PLACES[:1, :7])
  chex.assert_trees_all_close(packed[:, 5:], alone, atol=1e-6)


def test_few_ngrams_of_many_share_a_row():
  embed = NgramEmbed(features=2, longest=2, rows=4096, width=1)
  pairs = jnp.stack(jnp.meshgrid(jnp.arange(60), jnp.arange(60)), -1)
  pairs = pairs.reshape(-1, 2)
  places = jnp.broadcast_to(jnp.arange(2), pairs.shape)
  params = embed.init(jax.random.key(0), pairs[:1], places[:1])
  found = np.asarray(embed.apply(params, pairs, places))[:, 1]
  # Thrown at random, 3600 balls leave 4096 (1 - e^-0.88) boxes with one.
  expected = 4096 * (1 - np.exp(-3600 / 4096))
  distinct = len(np.unique(found, axis=0))
  assert abs(distinct - expected) < 0.04 * expected


def test_with_a_cache_it_is_the_same():
  """Read four or more at first, then some at a time, some of them twice."""
  embed, params = make()
  whole = embed.apply(params, TOKENS, PLACES)
  for at_once in (1, 3):
    lengths = jnp.array([4, 6])
    places = jnp.where(PLACES[:, :6] < lengths[:, None], PLACES[:, :6], -1)
    first, _ = make(at_once=at_once, first=True)
    out, state = first.apply(params, TOKENS[:, :6], places, mutable=['cache'])
    chex.assert_trees_all_close(out[0, :4], whole[0, :4], atol=1e-6)
    chex.assert_trees_all_close(out[1], whole[1, :6], atol=1e-6)
    then, _ = make(at_once=at_once)
    while int(lengths.max()) + at_once <= 12:
      places = lengths[:, None] + jnp.arange(at_once)
      tokens = jnp.take_along_axis(TOKENS, places, 1)
      wrong = tokens.at[:, 1:].add(1)
      for read in (wrong, tokens):
        out, state = then.apply(
          {**params, **state}, read, places, mutable=['cache']
        )
      expected = jnp.take_along_axis(whole, places[..., None], 1)
      chex.assert_trees_all_close(out, expected, atol=1e-6)
      # Only the first of them is taken; the others are read again.
      lengths = lengths + 1
