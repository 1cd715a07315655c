"""What shapes a causal language model."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from attn.dispatch import attention
from attn.modules.attentions import SHORTCUTS, Attention, parse
from attn.modules.block import ACTIVATIONS
from attn.modules.ngram_counts import MOST_TOKENS
from attn.modules.norms import NORMS
from attn.positions import relative_buckets
from attn.rope_scaling import RopeScaling

POSITIONS = (
  'learned',
  'sinusoidal',
  'rotary',
  'alibi',
  'relative_bias',
  'none',
)

# Fields that count something there must be one of.
_AT_LEAST_1 = (
  'vocab_size',
  'context',
  'num_layers',
  'embed_dim',
  'num_heads',
  'mlp_dim',
  'window',
  'full_every',
  'dilation',
  'chunk_size',
  'global_tokens',
  'prefix_length',
  'ngram_rows',
  'ngram_dim',
  'count_rows',
)

# Fields that only `MultiHeadAttention` knows.
_NOT_OF_OTHERS = ('head_dim', 'attention_bias', 'rope_scaling')


@dataclasses.dataclass(frozen=True)
class CausalLMConfig:
  """Everything that shapes a `CausalLM`.

  Fields that came later have a default, so that what was written before them
  means what it meant.

    >>> config = CausalLMConfig(
    ...   vocab_size=11, context=16, num_layers=2, embed_dim=8, num_heads=2,
    ...   num_kv_heads=0, mlp_dim=32, attention='sliding_window+alibi',
    ...   window=4, positions='none', rope_base=10_000.0, norm='rmsnorm',
    ...   activation='gelu', qk_norm=False, tied_head=True, dropout_rate=0.0)
    >>> dataclasses.replace(config, num_heads=3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    ValueError: num_heads: got 3, wanted ...

  Attributes:
    vocab_size: V.
    context: The most tokens seen at once; learned positions go no further.
    num_layers: L.
    embed_dim: D.
    num_heads: N, a divisor of D where head_dim is 0.
    num_kv_heads: K, a divisor of N; 0 stands for N.
    mlp_dim: F.
    attention: Which tokens see which, and how.  Words of the lists below, with
      a plus between them: a pattern, a kind, shortcuts.
      Patterns; no token sees the future, but for 'prefix':
      'full', if none is named: all before.
      'sliding_window': the nearest.
      'alternating': the nearest, but in every `full_every`-th layer all before.
      'dilated': the nearest of every `dilation`-th.
      'chunked': those of the same chunk.
      'global': the nearest, and the first of the document, which see all.
      'prefix': all before; the first of the document see each other both ways,
      so they are given, and what follows them can be predicted.
      'none': leave attention out.
      Kinds; softmax of scaled dot products if none is named:
      'cosine', 'bilinear', 'additive': other scores.
      'symmetric': queries are the keys.
      'sigmoid': each key is weighed for itself.
      'latent': keys and values come from one short vector a token.
      'differential': one softmax less another.
      'linear': a memory of the past that does not grow; pattern 'full' only.
      Shortcuts for other fields:
      'alibi': positions.  'sinks'.  'soft_cap': of 50.  'multi_query': one
      key/value head.  'grouped': half as many as query heads.
    window: Keys that a window sees, the token itself included: of
      'sliding_window', 'dilated' and 'global'.
    positions: 'learned', 'sinusoidal', 'rotary', 'alibi', 'relative_bias' (a
      learned table in every layer) or 'none'.
    rope_base: Base of the rotary angles.
    norm: 'layernorm', 'rmsnorm' or 'rmsnorm1p'; see `make_norm`.
    activation: 'gelu', 'gelu_exact', 'relu2', 'swiglu' or 'geglu'.
    qk_norm: Normalise queries and keys; 'latent', 'differential' and 'linear'
      attention do not.
    tied_head: The embedding table is also the vocabulary head.
    dropout_rate: On the embeddings, on what each half of a block adds, and on
      the weights of all but 'additive', 'latent', 'differential' and 'linear'
      attention.
    full_every: Of 'alternating' attention.
    latent_dim: Of 'latent' attention; 0 stands for twice the head size.
    dilation: Of 'dilated' attention.
    chunk_size: Of 'chunked' attention.
    global_tokens: How many are global in 'global' attention.
    prefix_length: Of 'prefix' attention.
    relative_buckets: Rows of the table of relative positions.
    relative_max_distance: From here on all distances share its last row.
    soft_cap: Scores bend towards ± this, before positions; 0 for no cap.
    sinks: A learned score per head that belongs to no key.
    implementation: As in `attn.attention`.
    ngrams: Embed also the last 2, 3, ... up to so many tokens together, by
      `NgramEmbed`; 0 for tokens alone.
    ngram_rows: Of each of its tables.
    ngram_dim: Width of a row.
    counts: Begin with what a text shows to follow the last tokens, up to so
      many, by `KneserNey`, and learn what is left; 0 for a model that learns
      all.
    count_rows: Contexts that are kept.
    embed_norm: Divide each embedding by its root mean square.
    kernel_std: Standard deviation of the matrices at the start; 0 for one over
      the root of their inputs.
    zero_init: What each half of a block adds, and the vocabulary head if it is
      not tied, start at 0.
    logit_cap: Logits bend towards ± this; 0 for no cap.
    head_dim: H; 0 stands for D / N.
    query_scalar: Scores are divided by the root of this; 0 stands for H.
    rope_scaling: Of the rotary angles: a `RopeScaling`, or its fields by name.
    norm_epsilon: Added to what a norm divides by the root of.
    norm_bias: Norms add a bias; of 'layernorm'.
    post_norm: Normalise also what each half of a block adds.
    attention_bias: Queries, keys, values and the attention's output have one.
    mlp_bias: Both sides of the feed-forward have one.
    embed_scale: Multiply the embeddings of tokens by √D.
  """

  vocab_size: int
  context: int
  num_layers: int
  embed_dim: int
  num_heads: int
  num_kv_heads: int
  mlp_dim: int
  attention: str
  window: int
  positions: str
  rope_base: float
  norm: str
  activation: str
  qk_norm: bool
  tied_head: bool
  dropout_rate: float
  full_every: int = 2
  latent_dim: int = 0
  dilation: int = 2
  chunk_size: int = 64
  global_tokens: int = 4
  prefix_length: int = 32
  relative_buckets: int = 32
  relative_max_distance: int = 128
  soft_cap: float = 0.0
  sinks: bool = False
  implementation: str | None = None
  ngrams: int = 0
  ngram_rows: int = 16384
  ngram_dim: int = 48
  counts: int = 0
  count_rows: int = 262144
  embed_norm: bool = False
  kernel_std: float = 0.0
  zero_init: bool = False
  logit_cap: float = 0.0
  head_dim: int = 0
  query_scalar: float = 0.0
  rope_scaling: RopeScaling | None = None
  norm_epsilon: float = 1e-6
  norm_bias: bool = False
  post_norm: bool = False
  attention_bias: bool = False
  mlp_bias: bool = False
  embed_scale: bool = False

  def __post_init__(self) -> None:
    for name in _AT_LEAST_1:
      self._check(name, getattr(self, name) >= 1, 'at least 1')
    self._check('head_dim', self.head_dim >= 0, 'at least 0')
    self._check(
      'num_heads',
      self.head_dim > 0 or self.embed_dim % self.num_heads == 0,
      f'a divisor of embed_dim {self.embed_dim}',
    )
    self._check(
      'num_kv_heads',
      self.num_kv_heads >= 0 and not self.num_heads % (self.num_kv_heads or 1),
      f'0 or a divisor of num_heads {self.num_heads}',
    )
    self._check('dropout_rate', 0 <= self.dropout_rate < 1, 'a rate in [0, 1)')
    for name in ('soft_cap', 'logit_cap', 'kernel_std', 'query_scalar'):
      held = 0 <= getattr(self, name) < math.inf
      self._check(name, held, '0 or a positive number')
    held = 0 < self.norm_epsilon < math.inf
    self._check('norm_epsilon', held, 'a positive number')
    has_none = self.norm == 'layernorm' or not self.norm_bias
    self._check('norm_bias', has_none, f'False for {self.norm}')
    self._check('counts', self.counts >= 0, 'at least 0')
    narrow = not self.counts or self.vocab_size <= MOST_TOKENS
    self._check('counts', narrow, f'0 for more than {MOST_TOKENS} tokens')
    self._check('ngrams', self.ngrams == 0 or self.ngrams >= 2, '0, 2 or more')
    for name, known in (
      ('positions', POSITIONS),
      ('norm', NORMS),
      ('activation', ACTIVATIONS),
    ):
      self._check(name, getattr(self, name) in known, f'one of {known}')
    for shortcut in self._words.shortcuts:
      self._take(shortcut)
    if self.pattern == 'prefix':
      self._check(
        'prefix_length',
        self.prefix_length < self.context,
        f'less than the context, {self.context}',
      )
    self._check_kind()
    self._check_positions()
    if self.rope_scaling is not None:
      self._check_rope_scaling(self.rope_scaling)
    _check_implementation(self.implementation)

  @property
  def pattern(self) -> str:
    """Of the attention's words, that which says which tokens see which."""
    return self._words.pattern

  @property
  def kind(self) -> str:
    """Of the attention's words, that which says how."""
    return self._words.kind

  @property
  def _words(self) -> Attention:
    return parse(self.attention)

  @property
  def given(self) -> int:
    """How many tokens of a document are given: they are not predicted.

    Those of a prefix see what follows them, up to its last.
    """
    return self.prefix_length if self.pattern == 'prefix' else 0

  @property
  def head_size(self) -> int:
    """H."""
    return self.head_dim or self.embed_dim // self.num_heads

  def _take(self, shortcut: str) -> None:
    fields = dict(SHORTCUTS[shortcut])
    if shortcut == 'grouped':
      self._check('num_heads', self.num_heads % 2 == 0, 'even to be grouped')
      fields = {'num_kv_heads': self.num_heads // 2}
    for name, value in fields.items():
      # Other fields may say the same, but a frozen value has no setter.
      object.__setattr__(self, name, value)

  def _check_kind(self) -> None:
    kind = self.kind
    self._check('latent_dim', self.latent_dim >= 0, 'at least 0')
    if kind in ('symmetric', 'latent', 'differential', 'linear'):
      own = self.num_kv_heads in (0, self.num_heads)
      self._check('num_kv_heads', own, f'0 for {kind} attention')
    if kind in ('sigmoid', 'additive', 'latent', 'differential', 'linear'):
      self._check('sinks', not self.sinks, f'False for {kind} attention')
    if kind in ('additive', 'linear'):
      none = self.soft_cap == 0
      self._check('soft_cap', none, f'0 for {kind} attention')
      none = self.positions not in ('alibi', 'relative_bias')
      self._check('positions', none, f'no bias for {kind} attention')
    if kind in ('latent', 'differential', 'linear'):
      for name in _NOT_OF_OTHERS:
        self._check(name, not getattr(self, name), f'none for {kind} attention')
    if kind not in ('softmax', 'symmetric', 'sigmoid', 'bilinear'):
      none = self.query_scalar == 0
      self._check('query_scalar', none, f'0 for {kind} attention')
    if kind in ('latent', 'differential'):
      none = self.positions != 'relative_bias'
      self._check('positions', none, f'no learned bias for {kind} attention')
    if kind == 'differential':
      # Each half of a head is rotated by itself.
      parts = 4 if self.positions == 'rotary' else 2
      fits = self.head_size % parts == 0
      wanted = f'head sizes that {parts} divides for differential attention'
      self._check('num_heads', fits, wanted)
    if kind == 'linear':
      full = self.pattern == 'full'
      self._check('attention', full, "pattern 'full' for linear attention")

  def _check_positions(self) -> None:
    match self.positions:
      case 'sinusoidal':
        self._check(
          'embed_dim',
          self.embed_dim % 2 == 0,
          'an even width for sinusoidal positions',
        )
      case 'rotary':
        self._check(
          'num_heads',
          self.head_size % 2 == 0,
          'an even head size for rotary positions (embed_dim is '
          f'{self.embed_dim})',
        )
        self._check(
          'rope_base', 0 < self.rope_base < math.inf, 'a positive number'
        )
      case 'relative_bias':
        try:
          relative_buckets(
            0,
            self.relative_buckets,
            bidirectional=self.pattern == 'prefix',
            max_distance=self.relative_max_distance,
          )
        except ValueError as error:
          message = str(error).replace('num_buckets', 'relative_buckets')
          message = message.replace('max_distance', 'relative_max_distance')
          raise ValueError(message) from error

  def _check_rope_scaling(self, scaling: Any) -> None:
    rotary = self.positions == 'rotary'
    self._check('rope_scaling', rotary, f'None for {self.positions} positions')
    if not isinstance(scaling, RopeScaling):
      # As JSON and flags have it.
      try:
        scaling = RopeScaling(**scaling)
      except (TypeError, ValueError) as error:
        raise ValueError(f'rope_scaling: {error}') from error
      object.__setattr__(self, 'rope_scaling', scaling)
    if scaling.kind == 'yarn':
      self._check('rope_base', self.rope_base > 1, 'more than 1 for yarn')

  def _check(self, name: str, holds: bool, wanted: str) -> None:
    if not holds:
      value: Any = getattr(self, name)
      raise ValueError(f'{name}: got {value!r}, wanted {wanted}')


def _check_implementation(name: str | None) -> None:
  """Ask the front door, which alone knows them all."""
  x = jax.ShapeDtypeStruct((1, 1, 1), jnp.float32)
  jax.eval_shape(lambda x: attention(x, x, x, implementation=name), x)
