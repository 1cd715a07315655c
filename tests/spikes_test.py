"""Spikes are skipped, and leave no trace."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attn.training.spikes import SpikeState, skip_spikes, skipped_steps

pytestmark = pytest.mark.smoke


@pytest.fixture(autouse=True)
def _standard_promotion():
  # optax multiplies a Python float by an int32 count.
  with jax.numpy_dtype_promotion('standard'):
    yield


def run(norms, factor=3.0):
  """Adam on gradients of these norms; parameters and states after each."""
  optimizer = skip_spikes(optax.adam(0.1), factor)
  params = jnp.array([1.0, -1.0])
  state = optimizer.init(params)
  found = []
  for norm in norms:
    gradient = jnp.array([0.6, 0.8]) * norm
    updates, state = jax.jit(optimizer.update)(gradient, state, params)
    params = optax.apply_updates(params, updates)
    found.append((params, state))
  return found


def test_without_spikes_it_is_the_optimizer():
  norms = [1.0, 2.0, 0.5] * 8
  optimizer = optax.adam(0.1)
  params = jnp.array([1.0, -1.0])
  state = optimizer.init(params)
  for (got, _), norm in zip(run(norms), norms):
    updates, state = optimizer.update(jnp.array([0.6, 0.8]) * norm, state)
    params = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(got, params, rtol=1e-6)


@pytest.mark.parametrize('spike', [3.1, np.inf, np.nan])
def test_a_spike_changes_nothing(spike):
  before, after, then = run([1.0] * 22 + [spike, 2.9])[-3:]
  assert isinstance(after[1], SpikeState)
  chex.assert_trees_all_equal(before[0], after[0])
  chex.assert_trees_all_equal(before[1].inner, after[1].inner)
  assert (int(before[1].skipped), int(after[1].skipped)) == (0, 1)
  assert int(then[1].skipped) == 1
  assert (then[0] != after[0]).all()
  chex.assert_tree_all_finite(then[0])


def test_at_first_nothing_is_usual():
  *_, (_, state) = run([1.0, 100.0, 1.0])
  assert int(state.skipped) == 0
  np.testing.assert_allclose(state.usual, 34.0, rtol=1e-6)


def test_what_is_usual_follows_slowly():
  *_, (_, state) = run([1.0] * 20 + [2.0])
  np.testing.assert_allclose(state.usual, 1.02, rtol=1e-5)


def test_only_this_optimizer_counts():
  *_, (_, state) = run([1.0])
  assert int(skipped_steps(state)) == 0
  assert skipped_steps(optax.adam(0.1).init(jnp.zeros(2))) is None


@pytest.mark.parametrize('factor', [1.0, 0.0, float('nan')])
def test_refused(factor):
  with pytest.raises(ValueError, match=r'^factor: got .*, wanted more than 1'):
    skip_spikes(optax.sgd(1.0), factor)
