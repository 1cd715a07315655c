"""Exact attention by tiles, in memory proportional to T + S.

Scores are computed a tile at a time, softmax is carried along (its running
maximum and sum), and no tile is kept: the derivative computes each again.
Tiles that the mask hides are skipped.  Where all there is are a few small tiles
they are computed at once, and kept (`at_once`).

There is one rule of differentiation, the derivative along a tangent.  It is a
loop over the same tiles and linear in the tangents, so JAX transposes it into
the backward pass, and differentiates it again for Hessians.

References:
  Dao et al., 2022 (FlashAttention). https://arxiv.org/abs/2205.14135
  Rabe and Staats, 2021 (linear memory). https://arxiv.org/abs/2112.05682
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from attn.backends.at_once import at_once, at_once_mask, tangent_at_once
from attn.backends.dense import dense
from attn.backends.forward import Output, forward
from attn.backends.lanes import cut, for_each_chunk, join, over_lanes
from attn.backends.plan import make_plan
from attn.backends.problem import Floats, Others, Problem, take_apart
from attn.backends.tangent import tangent
from attn.call import Call

Array = jax.Array


def blockwise(
  call: Call, sides: tuple[int, int] | None = None
) -> tuple[Array, Array]:
  """Exact attention in memory proportional to T + S; serves every call.

  Args:
    call: The call.
    sides: Queries and keys of a tile; None for what is fastest.

  Returns:
    The context, [B, T, N, Hv] in the dtype of query, and the logarithm of each
    softmax's denominator, [B, T, N] in at least float32.
  """
  if 0 in call.sizes:
    return dense(call)  # nothing to cut into tiles
  plan, classes = make_plan(call, sides)
  output = attend(*take_apart(call, plan, classes))
  return output.context.astype(call.query.dtype), output.residual


@functools.partial(jax.jit, static_argnums=0)
def attend(problem: Problem, floats: Floats, others: Others) -> Output:
  """Attention of a call taken apart, with its derivative.

  Compiled, so that calls outside of any `jit` are compiled once too, and leave
  no weights.

  Args:
    problem: The static part of the call.
    floats: Its float arrays.
    others: Its other arrays.

  Returns:
    The output, [B, T, N, ...].
  """
  return _differentiable(problem, floats, others)._replace(weights=None)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _differentiable(problem: Problem, floats: Floats, others: Others) -> Output:
  mask = at_once_mask(problem, floats, others)

  def chunk(number: Array) -> Output:
    if mask is not None:
      return at_once(problem, floats, others, number, mask)
    lanes = cut(problem, floats, others, number, marked=True)
    return over_lanes(functools.partial(forward, problem, floats, others))(
      lanes
    )

  output = for_each_chunk(problem, chunk)
  weights = output.weights
  output = output._replace(weights=None)
  output = jax.tree.map(functools.partial(join, problem), output)
  return output if weights is None else output._replace(weights=weights[0])


@functools.partial(_differentiable.defjvp, symbolic_zeros=True)
def _derivative(problem: Problem, primals: Any, tangents: Any) -> Any:
  floats, others = primals
  output = _differentiable(problem, floats, others)
  floats_dot = jax.tree.map(
    lambda x: None if isinstance(x, SymbolicZero) else x,
    tangents[0],
    is_leaf=lambda x: isinstance(x, SymbolicZero),
  )
  weights_dot = None
  if output.weights is None:
    context_dot, residual_dot = tangent(
      problem, floats, others, output, floats_dot
    )
  else:
    context_dot, residual_dot, weights_dot = tangent_at_once(
      problem, floats, output, floats_dot
    )
  return output, Output(
    context=context_dot,
    residual=residual_dot,
    # The shift may stand still: then the sum moves as its logarithm does.
    shift=jnp.zeros_like(output.shift),
    inverse=-output.inverse * residual_dot,
    weights=weights_dot,
  )
