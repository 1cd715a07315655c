"""Characters as integers."""

import dataclasses
import json
import pathlib

import numpy as np

from attn.training.artifacts import replace_file
from attn.training.errors import UserError


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

  @classmethod
  def of(cls, text: str) -> 'CharTokenizer':
    """A tokenizer for the characters that occur in text."""
    return cls(''.join(sorted(set(text))))

  @property
  def vocab_size(self) -> int:
    """How many tokens there are."""
    return len(self.characters)

  def encode(self, text: str) -> np.ndarray:
    """Text → int32[len(text)].

    Raises:
      UserError: if text has characters that are not known; names them.
    """
    places = {c: i for i, c in enumerate(self.characters)}
    unknown = sorted(set(text) - places.keys())
    if unknown:
      raise UserError(
        f'text: got characters that the model never saw, '
        f'{", ".join(map(repr, unknown))}; it knows {self.characters!r}'
      )
    return np.array([places[c] for c in text], np.int32)

  def decode(self, tokens: np.ndarray | list[int]) -> str:
    """int[T] → text."""
    return ''.join(self.characters[token] for token in tokens)

  def save(self, path: pathlib.Path) -> None:
    """Write it as JSON."""
    replace_file(path, json.dumps(dataclasses.asdict(self)).encode())

  @classmethod
  def load(cls, path: pathlib.Path) -> 'CharTokenizer':
    """Read what `save` wrote."""
    return cls(**json.loads(path.read_text()))
