"""What several files of tests begin with."""

import pathlib

import processes
import pytest


@pytest.fixture(scope='session')
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A finished run."""
  workdir = tmp_path_factory.mktemp('trained') / 'run'
  result = processes.train(workdir)
  assert result.returncode == 0, result.stderr
  return workdir
