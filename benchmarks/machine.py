"""The machine: what it is, what it has free, how fast it multiplies.

Nothing here says whose it is: no host name, no path.
"""

import importlib
import importlib.metadata
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_MEMINFO = pathlib.Path('/proc/meminfo')
_CPUINFO = pathlib.Path('/proc/cpuinfo')
_STATUS = pathlib.Path('/proc/self/status')

# Of all that a processor can do, what moves these figures most.
_INSTRUCTIONS = ('avx2', 'avx512f', 'avx512_bf16', 'amx_tile', 'asimd', 'sve')

_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'torch')


def describe() -> dict[str, Any]:
  """What a figure must be quoted with, ready for JSON."""
  memory = _kibibytes(_MEMINFO, 'MemTotal')
  return {
    'cpu': _cpu_field('model name') or platform.processor() or 'unknown',
    'cores': cores(),
    'instructions': [
      name
      for name in _INSTRUCTIONS
      if name in (_cpu_field('flags') or _cpu_field('Features')).split()
    ],
    'memory_gib': None if memory is None else round(memory / 2**30, 1),
    'system': f'{platform.system()} {platform.machine()}',
    'load_before': round(os.getloadavg()[0], 2),
    'versions': {'python': platform.python_version(), **_versions()},
  }


def summary(description: dict[str, Any]) -> str:
  """The description as one line."""
  memory = description['memory_gib']
  versions = description['versions'].items()
  return '; '.join(
    [
      ' '.join([description['cpu'], *description['instructions']]),
      f'{description["cores"]} cores',
      'memory unknown' if memory is None else f'{memory} GiB',
      description['system'],
      ', '.join(f'{name} {version}' for name, version in versions),
    ]
  )


def cores() -> int:
  """Cores that this process may use, which a container may have restricted."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def available_bytes() -> int | None:
  """Memory that a program could still take; None where nobody tells."""
  return _kibibytes(_MEMINFO, 'MemAvailable')


def peak_bytes() -> int | None:
  """The most memory that this process ever held; None where nobody tells.

  Not `getrusage`: what it reports of a process that another one started is at
  least the starter's own memory, since both shared it before the exec.
  """
  return _kibibytes(_STATUS, 'VmHWM')


def held_bytes(process: int | None) -> int | None:
  """The memory that a process holds; None where nobody tells, or it ended."""
  return _kibibytes(pathlib.Path(f'/proc/{process}/status'), 'VmRSS')


def matrix_rates(size: int, *, torch: bool = True) -> dict[str, float | None]:
  """GFLOP/s of a float32 matrix product, the measure of this minute's machine.

  Args:
    size: Rows and columns.
    torch: Whether to ask PyTorch too, where it is installed.
  """
  rates: dict[str, float | None] = {'jax': _jax_rate(size), 'torch': None}
  library = load_torch() if torch else None
  if library is not None:
    x = library.randn(size, size)
    rates['torch'] = _rate(lambda: x @ x, size)
  return rates


def load_torch() -> Any:
  """PyTorch with a thread for each core, never more; None if not installed."""
  try:
    torch = importlib.import_module('torch')
  except ImportError:
    return None
  torch.set_num_threads(cores())
  return torch


def _jax_rate(size: int) -> float:
  x = jax.random.normal(jax.random.key(0), (size, size))
  product = jax.jit(jnp.matmul)
  return _rate(lambda: jax.block_until_ready(product(x, x)), size)


def _rate(product: Callable[[], object], size: int) -> float:
  product()
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    product()
    seconds.append(time.perf_counter() - start)
  return 2 * size**3 / statistics.median(seconds) / 1e9


def _versions() -> dict[str, str]:
  found = {}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = 'not installed'
  return found


def _field(path: pathlib.Path, name: str) -> str:
  """The value after `name:` in a file of such lines; '' if not there."""
  try:
    text = path.read_text()
  except OSError:
    return ''
  for line in text.splitlines():
    key, _, value = line.partition(':')
    if key.strip() == name:
      return value.strip()
  return ''


def _cpu_field(name: str) -> str:
  return _field(_CPUINFO, name)


def _kibibytes(path: pathlib.Path, name: str) -> int | None:
  """In bytes what the kernel writes as '123 kB'."""
  value = _field(path, name)
  return int(value.split()[0]) * 1024 if value else None
