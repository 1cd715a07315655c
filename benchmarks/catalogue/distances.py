"""Scores that change with where query and key are."""

import jax
import jax.numpy as jnp
import numpy as np

import attn
from attn import mods
from benchmarks.catalogue.entry import Size, entry, noise


def _radius(size: Size) -> int:
  return min(16, size.length // 4)


def _rates(size: Size) -> dict[str, np.ndarray]:
  """Sandwich's: of waves up to 10,000 tokens long, eight heads' worth."""
  count = min(32, size.length)
  heads = np.arange(1, size.heads + 1)
  return {
    'rates': 10_000.0 ** (-np.arange(count) / count),
    'ratio': heads * 8 / size.heads,
  }


def _table_2d(size: Size) -> dict[str, object]:
  height, width = size.picture
  table = noise(2 * height - 1, 2 * width - 1, size.heads)
  return {'width': width, 'table': table}


@entry(
  'ALiBi',
  'score - slope[n] |q - k|,  slope[n] = 2^(-8 (n + 1) / N)',
  ('Press et al., 2022', 'https://arxiv.org/abs/2108.12409'),
)
def alibi(query, key, value):
  """Scores fall with distance, in each head at a rate of its own."""
  mod = mods.alibi(query.shape[-2])
  return attn.attention(query, key, value, score_mod=mod)


@entry(
  "T5's learned distances",
  'score + table[bucket(k - q), n]',
  ('Raffel et al., 2020', 'https://arxiv.org/abs/1910.10683'),
  given=lambda size: {
    'table': noise(8 if size.length < 256 else 32, size.heads),
    'farthest': max(size.length // 8, 8),
  },
)
def t5_bias(query, key, value, table, farthest):
  """A learned number for every range of distances."""
  mod = mods.relative_bias(table, max_distance=farthest)
  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'Distance decay (RetNet)',
  'score + |q - k| log rate[n],  so that weight ∝ rate[n]^|q - k| e^score',
  ('Sun et al., 2023', 'https://arxiv.org/abs/2307.08621'),
  given=lambda size: {'rate': 1 - 2.0 ** (-3 - np.arange(size.heads))},
)
def distance_decay(query, key, value, rate):
  """Weights fade by a constant factor with every step."""
  mod = mods.distance_decay(rate)
  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'Sandwich',
  'score + Σ_i cos((q - k) rates[i]) / ratio[n],  ratio[n] = 8 (n + 1) / N',
  ('Chi et al., 2023', 'https://arxiv.org/abs/2212.10356'),
  given=_rates,
)
def sandwich(query, key, value, rates, ratio):
  """Sinusoidal positions beside query and key: together a bias by distance."""
  angles = jnp.arange(query.shape[1], dtype=rates.dtype)[:, None, None] * rates
  waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)
  scaled = query * query.shape[-1] ** -0.5
  query, key = (
    jnp.concatenate([x, jnp.broadcast_to(y, (*x.shape[:3], y.shape[-1]))], -1)
    for x, y in ((scaled, waves / ratio[:, None]), (key, waves))
  )
  return attn.attention(query, key, value, scale=1.0)


@entry(
  'Logarithmic distance (KERPLE)',
  'score - power[n] log(1 + |q - k|)',
  ('Chi et al., 2022', 'https://arxiv.org/abs/2205.09921'),
  given=lambda size: {'power': 1.0 + np.arange(size.heads)},
)
def kerple(query, key, value, power):
  """Weights fall as a power of distance, not as fast as ALiBi's."""

  def mod(score, b, n, q, k):
    distance = jnp.abs(q - k).astype(score.dtype)
    return score - power[n] * jnp.log1p(distance)

  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'Learned vectors of distance (Shaw)',
  'score + query · table[clip(k - q, -radius, radius)] / √H',
  ('Shaw et al., 2018', 'https://arxiv.org/abs/1803.02155'),
  given=lambda size: {
    'table': noise(2 * _radius(size) + 1, size.head_size) / 2,
    'radius': _radius(size),
  },
  draw_scores=True,
)
def shaw(query, key, value, table, radius):
  """What a query asks of a distance; T × (2 radius + 1) numbers hold it."""
  asked = query @ table.T / query.shape[-1] ** 0.5

  def mod(score, b, n, q, k):
    return score + asked[b, q, n, jnp.clip(k - q, -radius, radius) + radius]

  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'A learned centre (localness)',
  'score - (k - centre[b, q, n])² / (2 width²)',
  ('Luong et al., 2015 (local-p)', 'https://arxiv.org/abs/1508.04025'),
  ('Yang et al., 2018', 'https://arxiv.org/abs/1810.10182'),
  given=lambda size: {
    'centre': size.length
    / 2
    * (1 + np.tanh(noise(size.batch, size.length, size.heads))),
    'width': size.stretch / 2,
  },
)
def learned_centre(query, key, value, centre, width):
  """Each query says where to look, and sees best there."""

  def mod(score, b, n, q, k):
    away = k.astype(score.dtype) - centre[b, q, n]
    return score - away**2 / (2 * width**2)

  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'Learned offsets in a picture (Swin)',
  'score + table[row(k) - row(q), column(k) - column(q), n]',
  ('Liu et al., 2021', 'https://arxiv.org/abs/2103.14030'),
  given=_table_2d,
)
def picture_bias(query, key, value, width, table):
  """A learned number for every offset between two pixels."""
  middle = (table.shape[0] // 2, table.shape[1] // 2)

  def mod(score, b, n, q, k):
    row = k // width - q // width + middle[0]
    column = k % width - q % width + middle[1]
    return score + table[row, column, n]

  return attn.attention(query, key, value, score_mod=mod)


@entry(
  'Rotary positions',
  'score = rotated(query, q) · rotated(key, k) / √H',
  ('Su et al., 2021', 'https://arxiv.org/abs/2104.09864'),
  draw_scores=True,
)
def rotary(query, key, value):
  """Queries and keys are turned by their positions beforehand."""
  turn = jax.vmap(attn.apply_rope, in_axes=(-2, None), out_axes=-2)
  place = jnp.arange(query.shape[-3])
  return attn.attention(turn(query, place), turn(key, place), value)
