"""One small tile a head: when it is computed at once, and what of it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from attn import masks
from attn.backends.at_once import at_once_mask
from attn.backends.blockwise import blockwise
from attn.backends.dense import dense
from attn.backends.plan import make_plan
from attn.backends.problem import take_apart
from attn.call import prepare

B, T, S, N, K, H, V = 2, 5, 7, 6, 3, 11, 13


def arrays(length=T, keys=S):
  rng = np.random.default_rng(0)
  shapes = ((B, length, N, H), (B, keys, K, H), (B, keys, K, V))
  return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def served(call):
  return at_once_mask(*take_apart(call, *make_plan(call)))


class AtOnceTest(parameterized.TestCase):
  @parameterized.parameters(
    {},
    {'is_causal': True},
    {'mask': masks.causal(S - T) & masks.sliding_window(2, 0)},
    # Its first rows see nothing.
    {'mask': masks.causal(-2)},
    {'scale': 0.3},
  )
  def test_serves_what_numbers_hide(self, **options):
    call = prepare(*arrays(), **options)
    mask = served(call)
    expected = np.ones((T, S), bool)
    if call.mask is not None:
      expected = np.asarray(call.mask.dense(T, S))
    np.testing.assert_array_equal(mask, expected)
    got, wanted = blockwise(call), dense(call)
    chex.assert_trees_all_close(got, wanted, rtol=1e-5, atol=1e-6)

  @parameterized.parameters(
    {'bias': jnp.zeros((T, S))},
    {'mask': jnp.ones((T, S), bool)},
    {'mask': masks.per_head([masks.causal(h) for h in range(N)])},
    {'sink': jnp.zeros(N)},
    {'score_mod': lambda score, b, n, q, k: score},
    {'dropout_rate': 0.5, 'rng': jax.random.key(0)},
    {'key_value_seq_lengths': jnp.array([3, 4])},
  )
  def test_leaves_all_else_to_tiles(self, **options):
    self.assertIsNone(served(prepare(*arrays(), **options)))

  def test_leaves_long_heads_to_tiles(self):
    self.assertIsNotNone(served(prepare(*arrays(256, 256), is_causal=True)))
    self.assertIsNone(served(prepare(*arrays(257, 256), is_causal=True)))

  @parameterized.product(
    which=('query', 'key', 'value'), what=(np.nan, np.inf, -np.inf)
  )
  def test_a_row_is_spoiled_by_what_it_sees_alone(self, which, what):
    """Also where each score that it sees would be -inf."""
    query, key, value = (abs(x) for x in arrays(S, S))
    place = 2
    clean = dense(prepare(query, key, value, is_causal=True))[0]
    x = {'query': query, 'key': key, 'value': value}
    x[which] = x[which].at[:, place, :, 4].set(what)
    call = prepare(**x, is_causal=True)
    self.assertIsNotNone(served(call))
    context = np.asarray(blockwise(call)[0])
    spoiled = np.arange(S) >= place
    if which == 'query':
      spoiled = np.arange(S) == place
    self.assertTrue(np.isnan(context[:, spoiled]).all())
    chex.assert_trees_all_close(
      context[:, ~spoiled], clean[:, ~spoiled], rtol=1e-5
    )
