"""Few queries against many keys, which are dealt out to devices.

Each device attends to its own keys; softmax of the residuals of these parts,
that is of the logarithms of their denominators, says how much each counts:

  share[i] = exp(residual[i]) / (exp(sink) + Σ_j exp(residual[j]))
  context  = Σ_i share[i] context[i],  residual = log of that denominator

References:
  Milakov and Gimelshein, 2018. https://arxiv.org/abs/1805.02867
  Shyam et al., 2024 (Tree Attention). https://arxiv.org/abs/2408.04093
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from attn.backends.blockwise import attend
from attn.backends.layout import (
  Layout,
  first_of,
  on_devices,
  part_of,
  problem_of,
)
from attn.backends.plan import cost_of_tiles, is_known, of_groups
from attn.backends.problem import Floats, Others, Places, Problem, take_apart
from attn.backends.ring_plan import (
  Ring,
  Tiles,
  classify,
  plan_of_tiles,
  sides_of_tiles,
  tiles_of,
)
from attn.call import Call
from attn.masks import EMPTY, FULL
from attn.weights import log_normalizer, softmax

Array = jax.Array


def split_keys(
  call: Call, layout: Layout, *, sides: tuple[int, int] | None = None
) -> tuple[Array, Array]:
  """Exact attention to keys in parts.

  Args:
    call: The whole call.
    layout: How its keys and values are dealt out, evenly.
    sides: Queries and keys of a tile; None for what is fastest.

  Returns:
    The context, [B, T, N, Hv] in the dtype of query, and the logarithm of each
    softmax's denominator, [B, T, N] in at least float32.
  """
  local = part_of(call, layout)
  q_tiles, k_tiles = _tiles(call, layout, sides)
  # [B|1, N|1, rows, devices, columns]
  outline = classify(call, q_tiles, k_tiles, outline=True)[:, :, 0]
  busy = (outline != EMPTY).any((0, 1, 3))
  full = is_known(call) and bool((outline == FULL).all())
  plan = plan_of_tiles(local, q_tiles, k_tiles, np.asarray(busy), full)
  classes = None
  if not full:
    exact = classify(call, q_tiles, k_tiles, outline=False)[:, :, 0]
    rows, columns = np.array(plan.undecided, np.int32).reshape(-1, 2).T
    # Indices with a slice between them come out in front.
    classes = jnp.moveaxis(jnp.asarray(exact)[:, :, rows, :, columns], 0, -1)
    classes = jnp.moveaxis(of_groups(call, classes), 2, 0)
  whole = dataclasses.replace(call, mask=None, bias=None, sink=None)
  problem, floats, others = take_apart(whole, plan, None)
  mask, bias = call.mask, call.bias
  ends = [int(x.first.max()) + x.side for x in (q_tiles, k_tiles)]
  if mask is not None:
    mask = mask.padded(*ends)
  if bias is not None:
    widths = [
      (0, max(end - size, 0) if size > 1 else 0)
      for end, size in zip(ends, bias.shape[2:])
    ]
    bias = jnp.pad(bias, [(0, 0), (0, 0), *widths])
  call = dataclasses.replace(call, mask=mask, bias=bias)
  context, residual = _attend(
    problem_of(problem, call, local),
    layout,
    floats._replace(bias=bias),
    others._replace(mask=jax.tree.leaves(mask), classes=classes),
  )
  context, residual = merge(context, residual, call.sink)
  return context.astype(call.query.dtype), residual


def merge(
  contexts: Array, residuals: Array, sink: Array | None
) -> tuple[Array, Array]:
  """One softmax out of several over other keys each.

  Args:
    contexts: [P, ..., N, Hv], of P parts.
    residuals: [P, ..., N]; -inf where a part has nothing to attend to.
    sink: [N], a score that belongs to no part; None for none.

  Returns:
    The context, [..., N, Hv], and the residual, [..., N].
  """
  poisoned = jnp.isnan(residuals)
  # Selected before and after: a NaN would pass through the derivative.
  contexts = jnp.where(poisoned[..., None], 0, contexts)
  residuals = jnp.where(poisoned, -jnp.inf, residuals)
  shares = softmax(residuals, sink=sink, axis=0)
  context = (shares[..., None] * contexts).sum(0)
  residual = log_normalizer(residuals, sink=sink, axis=0)
  poisoned = poisoned.any(0)
  return (
    jnp.where(poisoned[..., None], jnp.nan, context),
    jnp.where(poisoned, jnp.nan, residual),
  )


def _tiles(
  call: Call, layout: Layout, sides: tuple[int, int] | None
) -> tuple[Tiles, Tiles]:
  """Those of the queries, which all devices hold, and of the keys."""
  _, _, num_queries, num_keys = call.sizes
  queries, keys = (Ring(layout.sequence, n, 1) for n in (1, layout.devices))
  groups = call.sizes[1] // call.key.shape[2]
  part = num_keys // layout.devices
  found = [
    (tiles_of(queries, num_queries, q), tiles_of(keys, num_keys, k))
    for q, k in ([sides] if sides else sides_of_tiles(call, num_queries, part))
  ]

  def cost(q_tiles: Tiles, k_tiles: Tiles) -> float:
    outline = np.asarray(classify(call, q_tiles, k_tiles, outline=True))
    costs = cost_of_tiles(outline, groups * q_tiles.side * k_tiles.side)
    return float(costs.sum((0, 1, 3)).max())

  return min(found, key=lambda pair: cost(*pair))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _attend(
  problem: Problem, layout: Layout, floats: Floats, others: Others
) -> tuple[Array, Array]:
  """The contexts and residuals of all devices, [devices, B, T, N, ...]."""

  def on_device(floats: Floats, others: Others) -> tuple[Array, Array]:
    others = others._replace(
      places=_places(problem, layout),
      classes=None if others.classes is None else others.classes[0],
    )
    output = attend(problem, floats, others)
    return output.context[None], output.residual[None]

  parts = P(layout.sequence, layout.batch, None, layout.heads)
  return on_devices(layout, on_device, (parts, parts), floats, others)


def _places(problem: Problem, layout: Layout) -> Places:
  """Where this device's keys are."""
  plan = problem.plan
  ring = Ring(layout.sequence, layout.devices, 1)
  keys = tiles_of(ring, problem.num_keys * layout.devices, plan.block_k)
  number = jax.lax.axis_index(layout.sequence)
  b, n = first_of(layout, problem)
  return Places(
    b=b,
    n=n,
    q=jnp.arange(plan.rows, dtype=jnp.int32) * plan.block_q,
    k=jnp.array(keys.first)[number],
    k_end=jnp.array(keys.end)[number],
  )
