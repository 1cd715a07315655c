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


# Compiling takes most of the time of so small a run.
_QUICK = (
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes'
)


def start(
  main: str, *arguments: str, largest_file: int | None = None
) -> subprocess.Popen[str]:
  """Start train.py or sample.py.

  Args:
    main: Its name.
    *arguments: Its flags.
    largest_file: In KiB; a limit that stands in for a disk that is full.
  """
  command = [sys.executable, str(ROOT / main), *arguments]
  if largest_file is not None:
    limit = f'ulimit -f {largest_file}; exec "$@"'
    command = ['bash', '-c', limit, 'bash', *command]
  return subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': _QUICK},
  )


def run(
  main: str, *arguments: str, largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
  """Run train.py or sample.py to its end; arguments as `start`."""
  process = start(main, *arguments, largest_file=largest_file)
  out, err = process.communicate(timeout=300)
  return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def train(
  workdir: pathlib.Path, *arguments: str
) -> subprocess.CompletedProcess:
  """A small training run."""
  return run('train.py', f'--workdir={workdir}', *SMALL, *arguments)
