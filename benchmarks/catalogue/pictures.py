"""Masks of tokens that lie in a plane, or are the nodes of a graph."""

import numpy as np

import attn
from attn import masks
from benchmarks.catalogue.entry import Size, entry


def _picture(size: Size) -> dict[str, int]:
  height, width = size.picture
  return {'height': height, 'width': width}


def _windows(size: Size) -> dict[str, int]:
  side = 8 if min(size.picture) >= 16 else min(size.picture) // 2 + 1
  return {**_picture(size), 'side': side}


def _edges(size: Size) -> dict[str, np.ndarray]:
  """A ring with a few shortcuts, both ways."""
  node = np.arange(size.length)
  edges = np.eye(size.length, dtype=bool)
  edges[node, (node + 1) % size.length] = True
  other = np.random.default_rng(0).permutation(size.length)
  edges[node, other] = True
  return {'edges': edges | edges.T}


@entry(
  '2-D neighbourhood',
  '|row(q) - row(k)| ≤ radius  and  |column(q) - column(k)| ≤ radius',
  ('Hassani et al., 2023 (NATTEN)', 'https://arxiv.org/abs/2204.07143'),
  given=lambda size: {**_picture(size), 'radius': max(size.picture[0] // 8, 1)},
)
def neighbourhood(query, key, value, height, width, radius):
  """Each pixel sees the pixels around it."""
  mask = masks.neighbourhood_2d(height, width, radius)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Axial',
  'row(q) = row(k)  or  column(q) = column(k)',
  ('Ho et al., 2019', 'https://arxiv.org/abs/1912.12180'),
  given=lambda size: {'width': size.picture[1]},
)
def axial(query, key, value, width):
  """Each pixel sees its row and its column."""
  mask = masks.chunked(width) | masks.dilated(width)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Windows (Swin)',
  'row(q) // side = row(k) // side  and the same of columns',
  ('Liu et al., 2021', 'https://arxiv.org/abs/2103.14030'),
  given=_windows,
)
def windows(query, key, value, height, width, side):
  """Each pixel sees those of its own window."""
  mask = masks.windows_2d(height, width, side)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Shifted windows (Swin)',
  '(row(q) - side // 2) // side = (row(k) - side // 2) // side\n'
  'and the same of columns',
  ('Liu et al., 2021', 'https://arxiv.org/abs/2103.14030'),
  given=_windows,
)
def shifted_windows(query, key, value, height, width, side):
  """Windows across the borders of the last layer's."""
  mask = masks.windows_2d(height, width, side, shift=side // 2)
  return attn.attention(query, key, value, mask=mask)


@entry(
  'Neighbours in a graph',
  'edges[q, k]',
  ('Veličković et al., 2018', 'https://arxiv.org/abs/1710.10903'),
  given=_edges,
  memory='T × S bits: the graph itself is handed over written out',
)
def graph_neighbours(query, key, value, edges):
  """Each node sees those it has an edge to."""
  mask = masks.dense(edges)
  return attn.attention(query, key, value, mask=mask)
