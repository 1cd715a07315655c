"""Figures: what is drawn where, and files that appear whole or not at all."""

import pathlib
import tempfile
from unittest import mock

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from absl.testing import absltest, parameterized
from matplotlib import colors, image
from matplotlib.figure import Figure

from attn.training import figures
from attn.training.artifacts import replace_file, word_starts

L, N, T = 2, 3, 7
TEXT = 'Al, Bo.'
# Letters that a font lacks, half a pair, formulas, control characters.
NASTY = '日本 $x$ \t<b>&"\x00\ud800\U0001f600é\nאב\r$\\frac'
DARKEST, AMBER = '#0c2b4a', '#f2a33a'


def losses(split, values, **others):
  return [
    {'step': 10 * i, 'seconds': 1.0, 'split': split, 'loss': value, **others}
    for i, value in enumerate(values)
  ]


def identity(length=T):
  """Everyone looks at themselves."""
  return np.broadcast_to(np.eye(length), (L, N, length, length)).copy()


class FiguresTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'picture.png'

  def read(self):
    """float[height, width, 3], of what was drawn."""
    return image.imread(self.path)[..., :3]

  def where(self, color, picture=None):
    """Rows and columns of the pixels of a colour."""
    picture = self.read() if picture is None else picture
    return np.nonzero(near(picture, color))


def near(picture, color):
  return np.abs(picture - colors.to_rgb(color)).max(-1) < 0.02


class LossCurveTest(FiguresTest):
  def draw(self, floor, *histories):
    history = [line for lines in histories for line in lines]
    figures.draw_loss_curve(self.path, history, floor)

  def level(self, color):
    """The height of a flat line, in pixels from above."""
    rows, columns = self.where(color)
    # Left of the legend.
    return np.median(rows[columns < 0.5 * self.read().shape[1]])

  def test_lines_stand_at_the_logarithm_of_their_value(self):
    train, validation = (
      losses('train', [4.0] * 5),
      losses('validation', [2.0] * 5),
    )
    self.draw(1.0, train, validation)
    self.assertGreater(self.read().std(), 0.02)
    heights = [
      self.level(color)
      for color in (figures.LIGHT_BLUE, figures.BLUE, figures.GREEN)
    ]
    steps = np.diff(heights)
    self.assertGreater(steps.min(), 100)
    # From 4 to 2 is as far as from 2 to 1.
    self.assertAlmostEqual(steps[0], steps[1], delta=4)

  def test_a_lower_floor_is_drawn_lower_and_no_floor_not_at_all(self):
    lines = losses('validation', [4.0, 2.0]), losses('train', [8.0, 1.0])
    heights = []
    for floor in (3.0, 1.5):
      self.draw(floor, *lines)
      heights.append(self.level(figures.GREEN))
    self.assertGreater(heights[1], heights[0] + 50)
    self.draw(None, *lines)
    self.assertEmpty(self.where(figures.GREEN)[0])

  def test_far_facts_get_a_panel_of_their_own(self):
    self.draw(None, losses('validation', [4.0, 2.0]))
    height = self.read().shape[0]
    self.assertEmpty(self.where(figures.ORANGE)[0])
    lines = losses('validation', [4.0, 2.0], far_fact_accuracy=1.0)
    lines[1]['far_fact_accuracy'] = 0.0
    self.draw(None, lines)
    self.assertGreater(self.read().shape[0], height)
    rows, columns = self.where(figures.ORANGE)
    rows, columns = rows[rows > 0.8 * height], columns[rows > 0.8 * height]
    left, right = rows[columns < 400].mean(), rows[columns > 900].mean()
    self.assertGreater(right, left + 50)

  def test_what_is_not_finite_leaves_a_gap(self):
    self.draw(None, losses('validation', [2.0, 2.0, np.nan, 2.0, 2.0]))
    columns = np.unique(self.where(figures.BLUE)[1])
    # Of four steps, two lack a line.
    gap = np.diff(columns[columns < 1150]).max()
    self.assertBetween(gap, 400, 600)

  @parameterized.parameters(
    ([], None),
    ([2.0], None),
    ([0.0, 1.0], 0.0),
    ([np.inf], 1.0),
    ([2.0] * 2, 2),
  )
  def test_draws_any_history(self, values, floor):
    self.draw(floor, losses('train', values), losses('validation', values))
    self.assertEqual(self.read().shape, (600, 1200, 3))
    self.assertEqual(len(self.where(figures.GREEN)[0]) > 0, floor is not None)


class AttentionMapsTest(FiguresTest):
  @parameterized.parameters(
    (layer, head) for layer in range(L) for head in range(N)
  )
  def test_a_row_is_who_looks_and_a_column_at_whom(self, layer, head):
    weights = identity()
    figures.draw_attention_maps(self.path, TEXT, weights, [])
    before = self.read()
    weights[layer, head, 5, 5], weights[layer, head, 5, 1] = 0, 1
    figures.draw_attention_maps(self.path, TEXT, weights, [])
    after = self.read()
    left, gained = self.cell(near(before, DARKEST) & ~near(after, DARKEST))
    self.assertEqual(left, (layer, head, 5, 5))
    left, gained = self.cell(near(after, DARKEST) & ~near(before, DARKEST))
    self.assertEqual(left, (layer, head, 5, 1))
    self.assertEqual(gained, 14 * 14)

  def cell(self, pixels):
    """Whose cell the pixels are, and how many; found by the blank futures."""
    blank = near(self.read(), figures.PALE)
    # The first row of every matrix is blank from its second column on.
    tops = np.flatnonzero(np.diff(blank.sum(1), prepend=0) > N * 5 * 14)
    ends = np.flatnonzero(np.diff(blank.sum(0), append=0) < -L * 5 * 14)
    self.assertLen(tops, L)
    self.assertLen(ends, N)
    rows, columns = np.nonzero(pixels)
    row, column = rows.mean(), columns.mean()
    layer, head = (tops < row).sum() - 1, (ends < column).sum()
    t = (row - tops[layer]) // 14
    s = T - 1 - (ends[head] - column) // 14
    return (layer, head, t, s), len(rows)

  def test_larger_weights_are_darker_and_the_future_is_left_out(self):
    weights = np.zeros((1, 1, 3, 3))
    weights[0, 0, 2] = 0.1, 0.3, 0.6
    weights[0, 0, :2] = [1, 0, 0], [0.5, 0.5, 0]
    figures.draw_attention_maps(self.path, 'abc', weights, [])
    blank = near(self.read(), figures.PALE)
    # Two rows have a future, and two columns a past that cannot see them.
    bottom = np.flatnonzero(blank.sum(1) >= 14).max() + 14 // 2
    right = np.flatnonzero(blank.sum(0) >= 14).max()
    middles = right - 14 // 2 - 14 * np.array([2, 1, 0])
    brightness = self.read()[bottom, middles].sum(-1)
    self.assertTrue((np.diff(brightness) < -0.2).all(), brightness)
    drawn = self.read()
    weights[0, 0, 0, 1:] = 0.7
    figures.draw_attention_maps(self.path, 'abc', weights, [])
    np.testing.assert_array_equal(self.read(), drawn)

  def test_marks_frame_their_rows(self):
    figures.draw_attention_maps(self.path, TEXT, identity(), [])
    self.assertEmpty(self.where(figures.ORANGE)[0])
    for t in (1, 5):
      figures.draw_attention_maps(self.path, TEXT, identity()[:1, :1], [t])
      picture = self.read()
      blank = near(picture, figures.PALE)
      top = np.flatnonzero(blank.sum(1) > 5 * 14).min()
      orange = picture[..., 0] - picture[..., 2] > 0.15
      # As long as the past of t, and around its row.
      lines = np.flatnonzero(orange.sum(1) > 0.9 * 14 * (t + 1)) - top
      self.assertAlmostEqual(lines.min(), 14 * t, delta=1)
      self.assertAlmostEqual(lines.max(), 14 * (t + 1), delta=1)
      self.assertLessEqual(orange.sum(1).max(), 14 * (t + 1) + 24)

  def test_characters_of_a_long_story_have_room(self):
    length = 140
    weights = np.tril(np.full((1, 8, length, length), 1 / length))
    figures.draw_attention_maps(self.path, 'Al, Bo.' * 20, weights, [3])
    height, width, _ = self.read().shape
    self.assertBetween(width, 8 * 7 * length, 8 * 14 * length)
    self.assertBetween(height, 7 * length, 14 * length + 500)
    self.assertLess(self.path.stat().st_size, 2_000_000)

  def test_a_huge_grid_stays_a_picture_that_opens(self):
    length = 600
    weights = np.zeros((2, 8, length, length), np.float32)
    figures.draw_attention_maps(self.path, 'x' * length, weights, [0])
    self.assertLess(self.read()[..., 0].size, 4e7)


class GazeTest(FiguresTest):
  def strongest(self, weights, query, text=TEXT):
    """Where the strongest tint of the story is, apart from the scale."""
    figures.draw_gaze(self.path, text, weights, query, 'She')
    rows, columns = self.where(AMBER)
    inside = rows > 80
    return rows[inside].mean(), columns[inside].mean()

  def test_tints_whom_the_query_looks_at(self):
    places = {}
    for layer, head, s in ((0, 0, 0), (0, 0, 4), (0, 1, 4), (1, 0, 4)):
      weights = np.zeros((2, 2, T, T))
      weights[layer, head, 5, s] = 1
      weights[:, :, 4, 1] = 1  # Another row, which is not asked for.
      places[layer, head, s] = self.strongest(weights, 5)
    first, fourth = places[0, 0, 0], places[0, 0, 4]
    self.assertAlmostEqual(fourth[1] - first[1], 4 * 2 * 6.6, delta=2)
    self.assertAlmostEqual(fourth[0], first[0], delta=2)
    rows = [places[0, 0, 4], places[0, 1, 4], places[1, 0, 4]]
    rows = [row for row, _ in rows]
    self.assertAlmostEqual(rows[1] - rows[0], (rows[2] - rows[0]) / 2, delta=2)
    self.assertGreater(rows[1] - rows[0], 40)

  def test_a_long_story_wraps(self):
    text = 'Mia hugs a cup. ' * 10
    places = []
    for s in (0, 150):
      weights = np.zeros((1, 1, len(text), len(text)))
      weights[0, 0, -1, s] = 1
      places.append(self.strongest(weights, len(text) - 1, text))
    self.assertAlmostEqual(places[1][0] - places[0][0], 2 * 2 * 16, delta=2)
    self.assertBetween(self.read().shape[1], 900, 1300)

  def test_a_word_stays_in_one_piece(self):
    text = 'ab ' * 21 + 'wonderful'
    rows = []
    for s in (0, 63, 71):
      weights = np.zeros((1, 1, len(text), len(text)))
      weights[0, 0, -1, s] = 1
      rows.append(self.strongest(weights, len(text) - 1, text)[0])
    self.assertAlmostEqual(rows[1], rows[2], delta=2)
    self.assertAlmostEqual(rows[1] - rows[0], 2 * 16, delta=2)

  def test_the_answer_stands_behind_the_query(self):
    weights = identity()
    figures.draw_gaze(self.path, TEXT, weights, 2, '')
    self.assertEmpty(self.where(figures.ORANGE)[0])
    figures.draw_gaze(self.path, TEXT, weights, 2, 'She')
    near_query = self.where(figures.ORANGE)[1].min()
    figures.draw_gaze(self.path, TEXT, weights, 5, 'She')
    far_query = self.where(figures.ORANGE)[1].min()
    self.assertAlmostEqual(far_query - near_query, 3 * 2 * 6.6, delta=2)


class EveryFigureTest(FiguresTest):
  @parameterized.parameters(
    ((L, N, T, T + 1),), ((L, N, T + 1, T),), ((N, T, T),), ((L, N, 0, T),)
  )
  def test_refuses_weights_of_another_shape(self, shape):
    message = (
      rf'weights: got shape \({shape[0]}, .*wanted \[layers, heads, 7, 7'
    )
    with self.assertRaisesRegex(ValueError, message):
      figures.draw_attention_maps(self.path, TEXT, np.zeros(shape), [])
    with self.assertRaisesRegex(ValueError, message):
      figures.draw_gaze(self.path, TEXT, np.zeros(shape), 0, '')
    self.assertFalse(self.path.exists())

  def test_refuses_no_layers(self):
    with self.assertRaisesRegex(ValueError, 'weights: .* at least one layer'):
      figures.draw_gaze(self.path, TEXT, np.zeros((0, N, T, T)), 0, '')

  @parameterized.parameters(-1, T)
  def test_refuses_positions_outside_the_text(self, position):
    message = f'got {position}, wanted a position from 0 to 6'
    with self.assertRaisesRegex(ValueError, f'marked: {message}'):
      figures.draw_attention_maps(self.path, TEXT, identity(), [0, position])
    with self.assertRaisesRegex(ValueError, f'query: {message}'):
      figures.draw_gaze(self.path, TEXT, identity(), position, '')

  def test_any_character_is_drawn_without_a_warning(self):
    length = len(NASTY)
    weights = np.broadcast_to(np.eye(length), (1, 1, length, length))
    figures.draw_attention_maps(self.path, NASTY, weights, range(length))
    for query in (0, length - 1):
      figures.draw_gaze(self.path, NASTY, weights, query, NASTY)
    # As a formula it would be refused.
    figures.draw_gaze(self.path, NASTY, weights, 0, r'$\frac$')

  def all_figures(self):
    history = losses('train', [2.0, 1.0])
    return (
      lambda: figures.draw_loss_curve(self.path, history, 1.0),
      lambda: figures.draw_attention_maps(self.path, TEXT, identity(), [1]),
      lambda: figures.draw_gaze(self.path, TEXT, identity(), 3, 'She'),
    )

  def test_leaves_no_trace_in_pyplot(self):
    before = dict(matplotlib.rcParams)
    for draw in self.all_figures():
      draw()
    self.assertEmpty(plt.get_fignums())
    self.assertEqual(dict(matplotlib.rcParams), before)

  def test_an_error_while_drawing_leaves_the_old_file(self):
    self.path.write_bytes(b'old')

    def fail(figure, target, **_):
      if isinstance(target, (str, pathlib.Path)):
        pathlib.Path(target).write_bytes(b'half')
      raise RuntimeError('no ink')

    for draw in self.all_figures():
      with (
        mock.patch.object(Figure, 'savefig', fail),
        self.assertRaisesRegex(RuntimeError, 'no ink'),
      ):
        draw()
    self.assertEqual(self.path.read_bytes(), b'old')
    self.assertEqual(list(self.path.parent.iterdir()), [self.path])


class ReplaceFileTest(FiguresTest):
  def test_a_full_disk_leaves_the_old_file_and_no_other(self):
    replace_file(self.path, b'old')
    write = pathlib.Path.write_bytes

    def fail(path, data):
      write(path, data[:3])
      raise OSError('disk full')

    with (
      mock.patch.object(pathlib.Path, 'write_bytes', fail),
      self.assertRaisesRegex(OSError, 'disk full'),
    ):
      replace_file(self.path, b'newer')
    fail = mock.patch('os.replace', side_effect=OSError('no right'))
    with fail, self.assertRaisesRegex(OSError, 'no right'):
      replace_file(self.path, b'newer')
    self.assertEqual(self.path.read_bytes(), b'old')
    self.assertEqual(list(self.path.parent.iterdir()), [self.path])
    replace_file(self.path, b'newer')
    self.assertEqual(self.path.read_bytes(), b'newer')
    self.assertEqual(list(self.path.parent.iterdir()), [self.path])

  def test_words_of_any_language(self):
    self.assertEqual(word_starts('Où, 日本?\n'), [0, 2, 3, 4, 6, 7])
    self.assertEqual(word_starts(''), [])


if __name__ == '__main__':
  absltest.main()
