"""The attentions that a model can be told to use, by one word or several."""

from typing import Any, NamedTuple

# Which tokens see which.
PATTERNS = (
  'full',
  'sliding_window',
  'alternating',
  'dilated',
  'chunked',
  'global',
  'prefix',
  'none',
)

# What becomes of queries and keys.
KINDS = (
  'softmax',
  'cosine',
  'bilinear',
  'additive',
  'symmetric',
  'sigmoid',
  'latent',
  'differential',
  'linear',
)

# Words for what other fields say as well; 'grouped' has half as many
# key/value heads as query heads.
SHORTCUTS: dict[str, dict[str, Any]] = {
  'alibi': {'positions': 'alibi'},
  'sinks': {'sinks': True},
  'soft_cap': {'soft_cap': 50.0},
  'multi_query': {'num_kv_heads': 1},
  'grouped': {},
}

WORDS = (*PATTERNS, *KINDS[1:], *SHORTCUTS)


class Attention(NamedTuple):
  """What the words say.

  Attributes:
    pattern: One of PATTERNS.
    kind: One of KINDS.
    shortcuts: Of SHORTCUTS, those that were said.
  """

  pattern: str
  kind: str
  shortcuts: tuple[str, ...]


def parse(words: str) -> Attention:
  """Understand 'full', 'linear', 'sliding_window+alibi', ...

  Args:
    words: One of WORDS, or several with a plus between them: one pattern and
      one kind at most; 'full' and 'softmax' where there is none.

  Returns:
    What they say.

  Raises:
    ValueError: if a word is unknown, or two say different things.

  Example:
    >>> found = parse('sliding_window+multi_query')
    >>> found.pattern, found.kind, found.shortcuts
    ('sliding_window', 'softmax', ('multi_query',))
  """
  said = words.split('+')
  for word in said:
    if word not in WORDS:
      raise ValueError(
        f'attention: got {words!r}, wanted one of {WORDS}, or several with a '
        'plus between them'
      )
  found = {}
  for name, known, default in (
    ('pattern', PATTERNS, 'full'),
    ('kind', KINDS, 'softmax'),
  ):
    chosen = [word for word in said if word in known]
    if len(chosen) > 1:
      raise ValueError(
        f'attention: got {words!r}, wanted at most one of {chosen}'
      )
    found[name] = chosen[0] if chosen else default
  shortcuts = tuple(word for word in said if word in SHORTCUTS)
  return Attention(**found, shortcuts=shortcuts)
