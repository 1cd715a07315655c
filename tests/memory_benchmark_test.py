"""python -m benchmarks.memory, with few steps."""

import json
import pathlib
import subprocess
import sys

import processes


def test_quick(tmp_path: pathlib.Path):
  out = tmp_path / 'out.json'
  command = [sys.executable, '-m', 'benchmarks.memory']
  result = subprocess.run(
    [*command, '--early=4', '--steps=150', f'--out={out}'],
    capture_output=True,
    text=True,
    cwd=processes.ROOT,
    env=processes.environment(),
    check=False,
  )
  assert result.returncode == 0, result.stderr
  record = json.loads(out.read_text())['cases']['tiny']
  steps = [step for step, _ in record['held']]
  assert steps == sorted(steps)
  assert 0 < steps[0] < 150
  # Python and JAX alone take a hundred megabytes.
  assert 1e8 < record['early'] < 2e9
  assert record['growth'] == record['last'] / record['early'] - 1
  assert f'{record["last"] / 1e6:.1f} MB' in result.stdout
