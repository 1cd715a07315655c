"""The benchmark of additive attention runs, and judges what it found."""

import contextlib
import io
import json
import pathlib
import tempfile

from absl.testing import absltest

from benchmarks import additive
from benchmarks.compare import Options
from benchmarks.results import Row


class QuickTest(absltest.TestCase):
  def test_tiny_sizes(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    out = pathlib.Path(folder) / 'additive.json'
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
      additive.benchmark(Options(rounds=3, budget=1.0, quick=True), out)
    self.assertIn('Tiny sizes: these figures mean nothing', printed.getvalue())
    found = json.loads(out.read_text())
    self.assertEqual(found['benchmark'], 'additive')
    self.assertEqual(list(found['cases']), ['short_512', 'long_4096'])
    for name, case in found['cases'].items():
      rows = [Row(**row) for row in case['rows']]
      self.assertLen(rows, 4, name)
      self.assertEqual(case['bars'], [])
      for row in rows:
        self.assertEqual(row.missing, '')
        self.assertGreater(row.temporary_bytes, 0)
        is_run = row.contender == 'attn' or name == 'short_512'
        self.assertEqual(row.seconds is not None, is_run)

  def test_both_compute_the_same(self):
    # `compare` refuses to time who computes something else.
    problem = additive._tiny(additive._SHORT)
    rows = additive._race(problem, Options(rounds=1, budget=1.0))
    self.assertEqual([row.missing for row in rows], [''] * 4)
    differences = [row.difference for row in rows if row.contender != 'attn']
    self.assertLess(max(differences), 1e-4)

  def test_the_long_case_is_not_quick(self):
    self.assertEqual(additive._LONG.query_shape, (1, 4096, 1, 128))
    (bar,) = additive._BARS['long_4096']
    self.assertEqual(bar.wanted, 256 * 2**20)


if __name__ == '__main__':
  absltest.main()
