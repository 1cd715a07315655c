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
from attn.heads import merge_heads, split_heads
from attn.masks import Mask
from attn.mods import compose
from attn.modules.cache import KeyValueCache
from attn.modules.calls import show_call, weights_of
from attn.modules.linear import Linear, LinearWeights, side_by_side
from attn.modules.mesh_attention import mesh_attention
from attn.modules.relative_bias import RelativeBias
from attn.modules.sharding import constrain
from attn.positions import apply_rope
from attn.precision import at_least_float32
from attn.rope_scaling import RopeScaling
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
    rope_scaling: As in `attn.apply_rope`.
    query_scalar: In place of H in the formulas of 'dot' and 'bilinear'; H if
      None.
    qk_norm: Normalise queries and keys, each head by its root mean square.
    norm_epsilon: Added to its square.
    score: 'dot', 'cosine', 'bilinear' or 'additive'.
    sigmoid_of: Weights are sigmoid(score - log of this many keys), each key for
      itself; None for softmax.
    shared_query_key: Queries and keys are the same projection, W_query: how
      much one token cares for another is mutual.  K is N.
    dropout_rate: Applied to the weights, with the 'dropout' rng.
    use_bias: Add a bias to the four projections.
    out_bias: Add one to the last; as use_bias if None.
    out_dim: Width of the output; D if None.  0 leaves W_out out: the output is
      the heads' contexts side by side.
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
  rope_scaling: RopeScaling | None = None
  query_scalar: float | None = None
  qk_norm: bool = False
  norm_epsilon: float = 1e-6
  score: str = 'dot'
  sigmoid_of: int | None = None
  shared_query_key: bool = False
  dropout_rate: float = 0.0
  use_bias: bool = False
  out_bias: bool | None = None
  out_dim: int | None = None
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
    value_source: Array | None = None,
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
      value_source: float[*B, S, Dv], where values come from; source if None.
      mask: As in `attn.attention`.
      score_mod: As in `attn.attention`; applied after the layer's own.
      positions: int[*B, T] for the rotation; 0, 1, ... if None.
      source_positions: int[*B, S], likewise; positions where source is None.
      deterministic: Without dropout.

    Returns:
      float[*B, T, D], or as out_dim says.
    """
    check_rate('dropout_rate', self.dropout_rate)
    head_dim = self._head_dim(x.shape[-1])
    if source is None:
      source, source_positions = x, positions
    query, key, value = self._project(x, source, value_source, head_dim)
    rotation = self.rope_base, self.rope_scaling
    query = rotate(query, positions, *rotation)
    key = rotate(key, source_positions, *rotation)
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
    return self._out(merge_heads(context), x.shape[-1])

  def _out(self, context: Array, width: int) -> Array:
    if self.out_dim is not None:
      width = self.out_dim
    if width < 0:
      raise ValueError(f'out_dim: got {width}, wanted at least 0, or None')
    if not width:
      return context
    use_bias = self.use_bias if self.out_bias is None else self.out_bias
    return Linear(
      width, use_bias=use_bias, kernel_init=self.out_init, name='out'
    )(context)

  def _project(
    self,
    x: Array,
    source: Array,
    value_source: Array | None,
    head_dim: int,
  ) -> tuple[Array, Array, Array]:
    """Queries, keys and values, split into heads."""
    heads, kv_heads = self.num_heads, self._kv_heads()
    make_query = self._weights('query', heads * head_dim)
    make_value = self._weights('value', kv_heads * head_dim)
    if self.shared_query_key:
      make_key = make_query
    else:
      make_key = self._weights('key', kv_heads * head_dim)
    if value_source is not None:
      (query,) = side_by_side(x, [make_query])
      (key,) = side_by_side(source, [make_key])
      (value,) = side_by_side(value_source, [make_value])
    elif source is not x:
      (query,) = side_by_side(x, [make_query])
      key, value = side_by_side(source, [make_key, make_value])
    elif self.shared_query_key:
      query, value = side_by_side(x, [make_query, make_value])
      key = query
    else:
      query, key, value = side_by_side(x, [make_query, make_key, make_value])
    query, key, value = (
      constrain(split_heads(x, number), 'batch', 'length', 'heads', None)
      for x, number in ((query, heads), (key, kv_heads), (value, kv_heads))
    )
    if self.qk_norm:
      epsilon = self.norm_epsilon
      query_norm = nn.RMSNorm(epsilon, name='query_norm')
      key_norm = query_norm
      if not self.shared_query_key:
        key_norm = nn.RMSNorm(epsilon, name='key_norm')
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
    scale = None if self.query_scalar is None else self.query_scalar**-0.5
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
      attend = functools.partial(mesh_attention, query, key, **options)
      show_call(self, attend, query, key, **options)
      return attend
    shift = -math.log(self.sigmoid_of)
    attend = functools.partial(
      sigmoid_attention, query, key, shift=shift, **options
    )
    show_call(self, attend, query, key, kind='sigmoid', number=shift, **options)
    return attend

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

    show_call(self, attend, query, key, kind='additive', number=v, mask=mask)
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


def rotate(
  x: Array,
  positions: Array | None,
  base: float | None,
  scaling: RopeScaling | None = None,
) -> Array:
  """Rotate [*B, T, N, H] by positions [*B, T]; not at all without a base."""
  if base is None:
    return x
  if positions is None:
    positions = jnp.arange(x.shape[-3])

  def rotate_head(head: Array) -> Array:
    return apply_rope(head, positions, base=base, scaling=scaling)

  return jax.vmap(rotate_head, in_axes=-2, out_axes=-2)(x)


def _unit(x: Array) -> Array:
  """Each vector divided by its length; 0 stays 0."""
  squares = jnp.square(x.astype(at_least_float32(x.dtype)))
  length = jnp.sqrt(squares.sum(-1, keepdims=True) + 1e-12)
  return (x / length).astype(x.dtype)
