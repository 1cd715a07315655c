"""Runs the mains as a user does: a process of its own, in a scratch folder."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The smallest model and the fewest steps that still do everything.
SMALL = (
  '--config.steps=12',
  '--config.batch_size=2',
  '--config.model.embed_dim=8',
  '--config.model.mlp_dim=8',
  '--config.eval.every=6',
  '--config.eval.rows=2',
  '--config.eval.log_every=2',
  '--config.checkpoint.every=4',
)


def start(
  main: str, *arguments: str, **options: object
) -> subprocess.Popen[str]:
  """Start train.py or sample.py."""
  return subprocess.Popen(
    [sys.executable, str(ROOT / main), *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    **options,
  )


def run(
  main: str, *arguments: str, **options: object
) -> subprocess.CompletedProcess[str]:
  """Run train.py or sample.py to its end."""
  process = start(main, *arguments, **options)
  out, err = process.communicate(timeout=300)
  return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def train(
  workdir: pathlib.Path, *arguments: str
) -> subprocess.CompletedProcess:
  """A small training run."""
  return run('train.py', f'--workdir={workdir}', *SMALL, *arguments)
