"""A whole sentence in one vector: recurrent models without attention."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.modules.encoder_decoder import Encoded, EncoderDecoder, Written
from attn.modules.linear import Linear
from attn.modules.recurrent import LSTMStack, run_cell

Array = jax.Array


class BottleneckGRU(EncoderDecoder):
  """The GRU that began it: the decoder gets the encoder's last state.

    context = h[S],            h[s] = gru(source[s], h[s-1])
    z[t]    = gru([target[t-1]; context], z[t-1]),     z[0] = context
    logits  = tanh([z[t]; context; target[t-1]] W) W_vocabulary

  The context is one vector of fixed size, whatever the length of the sentence:
  the longer the sentence, the more of it is lost.

  Attributes:
    config: Its shape.

  Example:
    >>> from attn.modules import EncoderDecoderConfig
    >>> model = BottleneckGRU(EncoderDecoderConfig(
    ...   kind='bottleneck', source_vocab_size=11, target_vocab_size=13,
    ...   embed_dim=8, hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=16,
    ...   score='dot', locality='global', half_width=2, bidirectional=False,
    ...   input_feeding=False, coverage=False, max_source_length=9,
    ...   max_target_length=9, dropout_rate=0.0))
    >>> source, inputs = jnp.ones((2, 5), int), jnp.ones((2, 3), int)
    >>> (logits, weights), _ = jax.eval_shape(lambda: model.init_with_output(
    ...   jax.random.key(0), source, source > 0, inputs))
    >>> logits.shape, weights  # nothing is looked back at
    ((2, 3, 13), None)

  References:
    Cho et al., 2014. https://arxiv.org/abs/1406.1078
  """

  def setup(self) -> None:
    """A GRU to read, one to write, and what a word is chosen from."""
    super().setup()
    self.reader = nn.GRUCell(self.config.hidden_dim)
    self.writer = nn.GRUCell(self.config.hidden_dim)
    self.readout = Linear(self.config.hidden_dim, use_bias=True)

  def _read(
    self, x: Array, mask: Array, max_length: int, deterministic: bool
  ) -> Encoded:
    start = jnp.zeros((x.shape[0], self.config.hidden_dim), x.dtype)
    context, _ = run_cell(self.reader, start, x, mask)
    return Encoded(memory=context, state=context)

  def _step(self, x: Array, memory: Array, state: Array) -> tuple[Any, Any]:
    context = memory
    state, out = self.writer(state, jnp.concatenate([x, context], -1))
    return state, ((out, context), None)

  def _write(self, x: Array, encoded: Encoded, deterministic: bool) -> Written:
    context = encoded.memory[:, None]
    context = jnp.broadcast_to(context, (*x.shape[:2], context.shape[-1]))
    inputs = jnp.concatenate([x, context], -1)
    _, out = run_cell(self.writer, encoded.state, inputs)
    return Written(self._features((out, context), x), None)

  def _features(self, raw: Any, x: Array) -> Array:
    return jnp.tanh(self.readout(jnp.concatenate([*raw, x], -1)))


class ReversedLSTM(EncoderDecoder):
  """Deep LSTMs, the source read from its end.

    (c, h)[l] = the last state of layer l, source[S], ..., source[1] read
    logits    = lstm(target[<t] from (c, h)) W_vocabulary

  Read from its end, a sentence's first words are the last that were read: the
  way from them to the first words of the target is short.

  Attributes:
    config: Its shape.

  Example:
    >>> from attn.modules import EncoderDecoderConfig
    >>> model = ReversedLSTM(EncoderDecoderConfig(
    ...   kind='lstm', source_vocab_size=11, target_vocab_size=13,
    ...   embed_dim=8, hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=16,
    ...   score='dot', locality='global', half_width=2, bidirectional=False,
    ...   input_feeding=False, coverage=False, max_source_length=9,
    ...   max_target_length=9, dropout_rate=0.0))
    >>> source, inputs = jnp.ones((2, 5), int), jnp.ones((2, 3), int)
    >>> (logits, weights), _ = jax.eval_shape(lambda: model.init_with_output(
    ...   jax.random.key(0), source, source > 0, inputs))
    >>> logits.shape, weights  # nothing is looked back at
    ((2, 3, 13), None)

  References:
    Sutskever et al., 2014. https://arxiv.org/abs/1409.3215
  """

  def setup(self) -> None:
    """A stack to read and a stack to write."""
    super().setup()
    config = self.config
    self.reader = LSTMStack(config.hidden_dim, config.num_layers)
    self.writer = LSTMStack(config.hidden_dim, config.num_layers)

  def _read(
    self, x: Array, mask: Array, max_length: int, deterministic: bool
  ) -> Encoded:
    start = self.reader.start(x.shape[0])
    carries, _ = self.reader(start, x, mask, reverse=True)
    return Encoded(memory=(), state=carries)

  def _step(self, x: Array, memory: Any, state: Any) -> tuple[Any, Any]:
    state, out = self.writer.step(state, x)
    return state, (out, None)

  def _write(self, x: Array, encoded: Encoded, deterministic: bool) -> Written:
    _, out = self.writer(encoded.state, x)
    return Written(out, None)
