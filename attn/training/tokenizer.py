"""Text as integers: its characters, its bytes, or what often stands together.

Byte pairs, which take a library, are in `byte_pairs`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from attn.training.artifacts import replace_file
from attn.training.errors import UserError

TOKENIZERS = ('characters', 'bytes', 'bpe')


class Tokenizer(Protocol):
  """Whatever makes tokens of a text, and a text of tokens."""

  @property
  def vocab_size(self) -> int:
    """How many tokens there are."""
    ...

  @property
  def unit(self) -> str:
    """What a token is, in a word."""
    ...

  def encode(self, text: str) -> np.ndarray:
    """Text → int32[T].

    Raises:
      UserError: if it has what the tokenizer does not know; names that.
    """
    ...

  def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
    """int[T] → text; U+FFFD in place of half a character."""
    ...

  def byte_lengths(self, tokens: Sequence[int] | np.ndarray) -> list[int]:
    """How many bytes of UTF-8 each token stands for."""
    ...

  def state(self) -> dict[str, Any]:
    """What makes it: JSON, with its `kind`."""
    ...


@dataclasses.dataclass(frozen=True)
class CharTokenizer:
  """Each character of a text is a token.

  Attributes:
    characters: Every known character once, sorted; its place is its token.

  Example:
    >>> tokenizer = CharTokenizer.of('hello')
    >>> tokenizer.encode('hole').tolist()
    [1, 3, 2, 0]
    >>> tokenizer.decode([1, 0])
    'he'
  """

  characters: str
  unit = 'character'

  @classmethod
  def of(cls, text: str) -> 'CharTokenizer':
    """A tokenizer for the characters that occur in text."""
    return cls(''.join(sorted(set(text))))

  @property
  def vocab_size(self) -> int:
    """See `Tokenizer`."""
    return len(self.characters)

  def encode(self, text: str) -> np.ndarray:
    """See `Tokenizer`."""
    places = {c: i for i, c in enumerate(self.characters)}
    unknown = sorted(set(text) - places.keys())
    if unknown:
      raise UserError(
        f'text: got characters that the model never saw, '
        f'{", ".join(map(repr, unknown))}; it knows {self.characters!r}'
      )
    return np.array([places[c] for c in text], np.int32)

  def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
    """See `Tokenizer`."""
    return ''.join(self.characters[token] for token in tokens)

  def byte_lengths(self, tokens: Sequence[int] | np.ndarray) -> list[int]:
    """See `Tokenizer`."""
    return [len(self.characters[token].encode()) for token in tokens]

  def state(self) -> dict[str, Any]:
    """See `Tokenizer`."""
    return {'kind': 'characters', 'characters': self.characters}


@dataclasses.dataclass(frozen=True)
class ByteTokenizer:
  """Each byte of UTF-8 is a token: 256 of them, for any text there is.

  Example:
    >>> ByteTokenizer().encode('né').tolist()
    [110, 195, 169]
    >>> ByteTokenizer().decode([110, 195])
    'n�'
  """

  unit = 'byte'
  vocab_size = 256

  def encode(self, text: str) -> np.ndarray:
    """See `Tokenizer`."""
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

  def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
    """See `Tokenizer`."""
    return bytes(map(int, tokens)).decode(errors='replace')

  def byte_lengths(self, tokens: Sequence[int] | np.ndarray) -> list[int]:
    """See `Tokenizer`."""
    return [1] * len(tokens)

  def state(self) -> dict[str, Any]:
    """See `Tokenizer`."""
    return {'kind': 'bytes'}


def make_tokenizer(kind: str, text: str, vocab_size: int) -> Tokenizer:
  """A tokenizer for a text.

  Args:
    kind: One of TOKENIZERS.
    text: What it is to be made for.
    vocab_size: The most tokens of 'bpe'.

  Returns:
    The tokenizer.

  Raises:
    ValueError: if kind is unknown, or vocab_size below 256, which bytes take.
  """
  match kind:
    case 'characters':
      return CharTokenizer.of(text)
    case 'bytes':
      return ByteTokenizer()
    case 'bpe':
      # Imported here: few need the library.
      from attn.training.byte_pairs import BytePairTokenizer

      return BytePairTokenizer.of(text, vocab_size)
    case _:
      raise ValueError(f'tokenizer: got {kind!r}, wanted one of {TOKENIZERS}')


def save_tokenizer(tokenizer: Tokenizer, path: pathlib.Path) -> None:
  """Write it as JSON."""
  replace_file(path, json.dumps(tokenizer.state()).encode())


def load_tokenizer(path: pathlib.Path) -> Tokenizer:
  """Read what `save_tokenizer` wrote.

  Raises:
    OSError: if there is no such file.
    ValueError: if it is no tokenizer.
  """
  state = json.loads(path.read_text())
  try:
    match state.get('kind', 'characters'):
      case 'characters':
        return CharTokenizer(state['characters'])
      case 'bytes':
        return ByteTokenizer()
      case 'bpe':
        from attn.training.byte_pairs import BytePairTokenizer

        return BytePairTokenizer(state['model'])
      case 'file':
        from attn.training.file_tokenizer import FileTokenizer

        return FileTokenizer(state['model'], state['vocab_size'])
  except (AttributeError, KeyError, TypeError) as error:
    raise ValueError(f'{path} is no tokenizer') from error
  raise ValueError(f'{path} is of no known kind')


def share_among_characters(
  tokenizer: Tokenizer, text: str, weights: np.ndarray
) -> np.ndarray:
  """Attention among tokens, as attention among the characters of their text.

  A character looks where its last token looks; what a token gets is divided
  among its bytes, and a character gets what its bytes get.

  Args:
    tokenizer: Of the tokens.
    text: C characters.
    weights: float[..., T, T], of the text's tokens.

  Returns:
    float[..., C, C].
  """
  lengths = np.array(tokenizer.byte_lengths(tokenizer.encode(text)))
  token_of_byte = np.repeat(np.arange(len(lengths)), lengths)
  bytes_of = [len(character.encode()) for character in text]
  character_of_byte = np.repeat(np.arange(len(text)), bytes_of)
  share = np.zeros((len(lengths), len(text)))
  np.add.at(
    share, (token_of_byte, character_of_byte), 1 / lengths[token_of_byte]
  )
  last = token_of_byte[np.cumsum(bytes_of) - 1]
  return (weights[..., last, :] @ share).astype(weights.dtype)
