"""A step that would throw the model far off is not made."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Array = jax.Array

# Steps that say what is usual, before anything is skipped.
_SETTLE = 20
# How much of the running mean a step leaves as it was.
_DECAY = 0.98


class SpikeState(NamedTuple):
  """What is known of the gradients so far.

  Attributes:
    usual: float32[], running mean of their norms, of steps that were made.
    made: int32[], how many were made.
    skipped: int32[], how many were not.
    inner: State of the optimiser.
  """

  usual: Array
  made: Array
  skipped: Array
  inner: Any


def skip_spikes(
  optimizer: optax.GradientTransformation, factor: float
) -> optax.GradientTransformation:
  """Skip steps whose gradient is far larger than is usual.

  A step is skipped, and leaves parameters and optimiser as they were, if the
  norm of its gradient is more than factor times the running mean, or no number.

  Args:
    optimizer: Makes the other steps.
    factor: More than 1.

  Returns:
    An optax transformation, with a `SpikeState`.

  Raises:
    ValueError: if factor is not more than 1.

  Example:
    >>> optimizer = skip_spikes(optax.sgd(1.0), factor=10.0)
    >>> state = optimizer.init(jnp.zeros(2))
    >>> updates, state = optimizer.update(jnp.array([1.0, jnp.nan]), state)
    >>> updates, int(state.skipped)
    (Array([0., 0.], dtype=float32), 1)

  References:
    Chowdhery et al., 2022, section 5.1 (spikes, skipped batches).
    https://arxiv.org/abs/2204.02311
  """
  if not factor > 1:
    raise ValueError(f'factor: got {factor}, wanted more than 1')

  def init(params: Any) -> SpikeState:
    zero = jnp.zeros((), jnp.int32)
    return SpikeState(jnp.zeros(()), zero, zero, optimizer.init(params))

  def update(
    updates: Any, state: Any, params: Any = None
  ) -> tuple[Any, SpikeState]:
    norm = optax.tree.norm(updates)
    # Written so that NaN is a spike too.
    is_usual = (norm <= factor * state.usual) | (state.made < _SETTLE)
    is_usual &= jnp.isfinite(norm)

    def make(updates: Any) -> tuple[Any, SpikeState]:
      made, inner = optimizer.update(updates, state.inner, params)
      share = jnp.where(state.made < _SETTLE, 1 / (state.made + 1), 1 - _DECAY)
      usual = state.usual + share * (norm - state.usual)
      return made, SpikeState(usual, state.made + 1, state.skipped, inner)

    def skip(updates: Any) -> tuple[Any, SpikeState]:
      nothing = jax.tree.map(jnp.zeros_like, updates)
      return nothing, state._replace(skipped=state.skipped + 1)

    return jax.lax.cond(is_usual, make, skip, updates)

  return optax.GradientTransformation(init, update)


def skipped_steps(opt_state: Any) -> Array | None:
  """How many steps were skipped; None where none ever is."""
  return opt_state.skipped if isinstance(opt_state, SpikeState) else None
