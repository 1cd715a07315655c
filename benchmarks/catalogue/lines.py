"""Masks that ask where tokens are in a line."""

import numpy as np

import attn
from attn import masks
from benchmarks.catalogue.entry import Size, entry

_LONGFORMER = ('Beltagy et al., 2020', 'https://arxiv.org/abs/2004.05150')
_SPARSE = ('Child et al., 2019', 'https://arxiv.org/abs/1904.10509')
_STREAMING = ('Xiao et al., 2023', 'https://arxiv.org/abs/2309.17453')
_VASWANI = ('Vaswani et al., 2017', 'https://arxiv.org/abs/1706.03762')


def _window(size: Size) -> dict[str, int]:
  return {'window': size.stretch}


def _random_chunks(size: Size) -> dict[str, object]:
  chunks = size.length // size.stretch
  # For each row of chunks three, or a third.
  order = np.random.default_rng(0).random((chunks, chunks)).argsort(1)
  return {'size': size.stretch, 'chosen': order < min(3, chunks // 3)}


@entry('Full', 'every q sees every k', _VASWANI, draw_scores=True)
def full(query, key, value):
  """Every token sees every token."""
  return attn.attention(query, key, value)


@entry('Causal', 'k ≤ q', _VASWANI)
def causal(query, key, value):
  """No token sees the future."""
  mask = masks.causal()
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Sliding window',
  'q - window < k ≤ q',
  ('Jiang et al., 2023 (Mistral)', 'https://arxiv.org/abs/2310.06825'),
  given=_window,
)
def sliding_window(query, key, value, window):
  """Each token sees itself and those just before it."""
  mask = masks.sliding_window(window - 1, 0)
  return attn.attention(query, key, value, mask=mask)


@entry('Window on both sides', '|q - k| ≤ window', _LONGFORMER, given=_window)
def local_window(query, key, value, window):
  """Each token sees its neighbours before and after."""
  mask = masks.sliding_window(window, window)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Dilated window',
  '0 ≤ q - k < step · window  and  (q - k) mod step = 0',
  _LONGFORMER,
  given=lambda size: {'window': max(size.stretch // 2, 2), 'step': 2},
)
def dilated_window(query, key, value, window, step):
  """A window with gaps reaches further for the same price."""
  mask = masks.dilated(step) & masks.sliding_window(step * window - 1, 0)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Global tokens and a window (Longformer)',
  '|q - k| ≤ window  or  q < count  or  k < count',
  _LONGFORMER,
  given=lambda size: {'window': size.stretch // 2, 'count': 2},
)
def longformer(query, key, value, window, count):
  """A few tokens see all and are seen by all; the others see neighbours."""
  mask = masks.sliding_window(window, window) | masks.global_tokens(count)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Random, window and global chunks (BigBird)',
  'with i = q // size and j = k // size:\n'
  '|i - j| ≤ 1  or  i = 0  or  j = 0  or  chosen[i, j]',
  ('Zaheer et al., 2020', 'https://arxiv.org/abs/2007.14062'),
  given=_random_chunks,
  memory='T + S, and (T / size)² bits that say what was chosen',
)
def big_bird(query, key, value, size, chosen):
  """Chunks see their neighbours, the first chunk and a few at random."""
  near = masks.sliding_window(1, 1) | masks.global_tokens(1)
  mask = masks.between_chunks(near | masks.dense(chosen), size)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Window and first tokens (StreamingLLM)',
  'k ≤ q  and  (q - k < window  or  k < first)',
  _STREAMING,
  given=lambda size: {'window': size.stretch, 'first': 2},
)
def streaming(query, key, value, window, first):
  """A text without end keeps its first tokens, where attention rests."""
  near = masks.sliding_window(window - 1, 0) | masks.prefix(first)
  return attn.attention(query, key, value, mask=masks.causal() & near)


@entry(
  'Strided (Sparse Transformer)',
  'k ≤ q  and  (q - k < step  or  (q - k) mod step = 0)',
  _SPARSE,
  given=lambda size: {'step': size.chunk},
)
def strided(query, key, value, step):
  """The last tokens, and one of every stretch before them."""
  near = masks.sliding_window(step - 1, 0) | masks.dilated(step)
  return attn.attention(query, key, value, mask=masks.causal() & near)


@entry(
  'Fixed (Sparse Transformer)',
  'k ≤ q  and  (k // step = q // step  or  k mod step = step - 1)',
  _SPARSE,
  given=lambda size: {'step': size.chunk},
)
def fixed(query, key, value, step):
  """One's own stretch, and the last token of each stretch before it."""
  last = masks.dense(np.arange(key.shape[1]) % step == step - 1)
  mask = masks.causal() & (masks.chunked(step) | last)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Powers of two (LogSparse)',
  'q - k is 0 or a power of two',
  ('Li et al., 2019', 'https://arxiv.org/abs/1907.00235'),
)
def log_sparse(query, key, value):
  """The past is seen ever more coarsely, log T keys of it."""

  def doubling(b, n, q, k):
    return (q >= k) & ((q - k) & (q - k - 1) == 0)

  mask = masks.from_fn(doubling)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Chunked',
  'k ≤ q  and  k // size = q // size',
  (
    'Meta, 2025 (Llama 4)',
    'https://ai.meta.com/blog/llama-4-multimodal-intelligence/',
  ),
  given=lambda size: {'size': size.stretch},
)
def chunked(query, key, value, size):
  """Each token sees the past of its own chunk."""
  mask = masks.causal() & masks.chunked(size)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Causal between chunks',
  'k // size ≤ q // size',
  ('Chen et al., 2021 (speech)', 'https://arxiv.org/abs/2010.11395'),
  given=lambda size: {'size': size.stretch},
)
def chunk_causal(query, key, value, size):
  """All of one's own chunk, frame or block, and all before it."""
  mask = masks.between_chunks(masks.causal(), size)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'A window for each head',
  'q - windows[n] < k ≤ q',
  _LONGFORMER,
  given=lambda size: {
    'windows': [size.stretch // (1 + n % 2) for n in range(size.heads)]
  },
)
def window_of_head(query, key, value, windows):
  """Some heads read closely, others widely; the first head is drawn."""
  mask = masks.per_head([masks.sliding_window(w - 1, 0) for w in windows])
  return attn.attention(query, key, value, mask=mask)
