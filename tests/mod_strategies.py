"""Random score modifications, and the rules that they stand for, in NumPy."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from attn import mods
from tests import oracles

# Exact in every float, as all numbers here, so that rules need no rounding.
_factors = st.sampled_from((0.5, 0.75, 1.5, 2.0))


@dataclasses.dataclass(frozen=True)
class DrawnMod:
  """A mod; its rule gives of (score, b, n, q, k) the score and its slope."""

  mod: Callable
  rule: Callable

  def score(self, *at):
    return self.rule(*at)[0]

  def slope(self, *at):
    return self.rule(*at)[1]


def _kinds(draw, sizes):
  """Mods for these sizes, by name."""
  batch, heads, _, _ = sizes

  def numbers(*shape):
    """Positive, and at most 2."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return rng.integers(1, 17, shape) / 8

  def one_or_per_head():
    if draw(st.booleans()):
      number = draw(_factors)
      return number, np.full(heads, number)
    each = numbers(heads)
    return jnp.asarray(each, jnp.float32), each

  def soft_cap():
    cap, caps = one_or_per_head()

    def rule(score, b, n, q, k):
      bent = np.tanh(score / caps[n])
      return caps[n] * bent, 1 - bent**2

    return mods.soft_cap(cap), rule

  def temperature():
    value, values = one_or_per_head()
    rule = lambda score, b, n, q, k: (score / values[n], 1 / values[n])  # noqa: E731
    return mods.temperature(value), rule

  def alibi():
    slopes, offset = numbers(heads), draw(st.integers(-3, 3))
    mod = mods.alibi(jnp.asarray(slopes, jnp.float32), offset=offset)
    return mod, lambda score, b, n, q, k: (
      score - slopes[n] * abs(q + offset - k),
      1,
    )

  def decay():
    rates, offsets = numbers(heads) / 2, np.arange(batch) - 1
    mod = mods.distance_decay(
      jnp.asarray(rates, jnp.float32), offset=jnp.asarray(offsets)
    )
    return mod, lambda score, b, n, q, k: (
      score + abs(q + offsets[b] - k) * np.log(rates[n]),
      1,
    )

  def relative_bias():
    table = numbers(8, heads)
    options = {'bidirectional': draw(st.booleans()), 'max_distance': 9}
    mod = mods.relative_bias(jnp.asarray(table, jnp.float32), **options)
    return mod, lambda score, b, n, q, k: (
      score + table[oracles.relative_bucket(k - q, 8, **options), n],
      1,
    )

  def function():
    weights = numbers(heads)
    array = jnp.asarray(weights, jnp.float32)

    def mod(score, b, n, q, k):
      far = (q - 2 * k + b).astype(score.dtype) / 8
      return score * array[n].astype(score.dtype) + far

    return mod, lambda score, b, n, q, k: (
      score * weights[n] + (q - 2 * k + b) / 8,
      weights[n],
    )

  return {
    'soft cap': soft_cap,
    'temperature': temperature,
    'alibi': alibi,
    'decay': decay,
    'relative bias': relative_bias,
    'function': function,
  }


@st.composite
def score_mods(draw, sizes):
  """One of the mods, or two composed, or one with an offset.

  Args:
    draw: By hypothesis.
    sizes: (B, N, T, S).

  Returns:
    A `DrawnMod`.
  """
  kinds = _kinds(draw, sizes)
  names = st.sampled_from(sorted(kinds))
  first = DrawnMod(*kinds[draw(names)]())
  how = draw(st.sampled_from(('alone', 'composed', 'offset')))
  if how == 'alone':
    return first
  if how == 'offset':
    offset = draw(st.integers(-3, 3))
    return DrawnMod(
      mods.with_offset(first.mod, offset),
      lambda score, b, n, q, k: first.rule(score, b, n, q + offset, k),
    )
  second = DrawnMod(*kinds[draw(names)]())

  def rule(score, *at):
    score, slope = first.rule(score, *at)
    score, outer = second.rule(score, *at)
    return score, outer * slope

  return DrawnMod(mods.compose(first.mod, second.mod), rule)
