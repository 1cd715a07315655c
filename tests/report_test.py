"""The report: what its file holds."""

import base64
import html.parser
import json
import pathlib
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from tests.report_cases import (
  ALIGNMENT,
  NASTY,
  TEXT,
  WEIGHTS,
  L,
  N,
  write,
  write_nasty,
)


class Page(html.parser.HTMLParser):
  """The elements of a page: tag, attributes and the text directly within."""

  def __init__(self, path):
    super().__init__()
    self.source = path.read_text()
    self.elements, self._open = [], []
    self.feed(self.source)

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs), []))
    self._open.append(self.elements[-1])

  def handle_endtag(self, tag):
    while self._open.pop()[0] != tag:
      pass

  def handle_data(self, data):
    if self._open:
      self._open[-1][2].append(data)

  def texts(self, tag):
    return [''.join(text) for name, _, text in self.elements if name == tag]

  @property
  def data(self):
    return json.loads(self.texts('script')[0])


class FileTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'report.html'

  def test_asks_nobody_for_anything(self):
    page = Page(write(self.path))
    self.assertNotRegex(
      page.source, r'(?i)https?:|@import|url\(|fetch|import\('
    )
    for tag, attributes, _ in page.elements:
      self.assertNotIn('src', attributes)
      self.assertNotIn('style', attributes)
      if 'href' in attributes:
        self.assertEqual((tag, attributes['href']), ('link', 'data:,'))
    policy = page.elements[3][1]['content']
    self.assertStartsWith(policy, "default-src 'none'; img-src data:; ")
    self.assertNotIn('unsafe', policy)

  def test_any_text_comes_through(self):
    page = Page(write_nasty(self.path))
    seen = NASTY.replace('\r', '␍').replace('\x00', '␀')
    self.assertEqual(page.texts('title'), [seen])
    self.assertEqual(page.texts('h1'), [seen])
    self.assertEqual(page.texts('th'), [seen])
    self.assertEqual(page.texts('td'), [seen])
    self.assertEqual(page.texts('blockquote'), [seen])
    self.assertEqual(page.data['text'], list(NASTY))
    self.assertNotIn('<', page.texts('script')[0])
    # Data and script; none of the story's.
    self.assertLen(page.texts('script'), 2)

  def test_half_a_surrogate_pair_is_no_reason_to_fail(self):
    page = Page(write(self.path, title='a\ud800b'))
    self.assertEqual(page.texts('h1'), ['a\ufffdb'])

  @parameterized.parameters(np.float32, np.float64, np.float16)
  def test_weights_are_kept_to_a_256th(self, dtype):
    weights = WEIGHTS.astype(dtype)
    data = Page(write(self.path, weights=weights)).data
    flat = np.frombuffer(base64.b64decode(data['weights']), np.uint8) / 255
    self.assertEqual((data['layers'], data['heads']), (L, N))
    triangles = flat.reshape(L, N, -1)
    for layer, head in np.ndindex(L, N):
      rows, start = np.float64(weights[layer, head]), 0
      for t in range(len(TEXT)):
        row = triangles[layer, head, start : start + t + 1]
        np.testing.assert_allclose(row, rows[t, : t + 1], 0, 0.51 / 255)
        start += t + 1
      self.assertEqual(start, triangles.shape[-1])

  def test_what_is_no_weight_is_drawn_as_none(self):
    weights = np.array([[[[np.nan, 0], [1.002, -0.002]]]])
    data = Page(write(self.path, text='ab', weights=weights, marked=[])).data
    self.assertEqual(base64.b64decode(data['weights']), b'\x00\xff\x00')

  def test_a_large_model_fits_in_a_small_file(self):
    length = 140
    weights = np.random.default_rng(0).random((4, 8, length, length))
    text = 'x' * length
    history = [
      {'step': i, 'split': 'train', 'loss': 1 / 3, 'seconds': i / 3}
      for i in range(100_001)
    ]
    write(self.path, text=text, weights=weights, marked=[], history=history)
    self.assertLess(self.path.stat().st_size, 1_500_000)
    curve = Page(self.path).data['curves']['train']
    self.assertLessEqual(len(curve), 2000)
    self.assertEqual(curve[-1], [100_000, 0.333333])

  def test_tells_the_summary_as_one_reads_it(self):
    summary = {
      **{
        'steps': 1000,
        'tokens_per_second': 61234.5,
        'loss': np.float32(1 / 3),
      },
      **{'count': np.int64(1234567), 'name': 'tiny', 'tied': True},
    }
    page = Page(write(self.path, summary=summary))
    expected = ['1,000', '61,234', '0.3333', '1,234,567', 'tiny', 'True']
    self.assertEqual(page.texts('td'), expected)
    self.assertEqual(page.texts('th')[1], 'tokens per second')

  def test_what_is_not_finite_is_a_gap(self):
    line = {'step': 1, 'split': 'train', 'loss': float('nan')}
    data = Page(write(self.path, history=[line], floor=float('inf'))).data
    self.assertEqual(data['curves']['train'], [[1, None]])
    self.assertEqual(data['seconds'], {'1': None})
    self.assertIsNone(data['floor'])

  def test_refuses_what_does_not_fit_the_text(self):
    with self.assertRaisesRegex(ValueError, r'weights: got shape \(2, 3, 5, 5'):
      write(self.path, weights=WEIGHTS[..., :5, :5])
    message = f'marked: got {len(TEXT)}, wanted a position from 0 to'
    with self.assertRaisesRegex(ValueError, message):
      write(self.path, marked=[len(TEXT)])
    wrong = ALIGNMENT._replace(weights=np.zeros((4, 3)))
    with self.assertRaisesRegex(ValueError, r'alignments: got .* \(4, 3\)'):
      write(self.path, alignments=[wrong])
    self.assertFalse(self.path.exists())

  def test_an_error_leaves_the_old_file(self):
    self.path.write_text('old')
    with self.assertRaisesRegex(KeyError, 'split'):
      write(self.path, history=[{'step': 1}])
    fail = mock.patch('os.replace', side_effect=OSError('disk full'))
    with fail, self.assertRaisesRegex(OSError, 'disk full'):
      write(self.path)
    self.assertEqual(self.path.read_text(), 'old')
    self.assertEqual(list(self.path.parent.iterdir()), [self.path])


if __name__ == '__main__':
  absltest.main()
