"""Tensors in files that cannot run code: safetensors, read with suspicion.

A file is 8 bytes that say how long its header is, the header in JSON, and the
tensors one after the other.  What the header claims is checked against the
file's size before any of it is believed, so no claim costs memory.  What Python
makes of JSON may be thirty times as large as its text, so a header must be a
small part of its file.
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

# Bytes of JSON that are read in any case: a header, an index or a config of the
# largest Llama has half as many.  Of a file the header may also be this part.
_MOST_JSON = 2**18
_HEADER_PART = 64

# Longer names are no names, and would fill the message that complains.
_LONGEST_NAME = 256


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
    most = max(_MOST_JSON, size // _HEADER_PART)
    if length > most:
      raise ValueError(
        f'{path}: its header has {length} bytes, wanted at most {most}'
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
    check_dtype(path, name, entry)
  tensors = {}
  try:
    with safetensors.safe_open(path, framework='np') as file:
      for name in entries:
        tensors[name] = file.get_tensor(name)
  except (safetensors.SafetensorError, OSError) as error:
    raise ValueError(f'{path}: cannot be read: {error}') from error
  return tensors


def check_dtype(path: str | os.PathLike[str], name: str, entry: Entry) -> None:
  """Refuse a tensor that is not of floats.

  Raises:
    ValueError: naming file and tensor.
  """
  if isinstance(entry.dtype, str):
    raise ValueError(
      f'{path}: tensor {name}: got dtype {entry.dtype!r:.80}, wanted one of '
      f'{", ".join(DTYPES)}'
    )


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


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a file of JSON; see `parse_json`.

  Raises:
    ValueError: naming the file, if it is no such file, or too large for one.
  """
  size = file_size(path)
  if size > _MOST_JSON:
    raise ValueError(
      f'{path}: has {size} bytes, wanted at most {_MOST_JSON} of JSON'
    )
  return parse_json(path, path.read_bytes())


def parse_json(path: pathlib.Path, text: bytes) -> dict[str, Any]:
  """An object in JSON, of finite numbers, in which no name occurs twice.

  Names can be printed in a line, so whatever is said of them can.

  Raises:
    ValueError: naming the file, if it is anything else.
  """

  def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for name, value in pairs:
      if not is_name(name):
        raise ValueError(
          f'got a name {name!r:.80}, wanted printable ones of at most '
          f'{_LONGEST_NAME} characters'
        )
      if name in found:
        raise ValueError(f'{name} is there twice')
      found[name] = value
    return found

  def finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
      raise ValueError(f'{number:.80} is not a finite number')
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


def is_name(name: str) -> bool:
  """Whether it is short, and can be printed in a line."""
  return len(name) <= _LONGEST_NAME and name.isprintable()


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
