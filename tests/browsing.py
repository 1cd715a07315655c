"""What tests do with a page in a real browser; fixtures are in conftest."""

import re
import shutil

import numpy as np
import pytest

CHROMIUM = shutil.which('chromium')
in_browser = pytest.mark.skipif(
  CHROMIUM is None, reason='no chromium on the PATH: apt install chromium'
)


def settle(page):
  """Waits for what is shown at most once a frame."""
  page.evaluate(
    'new Promise((done) => requestAnimationFrame(() => '
    'requestAnimationFrame(done)))'
  )


def place(page, t):
  """Where a character is on the screen."""
  cell = page.locator(f'#character-{t}')
  cell.scroll_into_view_if_needed()
  box = cell.bounding_box()
  return box['x'] + box['width'] / 2, box['y'] + box['height'] / 2


def point(page, t):
  """Moves the mouse onto a character."""
  x, y = place(page, t)
  page.mouse.move(x, y)
  settle(page)
  return x, y


def choose(page, layer, head):
  page.select_option('#layer', label=str(layer))
  page.select_option('#head', label=str(head))
  settle(page)


def tints(page, box='#story'):
  """The opacity of the tint behind every character."""
  colors = page.eval_on_selector_all(
    f'{box} .cell',
    'cells => cells.map(cell => getComputedStyle(cell).backgroundColor)',
  )
  # rgb(r, g, b) where it is whole, rgba(r, g, b, a) where it is not.
  numbers = [re.findall(r'[\d.]+', color) for color in colors]
  return np.array([float(number[3]) if number[3:] else 1 for number in numbers])


def selected(page):
  marked = page.eval_on_selector_all(
    '#story .looks', 'cells => cells.map(cell => +cell.dataset.t)'
  )
  chosen = page.get_attribute('#story', 'aria-activedescendant')
  assert page.get_attribute(f'#{chosen}', 'aria-selected') == 'true'
  assert int(chosen.removeprefix('character-')) in marked
  return marked


def reading(page):
  return page.inner_text('#reading').replace('\n', ' ')
