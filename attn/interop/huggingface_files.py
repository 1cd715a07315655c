"""Which files of a Hugging Face directory hold the tensors."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from attn.interop.safetensors_files import (
  Entry,
  is_name,
  read_header,
  read_json,
  write_tensors,
)

_WHOLE = 'model.safetensors'
_INDEX = 'model.safetensors.index.json'
_PICKLES = ('.bin', '.pt', '.pth', '.pkl', '.ckpt')


def find_shards(
  directory: pathlib.Path,
) -> dict[pathlib.Path, dict[str, Entry]]:
  """The files that hold a model, and what is in each; no tensor is read.

  Args:
    directory: Where they are.

  Returns:
    Path -> name -> entry; no name is in two files.

  Raises:
    ValueError: naming the file, if there is none, one is damaged, or the index
      and the files disagree.
  """
  whole, index = directory / _WHOLE, directory / _INDEX
  if whole.exists():
    return {whole: read_header(whole)}
  if not index.exists():
    names = sorted(x.name for x in directory.iterdir())
    pickles = [name for name in names if name.endswith(_PICKLES)]
    instead = ''
    if pickles:
      instead = f'; {pickles[0]} may run code and is never opened'
    raise ValueError(
      f'{directory}: holds neither {_WHOLE} nor {_INDEX}{instead}'
    )
  places = read_json(index).get('weight_map')
  if not isinstance(places, dict) or not places:
    raise ValueError(f'{index}: weight_map: wanted names and their files')
  shards: dict[pathlib.Path, dict[str, Entry]] = {}
  for name, shard in places.items():
    if not _is_plain(shard):
      raise ValueError(
        f'{index}: weight_map: tensor {name}: got {shard!r:.80}, wanted a '
        'safetensors file beside the index'
      )
    path = directory / shard
    if path not in shards:
      shards[path] = read_header(path)
    if name not in shards[path]:
      raise ValueError(f'{path}: tensor {name}: is not there, as {_INDEX} says')
  for path, entries in shards.items():
    for name in entries:
      if name not in places or directory / places[name] != path:
        raise ValueError(f'{path}: tensor {name}: {_INDEX} does not say so')
  return shards


def write_directory(
  directory: str | os.PathLike[str],
  config: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  tokenizer: str | None,
  shard_bytes: int,
) -> None:
  """Write a directory that `find_shards` reads; config.json comes last.

  Raises:
    ValueError: if directory holds something, or shard_bytes is below 1.
  """
  directory = pathlib.Path(directory)
  if shard_bytes < 1:
    raise ValueError(f'shard_bytes: got {shard_bytes}, wanted at least 1')
  if directory.exists() and (
    not directory.is_dir() or any(directory.iterdir())
  ):
    raise ValueError(f'directory: {directory} is not empty')
  directory.mkdir(parents=True, exist_ok=True)
  shards = _deal(tensors, shard_bytes)
  if len(shards) == 1:
    write_tensors(directory / _WHOLE, shards[0])
  else:
    places = {}
    for i, shard in enumerate(shards, 1):
      name = f'model-{i:05}-of-{len(shards):05}.safetensors'
      write_tensors(directory / name, shard)
      places |= dict.fromkeys(shard, name)
    size = sum(x.nbytes for x in tensors.values())
    index = {'metadata': {'total_size': size}, 'weight_map': places}
    (directory / _INDEX).write_text(json.dumps(index, indent=2) + '\n')
  if tokenizer is not None:
    (directory / 'tokenizer.json').write_text(tokenizer, encoding='utf-8')
  text = json.dumps(config, indent=2, sort_keys=True) + '\n'
  (directory / 'config.json').write_text(text)


def _is_plain(name: Any) -> bool:
  """A name of a safetensors file, which leads nowhere else."""
  return (
    isinstance(name, str)
    and name.endswith('.safetensors')
    and is_name(name)
    and not {'/', '\\', '\0', ':'} & set(name)
  )


def _deal(
  tensors: Mapping[str, np.ndarray], most: int
) -> list[dict[str, np.ndarray]]:
  """Into files of at most so many bytes, but one tensor at least."""
  shards: list[dict[str, np.ndarray]] = [{}]
  size = 0
  for name, x in tensors.items():
    if shards[-1] and size + x.nbytes > most:
      shards.append({})
      size = 0
    shards[-1][name] = x
    size += x.nbytes
  return shards
