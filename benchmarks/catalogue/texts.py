"""Masks that know what the tokens of a text are."""

import numpy as np

import attn
from attn import masks
from benchmarks.catalogue.entry import Size, documents, entry


def _lengths(size: Size) -> dict[str, np.ndarray]:
  shares = 0.75 / (1 + np.arange(size.batch))
  return {'lengths': (size.length * shares).astype(int)}


def _prompt(size: Size) -> dict[str, int]:
  return {'length': size.length // 3}


def _answers(size: Size) -> dict[str, object]:
  """A prompt, and answers to it that do not know of each other."""
  shared = size.length // 4
  ids = np.concatenate(
    [np.zeros(shared, int), 1 + documents(size.length - shared)]
  )
  return {'shared': shared, 'ids': ids}


def _branches(size: Size) -> dict[str, np.ndarray]:
  """A line of tokens, the last of which has two followers, and so on."""
  guesses = min(63, size.length // 2)
  root = size.length - guesses - 1
  line = np.arange(-1, root)
  return {'parents': np.append(line, root + np.arange(guesses) // 2)}


def _order(size: Size) -> dict[str, np.ndarray]:
  return {'turn': np.random.default_rng(0).permutation(size.length)}


def _buckets(size: Size) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  ids = rng.integers(0, 8, (2, size.batch, size.length))
  ids.sort()
  return {'query_buckets': ids[0], 'key_buckets': ids[1]}


@entry(
  'Padding',
  'k < lengths[b]',
  ('Vaswani et al., 2017', 'https://arxiv.org/abs/1706.03762'),
  given=_lengths,
)
def padding(query, key, value, lengths):
  """Texts of a batch differ in length; what fills them up is not seen."""
  mask = masks.padding(lengths)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Packed documents',
  'k ≤ q  and  ids[k] = ids[q]',
  ('Krell et al., 2021', 'https://arxiv.org/abs/2107.02027'),
  given=lambda size: {'ids': documents(size.length)},
)
def packed_documents(query, key, value, ids):
  """Documents share a row and do not see each other."""
  mask = masks.causal() & masks.segments(ids)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Blocks of known sizes',
  'q and k are in the same block',
  ('Krell et al., 2021', 'https://arxiv.org/abs/2107.02027'),
  given=lambda size: {'sizes': np.bincount(documents(size.length)).tolist()},
)
def known_blocks(query, key, value, sizes):
  """Sentences or sets of sizes known beforehand, each seen whole."""
  mask = masks.block_diagonal(sizes)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Shared prefix',
  'k ≤ q  and  (k < shared  or  ids[k] = ids[q])',
  ('Juravsky et al., 2024 (Hydragen)', 'https://arxiv.org/abs/2402.05099'),
  given=_answers,
)
def shared_prefix(query, key, value, shared, ids):
  """Many answers to one prompt, which is read once."""
  mask = masks.causal() & (masks.prefix(shared) | masks.segments(ids))
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Prefix language model',
  'k ≤ q  or  k < length',
  ('Raffel et al., 2020 (T5)', 'https://arxiv.org/abs/1910.10683'),
  given=_prompt,
)
def prefix_lm(query, key, value, length):
  """The prompt is read both ways, what follows it is written."""
  mask = masks.causal() | masks.prefix(length)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Tree verification',
  'k = q  or  k is an ancestor of q',
  ('Miao et al., 2024 (SpecInfer)', 'https://arxiv.org/abs/2305.09781'),
  ('Cai et al., 2024 (Medusa)', 'https://arxiv.org/abs/2401.10774'),
  given=_branches,
)
def tree_verification(query, key, value, parents):
  """A text and a tree of guesses at how it goes on, judged in one pass."""
  mask = masks.tree(parents)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Block diffusion',
  'noisy q: noisy k of its block, clean k of blocks before\n'
  'clean q: clean k of its block and of blocks before',
  ('Arriola et al., 2025', 'https://arxiv.org/abs/2503.09573'),
  given=lambda size: {'length': size.length // 2, 'size': size.chunk},
)
def block_diffusion(query, key, value, length, size):
  """The noisy text beside the clean one: every block learns in one pass."""
  mask = masks.block_diffusion(length, size)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Any order (XLNet)',
  'turn[k] ≤ turn[q]',
  ('Yang et al., 2019', 'https://arxiv.org/abs/1906.08237'),
  given=_order,
)
def any_order(query, key, value, turn):
  """Causal in another order than that of the text."""

  def earlier(b, n, q, k, turn):
    return turn[k] <= turn[q]

  mask = masks.from_fn(earlier, turn)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Hashed buckets (Reformer)',
  'query_buckets[b, q] = key_buckets[b, k]',
  ('Kitaev et al., 2020', 'https://arxiv.org/abs/2001.04451'),
  ('Roy et al., 2021 (clusters)', 'https://arxiv.org/abs/2003.05997'),
  given=_buckets,
)
def hashed_buckets(query, key, value, query_buckets, key_buckets):
  """Only keys of the query's bucket; sorted by it, so blocks are skipped."""
  mask = masks.segments(query_buckets, key_buckets)
  return attn.attention(query, key, value, mask=mask)
