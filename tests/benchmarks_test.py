"""Benchmarks: what they conclude from times, and that they run.

Nothing here depends on how fast anything is.
"""

import contextlib
import dataclasses
import importlib.util
import io
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from attn.training.errors import UserError
from benchmarks import (
  attention,
  compare,
  contenders,
  long_run,
  machine,
  pairing,
  problem,
  results,
  table,
)
from benchmarks.cases import CASES, PEERS
from benchmarks.contenders import BOTH, FORWARD
from benchmarks.problem import Problem
from benchmarks.results import Bar, Row

_ROOT = pathlib.Path(attention.__file__).parents[1]
_HAS_TORCH = importlib.util.find_spec('torch') is not None
_ONCE = compare.Options(rounds=1, budget=1.0)
# Every way in which a problem differs from the plainest.
_PROBLEMS = {
  'window': Problem(29, 2, 6, 3, 5, window=7),
  'packed': Problem(31, 1, 2, 2, 7, documents=5),
  'alibi': Problem(23, 1, 4, 4, 3, alibi=True),
  'open': Problem(13, 1, 2, 1, 3, is_causal=False),
}


def _folder(test):
  return pathlib.Path(test.enterContext(tempfile.TemporaryDirectory()))


class _Machine:
  """A clock, and programs that take its time; it slows down as it goes."""

  def __init__(self, costs, slowdown=0.0):
    self.now, self.order, self.slowdown = 0.0, [], slowdown
    self.programs = {
      name: lambda name=name, cost=cost: self._run(name, cost)
      for name, cost in costs.items()
    }

  def _run(self, name, cost):
    self.order.append(name)
    # Constant within a round, so that a pair is slowed alike.
    turn = max((len(self.order) - 1) // len(self.programs) - 1, 0)
    self.now += cost * (1 + self.slowdown * turn)

  def measure(self, **options):
    return pairing.measure(
      self.programs,
      **{'rounds': 5, 'budget': 1e9, **options},
      clock=lambda: self.now,
      sleep=lambda seconds: None,
    )


class PairingTest(parameterized.TestCase):
  def test_quartiles_of_made_up_times(self):
    self.assertEqual(
      pairing.spread([7.0, 1.0, 3.0, 5.0]), pairing.Spread(4.0, 2.5, 5.5, 4)
    )
    self.assertEqual(pairing.spread([2.0]), pairing.Spread(2.0, 2.0, 2.0, 1))
    with self.assertRaisesRegex(ValueError, 'values: got none'):
      pairing.spread([])

  def test_a_drifting_machine_changes_times_but_not_ratios(self):
    fake = _Machine({'ours': 1.0, 'theirs': 3.0}, slowdown=0.5)
    times = fake.measure()
    np.testing.assert_allclose(times['ours'], [1.0, 1.5, 2.0, 2.5, 3.0])
    ratios = pairing.ratios(times['theirs'], times['ours'])
    np.testing.assert_allclose(ratios, [3.0] * 5)

  def test_each_runs_once_a_round_in_rotating_order(self):
    fake = _Machine({'a': 1.0, 'b': 2.0, 'c': 3.0})
    fake.measure(rounds=4)
    # The first three runs are the warm-up.
    self.assertEqual(''.join(fake.order), 'abc' + 'abc' + 'bca' + 'cab' + 'abc')

  def test_a_slow_one_runs_three_rounds_and_pairs_those(self):
    fake = _Machine({'ours': 1.0, 'slow': 10.0})
    times = fake.measure(rounds=7, budget=20.0)
    self.assertEqual(times['slow'], [10.0] * 3 + [None] * 4)
    self.assertEqual(times['ours'], [1.0] * 7)
    self.assertEqual(pairing.ratios(times['slow'], times['ours']), [10.0] * 3)

  def test_a_short_one_is_repeated_and_its_time_is_of_one_call(self):
    fake = _Machine({'short': 0.01})
    np.testing.assert_allclose(fake.measure(rounds=3)['short'], [0.01] * 3)
    # To warm up, then each round once untimed and five times timed.
    self.assertEqual(len(fake.order), 1 + 3 * 6)

  def test_budget_of_no_time_and_programs_of_no_time(self):
    self.assertEqual(pairing.affordable(1.0, rounds=7, budget=0.0), 3)
    self.assertEqual(pairing.affordable(0.0, rounds=7, budget=0.0), 7)
    self.assertEqual(pairing.rotated([], 3), [])
    self.assertEqual(pairing.measure({}, rounds=3, budget=1.0), {})


class BarsTest(parameterized.TestCase):
  def row(self, median, low, high, direction=FORWARD):
    return Row(
      'peer', direction, ratio=pairing.Spread(median, low, high, count=5)
    )

  @parameterized.parameters(
    # median, low, high, passed, near
    (2.0, 1.9, 2.1, True, False),
    (2.1, 1.9, 2.2, True, False),
    (1.9, 1.8, 2.0, False, True),
    (1.8, 1.7, 1.9, False, False),
  )
  def test_at_least(self, median, low, high, passed, near):
    bar = Bar('peer', 'ratio', 2.0, True, FORWARD, '')
    verdict = results.judge(bar, [self.row(median, low, high)])
    self.assertEqual((verdict.passed, verdict.is_near), (passed, near))
    self.assertEqual(verdict.got, median)

  def test_at_most_takes_the_worst_of_all_directions(self):
    bar = Bar('attn', 'compile_seconds', 10.0, False, None, '')
    rows = [
      Row('attn', FORWARD, compile_seconds=9.0),
      Row('attn', BOTH, compile_seconds=11.0),
      Row('peer', BOTH, compile_seconds=99.0),
      Row('attn', BOTH, missing='too large'),
    ]
    verdict = results.judge(bar, rows)
    self.assertEqual((verdict.got, verdict.passed), (11.0, False))
    self.assertTrue(results.judge(bar, rows[:1]).passed)

  def test_no_figure_neither_passes_nor_misses(self):
    bar = Bar('peer', 'ratio', 2.0, True, BOTH, '')
    found = [
      results.judge(bar, rows)
      for rows in ([], [self.row(9, 9, 9)], [Row('peer', BOTH)])
    ]
    self.assertEqual([verdict.passed for verdict in found], [None] * 3)
    self.assertIn('no figure', table.verdicts({'case': found}))

  def test_every_bar_is_about_a_row_that_its_case_writes(self):
    figures = {field.name for field in dataclasses.fields(Row)}
    names = {'attn', 'attn:dense', 'attn:plain', *PEERS}
    bars = [bar for case in CASES.values() for bar in case.bars]
    self.assertGreater(len(bars), 25)
    for bar in bars:
      self.assertIn(bar.figure, figures)
      self.assertIn(bar.contender, names)
      self.assertIn(bar.direction, (FORWARD, BOTH, None))


class ProblemTest(parameterized.TestCase):
  @parameterized.parameters(*_PROBLEMS)
  def test_our_mask_is_the_array_that_peers_get(self, name):
    ours, length = problem.our_mask(_PROBLEMS[name]), _PROBLEMS[name].length
    array = problem.mask_array(_PROBLEMS[name])
    written = True if ours is None else np.asarray(ours.dense(length, length))
    np.testing.assert_array_equal(np.broadcast_to(written, array.shape), array)

  def test_documents_are_as_many_as_asked_for(self):
    ids = problem.document_ids(_PROBLEMS['packed'])
    self.assertEqual(ids.tolist(), sorted(ids))
    self.assertEqual(set(ids.tolist()), set(range(5)))

  @parameterized.parameters(*_PROBLEMS)
  def test_peers_compute_what_we_compute(self, name):
    field = [contenders.ours(), contenders.JAX_NN, contenders.FLAX]
    if _HAS_TORCH:
      field.append(PEERS['torch.sdpa'])
    rows = compare.compare(_PROBLEMS[name], field, BOTH, _ONCE)
    self.assertEqual([row.missing for row in rows], [''] * len(field))
    for row in rows[1:]:
      self.assertLess(row.difference, 1e-5)
      self.assertGreater(row.ratio.median, 0)

  def test_who_computes_something_else_is_not_timed(self):
    ours = contenders.our_spelling(_PROBLEMS['packed'])

    def last_is_zero(*arguments):
      return ours.call(*arguments).at[:, -1].set(0.0)

    def one_is_nan(*arguments):
      return ours.call(*arguments).at[0, 0, 0, 0].set(jnp.nan)

    def one_is_lacking(*arguments):
      return ours.call(*arguments)[:, 1:]

    field = [contenders.ours()]
    for call in (last_is_zero, one_is_nan, one_is_lacking):
      spelling = contenders.Spelling(call, ours.extras)
      field.append(
        contenders.jax_contender(call.__name__, lambda _, x=spelling: [x])
      )
    rows = compare.compare(_PROBLEMS['packed'], field, FORWARD, _ONCE)
    self.assertIsNotNone(rows[0].seconds)
    for row in rows[1:]:
      self.assertRegex(row.missing, 'computes something else')
      self.assertIsNone(row.seconds)

  def test_what_does_not_fit_is_skipped_with_a_reason(self):
    with mock.patch.object(machine, 'available_bytes', return_value=100):
      rows = compare.compare(
        _PROBLEMS['open'],
        [contenders.ours(), contenders.JAX_NN],
        FORWARD,
        _ONCE,
      )
    self.assertRegex(rows[0].missing, r'attn needs .* GiB, .* are free')
    self.assertRegex(rows[1].missing, 'nothing to compare with: no attn')

  def test_the_faster_spelling_is_taken(self):
    def program(note, seconds):
      run = mock.Mock(side_effect=lambda: clock.advance(seconds))
      return contenders.Program(run, lambda result: [], note=note)

    clock = mock.Mock(now=0.0)
    clock.advance = lambda x: setattr(clock, 'now', clock.now + x)
    with mock.patch('time.perf_counter', side_effect=lambda: clock.now):
      best = contenders._fastest([program('slow', 3.0), program('fast', 2.0)])
    self.assertEqual(best.note, 'fast (slow: 1.50 times as long)')


class MachineTest(absltest.TestCase):
  def test_the_description_names_nobody(self):
    text = json.dumps(machine.describe())
    self.assertNotIn(platform.node(), text)
    self.assertNotIn('/', text)
    self.assertIn(f'"jax": "{machine.describe()["versions"]["jax"]}"', text)
    self.assertGreaterEqual(machine.cores(), 1)

  def test_rates_are_of_a_product(self):
    with mock.patch.dict(sys.modules, {'torch': None}):
      rates = machine.matrix_rates(16)
    self.assertGreater(rates['jax'], 0)
    self.assertIsNone(rates['torch'])

  def test_the_peak_is_not_that_of_who_started_the_process(self):
    if machine.peak_bytes() is None:
      self.skipTest('the system does not tell')
    size = 2**29
    held = b'x' * size
    del held  # a peak is what was, not what is
    self.assertGreater(machine.peak_bytes(), size)
    program = 'from benchmarks import machine; print(machine.peak_bytes())'
    command = [sys.executable, '-c', program]
    peak = int(subprocess.check_output(command, cwd=_ROOT))
    self.assertBetween(peak, 1, size)

  def test_a_failure_elsewhere_is_a_row(self):
    wrong = dataclasses.replace(_PROBLEMS['open'], kv_heads=5)
    row = long_run.run(wrong, FORWARD)
    self.assertRegex(row.missing, 'ended with status 1: .*ValueError')
    self.assertNotIn(str(_ROOT), row.missing)


@pytest.mark.smoke
class QuickTest(absltest.TestCase):
  def run_quick(self, names, out=None, **options):
    options = compare.Options(rounds=3, budget=1.0, quick=True, **options)
    printed = io.StringIO()
    with (
      mock.patch.dict(sys.modules, {'torch': None}),
      contextlib.redirect_stdout(printed),
    ):
      attention.benchmark(names, options, out)
    return printed.getvalue()

  def test_small_64_without_torch(self):
    out = _folder(self) / 'results' / 'attention.json'
    printed = self.run_quick(
      ['small_64'], out, peers=tuple(PEERS), implementations=('dense',)
    )
    self.assertRegex(printed, r'Tiny sizes: these figures mean nothing')
    self.assertRegex(printed, r'small_64 +forward +attn +\d')
    self.assertRegex(printed, r'small_64 .* torch.sdpa +not installed')
    self.check_schema(json.loads(out.read_text()))

  def check_schema(self, found):
    self.assertEqual(set(found), {'benchmark', 'cases'})
    self.assertEqual(found['benchmark'], 'attention')
    self.assertEqual(list(found['cases']), ['small_64'])
    case = found['cases']['small_64']
    self.assertEqual(
      set(case),
      {
        'what',
        'problem',
        'options',
        'machine',
        'matrix_gflops',
        'rows',
        'bars',
      },
    )
    self.assertEqual(case['bars'], [])
    Problem(**case['problem'])
    compare.Options(**case['options'])
    names = ['attn', 'attn:dense', 'jax.nn', 'flax.linen']
    names += ['torch.sdpa', 'torch.flex']
    rows = [Row(**row) for row in case['rows']]
    self.assertEqual([row.contender for row in rows], 2 * names)
    for row in rows:
      self.assertEqual(row.missing, self.reason(row.contender))
      if row.missing:
        self.assertIsNone(row.seconds)
        continue
      self.assertEqual(pairing.Spread(**row.seconds).count, 3)
      self.assertEqual(pairing.Spread(**row.ratio).count, 3)
      self.assertGreater(row.compile_seconds, 0)
      self.assertGreater(row.temporary_bytes, 0)
      is_reference = row.contender == row.reference == 'attn'
      self.assertEqual(row.difference is None, is_reference)

  def reason(self, contender):
    return 'not installed' if contender.startswith('torch') else ''

  def test_probes(self):
    printed = self.run_quick(
      ['memory_16384', 'long_131072', 'recompiles'], peers=('jax.nn',)
    )
    self.assertRegex(printed, r'memory_16384 +forward\+backward +jax.nn .*not')
    self.assertRegex(printed, r'long_131072 .* peak memory \d+ MiB')
    self.assertRegex(printed, r'recompiles +forward\+backward .* 0 recomp')

  def test_only_forward_and_only_once(self):
    printed = self.run_quick(['causal_1024', 'causal_1024'], backward=False)
    self.assertEqual(printed.count(' attn '), 1)
    self.assertNotIn(BOTH, printed)


class FilesTest(absltest.TestCase):
  def test_other_cases_in_the_file_stay(self):
    path = _folder(self) / 'x.json'
    results.update(path, 'attention', {'a': 1, 'b': 2})
    results.update(path, 'attention', {'b': 3})
    self.assertEqual(
      json.loads(path.read_text()),
      {'benchmark': 'attention', 'cases': {'a': 1, 'b': 3}},
    )
    self.assertEqual([x.name for x in path.parent.iterdir()], ['x.json'])

  def test_a_file_that_is_something_else_stays(self):
    path = _folder(self) / 'x.json'
    path.write_text('{"mine": 1}')
    with self.assertRaisesRegex(UserError, 'holds no results'):
      results.check_writable(path)
    self.assertEqual(path.read_text(), '{"mine": 1}')
    with self.assertRaisesRegex(UserError, '--out: cannot write'):
      results.check_writable(path.parent)


class FlagsTest(parameterized.TestCase):
  @parameterized.parameters(
    (['nobody'], {}, "--cases: got 'nobody'"),
    (['causal_1024'], {'peers': ('me',)}, "--peers: got 'me'"),
    (
      ['causal_1024'],
      {'implementations': ('magic',)},
      "--implementations: attn.attention has no 'magic'",
    ),
  )
  def test_unknown_names(self, names, options, message):
    with self.assertRaisesRegex(UserError, message):
      attention.benchmark(names, compare.Options(**options), None)

  @parameterized.parameters('--cases=nobody', '--rounds=0', '--round=3', 'fast')
  def test_a_bad_flag_is_one_line(self, flag):
    done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.attention', '--quick', flag],
      cwd=_ROOT,
      capture_output=True,
      text=True,
    )
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertEqual(done.stderr.count('\n'), 1, done.stderr)
    self.assertRegex(done.stderr, '^error: ')
    self.assertEqual(done.stdout, '')


if __name__ == '__main__':
  absltest.main()
