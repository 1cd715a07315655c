"""Random arguments of additive attention, and how tests run it."""

import functools

import jax
import jax.numpy as jnp

import attn
from attn import additive
from attn.backends.blockwise import blockwise
from tests.checks import compile_fast
from tests.inputs import B, K, N, S, T, normal

# The sizes of tests fit into one tile, which leaves the loops untested.
additive._BACKENDS['small tiles'] = functools.partial(blockwise, sides=(2, 3))
IMPLEMENTATIONS = ('dense', 'blockwise', 'small tiles')

# Sizes of query, key and value, and the hidden width.
H, J, HV, A = 11, 3, 2, 13

WEIGHTS = ('w_query', 'w_key', 'v')


def floats(kind='shared', batch=(B,), t=T, s=S, dtype=jnp.float32):
  """All float arguments by name; weights of a kind, None left out."""
  query_size, key_size = (A, A) if kind == 'projected' else (H, J)
  shapes = {
    'query': (*batch, t, N, query_size),
    'key': (*batch, s, K, key_size),
    'value': (*batch, s, K, HV),
    'w_query': {'shared': (H, A), 'per head': (N, H, A)}.get(kind),
    'w_key': {'shared': (J, A), 'per head': (K, J, A)}.get(kind),
    'v': (N, A) if kind == 'per head' else (A,),
  }
  # Gentle slopes, of which finite differences see no bend.
  return {
    name: 0.4 * normal(*shape, seed=i, dtype=dtype)
    for i, (name, shape) in enumerate(shapes.items())
    if shape is not None
  }


def attend(arguments, mask=None, implementation=None):
  """Context and residual."""
  given = {**dict.fromkeys(WEIGHTS), **arguments}
  return attn.additive_attention(
    **given, mask=mask, return_residual=True, implementation=implementation
  )


def loss(arguments, mask=None, implementation=None):
  context, residual = attend(arguments, mask, implementation)
  residual = jnp.where(residual == -jnp.inf, 0, residual)
  context = context.astype(residual.dtype)
  return jnp.sin(context).sum() + jnp.cos(residual).sum()


def run(arguments, mask=None, implementation=None):
  """Outputs and gradients of the loss."""
  gradients = jax.grad(loss)(arguments, mask, implementation)
  return attend(arguments, mask, implementation), gradients


fast = functools.partial(compile_fast, static_argnames='implementation')
quick_run, quick_attend = fast(run), fast(attend)
# As users compile, where more than the formula is at stake.
real_run = jax.jit(run, static_argnames='implementation')
