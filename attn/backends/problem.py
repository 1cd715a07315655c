"""A call taken apart: what a program is compiled for, and what it is run on."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from attn.backends.additive import AdditiveCall
from attn.backends.plan import Plan
from attn.call import Call
from attn.weights import dropout_seed

Array = jax.Array

# A structure cannot be compared with None, only with that of None.
_NOTHING = jax.tree.structure(None)


class Function(NamedTuple):
  """A score_mod whose arrays have become arguments.

  Arrays that a score_mod captures enter the derivative like any other, so they
  may not hide in a closure.

  Attributes:
    is_float: Of each array, whether one can differentiate by it.
    traced: A traced function, whose captured arrays they are; or None.
    structure: Else that of a pytree that is a function, whose leaves they are.
  """

  is_float: tuple[bool, ...]
  traced: Any
  structure: Any

  def __call__(
    self, floats: Sequence[Array], others: Sequence[Array], *args: Array
  ) -> Array:
    """Evaluate with these arrays."""
    floats, others = list(floats), list(others)
    arrays = [(floats if f else others).pop(0) for f in self.is_float]
    if self.traced is None:
      return jax.tree.unflatten(self.structure, arrays)(*args)
    return jaxpr_as_fun(ClosedJaxpr(self.traced, arrays))(*args)[0]


@dataclasses.dataclass(frozen=True)
class Problem:
  """All that is static about a call.

  Attributes:
    plan: How it is cut up.
    batch: B.
    heads: N.
    kv_heads: K.
    num_queries: T.
    num_keys: S.
    scale: The scale if it is a number; None if it is an array.
    dtype: Of the context.
    compute_dtype: Of everything within.
    mask: Structure of the mask; that of None for no mask.
    score_mod: The traced modification, or None.
    dropout_rate: In [0, 1].
    has_bias: Whether a bias is added.
  """

  plan: Plan
  batch: int
  heads: int
  kv_heads: int
  num_queries: int
  num_keys: int
  scale: float | None
  dtype: Any
  compute_dtype: Any
  mask: Any
  score_mod: Function | None
  dropout_rate: float
  has_bias: bool

  @property
  def groups(self) -> int:
    """Query heads that share a key/value head."""
    return self.heads // self.kv_heads

  @property
  def changes(self) -> bool:
    """Whether anything but the mask changes a score."""
    return self.score_mod is not None or self.has_bias

  @property
  def chunks(self) -> int:
    """Chunks of lanes, computed one after the other."""
    lanes = self.batch * self.kv_heads
    return lanes // self.plan.chunk.lanes

  @property
  def derivative(self) -> 'Problem':
    """The same with the lanes that the derivative computes at once."""
    plan = dataclasses.replace(self.plan, chunk=self.plan.derivative_chunk)
    return dataclasses.replace(self, plan=plan)

  @property
  def padded_queries(self) -> int:
    """T, rounded up to whole tiles."""
    return self.plan.rows * self.plan.block_q

  @property
  def padded_keys(self) -> int:
    """S, rounded up to whole tiles."""
    return self.plan.columns * self.plan.block_k


class Places(NamedTuple):
  """Where a part of a call is in the whole: what masks and mods count by.

  Attributes:
    b: int32[], its first batch element.
    n: int32[], its first query head.
    q: int32[rows], the first query of each row of tiles.
    k: int32[columns], the first key of each column of tiles.
    k_end: int32[columns], where its keys end and padding begins.
  """

  b: Array
  n: Array
  q: Array
  k: Array
  k_end: Array


class Others(NamedTuple):
  """Arrays that nobody differentiates by.

  Attributes:
    poison: [B, S, K], NaN where a value holds a NaN or Inf, else 0.
    mask: Arrays of the mask.
    score_mod: Arrays that the score_mod captures.
    seeds: uint32[B, N, 2], of dropout.
    classes: int8[B|1, K|1, tiles], of undecided tiles.
    places: Of a part of a call; None for a whole one.
  """

  poison: Array
  mask: list[Array]
  score_mod: list[Array]
  seeds: Array | None
  classes: Array | None
  places: Places | None = None


class Floats(NamedTuple):
  """Arrays that a call is differentiated by; v that of an additive call."""

  query: Array
  key: Array
  value: Array
  v: Array | None
  bias: Array | None
  sink: Array | None
  scale: Array | None
  score_mod: list[Array]

  @property
  def given(self) -> list[str]:
    """Names of those that are not None, without the score_mod's."""
    return [
      name
      for name, x in self._asdict().items()
      if name != 'score_mod' and x is not None
    ]


def scale_of(problem: Problem, floats: Floats) -> Any:
  """The scale, a number or an array."""
  return problem.scale if floats.scale is None else floats.scale


def push_forward(
  arrange: Callable[[Floats], Any], floats: Floats, floats_dot: Floats
) -> tuple[Any, Any]:
  """What a function makes of a call's arrays, and how that moves with them.

  Args:
    arrange: The function.
    floats: The arrays.
    floats_dot: Their tangents, None for what does not move; the score_mod's are
      not looked at.

  Returns:
    The value of `arrange`, and its tangent.
  """
  moving = floats_dot.given

  def of_moving(*values: Array) -> Any:
    return arrange(floats._replace(**dict(zip(moving, values))))

  primals, tangents = (
    tuple(getattr(x, name) for name in moving) for x in (floats, floats_dot)
  )
  return jax.jvp(of_moving, primals, tangents)


def take_apart(
  call: Call, plan: Plan, classes: np.ndarray | Array | None
) -> tuple[Problem, Floats, Others]:
  """Separate the static part of a call from its arrays.

  Args:
    call: The call.
    plan: How to cut it up.
    classes: Of its undecided tiles, as `make_plan` gives them.

  Returns:
    The problem, its float arrays and its other arrays.
  """
  batch, heads, num_queries, num_keys = call.sizes
  score_mod, mod_floats, mod_others = _function(call)
  scale = call.scale if isinstance(call.scale, float) else None
  problem = Problem(
    plan=plan,
    batch=batch,
    heads=heads,
    kv_heads=call.key.shape[2],
    num_queries=num_queries,
    num_keys=num_keys,
    scale=scale,
    dtype=call.query.dtype,
    compute_dtype=call.compute_dtype,
    mask=_NOTHING,
    score_mod=score_mod,
    dropout_rate=call.dropout_rate,
    has_bias=call.bias is not None,
  )
  mask_leaves: list[Array] = []
  if call.mask is not None:
    mask = call.mask.padded(problem.padded_queries, problem.padded_keys)
    mask_leaves, structure = jax.tree.flatten(mask)
    problem = dataclasses.replace(problem, mask=structure)
  seeds = None
  if call.rng is not None:
    seeds = _seeds(call.rng, batch, heads)
  floats = Floats(
    query=call.query,
    key=call.key,
    value=call.value,
    v=call.v if isinstance(call, AdditiveCall) else None,
    bias=_padded_bias(call.bias, problem),
    sink=call.sink,
    scale=jnp.asarray(call.scale) if scale is None else None,
    score_mod=mod_floats,
  )
  if classes is not None:
    classes = jnp.asarray(classes)
  others = Others(
    poison=_poison(jax.lax.stop_gradient(call.value), call.compute_dtype),
    mask=mask_leaves,
    score_mod=mod_others,
    seeds=seeds,
    classes=classes,
  )
  return problem, floats, others


def _function(
  call: Call,
) -> tuple[Function | None, list[Array], list[Array]]:
  """The score_mod, its float arrays and its other arrays."""
  if call.score_mod is None:
    return None, [], []
  traced = None
  arrays, structure = jax.tree.flatten(call.score_mod)
  if not all(isinstance(x, jax.Array | np.ndarray) for x in arrays):
    score = jax.ShapeDtypeStruct((), call.compute_dtype)
    index = jax.ShapeDtypeStruct((), jnp.int32)
    closed = jax.make_jaxpr(call.score_mod)(score, index, index, index, index)
    arrays, traced, structure = closed.consts, closed.jaxpr, _NOTHING
  arrays = [jnp.asarray(x) for x in arrays]
  is_float = tuple(jnp.issubdtype(x.dtype, jnp.floating) for x in arrays)
  floats = [x for x, f in zip(arrays, is_float) if f]
  others = [x for x, f in zip(arrays, is_float) if not f]
  return Function(is_float, traced, structure), floats, others


def _poison(x: Array, dtype: Any) -> Array:
  """NaN for a row that holds a NaN or Inf, 0 for any other."""
  # Ten times as fast as `isfinite(x).all(-1)`.  The weight is so small that a
  # sum of finite numbers stays finite.
  weight = np.full(x.shape[-1], 2.0**-12, dtype)
  return 0 * (x.astype(dtype) @ weight)


def _seeds(rng: Array, batch: int, heads: int) -> Array:
  """Of every head of every batch element: uint32[B, N, 2]."""

  def seed(b: Array, n: Array) -> Array:
    return dropout_seed(jax.random.fold_in(jax.random.fold_in(rng, b), n))

  of_heads = jax.vmap(seed, in_axes=(None, 0))
  of_batch = jax.vmap(of_heads, in_axes=(0, None))
  return of_batch(jnp.arange(batch), jnp.arange(heads))


def _padded_bias(bias: Array | None, problem: Problem) -> Array | None:
  if bias is None:
    return None
  wanted = (problem.padded_queries, problem.padded_keys)
  widths = [
    (0, 0 if size == 1 else total - size)
    for size, total in zip(bias.shape[2:], wanted)
  ]
  return jnp.pad(bias, [(0, 0), (0, 0), *widths])
