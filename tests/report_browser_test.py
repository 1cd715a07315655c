"""The report: what a real browser makes of it."""

import re

import numpy as np
import pytest
from matplotlib import image

from attn.training.artifacts import word_starts
from tests.browsing import (
  choose,
  in_browser,
  place,
  point,
  reading,
  selected,
  settle,
  tints,
)
from tests.report_cases import (
  ALIGNMENT,
  HISTORY,
  MARKED,
  NASTY,
  TEXT,
  WEIGHTS,
  L,
  N,
  visible,
  write_nasty,
)


def gaze(layer, head, t):
  """The weights of a row as the file keeps them."""
  return np.rint(255 * WEIGHTS[layer - 1, head - 1, t]) / 255


def words():
  starts = word_starts(TEXT)
  return list(zip(starts, [*starts[1:], len(TEXT)]))


@in_browser
@pytest.mark.parametrize(('layer', 'head', 't'), [(2, 1, 70), (1, 3, 24)])
def test_pointing_shows_whom_a_head_looks_at(visit, layer, head, t):
  page = visit()
  choose(page, layer, head)
  point(page, t)
  expected, actual = gaze(layer, head, t), tints(page)
  np.testing.assert_array_equal(
    actual == actual.max(), expected == expected.max()
  )
  assert (actual[t + 1 :] == 0).all()
  np.testing.assert_allclose(actual, np.sqrt(expected), 0, 0.006)
  assert selected(page) == [t]
  assert f'layer {layer} head {head}' in reading(page)
  assert f'says {visible(TEXT[t + 1])}.' in reading(page)
  sums = {(a, b): expected[a:b].sum() for a, b in words()}
  top = max(sums, key=sums.get)
  told = f'looks at {visible(TEXT[slice(*top)])} {sums[top]:.0%}'
  assert told in reading(page)
  listed = [
    float(s[:-1]) for s in page.locator('#top .share').all_inner_texts()
  ]
  largest = sorted(sums.values(), reverse=True)[: len(listed)]
  np.testing.assert_allclose(listed, 100 * np.array(largest), 0, 0.51)


@in_browser
def test_every_head_has_a_story_of_its_own_that_chooses_it(visit):
  page = visit()
  t = 50
  point(page, t)
  for i, (layer, head) in enumerate(np.ndindex(L, N), 1):
    mini = f'.mini:nth-child({i})'
    expected = np.sqrt(gaze(layer + 1, head + 1, t))
    np.testing.assert_allclose(tints(page, mini), expected, 0, 0.006)
    page.click(mini)
    settle(page)
    np.testing.assert_allclose(tints(page), expected, 0, 0.006)
    assert f'layer {layer + 1} head {head + 1}' in reading(page)
    assert page.input_value('#head') == str(head)
    assert page.get_attribute(mini, 'aria-pressed') == 'true'
  assert page.locator('.mini[aria-pressed=true]').count() == 1


@in_browser
def test_words_look_at_words(visit):
  page = visit()
  choose(page, 2, 3)
  page.click('#by-word')
  t = TEXT.index('waits') + 2
  point(page, t)
  a, b = t - 2, t + 3
  assert selected(page) == list(range(a, b))
  rows = np.mean([gaze(2, 3, row) for row in range(a, b)], 0)
  expected = np.zeros(len(TEXT))
  for start, end in words():
    expected[start:end] = rows[start:end].sum()
  np.testing.assert_allclose(tints(page), np.sqrt(expected), 0, 0.006)
  assert 'waits' in reading(page)
  page.click('#by-character')
  settle(page)
  assert selected(page) == [t]


@in_browser
def test_arrow_keys_move(visit):
  page = visit()
  page.focus('#story')

  def press(key):
    page.keyboard.press(key)
    settle(page)

  press('Home')
  press('ArrowLeft')
  assert selected(page) == [0]
  press('ArrowRight')
  press('ArrowRight')
  press('ArrowRight')
  press('ArrowLeft')
  assert selected(page) == [2]
  np.testing.assert_array_equal(tints(page)[3:], 0)
  upper = page.locator('#character-2').bounding_box()
  press('ArrowDown')
  (below,) = selected(page)
  lower = page.locator(f'#character-{below}').bounding_box()
  assert 20 < lower['y'] - upper['y'] < 60
  assert abs(lower['x'] - upper['x']) < upper['width']
  press('ArrowUp')
  (above,) = selected(page)
  assert abs(above - 2) <= 1
  press('End')
  assert selected(page) == [len(TEXT) - 1]
  page.click('#by-word')
  page.focus('#story')
  press('ArrowLeft')
  a = TEXT.rindex('Dan')
  assert selected(page) == [a, a + 1, a + 2]


@in_browser
def test_a_click_holds_and_another_lets_go(visit):
  page = visit()
  x, y = point(page, 30)
  page.mouse.click(x, y)
  point(page, 60)
  assert selected(page) == [30]
  page.mouse.click(*point(page, 30))
  point(page, 60)
  assert selected(page) == [60]
  page.mouse.click(*point(page, 10))
  page.keyboard.press('Escape')
  point(page, 30)
  assert selected(page) == [30]


@in_browser
def test_far_facts_are_underlined_and_visited(visit):
  page = visit()
  underlined = page.eval_on_selector_all(
    '#story .cell',
    'cells => cells.filter(cell => getComputedStyle(cell).textDecorationLine '
    "=== 'underline').map(cell => +cell.dataset.t)",
  )
  assert underlined == MARKED
  assert selected(page) == MARKED[:1]
  for expected in (MARKED[1], MARKED[0]):
    page.click('#next-mark')
    settle(page)
    assert selected(page) == [expected]
  page = visit(marked=[])
  assert not page.is_visible('#next-mark')


@in_browser
def test_the_curve_tells_its_values(visit):
  page = visit()
  ends = 'train 0.500|train 1.500', 'validation 1.000', 'floor 0.700'
  assert re.search(ends[0], page.inner_text('#readout'))
  assert all(end in page.inner_text('#readout') for end in ends[1:])
  for i, told in ((1, 'step 100 · 30 s'), (2, 'step 200 · 40 s')):
    dot = page.locator('#chart circle.validation').nth(i).bounding_box()
    page.mouse.move(dot['x'] + dot['width'] / 2 + 9, dot['y'] + 40)
    readout = page.inner_text('#readout')
    for part in (
      *(told, f'train {4.5 - i:.3f}', f'validation {4 - i:.3f}'),
      *('floor 0.700', f'far facts known {i / 3:.1%}'),
    ):
      assert part in readout
  # Half the way from 4 to 1 on the logarithmic axis is 2.
  heights = page.eval_on_selector_all(
    '#chart circle.validation', 'dots => dots.map(dot => dot.cy.baseVal.value)'
  )
  four, _, two, one, *_ = heights
  assert abs(two - (four + one) / 2) < 0.5 < one - two
  floor = float(page.locator('#chart line.floor').get_attribute('y1'))
  expected = one + (one - four) * np.log(1 / 0.7) / np.log(4)
  assert abs(floor - expected) < 0.5
  page.focus('#chart')
  page.mouse.move(0, 0)
  page.keyboard.press('ArrowLeft')
  assert 'step 300' in page.inner_text('#readout')
  page.keyboard.press('ArrowRight')
  assert 'step 300' in page.inner_text('#readout')
  page.keyboard.press('ArrowLeft')
  assert 'step 200' in page.inner_text('#readout')
  page = visit(floor=None)
  assert page.locator('#chart line.floor').count() == 0
  assert 'floor' not in page.inner_text('#readout')


@in_browser
def test_what_else_was_measured_is_drawn_small(visit):
  history = [
    {'split': 'train', 'step': step, 'loss': 1.0, 'learning_rate': step / 1e5}
    for step in (100, 200, 300)
  ]
  history[1]['gradient_norm'] = 0.25
  history += [
    {
      'split': 'validation',
      'step': step,
      'loss': 1.0,
      'attention_entropy/layer_1/head_1': 2.0 - step / 300,
      'attention_entropy/layer_1/head_2': float('nan') if step == 200 else 1.0,
    }
    for step in (100, 200, 300)
  ]
  page = visit(history=history)
  assert page.locator('#courses figure').count() == 3
  words = page.locator('#courses').inner_text()
  assert '0.001 to 0.003' in words
  assert '0.25 to 0.25' in words
  assert '1 to 1.67' in words
  paths = page.eval_on_selector_all(
    '#courses path',
    'paths => paths.map(path => [path.textContent, path.getAttribute("d")])',
  )
  assert [name for name, _ in paths] == [
    'learning rate',
    'norm of the gradient',
    'layer 1, head 1',
    'layer 1, head 2',
  ]
  # From the lower left to the upper right, in a straight line.
  found = re.findall(r'[ML]([\d.]+) ([\d.]+)', paths[0][1])
  xs, ys = zip(*((float(x), float(y)) for x, y in found))
  assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
  assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2])
  assert ys[0] > ys[2]
  # What is not finite leaves a gap.
  assert paths[3][1].count('M') == 2
  assert not visit().is_visible('#courses')


@in_browser
def test_nasty_text_is_only_text(visit):
  page = visit(write_nasty)
  cells = page.locator('#story .cell').all_text_contents()
  assert cells == [c if c == ' ' else visible(c) for c in NASTY]
  assert page.evaluate('typeof hacked') == 'undefined'
  seen = NASTY.replace('\r', '␍').replace('\x00', '␀')
  assert page.text_content('blockquote') == seen
  assert page.text_content('h1') == seen


@in_browser
@pytest.mark.parametrize(
  'changes',
  [
    {'weights': np.zeros((0, 0, len(TEXT), len(TEXT)))},
    {'text': '', 'weights': np.zeros((L, N, 0, 0)), 'marked': []},
    {'history': [], 'floor': None},
    {'history': HISTORY[:1], 'samples': [], 'floor': 0.0},
    {'text': 'a', 'weights': np.ones((1, 1, 1, 1)), 'marked': [0]},
  ],
)
def test_what_is_not_there_is_not_shown(visit, changes):
  page = visit(**changes)
  weights = changes.get('weights', WEIGHTS)
  assert page.is_visible('#gaze') == (weights.size > 0)
  assert page.is_visible('#samples') == (changes.get('samples') != [])
  assert page.is_visible('#chart')


@in_browser
def test_a_translation_is_a_matrix_with_words_on_both_sides(visit):
  page = visit(alignments=[ALIGNMENT, ALIGNMENT._replace(gold=None)])
  tables = page.locator('#alignments table')
  assert tables.count() == 2
  first = tables.first
  assert first.locator('thead th').all_inner_texts() == [*ALIGNMENT.source]
  assert first.locator('tbody th').all_inner_texts() == [*ALIGNMENT.target]
  shown = first.locator('tbody td').evaluate_all(
    "cells => cells.map(cell => +cell.style.getPropertyValue('--share'))"
  )
  expected = ALIGNMENT.weights.reshape(-1)
  np.testing.assert_allclose(shown, expected, atol=1 / 255)
  gold = first.locator('tbody td').evaluate_all(
    "cells => cells.map(cell => cell.className === 'gold')"
  )
  framed = {divmod(i, 4)[::-1] for i, is_gold in enumerate(gold) if is_gold}
  assert framed == ALIGNMENT.gold
  assert tables.nth(1).locator('.gold').count() == 0
  # The darker, the more.
  strong, weak = (first.locator('tbody td').nth(i) for i in (0, 1))
  alphas = [
    float(
      re.findall(
        r'[\d.]+',
        cell.evaluate('cell => getComputedStyle(cell).backgroundColor'),
      )[-1]
    )
    for cell in (strong, weak)
  ]
  assert alphas[0] > 0.85 > 0.2 > alphas[1]
  assert first.locator('td[title]').nth(5).get_attribute('title') == (
    'calls looks at ruft: 50%'
  )
  assert not visit().is_visible('#alignments')


@in_browser
@pytest.mark.parametrize(
  ('width', 'scheme'), [(1280, 'light'), (1280, 'dark'), (390, 'dark')]
)
def test_fits_desk_and_phone_by_day_and_night(visit, tmp_path, width, scheme):
  page = visit(width=width, scheme=scheme)
  assert page.evaluate('document.documentElement.scrollWidth') <= width
  path = tmp_path / 'report.png'
  page.screenshot(path=path, full_page=True)
  picture = image.imread(path)[..., :3]
  assert picture.shape[1] == width
  assert (np.median(picture) > 0.8) == (scheme == 'light')
  # Words stand out from the page, by day and by night.
  assert np.ptp(picture) > 0.75


@in_browser
def test_a_finger_chooses_as_well(visit):
  page = visit(width=390)
  session = page.context.new_cdp_session(page)
  for t in (90, 30):
    x, y = place(page, t)
    for kind, points in (('touchStart', [{'x': x, 'y': y}]), ('touchEnd', [])):
      session.send(
        'Input.dispatchTouchEvent', {'type': kind, 'touchPoints': points}
      )
    settle(page)
    assert selected(page) == [t]
