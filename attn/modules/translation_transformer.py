"""A transformer that reads one sentence and writes another."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn import masks
from attn.masks import Mask
from attn.modules.block import FeedForward, TransformerBlock
from attn.modules.encoder_decoder import Encoded, EncoderDecoder, Written
from attn.modules.encoder_decoder_config import EncoderDecoderConfig
from attn.modules.key_value_attention import KeyValueAttention
from attn.modules.multi_head import MultiHeadAttention
from attn.modules.norms import make_norm

Array = jax.Array

_ROPE_BASE = 10_000.0
_NORM = 'rmsnorm'


class KeyValue(NamedTuple):
  """Keys and values of one layer, float[B, S, N, H] each."""

  keys: Array
  values: Array


class _Memory(NamedTuple):
  """The source: keys and values for every layer, and its mask [B, S]."""

  layers: tuple[KeyValue, ...]
  mask: Array


class _State(NamedTuple):
  """The cache of every layer, [B, max_length, N, H], and t [B]."""

  layers: tuple[KeyValue, ...]
  position: Array


class DecoderBlock(nn.Module):
  """Attend to the target so far, attend to the source, think.

    x = x + self_attention(norm(x))
    x = x + cross_attention(norm(x))
    out = x + feed_forward(norm(x))

  Attributes:
    config: Of the model.

  Example:
    >>> from attn.modules import EncoderDecoderConfig
    >>> config = EncoderDecoderConfig(
    ...   kind='transformer', source_vocab_size=11, target_vocab_size=13,
    ...   embed_dim=8, hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=16,
    ...   score='dot', locality='global', half_width=2, bidirectional=False,
    ...   input_feeding=False, coverage=False, max_source_length=9,
    ...   max_target_length=9, dropout_rate=0.0)
    >>> x, source = jnp.ones((2, 3, 8)), jnp.ones((2, 5, 8))
    >>> def translate(block):  # the source's keys and values are made once
    ...   return block(x, block.remember(source), jnp.ones((2, 5), bool))
    >>> block = nn.apply(translate, DecoderBlock(config), mutable=True)
    >>> (out, *_), _ = jax.eval_shape(
    ...   lambda: block({}, rngs={'params': jax.random.key(0)}))
    >>> out.shape
    (2, 3, 8)

  References:
    Vaswani et al., 2017, section 3.1. https://arxiv.org/abs/1706.03762
    Xiong et al., 2020 (pre-norm). https://arxiv.org/abs/2002.04745
  """

  config: EncoderDecoderConfig

  def setup(self) -> None:
    """Two attentions, a feed-forward, and a norm before each."""
    config = self.config
    self.self_norm = make_norm(_NORM, 'self_norm', jnp.dtype('float32'))
    self.cross_norm = make_norm(_NORM, 'cross_norm', jnp.dtype('float32'))
    self.think_norm = make_norm(_NORM, 'think_norm', jnp.dtype('float32'))
    self.self_attention = self._attention()
    self.cross_attention = self._attention()
    self.feed_forward = FeedForward(
      config.mlp_dim, out_init=_out_init(config, 3)
    )
    self.drop = nn.Dropout(config.dropout_rate)

  def remember(self, source: Array) -> KeyValue:
    """Keys and values of the source, float[B, S, D], made once."""
    return KeyValue(*self.cross_attention.keep(source))

  def __call__(
    self,
    x: Array,
    source: KeyValue,
    source_mask: Array,
    *,
    cache: KeyValue | None = None,
    positions: Array | None = None,
    deterministic: bool = True,
  ) -> tuple[Array, Array, KeyValue | None]:
    """Transform a whole target, or one token after those in the cache.

    Args:
      x: float[B, T, D]; T = 1 with a cache.
      source: As `remember` gave it.
      source_mask: bool[B, S].
      cache: Of the tokens before; None for a whole target.
      positions: int[B, 1], the token's place in the cache.
      deterministic: Without dropout.

    Returns:
      float[B, T, D], what the source was asked with float[B, T, D], and the
      cache with this token in it.
    """
    options: dict[str, Any] = {'deterministic': deterministic}
    normed = self.self_norm(x)
    seen = KeyValue(*self.self_attention.keep(normed, positions))
    mask: Array | Mask = masks.causal()
    if cache is not None and positions is not None:
      cache = seen = _stored(cache, seen, positions)
      places = jnp.arange(seen.keys.shape[1])[None]
      mask = (places <= positions)[:, None, None]
    added = self.self_attention(
      normed, *seen, mask=mask, positions=positions, **options
    )
    x = x + self.drop(added, **options)
    asked, mask = self.cross_norm(x), source_mask[:, None, None]
    added = self.cross_attention(
      asked, *source, mask=mask, positions=positions, **options
    )
    x = x + self.drop(added, **options)
    added = self.feed_forward(self.think_norm(x))
    return x + self.drop(added, **options), asked, cache

  def weights(
    self,
    asked: Array,
    source: KeyValue,
    source_mask: Array,
    positions: Array | None = None,
  ) -> Array:
    """Of the source's tokens, the mean over heads: float[B, T, S]."""
    weights = self.cross_attention.weights(
      asked,
      source.keys,
      mask=source_mask[:, None, None],
      positions=positions,
    )
    return weights.mean(1)

  def _attention(self) -> KeyValueAttention:
    config = self.config
    return KeyValueAttention(
      width=config.embed_dim,
      num_heads=config.num_heads,
      rope_base=_ROPE_BASE,
      dropout_rate=config.dropout_rate,
      out_init=_out_init(config, 3),
    )


class TranslationTransformer(EncoderDecoder):
  """Every word of the target attends to every word of the source.

    memory = blocks(source),                each word sees the whole source
    out    = decoder_blocks(target, memory), and the target up to itself
    logits = norm(out) W_vocabulary

  Norms come first in every block.  Queries and keys are rotated by their
  positions, so that a sentence longer than any in training is made of distances
  that are known.  Those of the cross-attention too: a translation goes along
  its source, and a word is looked for near its own place, where it would else
  be known by its meaning alone.  The weights are those of the last layer's
  cross-attention, which align better than those before, the mean over its
  heads.

  Attributes:
    config: Its shape.

  Example:
    >>> from attn.modules import EncoderDecoderConfig
    >>> model = TranslationTransformer(EncoderDecoderConfig(
    ...   kind='transformer', source_vocab_size=11, target_vocab_size=13,
    ...   embed_dim=8, hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=16,
    ...   score='dot', locality='global', half_width=2, bidirectional=False,
    ...   input_feeding=False, coverage=False, max_source_length=9,
    ...   max_target_length=9, dropout_rate=0.0))
    >>> source, inputs = jnp.ones((2, 5), int), jnp.ones((2, 3), int)
    >>> (logits, weights), _ = jax.eval_shape(lambda: model.init_with_output(
    ...   jax.random.key(0), source, source > 0, inputs))
    >>> logits.shape, weights.shape
    ((2, 3, 13), (2, 3, 5))

  References:
    Vaswani et al., 2017. https://arxiv.org/abs/1706.03762
    Su et al., 2021 (rotary positions). https://arxiv.org/abs/2104.09864
  """

  def setup(self) -> None:
    """Blocks to read, blocks to write, and a norm after each."""
    super().setup()
    config = self.config
    self.readers = [_reader(config) for _ in range(config.num_layers)]
    self.writers = [DecoderBlock(config) for _ in range(config.num_layers)]
    self.source_norm = make_norm(_NORM, 'source_norm', jnp.dtype('float32'))
    self.target_norm = make_norm(_NORM, 'target_norm', jnp.dtype('float32'))

  def _read(
    self, x: Array, mask: Array, max_length: int, deterministic: bool
  ) -> Encoded:
    config, batch = self.config, x.shape[0]
    for reader in self.readers:
      x = reader(x, mask=mask[:, None, None], deterministic=deterministic)
    x = self.source_norm(x)
    memory = tuple(writer.remember(x) for writer in self.writers)
    head_dim = config.embed_dim // config.num_heads
    empty = jnp.zeros((batch, max_length, config.num_heads, head_dim), x.dtype)
    cache = (KeyValue(empty, empty),) * config.num_layers
    position = jnp.zeros((batch,), jnp.int32)
    return Encoded(_Memory(memory, mask), _State(cache, position))

  def _step(self, x: Array, memory: _Memory, state: _State) -> tuple[Any, Any]:
    x, asked, caches = x[:, None], x, []
    positions = state.position[:, None]
    for writer, source, cache in zip(self.writers, memory.layers, state.layers):
      x, asked, cache = writer(
        x, source, memory.mask, cache=cache, positions=positions
      )
      caches.append(cache)
    features, weights = self._last(x, asked, memory, positions)
    state = _State(tuple(caches), state.position + 1)
    return state, (features[:, 0], weights[:, 0])

  def _write(self, x: Array, encoded: Encoded, deterministic: bool) -> Written:
    memory, asked = encoded.memory, x
    for writer, source in zip(self.writers, memory.layers):
      x, asked, _ = writer(x, source, memory.mask, deterministic=deterministic)
    return Written(*self._last(x, asked, memory))

  def _last(
    self,
    x: Array,
    asked: Array,
    memory: _Memory,
    positions: Array | None = None,
  ) -> tuple[Array, Array]:
    """Features and weights, from what the last layer left behind."""
    weights = self.writers[-1].weights(
      asked, memory.layers[-1], memory.mask, positions
    )
    return self.target_norm(x), weights


def _stored(cache: KeyValue, token: KeyValue, positions: Array) -> KeyValue:
  """The cache [B, S, N, H] with a token [B, 1, N, H] at its position [B, 1]."""
  places = jnp.arange(cache.keys.shape[1])[None]
  here = (places == positions)[..., None, None]
  return jax.tree.map(lambda old, new: jnp.where(here, new, old), cache, token)


def _reader(config: EncoderDecoderConfig) -> TransformerBlock:
  """One block of the encoder."""
  attention = MultiHeadAttention(
    num_heads=config.num_heads,
    rope_base=_ROPE_BASE,
    dropout_rate=config.dropout_rate,
    out_init=_out_init(config, 2),
    parent=None,
  )
  return TransformerBlock(
    attention=attention,
    feed_forward=FeedForward(
      config.mlp_dim, out_init=_out_init(config, 2), parent=None
    ),
    norm=_NORM,
    dropout_rate=config.dropout_rate,
  )


def _out_init(
  config: EncoderDecoderConfig, parts: int
) -> nn.initializers.Initializer:
  """What a residual stream adds up should not grow with its parts."""
  return nn.initializers.variance_scaling(
    1 / (parts * config.num_layers), 'fan_in', 'truncated_normal'
  )
