"""What the layers of a model compute their weights from, for who asks."""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.call import ScoreMod
from attn.dispatch import attention
from attn.masks import Mask

Array = jax.Array

_COLLECTION = 'calls'

KINDS = ('softmax', 'sigmoid', 'linear', 'additive', 'difference')


class HeadCall(NamedTuple):
  """One call of attention, as far as its weights go.

  The scores, and what becomes of them:

    softmax     softmax(score_mod(scale query · key)), with the sink
    sigmoid     sigmoid(score_mod(scale query · key) + number)
    linear      query · key over their sum, of features that are positive
    additive    softmax(number · tanh(query + key))
    difference  softmax of heads 2 n, less number times that of heads 2 n + 1

  Attributes:
    kind: One of KINDS.
    query: float[*B, T, M, H], M heads.
    key: float[*B, S, K, H].
    scale: As in `attn.attention`.
    mask: As in `attn.attention`.
    score_mod: As in `attn.attention`.
    sink: As in `attn.attention`.
    number: What the formula of the kind says; None where it has none.
    attend: The call itself, float[*B, S, K, Hv] -> float[*B, T, N, Hv].

  Example:
    >>> from attn.modules import MultiHeadAttention
    >>> x, layer = jnp.ones((1, 3, 8)), MultiHeadAttention(num_heads=2)
    >>> params = layer.init(jax.random.key(0), x)['params']
    >>> (call,) = calls_of(layer, params, x)
    >>> call.kind, call.attend(jnp.ones((1, 3, 2, 5))).shape
    ('softmax', (1, 3, 2, 5))
  """

  kind: str
  query: Array
  key: Array
  scale: float | None
  mask: Array | Mask | None
  score_mod: ScoreMod | None
  sink: Array | None
  number: Any
  attend: Callable[..., Array]


def show_call(
  module: nn.Module,
  attend: Callable[..., Array],
  query: Array,
  key: Array,
  *,
  kind: str = 'softmax',
  number: Any = None,
  scale: float | None = None,
  mask: Array | Mask | None = None,
  score_mod: ScoreMod | None = None,
  sink: Array | None = None,
  implementation: str | None = None,
) -> None:
  """Show a call to `calls_of`; to anybody else nothing happens.

  Args:
    module: Where the call is.
    attend: As in `HeadCall`.
    query: As in `HeadCall`.
    key: As in `HeadCall`.
    kind: As in `HeadCall`.
    number: As in `HeadCall`.
    scale: As in `HeadCall`.
    mask: As in `HeadCall`.
    score_mod: As in `HeadCall`.
    sink: As in `HeadCall`.
    implementation: Does not change the weights.
  """
  del implementation
  if module.is_initializing() or not module.is_mutable_collection(_COLLECTION):
    return
  call = HeadCall(
    kind, query, key, scale, mask, score_mod, sink, number, attend
  )
  module.sow(_COLLECTION, 'call', call)


def calls_of(
  model: nn.Module, params: Any, *args: Any, **options: Any
) -> list[HeadCall]:
  """Apply a model, and see the calls of its layers.

  Args:
    model: A module whose attention shows its calls, as all in this folder do.
    params: Its parameters.
    *args: Of its call.
    **options: Of its call.

  Returns:
    The calls, in the order of the names of their layers.

  Example:
    >>> from attn.modules import MultiHeadAttention
    >>> x, layer = jnp.ones((1, 3, 8)), MultiHeadAttention(num_heads=2)
    >>> params = layer.init(jax.random.key(0), x)['params']
    >>> [call.query.shape for call in calls_of(layer, params, x)]
    [(1, 3, 2, 4)]
  """
  _, state = model.apply(
    {'params': params}, *args, mutable=[_COLLECTION], **options
  )
  leaves = jax.tree_util.tree_leaves_with_path(
    state.get(_COLLECTION, {}), is_leaf=lambda x: isinstance(x, HeadCall)
  )

  def order(leaf: Any) -> list[Any]:
    # block_2 comes before block_10.
    parts = re.split(r'(\d+)', jax.tree_util.keystr(leaf[0]))
    return [int(x) if x.isdigit() else x for x in parts]

  return [call for _, call in sorted(leaves, key=order)]


def attention_weights(query: Array, key: Array, **options: Any) -> Array:
  """Weights of `attn.attention`, float[*B, N, T, S], with its options."""
  return weights_of(functools.partial(attention, query, key, **options), key)


def weights_of(attend: Callable[[Array], Array], key: Array) -> Array:
  """The weights float[*B, N, T, S] that a function averages values with.

  Args:
    attend: float[*B, S, K, Hv] -> float[*B, T, N, Hv].
    key: float[*B, S, K, H].
  """
  # Where the values are the identity, the context is the weights.
  identity = jnp.eye(key.shape[-3], dtype=key.dtype)[:, None, :]
  identity = jnp.broadcast_to(identity, (*key.shape[:-1], key.shape[-3]))
  return jnp.moveaxis(attend(identity), -2, -3)
