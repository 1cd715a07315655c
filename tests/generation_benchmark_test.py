"""The benchmark of generation: what is timed writes what it should."""

import json
import pathlib
import subprocess
import sys

import pytest

torch = pytest.importorskip('torch')


def test_a_cache_changes_no_token():
  from benchmarks.torch_language_model import LanguageModel, write

  torch.manual_seed(0)
  model = LanguageModel(vocab_size=7, context=20, layers=2, heads=2, width=8)
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.mul_(8)  # so that what was read decides
  written = []
  for cached in (False, True):
    torch.manual_seed(1)
    written.append(write(model, [3, 1], 15, cached=cached))
  assert written[0] == written[1]
  assert len(written[0]) == 17
  assert written[0][:2] == [3, 1]
  torch.manual_seed(1)
  assert write(model, [1, 1], 15, cached=True) != written[0]


def test_quick(tmp_path: pathlib.Path):
  out = tmp_path / 'out.json'
  result = subprocess.run(
    [sys.executable, '-m', 'benchmarks.generation', '--quick', f'--out={out}'],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  record = json.loads(out.read_text())['cases']['nanogpt_cpu']
  assert len(record['tokens_per_second']) == 3
  for name, ratio in record['ratios'].items():
    assert name.startswith('torch')
    assert f'{ratio["median"]:.1f} [' in result.stdout
