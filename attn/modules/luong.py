"""Attention after the step: four scores, the whole source or a window of it."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.alignment import local_mask, local_weights, predicted_centers
from attn.modules.encoder_decoder import Encoded, EncoderDecoder, Written
from attn.modules.linear import Linear
from attn.modules.recurrent import LSTMStack
from attn.scores import (
  additive_scores,
  bilinear_scores,
  dot_product_scores,
  location_scores,
)
from attn.weights import softmax, weighted_sum

Array = jax.Array

_MATRIX = nn.initializers.lecun_normal()
_VECTOR = nn.initializers.normal(0.1)


class _Memory(NamedTuple):
  """The source: its states [B, S, H], what is scored of them, its mask."""

  values: Array
  keys: Array
  mask: Array


class _State(NamedTuple):
  """The LSTMs' carries, what was attended to last [B, H], and t [B]."""

  carries: Any
  attended: Array
  position: Array


class LuongLSTM(EncoderDecoder):
  """Deep LSTMs; the top one's output asks, and is made into what is said.

    h[s]        = lstm(source[s..])
    z[t]        = lstm([target[t-1]; attended[t-1]], z[t-1]),  z[0] = h[1]
    weights[t]  = softmax_s(score(z[t], h[s]))
    context[t]  = Σ_s weights[t, s] h[s]
    attended[t] = tanh([context[t]; z[t]] W)
    logits[t]   = attended[t] W_vocabulary

  The scores:

    dot         z · h
    general     z · W · h
    concat      v · tanh([z; h] W)
    location    (z W)[s], which does not look at the source

  Local attention sees a window |s - p| <= D.  'local-m': p = t, or the last
  word where the source is shorter.  'local-p': p = S sigmoid(v·tanh(z W)), and
  the weights are multiplied by a Gaussian around p, of deviation D / 2; as in
  the paper they are not normalised again, so a row sums to less than 1.

  The source is read from its end, as in the paper: a word's state knows what
  follows it, and the first word is the last that was read.  Bidirectional, a
  second stack reads from the beginning, and h[s] is what both know at s; then
  'dot' has no meaning.

  Without input feeding `attended` is no input of the LSTM, and the steps of a
  known target need not wait for each other's attention.

  Attributes:
    config: Its shape.

  Example:
    >>> from attn.modules import EncoderDecoderConfig
    >>> model = LuongLSTM(EncoderDecoderConfig(
    ...   kind='luong', source_vocab_size=11, target_vocab_size=13,
    ...   embed_dim=8, hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=16,
    ...   score='general', locality='global', half_width=2, bidirectional=False,
    ...   input_feeding=True, coverage=False, max_source_length=9,
    ...   max_target_length=9, dropout_rate=0.0))
    >>> source, inputs = jnp.ones((2, 5), int), jnp.ones((2, 3), int)
    >>> (logits, weights), _ = jax.eval_shape(lambda: model.init_with_output(
    ...   jax.random.key(0), source, source > 0, inputs))
    >>> logits.shape, weights.shape
    ((2, 3, 13), (2, 3, 5))

  References:
    Luong et al., 2015. https://arxiv.org/abs/1508.04025
  """

  def setup(self) -> None:
    """Two stacks, the weights of score and window, and what is said."""
    super().setup()
    config, size = self.config, self.config.hidden_dim
    if config.bidirectional:
      self.first_reader = LSTMStack(size, config.num_layers)
    self.reader = LSTMStack(size, config.num_layers)
    self.writer = LSTMStack(size, config.num_layers)
    self.attended = Linear(size)
    match config.score:
      case 'general':
        sides = 2 if config.bidirectional else 1
        self.score = self.param('score', _MATRIX, (size, sides * size))
      case 'concat':
        self.key = Linear(size)
        self.query = Linear(size)
        self.score = self.param('score', _VECTOR, (size,))
      case 'location':
        shape = size, config.max_source_length
        self.score = self.param('score', _MATRIX, shape)
    if config.locality == 'local-p':
      self.place = self.param('place', _MATRIX, (size, size))
      self.place_score = self.param('place_score', _VECTOR, (size,))

  def _read(
    self, x: Array, mask: Array, max_length: int, deterministic: bool
  ) -> Encoded:
    start = self.reader.start(x.shape[0])
    carries, values = self.reader(start, x, mask, reverse=True)
    if self.config.bidirectional:
      _, also = self.first_reader(start, x, mask)
      values = jnp.concatenate([also, values], -1)
    keys = self.key(values) if self.config.score == 'concat' else values
    state = _State(
      carries=carries,
      attended=jnp.zeros((x.shape[0], self.config.hidden_dim), x.dtype),
      position=jnp.zeros(x.shape[:1], jnp.int32),
    )
    return Encoded(_Memory(values, keys, mask), state)

  def _step(self, x: Array, memory: _Memory, state: _State) -> tuple[Any, Any]:
    if self.config.input_feeding:
      x = jnp.concatenate([x, state.attended], -1)
    carries, out = self.writer.step(state.carries, x)
    attended, weights = self._attend(
      out[:, None], memory, state.position[:, None]
    )
    state = _State(carries, attended[:, 0], state.position + 1)
    return state, (attended[:, 0], weights[:, 0])

  def _write(self, x: Array, encoded: Encoded, deterministic: bool) -> Written:
    # All additive scores at once would hold [B, T, S, H].
    if self.config.input_feeding or self.config.score == 'concat':
      return super()._write(x, encoded, deterministic)
    _, out = self.writer(encoded.state.carries, x)
    positions = jnp.broadcast_to(jnp.arange(x.shape[1])[None], x.shape[:2])
    return Written(*self._attend(out, encoded.memory, positions))

  def _attend(
    self, query: Array, memory: _Memory, positions: Array
  ) -> tuple[Array, Array]:
    """What is said [B, T, H] and the weights [B, T, S] of some steps."""
    config, mask = self.config, memory.mask[:, None]
    lengths = memory.mask.sum(-1)[:, None]
    centers = None
    match config.locality:
      case 'local-m':
        centers = jnp.minimum(positions, lengths - 1)
      case 'local-p':
        centers = predicted_centers(
          query, self.place, self.place_score, lengths
        )
    if centers is not None:
      num_keys = memory.mask.shape[-1]
      mask = mask & local_mask(centers, num_keys, config.half_width)
    weights = softmax(self._scores(query, memory), mask)
    if config.locality == 'local-p' and centers is not None:
      weights = local_weights(weights, centers, config.half_width)
    context = weighted_sum(weights, memory.values)
    said = self.attended(jnp.concatenate([context, query], -1))
    return jnp.tanh(said), weights

  def _scores(self, query: Array, memory: _Memory) -> Array:
    match self.config.score:
      case 'dot':
        return dot_product_scores(query, memory.keys, scale=1.0)
      case 'general':
        return bilinear_scores(query, memory.keys, self.score)
      case 'concat':
        return _concat_scores(self.query(query), memory.keys, self.score)
      case _:
        num_keys = memory.keys.shape[1]
        return location_scores(query, self.score[:, :num_keys])


# Kept for the gradient, the hidden layers would be [T, B, S, H] in all.
@jax.checkpoint
def _concat_scores(query: Array, key: Array, v: Array) -> Array:
  return additive_scores(query, key, None, None, v)
