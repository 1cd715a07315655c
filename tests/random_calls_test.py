"""Any call at all: random sizes, masks, mods and options against the oracle.

Each example is a program of its own; tests/random_values_test.py feeds many
numbers to few programs.
"""

import dataclasses
import math
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

import attn
from attn.precision import at_least_float32
from tests import oracles
from tests.checks import assert_close, compile_fast
from tests.inputs import IMPLEMENTATIONS, cotangents, normal, qkv
from tests.mask_strategies import Drawn, expressions
from tests.mod_strategies import DrawnMod, score_mods
from tests.random_settings import examples

_RATE = 0.3
_lengths = st.sampled_from((0, 1, 2, 3, 5, 8, 13))
_dtypes = st.sampled_from(
  ('float32', 'float32', 'float64', 'bfloat16', 'float16')
)


@dataclasses.dataclass(frozen=True)
class _Call:
  """One call, not yet made into arrays, which depends on their precision."""

  dtype: str
  seed: int
  arrays: dict[str, Any]  # arguments of `qkv`
  sizes: tuple[int, int, int, int]
  bias: tuple[int, ...] | None
  sink: bool
  scale: float | None
  static_scale: bool
  is_causal: bool
  mask: Drawn | None
  score_mod: DrawnMod | None
  drops: bool

  def floats(self):
    """What is differentiated by, by name."""
    dtype = jnp.dtype(self.dtype)
    floats = qkv(**self.arrays, seed=self.seed, dtype=dtype)
    if self.bias is not None:
      floats['bias'] = normal(*self.bias, seed=self.seed + 3, dtype=dtype)
    if self.sink:
      floats['sink'] = normal(self.sizes[1], seed=self.seed + 4, dtype=dtype)
    if self.scale is not None and not self.static_scale:
      wide = at_least_float32(jnp.dtype(self.dtype))
      floats['scale'] = jnp.asarray(self.scale, wide)
    return floats

  def options(self):
    """The other arguments."""
    options = {'is_causal': self.is_causal}
    if self.scale is not None and self.static_scale:
      options['scale'] = self.scale
    if self.mask is not None:
      options['mask'] = self.mask.mask
    if self.score_mod is not None:
      options['score_mod'] = self.score_mod.mod
    if self.drops:
      options |= {'dropout_rate': _RATE, 'rng': jax.random.key(self.seed)}
    return options

  def oracle(self, floats, keep):
    """The oracle of it."""
    arrays = {
      name: _flat(x, 3) if x.ndim >= 3 else np.asarray(x)
      for name, x in floats.items()
    }
    arrays['scale'] = self.scale
    allowed = np.ones(self.sizes, bool)
    if self.is_causal:
      allowed &= np.tri(*self.sizes[2:], dtype=bool)
    if self.mask is not None:
      allowed &= self.mask.array(self.sizes)
    if self.score_mod is not None:
      arrays['score_mod'] = self.score_mod.score
      arrays['score_mod_slope'] = self.score_mod.slope
    if self.drops:
      arrays |= {'keep': keep, 'dropout_rate': _RATE}
    return oracles.Attention(**arrays, mask=allowed)


@st.composite
def _calls(draw):
  batch = draw(st.sampled_from(((), (1,), (3,), (2, 2), (0,))))
  t, s = draw(_lengths), draw(_lengths)
  k, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
  h, hv = draw(st.sampled_from((0, 1, 4, 7))), draw(st.integers(1, 5))
  sizes = (math.prod(batch), k * groups, t, s)
  bias = [size if draw(st.booleans()) else 1 for size in sizes[1:]]
  if batch and draw(st.booleans()):
    bias = [*batch, *bias]
  return _Call(
    dtype=draw(_dtypes),
    seed=draw(st.integers(0, 99)),
    arrays={
      'batch': batch,
      't': t,
      's': s,
      'k': k,
      'n': k * groups,
      'h': h,
      'hv': hv,
    },
    sizes=sizes,
    bias=tuple(bias) if draw(st.booleans()) else None,
    sink=draw(st.booleans()),
    scale=draw(st.sampled_from((None, 0.25, 1.0, 1.5))),
    static_scale=draw(st.booleans()),
    is_causal=draw(st.booleans()),
    mask=draw(st.none() | expressions(batch, sizes, depth=2)),
    score_mod=draw(st.none() | score_mods(sizes)),
    drops=not draw(st.integers(0, 3)),
  )


class RandomCallsTest(parameterized.TestCase):
  @parameterized.product(implementation=IMPLEMENTATIONS)
  @examples(16)
  @hypothesis.given(call=_calls())
  def test_equals_the_oracle(self, implementation, call):
    with jax.enable_x64(call.dtype == 'float64'):
      self._check(implementation, call)

  def _check(self, implementation, call):
    floats, options = call.floats(), call.options()
    given = cotangents(floats)

    def run(floats):
      outputs, pull_back = jax.vjp(
        lambda x: attn.attention(
          **x, **options, return_residual=True, implementation=implementation
        ),
        floats,
      )
      keep = None
      if call.drops:
        ones = jnp.ones(call.sizes, jnp.float32)
        keep = attn.dropout(ones, _RATE, options['rng']) != 0
      return outputs, pull_back(given)[0], keep

    (context, residual), gradients, keep = compile_fast(run)(floats)
    oracle = call.oracle(floats, keep)
    expected = oracle.gradients(_flat(given[0], 3), _flat(given[1], 2))
    sizes = dict.fromkeys(floats)
    if 'scale' in floats:
      # Scaling the queries is scaling the scores.
      parts = expected['query'] * oracle.query / call.scale
      expected['scale'] = np.sum(parts)
      # Of either sign: what is rounded is as large as all of them.
      sizes['scale'] = np.abs(parts).sum()
    exact = 1e-13 if call.dtype == 'float64' else 2e-6
    self.assertEqual(context.dtype, call.dtype)
    assert_close(_flat(context, 3), oracle.context, _rounded(context, exact))
    assert_close(_flat(residual, 2), oracle.residual, exact)
    for name, gradient in gradients.items():
      self.assertEqual(gradient.dtype, floats[name].dtype)
      wanted = expected[name].reshape(gradient.shape)
      tolerance = _rounded(gradient, 2 * exact)
      assert_close(gradient, wanted, tolerance, size=sizes[name])


def _rounded(x, tolerance):
  """That of a result which is rounded to the dtype of x at the end."""
  narrow = jnp.finfo(x.dtype).bits < 32
  return tolerance + (float(jnp.finfo(x.dtype).eps) * 0.51 if narrow else 0)


def _flat(x, rest):
  """The batch axes as one."""
  axes = x.ndim - rest
  return np.asarray(x).reshape(math.prod(x.shape[:axes]), *x.shape[axes:])


if __name__ == '__main__':
  absltest.main()
