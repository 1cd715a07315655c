"""python -m benchmarks.mechanisms: fair sizes, and every mechanism trains."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks.mechanisms import (
  MECHANISMS,
  _parameters,
  cache_bytes,
  equal_size,
)
from configs import tiny


def config_of(attention: str):
  config = tiny.get_config()
  config.model.attention = attention
  return config


@pytest.mark.parametrize('attention', MECHANISMS)
def test_sizes_are_equal(attention: str):
  plain = _parameters(config_of('full'), 46)
  equal = _parameters(equal_size(config_of(attention), 46), 46)
  assert abs(equal - plain) <= 0.005 * plain


def test_caches():
  """Two layers of 4 heads of 16, keys and values of four bytes."""
  full = 2 * 2 * 4 * 16 * 4
  # In each layer, where a token was, and whether it is finite.
  beside = 2 * (4 + 1)
  assert cache_bytes(config_of('full'), 46, 100) == 100 * (full + beside)
  few = 100 * (full // 4 + beside)
  assert cache_bytes(config_of('multi_query'), 46, 100) == few
  near = 64 * (full + beside)
  assert cache_bytes(config_of('sliding_window'), 46, 100) == near
  # 32 numbers and 16 for the place.
  latent = 100 * (2 * 48 * 4 + beside)
  assert cache_bytes(config_of('latent'), 46, 100) == latent
  linear = cache_bytes(config_of('linear'), 46, 100)
  assert linear == cache_bytes(config_of('linear'), 46, 1000)
  assert linear == 2 * 4 * 16 * 17 * 4
  assert cache_bytes(config_of('none'), 46, 100) == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    [sys.executable, '-m', 'benchmarks.mechanisms', *arguments],
    capture_output=True,
    text=True,
    check=False,
  )


def test_quick(tmp_path: pathlib.Path):
  out = tmp_path / 'found.json'
  result = run(
    '--quick', '--mechanisms=none,linear,latent+alternating', f'--out={out}'
  )
  assert result.returncode == 0, result.stderr
  found = json.loads(out.read_text())['cases']
  assert [*found] == ['none', 'linear', 'latent+alternating']
  for name, record in found.items():
    assert record['config']['model']['attention'] == name
    assert record['summary']['steps'] == 2
    assert f'{record["summary"]["loss"]:.4f}' in result.stdout


def test_an_unknown_mechanism_is_refused():
  result = run('--mechanisms=telepathy')
  assert result.returncode == 2
  (line,) = result.stderr.strip().splitlines()
  assert '--mechanisms' in line
  assert 'telepathy' in line
