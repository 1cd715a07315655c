"""What shapes a model that reads one sentence and writes another."""

import dataclasses
from typing import Any

KINDS = ('bottleneck', 'lstm', 'bahdanau', 'luong', 'transformer')
SCORES = ('dot', 'general', 'concat', 'location')
LOCALITIES = ('global', 'local-m', 'local-p')

# Fields that count something there must be one of.
_AT_LEAST_1 = (
  'source_vocab_size',
  'target_vocab_size',
  'embed_dim',
  'hidden_dim',
  'num_layers',
  'num_heads',
  'mlp_dim',
  'half_width',
  'max_source_length',
  'max_target_length',
)


@dataclasses.dataclass(frozen=True)
class EncoderDecoderConfig:
  """Everything that shapes an encoder–decoder.

  A field that its kind has no use for changes nothing.

  Attributes:
    kind: What the decoder is told of the source, and by which network.
      'bottleneck': the last state of a GRU, one vector for the whole sentence.
      'lstm': the last states of a stack of LSTMs that read the source from its
      end.
      'bahdanau': in every step, by additive attention, the states of two GRUs
      that read in both directions.
      'luong': in every step, by one of four scores, the states of a stack of
      LSTMs.
      'transformer': in every layer, by attention of many heads, whatever the
      encoder made of each word.
    source_vocab_size: Words of the source.
    target_vocab_size: V, words of the target.
    embed_dim: Width of a word's embedding; D of 'transformer'.
    hidden_dim: Width of a recurrent state; of 'bahdanau' also of the network
      that scores.
    num_layers: L of 'lstm', 'luong' and 'transformer', on either side.
    num_heads: N of 'transformer', a divisor of embed_dim.
    mlp_dim: F of 'transformer'.
    score: Of 'luong': 'dot', 'general', 'concat', or 'location', which looks at
      the query alone.
    locality: Of 'luong'.  'global': attend to the whole source.  'local-m': to
      a window around the place of the target's word.  'local-p': to one around
      a place that the query predicts, the more the nearer.
    half_width: D, how far a window reaches to either side.
    input_feeding: 'luong' tells each step what the step before attended to.
    coverage: 'bahdanau' scores a word also by how much attention it had.
    max_source_length: The most words of a source.
    max_target_length: The most words of a target, with the one that ends it.
    dropout_rate: On embeddings and on what the vocabulary head reads; of
      'transformer' also on weights and on what each part of a block adds.
    bidirectional: 'luong' reads the source from both ends, not from its last
      word only.

  Raises:
    ValueError: if a field does not fit; the message begins with its name.

  Example:
    >>> config = EncoderDecoderConfig(
    ...   kind='bahdanau', source_vocab_size=11, target_vocab_size=13,
    ...   embed_dim=8, hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=16,
    ...   score='dot', locality='global', half_width=2, bidirectional=False,
    ...   input_feeding=False, coverage=False, max_source_length=9,
    ...   max_target_length=9, dropout_rate=0.0)
    >>> dataclasses.replace(config, score='cosine')  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    ValueError: score: got 'cosine', wanted one of ...
  """

  kind: str
  source_vocab_size: int
  target_vocab_size: int
  embed_dim: int
  hidden_dim: int
  num_layers: int
  num_heads: int
  mlp_dim: int
  score: str
  locality: str
  half_width: int
  input_feeding: bool
  coverage: bool
  max_source_length: int
  max_target_length: int
  dropout_rate: float
  bidirectional: bool = False

  def __post_init__(self) -> None:
    for name, known in (
      ('kind', KINDS),
      ('score', SCORES),
      ('locality', LOCALITIES),
    ):
      self._check(name, getattr(self, name) in known, f'one of {known}')
    for name in _AT_LEAST_1:
      self._check(name, getattr(self, name) >= 1, 'at least 1')
    self._check('dropout_rate', 0 <= self.dropout_rate < 1, 'a rate in [0, 1)')
    if self.kind == 'transformer':
      self._check_heads()
    if self.kind == 'luong' and self.bidirectional:
      wanted = "another than 'dot': what both ends know is wider than a query"
      self._check('score', self.score != 'dot', wanted)

  def _check_heads(self) -> None:
    head_dim, rest = divmod(self.embed_dim, self.num_heads)
    self._check(
      'num_heads', not rest, f'a divisor of embed_dim {self.embed_dim}'
    )
    self._check(
      'num_heads',
      head_dim % 2 == 0,
      f'an even head size for rotary positions (embed_dim is {self.embed_dim})',
    )

  def _check(self, name: str, holds: bool, wanted: str) -> None:
    if not holds:
      value: Any = getattr(self, name)
      raise ValueError(f'{name}: got {value!r}, wanted {wanted}')
