"""Attention as it was first used: in every step, before the step."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.modules.encoder_decoder import Encoded, EncoderDecoder
from attn.modules.linear import Linear
from attn.modules.recurrent import run_cell
from attn.scores import additive_scores
from attn.weights import softmax, weighted_sum

Array = jax.Array

_VECTOR = nn.initializers.normal(0.1)


class _Memory(NamedTuple):
  """The source: its states [B, S, 2H], projected [B, S, H], its mask [B, S]."""

  values: Array
  keys: Array
  mask: Array


class _State(NamedTuple):
  """The decoder's state [B, H], and attention so far [B, S] (or None)."""

  hidden: Array
  coverage: Array | None


class AdditiveGRU(EncoderDecoder):
  """A GRU that attends to the states of two, at every step.

    h[s]       = [gru→(source[..s]); gru←(source[s..])]
    weights[t] = softmax_s(v · tanh(z[t-1] W_query + h[s] W_key))
    context[t] = Σ_s weights[t, s] h[s]
    z[t]       = gru([target[t-1]; context[t]], z[t-1])
    logits[t]  = tanh([z[t]; context[t]; target[t-1]] W) W_vocabulary

  With coverage the tanh also sees how much attention s has had, Σ_(t' < t)
  weights[t', s].  z[0] is made from the state of gru← at the first word.

  Attributes:
    config: Its shape.

  Example:
    >>> from attn.modules import EncoderDecoderConfig
    >>> model = AdditiveGRU(EncoderDecoderConfig(
    ...   kind='bahdanau', source_vocab_size=11, target_vocab_size=13,
    ...   embed_dim=8, hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=16,
    ...   score='dot', locality='global', half_width=2, bidirectional=False,
    ...   input_feeding=False, coverage=True, max_source_length=9,
    ...   max_target_length=9, dropout_rate=0.0))
    >>> source, inputs = jnp.ones((2, 5), int), jnp.ones((2, 3), int)
    >>> (logits, weights), _ = jax.eval_shape(lambda: model.init_with_output(
    ...   jax.random.key(0), source, source > 0, inputs))
    >>> logits.shape, weights.shape
    ((2, 3, 13), (2, 3, 5))

  References:
    Bahdanau et al., 2015. https://arxiv.org/abs/1409.0473
    Tu et al., 2016 (coverage). https://arxiv.org/abs/1601.04811
  """

  def setup(self) -> None:
    """Three GRUs, the network that scores, and what a word is chosen from."""
    super().setup()
    size = self.config.hidden_dim
    self.forward_reader = nn.GRUCell(size)
    self.backward_reader = nn.GRUCell(size)
    self.writer = nn.GRUCell(size)
    self.start = Linear(size)
    self.key = Linear(size, use_bias=True)
    self.query = Linear(size)
    self.score = self.param('score', _VECTOR, (size,))
    if self.config.coverage:
      self.score_coverage = self.param('score_coverage', _VECTOR, (size,))
    self.readout = Linear(size, use_bias=True)

  def _read(
    self, x: Array, mask: Array, max_length: int, deterministic: bool
  ) -> Encoded:
    zeros = jnp.zeros((x.shape[0], self.config.hidden_dim), x.dtype)
    _, ahead = run_cell(self.forward_reader, zeros, x, mask)
    first, back = run_cell(self.backward_reader, zeros, x, mask, reverse=True)
    values = jnp.concatenate([ahead, back], -1)
    covers = self.config.coverage
    return Encoded(
      _Memory(values, self.key(values), mask),
      _State(
        hidden=jnp.tanh(self.start(first)),
        coverage=jnp.zeros(mask.shape, x.dtype) if covers else None,
      ),
    )

  def _step(self, x: Array, memory: _Memory, state: _State) -> tuple[Any, Any]:
    weights = self._weights(memory, state)
    context = weighted_sum(weights, memory.values)[:, 0]
    weights = weights[:, 0]
    inputs = jnp.concatenate([x, context], -1)
    hidden, out = self.writer(state.hidden, inputs)
    coverage = None
    if state.coverage is not None:
      coverage = state.coverage + weights
    return _State(hidden, coverage), ((out, context), weights)

  def _weights(self, memory: _Memory, state: _State) -> Array:
    """Of one step, [B, 1, S]."""
    options = {}
    if state.coverage is not None:
      options['coverage'] = state.coverage[:, None]
      options['w_coverage'] = self.score_coverage

    # Kept for the gradient, the hidden layers would be [T, B, S, H] in all.
    @jax.checkpoint
    def scores(query: Array, key: Array, v: Array, options: Any) -> Array:
      return additive_scores(query, key, None, None, v, **options)

    query = self.query(state.hidden)[:, None]
    return softmax(
      scores(query, memory.keys, self.score, options), memory.mask[:, None]
    )

  def _features(self, raw: Any, x: Array) -> Array:
    return jnp.tanh(self.readout(jnp.concatenate([*raw, x], -1)))
