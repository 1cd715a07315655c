"""Tensors in files that cannot run code: safetensors, read with suspicion.

A file is 8 bytes that say how long its header is, the header in JSON, and the
tensors one after the other.  What the header claims is checked against the
file's size before any of it is believed, so no claim costs memory.
"""

import json
import math
import os
import pathlib
import stat
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.numpy import save_file

_LENGTH = struct.Struct('<Q')

# Names in the format -> dtypes of parameters.
DTYPES = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(jnp.bfloat16),
}

# NumPy knows no more.
_MOST_AXES = 64


class Entry(NamedTuple):
  """What a header says of a tensor.

  Attributes:
    dtype: Of DTYPES, or the name of another.
    shape: Its sizes.
    begin: Where its bytes begin, counted from the end of the header.
    end: Where they end.
  """

  dtype: np.dtype | str
  shape: tuple[int, ...]
  begin: int
  end: int


def read_header(path: str | os.PathLike[str]) -> dict[str, Entry]:
  """What a safetensors file holds; no tensor is read.

  Args:
    path: Of the file.

  Returns:
    Name -> entry, in the order of the bytes, which follow each other without
    gap or overlap up to the file's end.

  Raises:
    ValueError: naming the file, and the tensor if one is to blame: if it is no
      safetensors file, or its header contradicts itself or the file's size.

  Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   write_tensors(folder + '/x.safetensors', {'w': np.zeros((2, 3))})
    ...   read_header(folder + '/x.safetensors')['w'].shape
    (2, 3)
  """
  path = pathlib.Path(path)
  size = file_size(path)
  with path.open('rb') as file:
    start = file.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
      raise ValueError(f'{path}: is too short for a safetensors file')
    (length,) = _LENGTH.unpack(start)
    if length > size - _LENGTH.size:
      raise ValueError(
        f'{path}: its header is said to have {length} bytes, but only '
        f'{size - _LENGTH.size} follow'
      )
    header = parse_json(path, file.read(length))
  header.pop('__metadata__', None)
  entries = {name: _entry(path, name, said) for name, said in header.items()}
  entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
  _check_places(path, entries, size - _LENGTH.size - length)
  return entries


def read_tensors(
  path: str | os.PathLike[str], entries: Mapping[str, Entry]
) -> dict[str, np.ndarray]:
  """Tensors of a file.

  Args:
    path: Of the file.
    entries: Those that are wanted, as `read_header` told of them.

  Returns:
    Name -> array.

  Raises:
    ValueError: naming file and tensor, if it is of no float dtype, or cannot
      be read.
  """
  for name, entry in entries.items():
    if isinstance(entry.dtype, str):
      raise ValueError(
        f'{path}: tensor {name}: got dtype {entry.dtype}, wanted one of '
        f'{", ".join(DTYPES)}'
      )
  tensors = {}
  try:
    with safetensors.safe_open(path, framework='np') as file:
      for name in entries:
        tensors[name] = file.get_tensor(name)
  except (safetensors.SafetensorError, OSError) as error:
    raise ValueError(f'{path}: cannot be read: {error}') from error
  return tensors


def write_tensors(
  path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]
) -> None:
  """Write tensors into a file, which comes into being whole or not at all.

  Args:
    path: Of the file.
    tensors: Name -> array.
  """
  path = pathlib.Path(path)
  beside = path.with_name(path.name + '.part')
  # The library writes a tensor's memory as it lies.
  whole = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
  save_file(whole, beside, metadata={'format': 'pt'})
  beside.replace(path)


def file_size(path: pathlib.Path) -> int:
  """Bytes of a regular file.

  Raises:
    ValueError: if there is none.
  """
  try:
    found = path.stat()
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise ValueError(f'{path}: {reason}') from error
  if not stat.S_ISREG(found.st_mode):
    raise ValueError(f'{path}: is not a regular file')
  return found.st_size


def parse_json(path: pathlib.Path, text: bytes) -> dict[str, Any]:
  """An object in JSON, of finite numbers, in which no name occurs twice.

  Raises:
    ValueError: naming the file, if it is anything else.
  """

  def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for name, value in pairs:
      if name in found:
        raise ValueError(f'{name} is there twice')
      found[name] = value
    return found

  def finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
      raise ValueError(f'{number} is not a finite number')
    return value

  try:
    found = json.loads(
      text.decode('utf-8'),
      object_pairs_hook=unique,
      parse_constant=finite,
      parse_float=finite,
    )
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: is not valid JSON: {error}') from error
  if not isinstance(found, dict):
    raise ValueError(f'{path}: is no JSON object')
  return found


def _entry(path: pathlib.Path, name: str, said: Any) -> Entry:
  where = f'{path}: tensor {name}'
  wanted = {'dtype', 'shape', 'data_offsets'}
  if not isinstance(said, dict) or said.keys() != wanted:
    raise ValueError(f'{where}: got {said!r:.80}, wanted dtype, shape, offsets')
  dtype, shape, places = said['dtype'], said['shape'], said['data_offsets']
  if not isinstance(dtype, str):
    raise ValueError(f'{where}: got dtype {dtype!r:.80}, wanted a name')
  if not _are_counts(shape) or len(shape) > _MOST_AXES:
    raise ValueError(f'{where}: got shape {shape!r:.80}, wanted whole numbers')
  if not _are_counts(places) or len(places) != 2 or places[0] > places[1]:
    raise ValueError(
      f'{where}: got offsets {places!r:.80}, wanted a beginning and an end'
    )
  begin, end = places
  known = DTYPES.get(dtype)
  if known is not None:
    needed = known.itemsize * math.prod(shape)
    if end - begin != needed:
      raise ValueError(
        f'{where}: got {end - begin} bytes, wanted those of shape '
        f'{shape!r:.80} and dtype {dtype}'
      )
  return Entry(known or dtype, tuple(shape), begin, end)


def _are_counts(value: Any) -> bool:
  return isinstance(value, list) and all(
    # True is an int as well.
    type(number) is int and 0 <= number < 2**63
    for number in value
  )


def _check_places(
  path: pathlib.Path, entries: Mapping[str, Entry], size: int
) -> None:
  """Tensors follow each other, from the header to the file's end."""
  for name, entry in entries.items():
    if entry.end > size:
      raise ValueError(
        f'{path}: tensor {name}: ends at byte {entry.end} of {size}'
      )
  reached = 0
  for name, entry in entries.items():
    if entry.begin != reached:
      what = 'overlaps' if entry.begin < reached else 'leaves a gap after'
      raise ValueError(
        f'{path}: tensor {name}: begins at byte {entry.begin}, and so '
        f'{what} the one that ends at {reached}'
      )
    reached = entry.end
  if reached != size:
    raise ValueError(f'{path}: {size - reached} bytes belong to no tensor')
