"""Words, or the characters of a line, as integers."""

import json
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from attn.training.artifacts import replace_file

# Tokens of every tokenizer: nothing, the first input, the last target, and
# whatever was never seen.
PAD, BOS, EOS, UNK = range(4)
SPECIALS = ('<pad>', '<bos>', '<eos>', '<unk>')

UNITS = ('word', 'character')

# Letters and digits, with an apostrophe or hyphen between them; any other mark.
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


class WordTokenizer:
  """Each word, or each character, is a token.

  A word that is not known as it is written is looked up in lower case, so that
  a capital at the start of a sentence does no harm.

  Attributes:
    words: Every known word once, sorted; the first has token 4.
    unit: word or character: what `split` cuts a text into.

  Example:
    >>> tokenizer = WordTokenizer.of([('der', 'Hund', '.'), ('der', 'Hut')])
    >>> tokenizer.encode(tokenizer.split('Der Hund, der Hut.')).tolist()
    [7, 5, 3, 7, 6, 4]
    >>> tokenizer.decode([BOS, 7, 5, UNK, EOS, PAD])
    ('der', 'Hund', '<unk>')
  """

  def __init__(self, words: Sequence[str], unit: str = 'word') -> None:
    """A tokenizer for these words.

    Args:
      words: Each once.
      unit: word or character.

    Raises:
      ValueError: if a word comes twice or is special, or unit is neither.
    """
    if unit not in UNITS:
      raise ValueError(f'unit: got {unit!r}, wanted one of {", ".join(UNITS)}')
    self.words = tuple(words)
    self.unit = unit
    self._names = (*SPECIALS, *self.words)
    self._tokens = {name: token for token, name in enumerate(self._names)}
    if len(self._tokens) < len(self._names):
      raise ValueError('words: got one twice, or one of ' + ', '.join(SPECIALS))
    for special in SPECIALS:
      del self._tokens[special]

  @classmethod
  def of(
    cls, sequences: Iterable[Sequence[str]], unit: str = 'word'
  ) -> 'WordTokenizer':
    """A tokenizer for the words that occur in any of the sequences."""
    words = {word for sequence in sequences for word in sequence}
    return cls(sorted(words - {*SPECIALS}), unit)

  @property
  def vocab_size(self) -> int:
    """How many tokens there are, special ones included."""
    return len(self._names)

  def split(self, text: str) -> tuple[str, ...]:
    """Cuts a text into words and marks, or into characters.

    Example:
      >>> WordTokenizer(()).split('Geht es?  Ja, so-so.')
      ('Geht', 'es', '?', 'Ja', ',', 'so-so', '.')
    """
    return split(text, self.unit)

  def join(self, words: Iterable[str]) -> str:
    """Words as a text: with blanks between them, or characters without."""
    return (' ' if self.unit == 'word' else '').join(words)

  def encode(self, words: Sequence[str]) -> np.ndarray:
    """Words → int32[len(words)]; UNK for words that are not known."""
    return np.array(self.tokens(words), np.int32)

  def tokens(self, words: Sequence[str]) -> list[int]:
    """What `encode` returns, as a list: quicker for a few words."""
    known = self._tokens
    try:
      return [known[word] for word in words]
    except KeyError:
      return [known.get(w, known.get(w.lower(), UNK)) for w in words]

  def unknown(self, words: Sequence[str]) -> list[str]:
    """The words that `encode` makes UNK, each once, in order."""
    tokens = self.tokens(words)
    return list(dict.fromkeys(w for w, t in zip(words, tokens) if t == UNK))

  def decode(self, tokens: np.ndarray | Sequence[int]) -> tuple[str, ...]:
    """int[T] → words up to the first EOS, without PAD and BOS.

    UNK stays, as <unk>: a text with a word missing would be another text.
    """
    words: list[str] = []
    for token in np.asarray(tokens).tolist():
      if token == EOS:
        break
      if token not in (PAD, BOS):
        words.append(self._names[token])
    return tuple(words)

  def save(self, path: pathlib.Path) -> None:
    """Write it as JSON."""
    state = {'unit': self.unit, 'words': self.words}
    replace_file(path, json.dumps(state, ensure_ascii=False).encode())

  @classmethod
  def load(cls, path: pathlib.Path) -> 'WordTokenizer':
    """Read what `save` wrote."""
    return cls(**json.loads(path.read_text(encoding='utf-8')))


def split(text: str, unit: str) -> tuple[str, ...]:
  """Cuts a text into words and marks, or into characters.

  Args:
    text: One line.
    unit: word or character.

  Returns:
    Words without the blanks between them; or all characters, less blanks at
    both ends.
  """
  if unit == 'character':
    return tuple(text.strip())
  return tuple(_WORD.findall(text))
