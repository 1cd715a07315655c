"""One sentence in, another out: what all encoder–decoders have in common."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from attn.modules.encoder_decoder_config import EncoderDecoderConfig
from attn.modules.linear import Linear

Array = jax.Array


class Encoded(NamedTuple):
  """A source that was read, and a decoder that has not yet begun.

  Every leaf of both has a leading axis B, so that hypotheses of a beam can be
  repeated and gathered.

  Attributes:
    memory: What decode steps read and never change.
    state: What a decode step changes.

  Example:
    >>> read = Encoded(memory=jnp.ones((2, 5, 8)), state=jnp.zeros((2, 8)))
    >>> beams = jax.tree.map(lambda x: jnp.repeat(x, 3, 0), read)
    >>> beams.memory.shape
    (6, 5, 8)
  """

  memory: Any
  state: Any


class Decoded(NamedTuple):
  """What a decoder says.

  Attributes:
    logits: float32[B, T, V] of the next token; [B, V] of one step.
    weights: float32[B, T, S], the attention each source token got at each
      step; [B, S] of one step; None where there is no attention.

  Example:
    >>> said = Decoded(jnp.eye(3)[None], weights=None)
    >>> said.logits.argmax(-1)  # the words of a greedy translation
    Array([[0, 1, 2]], dtype=int32)
  """

  logits: Array
  weights: Array | None


class Written(NamedTuple):
  """What a decoder has to say, before it is put into words.

  Attributes:
    features: float[B, T, D], what the vocabulary head reads.
    weights: float32[B, T, S] or None.
  """

  features: Array
  weights: Array | None


class EncoderDecoder(nn.Module):
  """The frame: embed, `_read` the source, `_write` the target, score words.

    p(target | source) = Π_t p(target[t] | target[<t], source)

  A kind of encoder–decoder says how it reads, how it takes one step, and how
  what a step left is made into features:

    _read(x, mask, max_length, deterministic) -> Encoded
    _step(x, memory, state) -> (state, (raw, weights)), all of one token [B, ..]
    _features(raw, x) -> features, of one token or of all

  Where the steps of a target that is known need not wait for each other, it
  says that too, as `_write`.

  Attributes:
    config: Its shape.

  Example:
    >>> from attn.modules import make_encoder_decoder
    >>> model = make_encoder_decoder(EncoderDecoderConfig(
    ...   kind='luong', source_vocab_size=11, target_vocab_size=13,
    ...   embed_dim=8, hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=16,
    ...   score='general', locality='global', half_width=2, bidirectional=False,
    ...   input_feeding=True, coverage=False, max_source_length=9,
    ...   max_target_length=9, dropout_rate=0.0))
    >>> source, inputs = jnp.ones((2, 5), int), jnp.ones((2, 3), int)
    >>> arguments = source, jnp.ones((2, 5), bool), inputs
    >>> (logits, weights), _ = jax.eval_shape(lambda: model.init_with_output(
    ...   jax.random.key(0), *arguments))
    >>> logits.shape, weights.shape
    ((2, 3, 13), (2, 3, 5))

  References:
    Sutskever et al., 2014, section 2. https://arxiv.org/abs/1409.3215
  """

  config: EncoderDecoderConfig

  def setup(self) -> None:
    """What every kind has: embeddings, dropout, and the vocabulary head."""
    config = self.config
    self.source_embed, self.target_embed = (
      nn.Embed(words, config.embed_dim)
      for words in (config.source_vocab_size, config.target_vocab_size)
    )
    self.drop = nn.Dropout(config.dropout_rate)
    self.head = Linear(config.target_vocab_size, use_bias=True)

  def __call__(
    self,
    source: Array,
    source_mask: Array,
    inputs: Array,
    *,
    deterministic: bool = True,
  ) -> Decoded:
    """Teacher forced: the logits after every token of a target that is known.

    The same numbers as `decode_step`, one token after the other.

    Args:
      source: int32[B, S].
      source_mask: bool[B, S], True where there is a token.  Padding stands at
        the end.
      inputs: int32[B, T], the target before each token to predict.
      deterministic: Without dropout.

    Returns:
      Logits float32[B, T, V], and weights float32[B, T, S] or None.

    Raises:
      TypeError: if source_mask is not boolean.
      ValueError: if source or inputs are longer than the config allows, or
        their shapes do not fit each other.
    """
    self._check_source(source, source_mask)
    if inputs.ndim != 2 or inputs.shape[0] != source.shape[0]:
      raise ValueError(
        f'inputs: got shape {inputs.shape}, wanted [{source.shape[0]}, T], as '
        'many rows as source'
      )
    self._check_length('inputs', inputs.shape[1], 'max_target_length')
    encoded = self.encode(
      source,
      source_mask,
      max_length=inputs.shape[1],
      deterministic=deterministic,
    )
    x = self.drop(self.target_embed(inputs), deterministic=deterministic)
    written = self._write(x, encoded, deterministic)
    features = self.drop(written.features, deterministic=deterministic)
    return Decoded(self.head(features), written.weights)

  def encode(
    self,
    source: Array,
    source_mask: Array,
    *,
    max_length: int,
    deterministic: bool = True,
  ) -> Encoded:
    """Read the source.

    Args:
      source: int32[B, S].
      source_mask: bool[B, S], True where there is a token.  Padding stands at
        the end; a row without a token is a source of which nothing is known.
      max_length: The most tokens for which `decode_step` will be called.
      deterministic: Without dropout.

    Returns:
      The memory and the first state for `decode_step`.

    Raises:
      TypeError: if source_mask is not boolean.
      ValueError: if source or max_length is longer than the config allows, or
        source_mask has another shape than source.
    """
    self._check_source(source, source_mask)
    self._check_length('max_length', max_length, 'max_target_length')
    x = self.drop(self.source_embed(source), deterministic=deterministic)
    return self._read(x, source_mask, max_length, deterministic)

  def decode_step(
    self, tokens: Array, memory: Any, state: Any
  ) -> tuple[Decoded, Any]:
    """One token of the target in, the logits of the next out.

    Args:
      tokens: int32[B].
      memory: As `encode` gave it.
      state: As `encode` or the step before gave it.

    Returns:
      Logits float32[B, V], weights float32[B, S] or None, and the next state.
    """
    x = self.target_embed(tokens)
    state, (raw, weights) = self._step(x, memory, state)
    return Decoded(self.head(self._features(raw, x)), weights), state

  def _read(
    self, x: Array, mask: Array, max_length: int, deterministic: bool
  ) -> Encoded:
    raise NotImplementedError

  def _step(self, x: Array, memory: Any, state: Any) -> tuple[Any, Any]:
    raise NotImplementedError

  def _features(self, raw: Any, x: Array) -> Array:
    return raw

  def _write(self, x: Array, encoded: Encoded, deterministic: bool) -> Written:
    """Step by step, but what a step only leaves behind is made at once."""

    def step(model: Any, state: Any, x: Array) -> tuple[Any, Any]:
      return model._step(x, encoded.memory, state)

    scan = nn.scan(
      step,
      variable_broadcast='params',
      split_rngs={'params': False},
      in_axes=1,
      out_axes=1,
    )
    _, (raw, weights) = scan(self, encoded.state, x)
    return Written(self._features(raw, x), weights)

  def _check_source(self, source: Array, source_mask: Array) -> None:
    if source.ndim != 2:
      raise ValueError(f'source: got shape {source.shape}, wanted [B, S]')
    self._check_length('source', source.shape[1], 'max_source_length')
    if source_mask.dtype != jnp.bool_:
      raise TypeError(
        f'source_mask: got dtype {source_mask.dtype}, wanted bool'
      )
    if source_mask.shape != source.shape:
      raise ValueError(
        f'source_mask: got shape {source_mask.shape}, wanted {source.shape}, '
        "source's"
      )

  def _check_length(self, name: str, length: int, limit: str) -> None:
    most = getattr(self.config, limit)
    if not 1 <= length <= most:
      raise ValueError(
        f'{name}: got length {length}, wanted 1 to {most}, the {limit}'
      )
