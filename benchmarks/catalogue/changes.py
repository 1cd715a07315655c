"""Scores that change with what they are, with the pair, with the text."""

import jax.numpy as jnp
import numpy as np

import attn
from attn import masks, mods
from benchmarks.catalogue.entry import Size, entry, noise

_OWN_ARRAY = 'T × S: {} itself, handed over written out'


def _hops(size: Size) -> dict[str, np.ndarray]:
  """Steps between the nodes of a ring with one shortcut across."""
  node = np.arange(size.length, dtype=np.int16)
  ring = np.abs(node[:, None] - node)
  ring = np.minimum(ring, np.int16(size.length) - ring)
  across = ring[:, :1] + 1 + ring[size.length // 2]
  hops = np.minimum(np.minimum(ring, np.minimum(across, across.T)), 7)
  return {'hops': hops.astype(np.int8), 'table': noise(8, size.heads)}


@entry(
  'Soft cap',
  'cap tanh(score / cap)',
  ('Bello et al., 2016', 'https://arxiv.org/abs/1611.09940'),
  ('Gemma 2, 2024', 'https://arxiv.org/abs/2408.00118'),
  given=lambda size: {'cap': 2.0},
  draw_scores=True,
)
def soft_cap(query, key, value, cap):
  """Scores bend towards ±cap and never pass it."""
  mod = mods.soft_cap(cap)
  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'Soft cap, then ALiBi',
  'cap tanh(score / cap) - slope[n] |q - k|',
  ('Gemma 2, 2024', 'https://arxiv.org/abs/2408.00118'),
  ('Press et al., 2022', 'https://arxiv.org/abs/2108.12409'),
  given=lambda size: {'cap': 2.0},
  draw_scores=True,
)
def capped_alibi(query, key, value, cap):
  """One change after the other: the cap first, or it would cap positions."""
  mod = mods.compose(mods.soft_cap(cap), mods.alibi(query.shape[-2]))
  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'Temperature',
  'score / value[n]',
  ('Lin et al., 2018', 'https://arxiv.org/abs/1808.07374'),
  given=lambda size: {'temperature': 0.5 * (1.0 + np.arange(size.heads))},
  draw_scores=True,
)
def temperature(query, key, value, temperature):
  """Sharper or softer attention, in each head by a number of its own."""
  mod = mods.temperature(temperature)
  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'Scalable softmax',
  'score · rate · log(q + 1),  k ≤ q',
  ('Nakanishi, 2025', 'https://arxiv.org/abs/2501.19399'),
  given=lambda size: {'rate': np.float64(0.4)},
  draw_scores=True,
)
def scalable_softmax(query, key, value, rate):
  """Sharper where more is seen, so that long texts do not wash it out."""

  def mod(score, b, n, q, k):
    return score * rate * jnp.log1p(q.astype(score.dtype))

  return attn.attention(query, key, value, mask=masks.causal(), score_mod=mod)


@entry(
  'Forget gates',
  'score + Σ log forget[b, i, n] over k < i ≤ q,  k ≤ q',
  ('Lin et al., 2025', 'https://arxiv.org/abs/2503.02130'),
  given=lambda size: {
    'log_forget': -np.abs(noise(size.batch, size.length, size.heads)) / 8
  },
)
def forget_gates(query, key, value, log_forget):
  """Each token may dim all that came before it."""
  total = jnp.cumsum(log_forget, axis=1)

  def mod(score, b, n, q, k):
    return score + total[b, q, n] - total[b, k, n]

  return attn.attention(query, key, value, mask=masks.causal(), score_mod=mod)


@entry(
  'Graph bias (Graphormer)',
  'score + table[hops[q, k], n]',
  ('Ying et al., 2021', 'https://arxiv.org/abs/2106.05234'),
  given=_hops,
  memory=_OWN_ARRAY.format('the distances in the graph'),
)
def graph_bias(query, key, value, hops, table):
  """A learned number for how many edges lie between two nodes."""

  def mod(score, b, n, q, k):
    return score + table[hops[q, k], n]

  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'Pair bias (AlphaFold)',
  'score + pairs[n, q, k]',
  ('Jumper et al., 2021', 'https://doi.org/10.1038/s41586-021-03819-2'),
  given=lambda size: {'pairs': noise(size.heads, size.length, size.length)},
  memory=_OWN_ARRAY.format('the bias'),
)
def pair_bias(query, key, value, pairs):
  """What is known of every pair is added to its score."""
  return attn.attention(query, key, value, bias=pairs)


@entry(
  'Attention sinks',
  'weight = exp(score) / (Σ exp(score) + exp(sink[n]))',
  ('Xiao et al., 2023', 'https://arxiv.org/abs/2309.17453'),
  ('gpt-oss, 2025', 'https://arxiv.org/abs/2508.10925'),
  given=lambda size: {'sink': 1.0 + np.arange(size.heads)},
  draw_scores=True,
)
def sinks(query, key, value, sink):
  """A learned score that belongs to no key takes what none deserves."""
  return attn.attention(query, key, value, sink=sink)


@entry(
  'Off by one',
  'weight = exp(score) / (Σ exp(score) + 1)',
  ('Miller, 2023', 'https://www.evanmiller.org/attention-is-off-by-one.html'),
  draw_scores=True,
)
def off_by_one(query, key, value):
  """A head with nothing to say may say nothing: a sink of score 0."""
  nobody = jnp.zeros(query.shape[-2], query.dtype)
  return attn.attention(query, key, value, sink=nobody)


@entry(
  'Cosine',
  'score = rate cos(query, key)',
  ('Henry et al., 2020', 'https://arxiv.org/abs/2010.04245'),
  ('Liu et al., 2022 (Swin V2)', 'https://arxiv.org/abs/2111.09883'),
  given=lambda size: {'rate': 8.0},
  draw_scores=True,
)
def cosine(query, key, value, rate):
  """The angle counts, not the length."""
  query, key = (
    x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (query, key)
  )
  return attn.attention(query, key, value, scale=rate)


@entry(
  'Distance of vectors',
  'score = -|query - key|² / √H',
  ('Kim et al., 2021', 'https://arxiv.org/abs/2006.04710'),
  draw_scores=True,
)
def vector_distance(query, key, value):
  """The nearest key wins; |query|² is the same for all keys, and drops out."""
  scale = query.shape[-1] ** -0.5
  length = scale * (key**2).sum(-1)

  def mod(score, b, n, q, k):
    return score - length[b, k, n]

  return attn.attention(query, key, value, scale=2 * scale, score_mod=mod)


@entry(
  'Talking heads',
  "score'[n] = Σ_m before[m, n] score[m]\n"
  "weight'[n] = Σ_m after[m, n] weight[m]",
  ('Shazeer et al., 2020', 'https://arxiv.org/abs/2003.02436'),
  given=lambda size: {
    'before': np.eye(size.heads) + noise(size.heads, size.heads) / 2,
    'after': np.eye(size.heads) + noise(size.heads, size.heads, seed=1) / 4,
  },
  draw_scores=True,
  memory='N (T + S): heads are mixed by N times wider vectors, not by T × S',
)
def talking_heads(query, key, value, before, after):
  """Heads mix their scores before softmax, and their weights after it."""
  batch, length, heads, size = query.shape
  query = jnp.einsum('btmh,mn->btnmh', query, before)
  query = query.reshape(batch, length, heads, heads * size)
  key, value = (x.reshape(*x.shape[:2], 1, -1) for x in (key, value))
  each = attn.attention(query, key, value, scale=size**-0.5)
  each = each.reshape(batch, length, heads, heads, -1)
  return jnp.einsum('btmnh,mn->btnh', each, after)
