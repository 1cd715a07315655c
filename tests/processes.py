"""Runs the mains as a user does: a process of its own, in a scratch folder."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The smallest model and the fewest steps that still do everything.
SMALL = (
  '--config.steps=12',
  '--config.batch_size=2',
  '--config.model.num_layers=1',
  '--config.model.embed_dim=8',
  '--config.model.mlp_dim=8',
  '--config.eval.every=6',
  '--config.eval.rows=2',
  '--config.eval.log_every=2',
  '--config.checkpoint.every=4',
)


# Compiling takes most of the time of so small a run; and what one run compiled
# serves the next.  One that may be killed only reads, else it might leave half
# a program there.
_QUICK = (
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes '
  '--xla_cpu_use_fusion_emitters=false'
)
_COMPILED = tempfile.TemporaryDirectory(prefix='attn-compiled-')


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
    env=with_what_was_compiled(may_write=False),
  )


def environment() -> dict[str, str]:
  """Of a process that compiles quickly, on a CPU."""
  return {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': _QUICK}


def with_what_was_compiled(*, may_write: bool = True) -> dict[str, str]:
  """The same; may_write, unless it will be killed."""
  return {
    **environment(),
    'JAX_COMPILATION_CACHE_DIR': _COMPILED.name,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0' if may_write else '1e9',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }


def run(
  main: str, *arguments: str, largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
  """Run train.py or sample.py to its end; arguments as `start`.

  Without a limit on files it is a fork of a process that has imported what the
  mains import, which is most of the time of a run that is refused.
  """
  if largest_file is None:
    return _run_fork(main, *arguments)
  process = start(main, *arguments, largest_file=largest_file)
  out, err = process.communicate(timeout=300)
  return subprocess.CompletedProcess(arguments, process.returncode, out, err)


# JAX has no threads before its first computation, and may be forked.
_PARENT = """
import json, os, runpy, sys
sys.path.insert(0, os.getcwd())
import attn.training.loop, attn.training.sample
for line in sys.stdin:
  folder, main, arguments = json.loads(line)
  child = os.fork()
  if not child:
    for stream in (1, 2):
      os.dup2(os.open(f'{folder}/{stream}', os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = [main, *arguments]
    runpy.run_path(main, run_name='__main__')
    sys.exit(0)
  _, status = os.waitpid(child, 0)
  print(os.waitstatus_to_exitcode(status), flush=True)
"""


@functools.cache
def _parent() -> subprocess.Popen[str]:
  """One for each process that runs tests; it ends with its input."""
  return subprocess.Popen(
    [sys.executable, '-c', _PARENT],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env=with_what_was_compiled(),
  )


def _run_fork(main: str, *arguments: str) -> subprocess.CompletedProcess[str]:
  parent = _parent()
  assert parent.stdin is not None
  assert parent.stdout is not None
  with tempfile.TemporaryDirectory() as folder:
    request = [folder, str(ROOT / main), arguments]
    parent.stdin.write(json.dumps(request) + '\n')
    parent.stdin.flush()
    code = int(parent.stdout.readline())
    out, err = (
      pathlib.Path(folder, stream).read_text() for stream in ('1', '2')
    )
  return subprocess.CompletedProcess(arguments, code, out, err)


def train(
  workdir: pathlib.Path, *arguments: str
) -> subprocess.CompletedProcess:
  """A small training run."""
  return run('train.py', f'--workdir={workdir}', *SMALL, *arguments)


def refused(result, *words: str) -> None:
  """Assert one line that holds all the words, and no traceback."""
  assert result.returncode == 2, result.stderr
  lines = result.stderr.strip().splitlines()
  assert len(lines) == 1, result.stderr
  assert lines[0].startswith('error: ')
  for word in words:
    assert word in lines[0]


def snapshot(folder: pathlib.Path) -> dict[str, bytes]:
  """Every file of a folder."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }
