"""Score modifications, and the rules that they stand for."""

import math

import numpy as np

from attn import mods
from tests import oracles
from tests.inputs import N

_BUCKETS = 8
BATCH_OFFSETS = np.array([2, 0, -1])


def bucket(distance, **options):
  """T5's, of as many as `table_of` has."""
  return oracles.relative_bucket(distance, _BUCKETS, **options)


def numbers(*shape, seed=7):
  """Positive, and below 1."""
  return np.random.default_rng(seed).uniform(0.2, 0.9, shape)


def table_of(seed=7):
  """A learned table for `relative_bias`."""
  return np.random.default_rng(seed).normal(size=(_BUCKETS, N))


# Name: arrays, the mod that captures them, and the rule that it stands for.
CASES = {
  'alibi': (
    (),
    lambda: mods.alibi(N),
    lambda score, b, n, q, k: score - 2.0 ** (-2 * (n + 1)) * abs(q - k),
  ),
  'alibi with slopes': (
    (numbers(N),),
    mods.alibi,
    lambda score, b, n, q, k, slopes: score - slopes[n] * abs(q - k),
  ),
  'alibi later': (
    (numbers(N),),
    lambda slopes: mods.alibi(slopes, offset=2),
    lambda score, b, n, q, k, slopes: score - slopes[n] * abs(q + 2 - k),
  ),
  'alibi of a batch': (
    (numbers(N),),
    lambda slopes: mods.alibi(slopes, offset=BATCH_OFFSETS),
    lambda score, b, n, q, k, slopes: (
      score - slopes[n] * abs(q + BATCH_OFFSETS[b] - k)
    ),
  ),
  'soft cap': (
    (),
    lambda: mods.soft_cap(0.7),
    lambda score, b, n, q, k: 0.7 * math.tanh(score / 0.7),
  ),
  'soft cap of one array': (
    (numbers(),),
    mods.soft_cap,
    lambda score, b, n, q, k, cap: cap * math.tanh(score / cap),
  ),
  'soft cap of heads': (
    (numbers(N),),
    mods.soft_cap,
    lambda score, b, n, q, k, cap: cap[n] * math.tanh(score / cap[n]),
  ),
  'temperature': (
    (),
    lambda: mods.temperature(3),
    lambda score, b, n, q, k: score / 3,
  ),
  'temperature of heads': (
    (numbers(N),),
    mods.temperature,
    lambda score, b, n, q, k, value: score / value[n],
  ),
  'decay': (
    (),
    lambda: mods.distance_decay(0.25),
    lambda score, b, n, q, k: score - abs(q - k) * math.log(4),
  ),
  'decay of heads': (
    (numbers(N),),
    lambda rate: mods.distance_decay(rate, offset=1),
    lambda score, b, n, q, k, rate: score + abs(q + 1 - k) * math.log(rate[n]),
  ),
  'relative bias': (
    (table_of(),),
    mods.relative_bias,
    lambda score, b, n, q, k, table: score + table[bucket(k - q), n],
  ),
  'relative bias of the past': (
    (table_of(),),
    lambda table: mods.relative_bias(
      table, bidirectional=False, max_distance=5, offset=3
    ),
    lambda score, b, n, q, k, table: (
      score + table[bucket(k - q - 3, bidirectional=False, max_distance=5), n]
    ),
  ),
  'composed': (
    (numbers(N), table_of()),
    lambda caps, table: mods.compose(
      mods.soft_cap(caps),
      lambda score, b, n, q, k: score * (b + 1).astype(score.dtype),
      mods.relative_bias(table, max_distance=9),
      mods.temperature(0.5),
    ),
    lambda score, b, n, q, k, caps, table: (
      (
        caps[n] * math.tanh(score / caps[n]) * (b + 1)
        + table[bucket(k - q, max_distance=9), n]
      )
      / 0.5
    ),
  ),
}


def loss(context):
  """A number in which every entry counts."""
  waves = np.cos(np.arange(context.size)).reshape(context.shape)
  return (context * waves).sum()
