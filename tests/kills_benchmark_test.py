"""Ten kills; `python -m benchmarks.kills` makes it two hundred."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import processes
import pytest

from attn.training.errors import UserError
from benchmarks import kills

pytestmark = pytest.mark.xdist_group('resume')


def test_ten_kills(tmp_path: pathlib.Path):
  out = tmp_path / 'out.json'
  result = subprocess.run(
    [sys.executable, '-m', 'benchmarks.kills', '--kills=10', f'--out={out}'],
    capture_output=True,
    text=True,
    cwd=processes.ROOT,
    # What is read back at the end of each run is compiled once.
    env=processes.with_what_was_compiled(),
    check=False,
  )
  assert result.returncode == 0, result.stderr
  found = json.loads(out.read_text())['cases']['tiny']
  assert found['kills'] == 10
  assert found['runs'] >= 1
  # Else only starts would have been killed, and nothing resumed.
  assert found['checkpoints'] >= 1
  assert '10 kills' in result.stdout


def test_other_bits_are_noticed():

  one = {'w': np.ones(3)}, [(6, 1.25)]
  kills.compare(one, ({'w': np.ones(3)}, [(6, 1.25)]), 0)
  for other in (
    ({'w': np.array([1, 1, 1.0000001])}, [(6, 1.25)]),
    (one[0], [(6, 1.2500001)]),
    (one[0], []),
  ):
    with pytest.raises(UserError, match='run 3 ended with other bits'):
      kills.compare(one, other, 3)
