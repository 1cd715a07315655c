"""What the devices of a compiled program say to each other."""

import math
import re
from typing import NamedTuple

_SIZES = {'pred': 1, 'bf16': 2, 'c64': 8, 'c128': 16}
_KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
_INSTRUCTION = re.compile(
  r'= (?P<shape>\(.*?\)|\S+) (?P<kind>' + '|'.join(_KINDS) + r')(-start)?\('
)
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_CALLED = re.compile(
  r'(?:body|to_apply|calls|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)'
)
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_GROUPS = re.compile(
  r'replica_groups=\[\d+,(\d+)\]|replica_groups=\{\{([\d,]+)'
)


class Collective(NamedTuple):
  """One instruction.

  Attributes:
    kind: 'all-reduce', 'all-gather', ...
    bytes: Of its result, on one device.
    devices: How many take part together.
    times: How often it is carried out.
  """

  kind: str
  bytes: int
  devices: int
  times: int

  @property
  def sent(self) -> float:
    """Bytes that a device sends in all, along a ring of those that take part.

    all-reduce 2 (n - 1) / n of the array, all-gather (n - 1) / n of the whole,
    reduce-scatter n - 1 of the part that is left, all-to-all (n - 1) / n.
    """
    n = max(self.devices, 1)
    share = {
      'all-reduce': 2 * (n - 1) / n,
      'all-gather': (n - 1) / n,
      'reduce-scatter': n - 1,
      'all-to-all': (n - 1) / n,
      'collective-permute': 1,
    }[self.kind]
    return share * self.bytes * self.times


def collectives(hlo: str, devices: int) -> list[Collective]:
  """Find them.

  Args:
    hlo: A compiled program as text.
    devices: How many it is for.

  Returns:
    One for each instruction; those in a loop are carried out as often as the
    compiler knows it to turn, or once where it does not.
  """
  lines, entry = _computations(hlo)
  found: list[Collective] = []

  def visit(name: str, times: int) -> None:
    for line in lines.get(name, ()):
      match = _INSTRUCTION.search(line)
      if match:
        found.append(_collective(match, line, devices, times))
        continue
      turns = _TURNS.search(line)
      more = int(turns[1]) if turns and ' while(' in line else 1
      for called in _CALLED.finditer(line):
        for part in re.findall(r'[\w.\-]+', called[1]):
          visit(part, times * more)

  visit(entry, 1)
  return found


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
  """Lines by computation, and the name of the one that begins."""
  lines: dict[str, list[str]] = {}
  entry = name = ''
  for line in hlo.splitlines():
    match = _COMPUTATION.match(line)
    if match:
      name = match[1]
      lines[name] = []
      if line.startswith('ENTRY'):
        entry = name
    elif name:
      lines[name].append(line)
  return lines, entry


def _collective(
  match: re.Match[str], line: str, devices: int, times: int
) -> Collective:
  size = sum(
    _item_size(dtype) * math.prod(int(x) for x in shape.split(',') if x)
    for dtype, shape in _ARRAY.findall(match['shape'])
  )
  groups = _GROUPS.search(line)
  count = devices
  if groups:
    count = int(groups[1]) if groups[1] else len(groups[2].split(','))
  return Collective(match['kind'], size, count, times)


def _item_size(dtype: str) -> int:
  if dtype in _SIZES:
    return _SIZES[dtype]
  digits = re.search(r'\d+', dtype)
  return int(digits[0]) // 8 if digits else 0
