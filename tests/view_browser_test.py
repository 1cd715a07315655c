"""The page of heads: what a real browser makes of it."""

import numpy as np
import pytest

from tests.browsing import (
  choose,
  in_browser,
  point,
  reading,
  selected,
  settle,
  tints,
)
from tests.view_cases import T, calls_and_weights, write


def strengths(weights):
  """The opacities of tints that stand for weights."""
  return np.sqrt(np.float64(weights).clip(0, 1))


@in_browser
# One of each rule that the script knows.
@pytest.mark.parametrize(
  'name',
  ['softmax', 'dilated', 'additive', 'sigmoid', 'difference', 'linear'],
)
def test_the_browser_computes_the_rows_of_the_model(visit, name):
  _, (weights,) = calls_and_weights(name)
  page = visit(write, name=name)
  for head, t in ((0, T - 1), (len(weights) - 1, 7)):
    choose(page, 1, head + 1)
    point(page, t)
    assert selected(page) == [t]
    assert f'layer 1 head {head + 1}' in reading(page)
    expected = strengths(weights[head, t])
    np.testing.assert_allclose(tints(page), expected, 0, 0.006)
  numbers = page.evaluate(
    'Array.from({length: 3}, (_, t) => Array.from(computeRows(data)(0, 1, t)))'
  )
  np.testing.assert_allclose(numbers, weights[1, :3], rtol=0, atol=3e-4)


@in_browser
def test_maps_and_strips_show_every_head_at_a_glance(visit):
  _, weights = calls_and_weights('softmax', num_layers=2)
  page = visit(write, num_layers=2)
  point(page, 9)
  assert page.locator('.mini').count() == weights[..., 0, 0].size
  pixels = page.eval_on_selector_all(
    '.mini canvas',
    """canvases => canvases.map((canvas) => Array.from(canvas.getContext('2d')
      .getImageData(0, 0, canvas.width, canvas.height).data)
      .filter((_, i) => i % 4 === 3))""",
  )
  heads = weights.reshape(-1, T, T)
  # As many parts as tokens: a map is the weights themselves.
  for i, head in enumerate(heads):
    found = np.array(pixels[2 * i]).reshape(T, T) / 255
    np.testing.assert_allclose(found, strengths(head), rtol=0, atol=0.006)
    strip = np.array(pixels[2 * i + 1]) / 255
    np.testing.assert_allclose(strip, strengths(head[9]), rtol=0, atol=0.006)
  notes = page.locator('.mini .note').all_inner_texts()
  first = heads[:, 1:, 0].mean(1)
  sink = 1 - heads.sum(2).mean(1)
  for note, one, none in zip(notes, first, sink):
    assert f'first token {100 * one:.0f}%' in note, note
    assert f'sink {100 * none:.0f}%' in note, note
  page.click('.mini:nth-child(8)')
  settle(page)
  assert 'layer 2 head 2' in reading(page)
  expected = strengths(weights[1, 1, 9])
  np.testing.assert_allclose(tints(page), expected, 0, 0.006)


@in_browser
@pytest.mark.parametrize(('width', 'scheme'), [(1280, 'light'), (390, 'dark')])
def test_fits_desk_and_phone(visit, width, scheme):
  page = visit(write, width=width, scheme=scheme)
  assert page.evaluate('document.documentElement.scrollWidth') <= width
  assert page.is_visible('#gaze')
  assert not page.is_visible('#next-mark')
  assert ', before' in reading(page) or selected(page) == [T - 1]
