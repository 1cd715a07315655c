"""A tokenizer that came with a model: the tokenizer.json of Hugging Face."""

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers

# How decoders write a byte that is no character.
_BYTE = re.compile(r'<0x[0-9A-F]{2}>')


class FileTokenizer:
  """Whatever a tokenizer.json says, by the `tokenizers` library.

  Example:
    >>> from attn.training.byte_pairs import BytePairTokenizer
    >>> made = BytePairTokenizer.of('the cat, the hat, the bat', 260)
    >>> tokenizer = FileTokenizer(made.state()['model'], vocab_size=512)
    >>> tokenizer.decode(tokenizer.encode('the mat')), tokenizer.vocab_size
    ('the mat', 512)
  """

  unit = 'token'

  def __init__(
    self, model: str, vocab_size: int, *, special: bool = False
  ) -> None:
    """Understand a tokenizer.json.

    Args:
      model: What it holds.
      vocab_size: V of the model, which may be more than there are tokens.
      special: Whether a text begins and ends as the file says; else it is
        encoded as if it stood amid others.

    Raises:
      ValueError: if it is no tokenizer, or has more than V tokens.
    """
    self._model, self._vocab_size, self._special = model, vocab_size, special
    try:
      self._tokenizer = tokenizers.Tokenizer.from_str(model)
    except Exception as error:  # The library raises nothing more special.
      raise ValueError(f'tokenizer.json: is no tokenizer: {error}') from error
    # Others may be cut, or filled up to a length.
    self._tokenizer.no_truncation()
    self._tokenizer.no_padding()
    ids = self._tokenizer.get_vocab(with_added_tokens=True).values()
    if max(ids, default=-1) >= vocab_size:
      raise ValueError(
        f'tokenizer.json: got token {max(ids)}, wanted less than the '
        f'vocabulary, {vocab_size}'
      )

  @classmethod
  def read(
    cls, path: pathlib.Path, vocab_size: int, *, special: bool = False
  ) -> 'FileTokenizer':
    """That of a file; raises ValueError if it cannot be had."""
    try:
      text = path.read_text(encoding='utf-8')
    except (OSError, ValueError) as error:
      raise ValueError(f'{path}: cannot be read: {error}') from error
    return cls(text, vocab_size, special=special)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, FileTokenizer) and (
      json.loads(self._model) == json.loads(other._model)
    )

  def __hash__(self) -> int:
    return hash(self.vocab_size)

  @property
  def vocab_size(self) -> int:
    """See `Tokenizer`."""
    return self._vocab_size

  def encode(self, text: str) -> np.ndarray:
    """See `Tokenizer`."""
    encoded = self._tokenizer.encode(text, add_special_tokens=self._special)
    return np.array(encoded.ids, np.int32)

  def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
    """See `Tokenizer`."""
    return self._tokenizer.decode([int(token) for token in tokens])

  def byte_lengths(self, tokens: Sequence[int] | np.ndarray) -> list[int]:
    """See `Tokenizer`; a guess where the file changes a text before."""
    return [self._length(int(token)) for token in tokens]

  def state(self) -> dict[str, Any]:
    """See `Tokenizer`."""
    return {'kind': 'file', 'model': self._model, 'vocab_size': self.vocab_size}

  def _length(self, token: int) -> int:
    word = self._tokenizer.id_to_token(token) or ''
    if isinstance(self._tokenizer.decoder, tokenizers.decoders.ByteLevel):
      # In its alphabet one character stands for one byte.
      return len(word)
    if _BYTE.fullmatch(word):
      return 1
    return len(word.replace('\u2581', ' ').encode())
