"""Modules under test: random parameters, and what they must compute.

What they must compute is written in NumPy float64, from their kernels.
"""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from tests import oracles
from tests.checks import compile_fast

# B batch, T queries, S keys, D width, DS width of the source, K key/value
# heads, N query heads, H head size (even, to rotate), F feed-forward width.
B, T, S, D, DS, K, N, H, F = 2, 5, 7, 11, 13, 3, 6, 4, 17


def random_parameters(module, *args, seed=0, **options):
  """Parameters in the shapes that the module asks for, none of them 0 or 1.

  At its start a module has norms of scale 1 and biases of 0, as if they were
  not there.
  """
  shapes = jax.eval_shape(
    lambda: module.init(jax.random.key(0), *args, **options)
  )
  generator = np.random.default_rng(seed)

  def draw(path, leaf):
    numbers = generator.normal(size=leaf.shape)
    match path[-1].key:
      case 'kernel':
        numbers /= leaf.shape[0] ** 0.5
      case 'scale':
        numbers = 1 + 0.3 * numbers
    return jnp.asarray(numbers, leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def run(module, parameters, *args, **options):
  """`module.apply`, compiled once for equal modules; NumPy comes back."""
  return jax.tree.map(np.asarray, _run(module, parameters, *args, **options))


@functools.partial(
  compile_fast, static_argnames=('module', 'deterministic', 'mutable')
)
def _run(module, parameters, *args, **options):
  return module.apply(parameters, *args, **options)


def shapes(parameters):
  """The shape of every parameter, by its path."""
  flat = jax.tree_util.tree_leaves_with_path(parameters['params'])
  return {'/'.join(key.key for key in path): x.shape for path, x in flat}


def reach(function, x):
  """bool[T, S]: does input s, x[s], move output t at all?

  Args:
    function: [S, D] → [T, ...].
    x: float[S, D].
  """
  jacobian = compile_fast(jax.jacrev(function))(x)
  chex.assert_tree_all_finite(jacobian)
  rows = np.asarray(jacobian).reshape(jacobian.shape[0], -1, *x.shape)
  return (rows != 0).any((1, 3))


def assert_every_parameter_learns(module, parameters, *args, **options):
  """A loss has a finite gradient in every parameter, which is not all 0."""

  @compile_fast
  def gradient(parameters):
    def loss(parameters):
      return jnp.sin(module.apply(parameters, *args, **options)).sum()

    return jax.grad(loss)(parameters)

  gradients = gradient(parameters)
  chex.assert_tree_all_finite(gradients)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    if np.abs(leaf).max() < 1e-4:
      raise AssertionError(f'{path} has no gradient')


def assert_dropout(module, without, parameters, x, *, keeps_expectation):
  """Dropout is off unless asked for, follows its rng, and is unbiased."""

  @compile_fast
  def undropped():
    return (
      module.apply(parameters, x),
      module.apply(parameters, x, deterministic=True),
      without.apply(parameters, x, deterministic=False),
    )

  expected, deterministic, no_rate = map(np.asarray, undropped())
  chex.assert_trees_all_equal(deterministic, expected)
  chex.assert_trees_all_equal(no_rate, expected)
  rngs = jax.random.split(jax.random.key(5), 512)

  @compile_fast
  @jax.vmap
  def dropped(rng):
    return module.apply(
      parameters, x, deterministic=False, rngs={'dropout': rng}
    )

  samples = np.asarray(dropped(rngs))
  chex.assert_trees_all_equal(samples, dropped(rngs))
  deviation = samples.std(0)
  np.testing.assert_array_less(0.01, deviation)
  if keeps_expectation:
    bound = 5 * deviation / len(samples) ** 0.5
    np.testing.assert_array_less(np.abs(samples.mean(0) - expected), bound)


def linear(parameters, x):
  return x @ parameters['kernel'] + parameters.get('bias', 0)


def norm(kind, parameters, x, epsilon=1e-6):
  if kind == 'layernorm':
    x = x - x.mean(-1, keepdims=True)
  square = np.square(x).mean(-1, keepdims=True)
  scale = parameters['scale'] + (kind == 'rmsnorm1p')
  return x / np.sqrt(square + epsilon) * scale + parameters.get('bias', 0)


def gelu(x):
  """Approximately, as GPT-2 has it."""
  cube = x + 0.044715 * x**3
  return x * (1 + np.tanh(math.sqrt(2 / math.pi) * cube)) / 2


def feed_forward(activation, parameters, x):
  hidden = linear(parameters['in'], x)
  match activation:
    case 'gelu':
      hidden = gelu(hidden)
    case 'gelu_exact':
      hidden = hidden * (1 + np.vectorize(math.erf)(hidden / 2**0.5)) / 2
    case 'geglu':
      hidden = hidden * gelu(linear(parameters['gate'], x))
    case 'relu2':
      hidden = np.where(hidden > 0, hidden**2, 0)
    case 'swiglu':
      gate = linear(parameters['gate'], x)
      hidden = hidden * gate / (1 + np.exp(-gate))
  return linear(parameters['out'], hidden)


def multi_head(
  parameters,
  x,
  source=None,
  *,
  num_heads=N,
  num_kv_heads=None,
  rope_base=None,
  rope_scaling=None,
  query_scalar=None,
  epsilon=1e-6,
  positions=None,
  source_positions=None,
  **options,
):
  """The output [B, T, D] and the weights [B, N, T, S]; options: mask, ..."""
  if source is None:
    source, source_positions = x, positions
  heads = {
    'query': (x, num_heads, positions),
    'key': (source, num_kv_heads or num_heads, source_positions),
    'value': (source, num_kv_heads or num_heads, None),
  }
  arrays = []
  for name, (tokens, count, where) in heads.items():
    array = linear(parameters[name], tokens)
    array = array.reshape(*tokens.shape[:2], count, -1)
    if f'{name}_norm' in parameters:
      array = norm('rmsnorm', parameters[f'{name}_norm'], array, epsilon)
    if rope_base is not None and name != 'value':
      where = np.arange(tokens.shape[1]) if where is None else where
      where = np.broadcast_to(where, tokens.shape[:2])
      array = oracles.rope(array, where[..., None], rope_base, rope_scaling)
    arrays.append(array)
  sink = parameters.get('sink')
  if query_scalar:
    options['scale'] = query_scalar**-0.5
  attention = oracles.Attention(*arrays, sink=sink, **options)
  context = attention.context.reshape(*x.shape[:2], -1)
  return linear(parameters['out'], context), attention.weights


def block(parameters, x, *, kind, activation, epsilon=1e-6, **options):
  def normed(name, x):
    # Where there is no such norm, none.
    if name not in parameters:
      return x
    return norm(kind, parameters[name], x, epsilon)

  if 'attention' in parameters:
    added, _ = multi_head(
      parameters['attention'],
      normed('attention_norm', x),
      epsilon=epsilon,
      **options,
    )
    x = x + normed('attention_post_norm', added)
  added = feed_forward(
    activation,
    parameters['feed_forward'],
    normed('feed_forward_norm', x),
  )
  return x + normed('feed_forward_post_norm', added)
