"""Multi-head attention: self or cross, grouped queries, any mask, any mod."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.additive import additive_attention
from attn.backends.kept import attend_to_finite
from attn.call import ScoreMod
from attn.dispatch import attention
from attn.heads import merge_heads, split_heads
from attn.masks import Mask
from attn.mods import compose
from attn.modules.cache import KeyValueCache
from attn.modules.linear import Linear, LinearWeights, side_by_side
from attn.modules.relative_bias import RelativeBias
from attn.modules.sharding import constrain
from attn.positions import apply_rope
from attn.precision import at_least_float32
from attn.variants import sigmoid_attention
from attn.weights import check_rate

Array = jax.Array

SCORES = ('dot', 'cosine', 'bilinear', 'additive')

_MATRICES = nn.initializers.lecun_normal(batch_axis=0)


class MultiHeadAttention(nn.Module):
  """Project, split into heads, attend, merge, project.

    out = merge(attention(split(x W_query), split(c W_key), split(c W_value)))
          W_out,   c = source, or x itself

  The scores, and what becomes of them unless sigmoid_of is given: softmax.

    dot        query · key / √H
    cosine     query · key / (|query| |key|), times a learned number per head
    bilinear   query · W · key / √H
    additive   v · tanh(query + key), of weights that are not dropped out

  Attributes:
    num_heads: N query heads.
    num_kv_heads: K key/value heads, a divisor of N; N if None.
    head_dim: H; D / N if None.
    rope_base: Rotate queries and keys by their positions, with this base; None
      for no rotation.
    qk_norm: Normalise queries and keys, each head by its root mean square.
    score: 'dot', 'cosine', 'bilinear' or 'additive'.
    sigmoid_of: Weights are sigmoid(score - log of this many keys), each key for
      itself; None for softmax.
    shared_query_key: Queries and keys are the same projection, W_query: how
      much one token cares for another is mutual.  K is N.
    dropout_rate: Applied to the weights, with the 'dropout' rng.
    use_bias: Add a bias to the four projections.
    kernel_init: Initialiser of W_query, W_key and W_value.
    out_init: Initialiser of W_out.
    score_mod: As in `attn.attention`.
    relative_bias: A learned table of distances, applied after score_mod; None
      for none.
    sinks: Learn a score per head that belongs to no key and takes its share of
      the weight, from 0 on.
    implementation: As in `attn.attention`.
    cache: What was read before is recalled, and what is read now is kept;
      see there.  Positions must be given, and mask and mods are of places.
    capture_weights: Sow the weights, float[*B, N, T, S], as 'weights' into the
      'intermediates' collection.  A sink's share is missing from their sums.

  Raises:
    ValueError: if heads do not divide the width, key/value heads do not divide
      the query heads, score is unknown, additive attention is given a mod or
      sinks, or as `attn.attention`.

  Example:
    >>> x = jnp.ones((2, 3, 8))
    >>> layer = MultiHeadAttention(num_heads=4, num_kv_heads=2)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (2, 3, 8)

  References:
    Vaswani et al., 2017, section 3.2.2. https://arxiv.org/abs/1706.03762
    Ainslie et al., 2023 (grouped queries). https://arxiv.org/abs/2305.13245
    Henry et al., 2020 (qk-norm). https://arxiv.org/abs/2010.04245
    Xiao et al., 2023 (sinks). https://arxiv.org/abs/2309.17453
    Luong et al., 2015 (bilinear). https://arxiv.org/abs/1508.04025
    Bahdanau et al., 2015 (additive). https://arxiv.org/abs/1409.0473
    Liu et al., 2022 (cosine). https://arxiv.org/abs/2111.09883
    Ramapuram et al., 2024 (sigmoid). https://arxiv.org/abs/2409.04431
    Kitaev et al., 2020 (shared). https://arxiv.org/abs/2001.04451
  """

  num_heads: int
  num_kv_heads: int | None = None
  head_dim: int | None = None
  rope_base: float | None = None
  qk_norm: bool = False
  score: str = 'dot'
  sigmoid_of: int | None = None
  shared_query_key: bool = False
  dropout_rate: float = 0.0
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  out_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  score_mod: ScoreMod | None = None
  relative_bias: RelativeBias | None = None
  sinks: bool = False
  implementation: str | None = None
  cache: KeyValueCache | None = None
  capture_weights: bool = False

  @nn.compact
  def __call__(
    self,
    x: Array,
    source: Array | None = None,
    *,
    mask: Array | Mask | None = None,
    score_mod: ScoreMod | None = None,
    positions: Array | None = None,
    source_positions: Array | None = None,
    deterministic: bool = True,
  ) -> Array:
    """Attend from x to source.

    Args:
      x: float[*B, T, D].
      source: float[*B, S, Ds], where keys and values come from; x if None.
      mask: As in `attn.attention`.
      score_mod: As in `attn.attention`; applied after the layer's own.
      positions: int[*B, T] for the rotation; 0, 1, ... if None.
      source_positions: int[*B, S], likewise; positions where source is None.
      deterministic: Without dropout.

    Returns:
      float[*B, T, D].
    """
    check_rate('dropout_rate', self.dropout_rate)
    width, head_dim = x.shape[-1], self._head_dim(x.shape[-1])
    if source is None:
      source, source_positions = x, positions
    query, key, value = self._project(x, source, head_dim)
    query = rotate(query, positions, self.rope_base)
    key = rotate(key, source_positions, self.rope_base)
    drop = self.dropout_rate > 0 and not deterministic
    score_mod, spoiled = self._score_mod(score_mod), None
    if self.cache is not None:
      recalled = self.cache(
        positions,
        {'key': key, 'value': value},
        num_heads=self.num_heads,
        mask=mask,
        score_mod=score_mod,
      )
      mask, score_mod = recalled.mask, recalled.score_mod
      kept = recalled.kept
      if self._takes_finite() and not drop:
        kept, spoiled = recalled.finite, recalled.spoiled
      key, value = kept['key'], kept['value']
    attend = self._attend(query, key, mask, score_mod, spoiled)
    if self.capture_weights:
      self.sow('intermediates', 'weights', weights_of(attend, key))
    dropout: dict[str, Any] = {}
    if drop:
      dropout = {
        'dropout_rate': self.dropout_rate,
        'rng': self.make_rng('dropout'),
      }
    context = attend(value, **dropout)
    return Linear(
      width, use_bias=self.use_bias, kernel_init=self.out_init, name='out'
    )(merge_heads(context))

  def _project(
    self, x: Array, source: Array, head_dim: int
  ) -> tuple[Array, Array, Array]:
    """Queries, keys and values, split into heads."""
    heads, kv_heads = self.num_heads, self._kv_heads()
    make_query = self._weights('query', heads * head_dim)
    make_value = self._weights('value', kv_heads * head_dim)
    if self.shared_query_key:
      make_key = make_query
    else:
      make_key = self._weights('key', kv_heads * head_dim)
    if source is not x:
      (query,) = side_by_side(x, [make_query])
      key, value = side_by_side(source, [make_key, make_value])
    elif self.shared_query_key:
      query, value = side_by_side(x, [make_query, make_value])
      key = query
    else:
      query, key, value = side_by_side(x, [make_query, make_key, make_value])
    # Every query asks all keys: where tokens are divided, keys are gathered.
    query = constrain(
      split_heads(query, heads), 'batch', 'length', 'heads', None
    )
    key, value = (
      constrain(split_heads(x, kv_heads), 'batch', None, 'heads', None)
      for x in (key, value)
    )
    if self.qk_norm:
      query_norm = nn.RMSNorm(name='query_norm')
      key_norm = query_norm
      if not self.shared_query_key:
        key_norm = nn.RMSNorm(name='key_norm')
      query = query_norm(query).astype(x.dtype)
      key = key_norm(key).astype(x.dtype)
    return query, key, value

  def _weights(self, name: str, features: int) -> LinearWeights:
    return LinearWeights(features, self.use_bias, self.kernel_init, name=name)

  def _attend(
    self,
    query: Array,
    key: Array,
    mask: Array | Mask | None,
    score_mod: ScoreMod | None,
    spoiled: Array | None,
  ) -> Callable[..., Array]:
    """(value, **dropout) -> context."""
    heads, head_dim = query.shape[-2:]
    scale = None
    match self.score:
      case 'dot':
        pass
      case 'cosine':
        factor = self.param('scale', nn.initializers.constant(10.0), (heads, 1))
        query, key, scale = _unit(query) * factor, _unit(key), 1.0
      case 'bilinear':
        w = self.param('score', _MATRICES, (heads, head_dim, head_dim))
        query = jnp.einsum('...nh,nhj->...nj', query, w)
      case 'additive':
        return self._attend_additively(query, key, mask, score_mod)
      case _:
        raise ValueError(f'score: got {self.score!r}, wanted one of {SCORES}')
    options: dict[str, Any] = {
      'mask': mask,
      'scale': scale,
      'score_mod': score_mod,
    }
    if spoiled is not None:
      return functools.partial(
        attend_to_finite,
        query,
        key,
        spoiled=spoiled,
        sink=self._sink(),
        **options,
      )
    options['implementation'] = self.implementation
    if self.sigmoid_of is None:
      options['sink'] = self._sink()
      return functools.partial(attention, query, key, **options)
    shift = -math.log(self.sigmoid_of)
    return functools.partial(
      sigmoid_attention, query, key, shift=shift, **options
    )

  def _takes_finite(self) -> bool:
    """Whether what is kept is attended to without another look."""
    return (
      self.score != 'additive'
      and self.sigmoid_of is None
      and self.implementation is None
    )

  def _attend_additively(
    self,
    query: Array,
    key: Array,
    mask: Array | Mask | None,
    score_mod: ScoreMod | None,
  ) -> Callable[..., Array]:
    for name, given in (('score_mod', score_mod), ('sinks', self.sinks)):
      if given:
        raise ValueError(f'{name}: got {given}, wanted none: score is additive')
    v = self.param('score', nn.initializers.normal(0.1), query.shape[-2:])

    def attend(value: Array, **dropout: Any) -> Array:
      del dropout
      return additive_attention(
        query,
        key,
        value,
        None,
        None,
        v,
        mask=mask,
        implementation=self.implementation,
      )

    return attend

  def _kv_heads(self) -> int:
    kv_heads = (
      self.num_heads if self.num_kv_heads is None else self.num_kv_heads
    )
    if self.shared_query_key and kv_heads != self.num_heads:
      raise ValueError(
        f'num_kv_heads: got {kv_heads}, wanted num_heads {self.num_heads}: '
        'queries are the keys'
      )
    if kv_heads < 1 or self.num_heads % kv_heads:
      raise ValueError(
        f'num_kv_heads: got {kv_heads}, wanted a divisor of num_heads '
        f'{self.num_heads}'
      )
    return kv_heads

  def _head_dim(self, width: int) -> int:
    if self.num_heads < 1:
      raise ValueError(f'num_heads: got {self.num_heads}, wanted at least 1')
    if self.head_dim is not None:
      return self.head_dim
    if width % self.num_heads:
      raise ValueError(
        f'num_heads: got {self.num_heads}, wanted a divisor of the width '
        f'{width}, or head_dim'
      )
    return width // self.num_heads

  def _score_mod(self, last: ScoreMod | None) -> ScoreMod | None:
    learned = self.relative_bias
    mods = [
      self.score_mod,
      None if learned is None else learned(self.num_heads),
      last,
    ]
    mods = [mod for mod in mods if mod is not None]
    return compose(*mods) if len(mods) > 1 else next(iter(mods), None)

  def _sink(self) -> Array | None:
    if not self.sinks:
      return None
    return self.param('sink', nn.initializers.zeros, (self.num_heads,))


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


def rotate(x: Array, positions: Array | None, base: float | None) -> Array:
  """Rotate [*B, T, N, H] by positions [*B, T]; not at all without a base."""
  if base is None:
    return x
  if positions is None:
    positions = jnp.arange(x.shape[-3])

  def rotate_head(head: Array) -> Array:
    return apply_rope(head, positions, base=base)

  return jax.vmap(rotate_head, in_axes=-2, out_axes=-2)(x)


def _unit(x: Array) -> Array:
  """Each vector divided by its length; 0 stays 0."""
  squares = jnp.square(x.astype(at_least_float32(x.dtype)))
  length = jnp.sqrt(squares.sum(-1, keepdims=True) + 1e-12)
  return (x / length).astype(x.dtype)
