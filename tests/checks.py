"""How tests run attention and compare what comes back."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

import attn
from tests import oracles


def _known(options):
  """Those of XLA's options that this release of it has."""
  known = {}
  for name, value in options.items():
    try:
      jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
      continue
    known[name] = value
  return known


# Most programs here run once: they compile seven times as fast like this.
compile_fast = functools.partial(
  jax.jit,
  compiler_options=_known(
    {'xla_backend_optimization_level': 0, 'xla_cpu_use_fusion_emitters': False}
  ),
)


@functools.partial(
  compile_fast,
  static_argnames=(
    'implementation',
    'is_causal',
    'local_window_size',
    'return_residual',
  ),
)
def attention(*arrays, **options):
  """`attn.attention`, compiled: op by op it takes ten times as long."""
  return attn.attention(*arrays, **options)


def forward_and_backward(
  floats, cotangents, others=None, *, optimized=False, **static
):
  """Attention's outputs, and its gradients with respect to `floats`.

  Compiled once for all calls with arrays of the same shapes.

  Args:
    floats: Arguments to differentiate by, by name.
    cotangents: For context and residual.
    others: More arguments that are arrays or masks, by name.
    optimized: Compile as for a user, where more than the formula is at stake.
    **static: Arguments to compile in, hashable.

  Returns:
    (context, residual) and a dictionary of gradients.
  """
  run = _optimized if optimized else _fast
  options = tuple(sorted(static.items()))
  return run(floats, cotangents, others or {}, options)


def _forward_and_backward(floats, cotangents, others, options):
  def call(floats):
    return attn.attention(
      **floats, **others, **dict(options), return_residual=True
    )

  outputs, pull_back = jax.vjp(call, floats)
  return outputs, pull_back(cotangents)[0]


_optimized = jax.jit(_forward_and_backward, static_argnums=3)
_fast = compile_fast(_forward_and_backward, static_argnums=3)


def run(implementation, arguments, mask, cotangent):
  """Outputs and gradients under a mask, compiled as users compile."""
  return forward_and_backward(
    arguments,
    cotangent,
    {'mask': mask},
    implementation=implementation,
    optimized=True,
  )


def rows_of(flags):
  """[B, N, T] → [B, T, N], the axes of context and residual."""
  return np.moveaxis(np.asarray(flags), 1, 2)


def silence(cotangent, rows):
  """Zero where `rows`, [B, T, N], is True."""
  context, residual = cotangent
  return jnp.where(rows[..., None], 0, context), jnp.where(rows, 0, residual)


def assert_close(actual, expected, tolerance=2e-6, size=None):
  """Equal up to `tolerance`, relative to `size`, that of what is summed up.

  Rounding errors of a sum are proportional to its terms, not to its value.  If
  None, the largest number of each array stands for them.
  """

  def compare(actual, expected):
    actual, expected = np.float64(actual), np.float64(expected)
    chex.assert_equal_shape([actual, expected])
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
    atol = tolerance * (largest if size is None else max(size, 1e-3))
    chex.assert_trees_all_close(actual, expected, rtol=0, atol=atol)

  jax.tree.map(compare, actual, expected)


def assert_gradients(gradients, loss, arguments, tolerance=1e-8):
  """Gradients of `loss`, a NumPy function, against central differences.

  One random direction per argument; steps of 1e-5 leave errors of 1e-10.
  """
  arguments = [np.float64(x) for x in arguments]
  for i, gradient in enumerate(gradients):
    direction = np.random.default_rng(100 + i).normal(size=arguments[i].shape)

    def along(x, i=i):
      return loss(*arguments[:i], x, *arguments[i + 1 :])

    slope = oracles.slope(along, arguments[i], direction)
    assert_close(np.sum(np.float64(gradient) * direction), slope, tolerance)


def assert_same_bits(actual, expected):
  """Equal bit by bit: -0 is not 0, and NaN is NaN."""

  def compare(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    chex.assert_equal(actual.dtype, expected.dtype)
    chex.assert_equal_shape([actual, expected])
    chex.assert_trees_all_equal(
      np.frombuffer(actual.tobytes(), np.uint8),
      np.frombuffer(expected.tobytes(), np.uint8),
    )

  jax.tree.map(compare, actual, expected)
