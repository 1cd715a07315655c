"""The cases by name: what is computed, by whom, and the bar it is held to."""

import dataclasses
from collections.abc import Callable

from benchmarks import contenders, probes, torch_contenders
from benchmarks.compare import Options, compare
from benchmarks.contenders import BOTH, FORWARD, Contender
from benchmarks.problem import Problem, tiny
from benchmarks.results import GIB, MIB, Bar, Row

PEERS = {
  peer.name: peer
  for peer in (
    contenders.JAX_NN,
    contenders.FLAX,
    torch_contenders.SDPA,
    torch_contenders.FLEX,
  )
}


@dataclasses.dataclass(frozen=True)
class Case:
  """One block of the table.

  Attributes:
    what: In words.
    problem: At its real size.
    run: From a problem and options to rows.
    bars: What the rows are held to.
  """

  what: str
  problem: Problem
  run: Callable[[Problem, Options], list[Row]]
  bars: tuple[Bar, ...] = ()


def _race(*others: Contender) -> Callable[[Problem, Options], list[Row]]:
  """Ours against all peers that were asked for, and against others."""

  def run(problem: Problem, options: Options) -> list[Row]:
    named = [contenders.ours(name) for name in options.implementations]
    ours = [contenders.ours(), *named, *others]
    peers = [PEERS[name] for name in options.peers]
    field = {contender.name: contender for contender in (*ours, *peers)}
    rows = []
    for direction in options.directions:
      rows += compare(problem, list(field.values()), direction, options)
    return rows

  return run


def _faster(contender: str, **wanted: float) -> tuple[Bar, ...]:
  """How many times as long as ours the contender must take, at least."""
  directions = {'forward': FORWARD, 'both': BOTH}
  return tuple(
    Bar(
      contender, 'ratio', times, True, directions[name], f'{contender} / ours'
    )
    for name, times in wanted.items()
  )


def _at_most(
  figure: str, wanted: float, direction: str | None, why: str
) -> Bar:
  return Bar('attn', figure, wanted, False, direction, why)


_SMALL_BARS = (
  *_faster('attn:dense', forward=1.0, both=1.0),
  *_faster('jax.nn', forward=1.0, both=1.0),
)
# Ours may take 1.25 times as long with ALiBi as without.
_ALIBI_COST = 1.25

_RACES = {
  'causal_1024': Case(
    'causal',
    Problem(1024),
    _race(),
    (
      *_faster('torch.sdpa', forward=0.9, both=0.9),
      *_faster('jax.nn', forward=4.0, both=4.0),
    ),
  ),
  'causal_4096': Case(
    'causal',
    Problem(4096),
    _race(),
    (
      *_faster('torch.sdpa', forward=1.0, both=1.0),
      *_faster('jax.nn', forward=7.0, both=8.0),
    ),
  ),
  **{
    f'small_{length}': Case(
      'causal, the size of a small model',
      Problem(length, batch=12, heads=4, kv_heads=4, head_dim=32),
      _race(contenders.ours('dense')),
      _SMALL_BARS,
    )
    for length in (64, 128, 256)
  },
  'window_8192': Case(
    'causal, 256 keys back',
    Problem(8192, window=256),
    _race(),
    (
      *_faster('jax.nn', forward=20.0, both=20.0),
      *_faster('torch.sdpa', forward=5.0, both=5.0),
    ),
  ),
  'packed_8192': Case(
    'causal, 12 documents packed',
    Problem(8192, documents=12),
    _race(),
    (
      *_faster('jax.nn', forward=8.0, both=8.0),
      *_faster('torch.sdpa', forward=4.0, both=4.0),
    ),
  ),
  'alibi_4096': Case(
    'causal, ALiBi as a score modification',
    Problem(4096, alibi=True),
    _race(contenders.ours_without_alibi()),
    _faster('attn:plain', forward=1 / _ALIBI_COST, both=1 / _ALIBI_COST),
  ),
  'gqa_4096': Case(
    'causal, 8 heads share 2', Problem(4096, kv_heads=2), _race()
  ),
}

_MEMORY = {
  'memory_16384': Case(
    'causal, scratch memory',
    Problem(16384),
    probes.memory,
    (
      _at_most('temporary_bytes', 64 * MIB, FORWARD, 'temporaries'),
      _at_most('temporary_bytes', 192 * MIB, BOTH, 'temporaries'),
    ),
  ),
  'long_131072': Case(
    'causal, 1024 keys back, once',
    Problem(131072, window=1024),
    probes.long,
    (_at_most('peak_bytes', 4 * GIB, BOTH, 'peak memory'),),
  ),
}


def _compile_all(problem: Problem, options: Options) -> list[Row]:
  del problem  # All of them.
  named = {name: case.problem for name, case in {**_RACES, **_MEMORY}.items()}
  if options.quick:
    named = {name: tiny(problem) for name, problem in named.items()}
  return probes.compilation(named, options)


CASES = {
  **_RACES,
  **_MEMORY,
  'compile': Case(
    'seconds to compile ours, for all of the above',
    Problem(1024),
    _compile_all,
    (_at_most('compile_seconds', 10.0, None, 'slowest to compile'),),
  ),
  'recompiles': Case(
    'mask data changed under jit',
    Problem(1024, documents=12),
    probes.recompilations,
    (_at_most('recompilations', 0, None, 'compiled again'),),
  ),
  'dense_crossover': Case(
    'dense against blockwise, causal, without and with two documents',
    Problem(1024),
    probes.crossover,
  ),
}
