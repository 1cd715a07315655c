"""How to make a directory of a model lie: each makes a `spoil(folder)`.

The models have a wide feed-forward: beside so many bytes of tensors, what
Python needs for an error is small, and what is claimed would not be.
"""

import functools
import json
import struct

from tests import huggingface_cases

FILE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
EMBED = 'model.embed_tokens.weight'
LAST = 'lm_head.weight'
HUGE = 2**40
_WIDE = 43_711
_FIELD = {'gpt2': 'n_inner'}
CONFIGS = {
  family: config | {_FIELD.get(family, 'intermediate_size'): _WIDE}
  for family, config in huggingface_cases.CONFIGS.items()
}


@functools.cache
def tensors_of(family):
  return huggingface_cases.tensors_of(family, mlp_dim=_WIDE)


def write(directory, family, *, tensors=None, config=None, shards=1):
  """Write a directory of some MB, with another config or tensors perhaps."""
  return huggingface_cases.write(
    directory,
    family,
    tensors=tensors_of(family) if tensors is None else tensors,
    config=CONFIGS[family] if config is None else config,
    shards=shards,
  )


def take_apart(path):
  """The header, as an object, and the bytes after it."""
  whole = path.read_bytes()
  (length,) = struct.unpack('<Q', whole[:8])
  return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def put_together(path, said, rest, length=None):
  written = said if isinstance(said, bytes) else json.dumps(said).encode()
  length = len(written) if length is None else length
  path.write_bytes(struct.pack('<Q', length) + written + rest)


def header(change):
  """A case: `change` is called with the header, and may return another."""

  def spoil(folder):
    said, rest = take_apart(folder / FILE)
    changed = change(said)
    put_together(folder / FILE, said if changed is None else changed, rest)

  return spoil


def entry(name, **fields):
  return header(lambda said: said[name].update(fields))


def data(change):
  def spoil(folder):
    path = folder / FILE
    path.write_bytes(change(path.read_bytes()))

  return spoil


def tensors(family='qwen3', **changes):
  """A case: tensors taken away (None) or put in place of others."""

  def spoil(folder):
    found = tensors_of(family) | {
      name.replace('__', '.'): x for name, x in changes.items()
    }
    found = {name: x for name, x in found.items() if x is not None}
    write(folder, family, tensors=found)

  return spoil


def config(family='qwen3', **changes):
  def spoil(folder):
    write(folder, family, config=CONFIGS[family] | changes)

  return spoil


def without(name, family='qwen3'):
  def spoil(folder):
    kept = {x: y for x, y in CONFIGS[family].items() if x != name}
    write(folder, family, config=kept)

  return spoil


def text(written):
  return lambda folder: (folder / 'config.json').write_bytes(written)


def index(change):
  """A case with several files: `change(folder, index)`."""

  def spoil(folder):
    (folder / FILE).unlink()
    write(folder, 'qwen3', shards=3)
    said = json.loads((folder / INDEX).read_text())
    changed = change(folder, said)
    whole = json.dumps(said if changed is None else changed)
    (folder / INDEX).write_text(whole)

  return spoil


def shard(name, file):
  return index(lambda _, said: said['weight_map'].update({name: file}))


def rope(**fields):
  said = {'rope_theta': 9.0, **fields}
  return config(rope_parameters=said)
