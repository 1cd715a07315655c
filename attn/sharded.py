"""Attention over a sequence that no one device holds."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from attn.backends.dense import dense
from attn.backends.layout import Layout
from attn.backends.ring import ring
from attn.backends.split_keys import split_keys
from attn.call import Call, prepare, to_arrays, with_batch_of
from attn.masks import Mask

Array = jax.Array


def ring_attention(
  query: Array,
  key: Array,
  value: Array,
  bias: Array | None = None,
  mask: Array | Mask | None = None,
  *,
  mesh: Mesh | None = None,
  axis: str = 'sequence',
  batch_axes: str | Sequence[str] = (),
  head_axes: str | Sequence[str] = (),
  return_residual: bool = False,
  **options: Any,
) -> Any:
  """`attention` over a sequence in as many parts as a mesh has devices.

  Takes and returns whole arrays, as `attention` does, and keeps its promises;
  each device of the mesh holds a part of the sequence, and computes its queries
  while keys and values go around a ring of devices.  Softmax is carried along,
  with m the largest score so far, l = Σ exp(s - m) and c = Σ exp(s - m) v:

    top = max(m, m'),  l ← exp(m - top) l + exp(m' - top) l',  c likewise
    context = c / l,   residual = m + log l

  so the result is that of one device but for rounding.  What a device holds
  besides its part of the arguments is a few heads' part of keys and values:
  memory falls as 1/n, forward and backward.  Arrays of masks and mods are on
  every device, whole; so is the axis S of a bias.

  The mask decides what is computed, as in `attention`: a device skips tiles and
  whole steps that it hides, and a step in which it hides everything from
  everybody is not in the program.  Where the sequence divides into twice as
  many parts as devices, each may be given an early and a late one, so that a
  causal mask leaves all the same to do; which is better is found out
  beforehand, and parts are exchanged inside.  Masks, mods and dropout see
  positions in the whole sequence.

  The derivative goes around the ring once more.  It is one of reverse mode
  only, and has none itself.

  Shapes: as `attention`; n devices along the axis, which divide T and S.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, H].
    value: float[*B, S, K, Hv].
    bias: As in `attention`.
    mask: As in `attention`.
    mesh: The devices; None for the mesh that `jax.set_mesh` has set.
    axis: Of the mesh, along which T and S are in parts.
    batch_axes: Of the mesh, along which batch elements are.
    head_axes: Of the mesh, along which heads are.
    return_residual: As in `attention`.
    **options: The other options of `attention`, except implementation.

  Returns:
    The context, float[*B, T, N, Hv] in the dtype of query, and with
    return_residual also float[*B, T, N], in parts as query is.

  Raises:
    TypeError: as `attention`, or for an option that it does not have.
    ValueError: as `attention`, or if mesh is None and none is set, an axis is
      not one of the mesh or named twice, or devices do not divide T, S, the
      batch elements or the key/value heads.

  Example:
    >>> mesh = jax.make_mesh((jax.device_count(),), ('sequence',))
    >>> x = jax.numpy.ones((8, 2, 4))  # length, heads, head size
    >>> ring_attention(x, x, x, is_causal=True, mesh=mesh).shape
    (8, 2, 4)

  References:
    Liu et al., 2023 (Ring Attention). https://arxiv.org/abs/2310.01889
    Brandon et al., 2023 (Striped Attention), for the balance.
    https://arxiv.org/abs/2311.09431
  """
  query, key, value = to_arrays(query=query, key=key, value=value)
  call = prepare(query, key, value, bias, mask, **options)
  layout = _layout(call, mesh, axis, batch_axes, head_axes)
  _check_lengths(layout, query=call.sizes[2], key=call.sizes[3])
  compute = dense(call) if 0 in call.sizes else ring(call, layout)
  context, residual = with_batch_of(query, *compute)
  return (context, residual) if return_residual else context


def decode_attention(
  query: Array,
  key: Array,
  value: Array,
  bias: Array | None = None,
  mask: Array | Mask | None = None,
  *,
  mesh: Mesh | None = None,
  axis: str = 'sequence',
  batch_axes: str | Sequence[str] = (),
  head_axes: str | Sequence[str] = (),
  return_residual: bool = False,
  **options: Any,
) -> Any:
  """`attention` of a few queries to keys in as many parts as devices.

  For decoding with a cache that no one device holds.  The queries are on every
  device; each attends to its own keys, and the parts i are merged by the
  logarithms of their softmaxes' denominators:

    share[i] = exp(residual[i]) / (exp(sink) + Σ_j exp(residual[j]))
    context  = Σ_i share[i] context[i]

  so that one context of T queries is all that devices exchange.  Which keys the
  queries see, and where the queries are, the mask says, as in `attention`:
  `masks.causal(offset)` with an array as offset is one program for all steps.

  Shapes: as `attention`; n devices along the axis, which divide S.

  Args:
    query: float[*B, T, N, H].
    key: float[*B, S, K, H], in order: device d has the d-th part.
    value: float[*B, S, K, Hv], likewise.
    bias: As in `attention`.
    mask: As in `attention`.
    mesh: The devices; None for the mesh that `jax.set_mesh` has set.
    axis: Of the mesh, along which S is in parts.
    batch_axes: Of the mesh, along which batch elements are.
    head_axes: Of the mesh, along which heads are.
    return_residual: As in `attention`.
    **options: The other options of `attention`, except implementation.

  Returns:
    The context, float[*B, T, N, Hv] in the dtype of query, and with
    return_residual also float[*B, T, N]; the same along the axis.

  Raises:
    TypeError, ValueError: as `ring_attention`, but T may be any length.

  Example:
    >>> from attn import masks
    >>> mesh = jax.make_mesh((jax.device_count(),), ('sequence',))
    >>> token, cache = jax.numpy.ones((1, 2, 4)), jax.numpy.ones((8, 2, 4))
    >>> seen = masks.causal(jax.numpy.array(5))  # token 5 sees keys 0 to 5
    >>> decode_attention(token, cache, cache, mask=seen, mesh=mesh).shape
    (1, 2, 4)

  References:
    Milakov and Gimelshein, 2018 (merging). https://arxiv.org/abs/1805.02867
    Shyam et al., 2024 (Tree Attention). https://arxiv.org/abs/2408.04093
  """
  query, key, value = to_arrays(query=query, key=key, value=value)
  call = prepare(query, key, value, bias, mask, **options)
  layout = _layout(call, mesh, axis, batch_axes, head_axes)
  _check_lengths(layout, key=call.sizes[3])
  layout = layout._replace(whole_queries=True)
  compute = dense(call) if 0 in call.sizes else split_keys(call, layout)
  context, residual = with_batch_of(query, *compute)
  return (context, residual) if return_residual else context


def _layout(
  call: Call,
  mesh: Mesh | None,
  axis: str,
  batch_axes: str | Sequence[str],
  head_axes: str | Sequence[str],
) -> Layout:
  """Understand what the axes of a mesh are for."""
  shape = (mesh or jax.sharding.get_abstract_mesh()).shape
  if not shape:
    raise ValueError(
      'mesh: got None and none is set, wanted a mesh, or a call within '
      'jax.set_mesh'
    )
  named = {
    'axis': (axis,),
    'batch_axes': _names(batch_axes),
    'head_axes': _names(head_axes),
  }
  seen: set[str] = set()
  for argument, names in named.items():
    for name in names:
      if name not in shape or name in seen:
        raise ValueError(
          f'{argument}: got {name!r}, wanted axes of the mesh, '
          f'{tuple(shape)}, each named once'
        )
      seen.add(name)
  devices, batch, heads = (
    math.prod(shape[name] for name in names) for names in named.values()
  )
  _check_divides('query', 'batch elements', call.sizes[0], 'batch_axes', batch)
  _check_divides('key', 'heads', call.key.shape[2], 'head_axes', heads)
  return Layout(
    mesh=mesh,
    sequence=axis,
    batch=named['batch_axes'],
    heads=named['head_axes'],
    sizes=(devices, batch, heads),
  )


def _names(axes: str | Sequence[str]) -> tuple[str, ...]:
  return (axes,) if isinstance(axes, str) else tuple(axes)


def _check_lengths(layout: Layout, **lengths: int) -> None:
  for name, length in lengths.items():
    of_axis = f'axis {layout.sequence!r}'
    _check_divides(name, 'tokens', length, of_axis, layout.devices)


def _check_divides(
  name: str, what: str, number: int, along: str, devices: int
) -> None:
  if number % devices:
    raise ValueError(
      f'{name}: got {number} {what}, wanted a multiple of {devices}, the '
      f'devices along {along}'
    )
