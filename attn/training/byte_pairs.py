"""Byte pairs: what often stands together becomes one token."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

# Bytes alone take so many tokens.
_BYTES = 256


class BytePairTokenizer:
  """Byte-level byte-pair encoding, by the `tokenizers` library.

  The pair of tokens that is most frequent in the text becomes a token itself,
  until there are enough.  Words are encoded apart, each with the space before
  it.  Any text can be encoded: what is rare falls apart into bytes.

  Example:
    >>> tokenizer = BytePairTokenizer.of('the cat, the hat, the bat', 260)
    >>> tokens = tokenizer.encode('the mat')
    >>> [tokenizer.decode([token]) for token in tokens]
    ['the', ' ', 'm', 'at']

  References:
    Sennrich et al., 2016. https://arxiv.org/abs/1508.07909
    Radford et al., 2019 (bytes). https://openai.com/index/better-language-models
  """

  unit = 'token'

  def __init__(self, model: str) -> None:
    """Args: model: What `state` tells."""
    self._model = model
    try:
      self._tokenizer = tokenizers.Tokenizer.from_str(model)
    except Exception as error:  # The library raises nothing more special.
      raise ValueError(f'model: is no tokenizer: {error}') from error
    self._lengths = self._all_lengths()

  @classmethod
  def of(cls, text: str, vocab_size: int) -> 'BytePairTokenizer':
    """A tokenizer for a text.

    Args:
      text: Where pairs are counted.
      vocab_size: The most tokens there may be.

    Raises:
      ValueError: if vocab_size is below 256.
    """
    if vocab_size < _BYTES:
      raise ValueError(
        f'vocab_size: got {vocab_size}, wanted at least {_BYTES}, for the bytes'
      )
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
      vocab_size=vocab_size,
      show_progress=False,
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([text], trainer)
    return cls(tokenizer.to_str())

  def __eq__(self, other: object) -> bool:
    return isinstance(other, BytePairTokenizer) and (
      json.loads(self._model) == json.loads(other._model)
    )

  def __hash__(self) -> int:
    return hash(self.vocab_size)

  @property
  def vocab_size(self) -> int:
    """See `Tokenizer`."""
    return self._tokenizer.get_vocab_size()

  def encode(self, text: str) -> np.ndarray:
    """See `Tokenizer`."""
    return np.array(self._tokenizer.encode(text).ids, np.int32)

  def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
    """See `Tokenizer`."""
    return self._tokenizer.decode([int(token) for token in tokens])

  def byte_lengths(self, tokens: Sequence[int] | np.ndarray) -> list[int]:
    """See `Tokenizer`."""
    return [self._lengths[int(token)] for token in tokens]

  def state(self) -> dict[str, Any]:
    """See `Tokenizer`."""
    return {'kind': 'bpe', 'model': self._model}

  def _all_lengths(self) -> list[int]:
    # In the library's alphabet one character stands for one byte.
    vocabulary = self._tokenizer.get_vocab()
    return [
      len(word) for word in sorted(vocabulary, key=vocabulary.__getitem__)
    ]
