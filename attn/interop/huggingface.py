"""Models in directories of Hugging Face: read from disk, and written to it."""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from attn.interop.huggingface_config import (
  Parsed,
  config_json,
  parse_config,
)
from attn.interop.huggingface_families import FAMILIES, Family, Tensor
from attn.interop.huggingface_files import find_shards, write_directory
from attn.interop.safetensors_files import (
  Entry,
  check_dtype,
  read_json,
  read_tensors,
)
from attn.modules import CausalLMConfig


class HuggingFaceModel(NamedTuple):
  """A model that was read.

  Attributes:
    family: 'gpt2', 'llama', 'mistral', 'gemma2' or 'qwen3'.
    config: Its shape.
    params: The parameters of a `CausalLM`, as NumPy has them, in the dtypes of
      the files.
    tokenizer: Path of its tokenizer.json; None if there is none.
    ends: Tokens that end a text.
  """

  family: str
  config: CausalLMConfig
  params: dict[str, Any]
  tokenizer: pathlib.Path | None
  ends: tuple[int, ...]


def load_huggingface(directory: str | os.PathLike[str]) -> HuggingFaceModel:
  """Read a model from a directory of Hugging Face.

  It holds config.json and model.safetensors, or several files that
  model.safetensors.index.json names.  Nothing else is opened, nothing is run,
  and nothing comes over the network.

  Args:
    directory: Of a GPT-2, Llama, Mistral, Gemma 2 or Qwen 3.

  Returns:
    The model, for `CausalLM(config)`.  Rates of dropout are 0; 'dynamic'
    scaling of rotary positions begins where a `CausalLM` reads no further.

  Raises:
    ValueError: naming the file, and the tensor or field: if one is missing, is
      not what the rest says it is, or is unknown, so that ignoring it might
      change the model.

  Example:
    >>> import tempfile, jax
    >>> from attn.modules import CausalLM
    >>> config = CausalLMConfig(
    ...   vocab_size=11, context=8, num_layers=1, embed_dim=8, num_heads=2,
    ...   num_kv_heads=1, mlp_dim=16, attention='full', window=1,
    ...   positions='rotary', rope_base=1e4, norm='rmsnorm',
    ...   activation='swiglu', qk_norm=True, tied_head=True, dropout_rate=0.0)
    >>> init = jax.jit(CausalLM(config).init)
    >>> params = init(jax.random.key(0), np.array([[3, 1, 4]]))['params']
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   save_huggingface(folder, config, params)
    ...   model = load_huggingface(folder)
    'qwen3'
    >>> model.config.num_kv_heads, model.params['embed']['embedding'].shape
    (1, (11, 8))
  """
  directory = pathlib.Path(directory)
  parsed = _parse(directory)
  family, config = FAMILIES[parsed.family], parsed.config
  shards = find_shards(directory)
  places = {name: shard for shard in shards for name in shards[shard]}
  # Files of a model without its head call its tensors without the prefix.
  bare = not any(name.startswith(family.prefix) for name in places)
  found: dict[str, tuple[str, Tensor]] = {}
  for name, tensor, path in _tensors(family, config, bare=bare):
    if name not in places:
      raise ValueError(
        f'{directory}: tensor {name}: is in no file, but {parsed.family} with '
        f'{config.num_layers} layers has one'
      )
    shard = places[name]
    _check(shard, name, shards[shard][name], _shape(config, tensor))
    found[name] = path, tensor
  spare = _spare_head(config, places)
  for name, shard in places.items():
    known = name in found or name in spare or name.endswith(family.buffers)
    if not known:
      raise ValueError(f'{shard}: tensor {name}: has no place in the model')
  # What was said is held against the files; only now are tensors read.
  embedding = next(x for x in found if found[x][1].ours == ('embed/embedding',))
  for name in spare:
    if not _are_equal(shards, places, name, embedding):
      raise ValueError(
        f'{places[name]}: tensor {name}: is not the embedding, which '
        'tie_word_embeddings says it is'
      )
  raw: dict[str, np.ndarray] = {}
  for shard, entries in shards.items():
    wanted = {x: entries[x] for x in entries if x in found}
    raw |= read_tensors(shard, wanted)
  params: dict[str, np.ndarray] = {}
  for name, (prefix, tensor) in found.items():
    params |= _parameters(config, prefix, tensor, raw[name])
  tokenizer = directory / 'tokenizer.json'
  return HuggingFaceModel(
    parsed.family,
    config,
    traverse_util.unflatten_dict(params, sep='/'),
    tokenizer if tokenizer.is_file() else None,
    parsed.ends,
  )


def load_huggingface_config(
  directory: str | os.PathLike[str],
) -> CausalLMConfig:
  """The shape of a model that `load_huggingface` reads; no tensor is read.

  Args:
    directory: Of the model.

  Raises:
    ValueError: as `load_huggingface`, of config.json.

  Example:
    See `load_huggingface`.
  """
  return _parse(pathlib.Path(directory)).config


def save_huggingface(
  directory: str | os.PathLike[str],
  config: CausalLMConfig,
  params: Mapping[str, Any],
  *,
  family: str | None = None,
  tokenizer: str | None = None,
  ends: tuple[int, ...] = (),
  shard_bytes: int = 5 * 2**30,
) -> str:
  """Write a model so that `transformers` loads it.

  Args:
    directory: Where to; it must be empty, or not there.
    config: The model's shape.
    params: Its parameters.
    family: 'gpt2', 'llama', 'mistral', 'gemma2' or 'qwen3'; if None, the first
      that computes what the model computes.
    tokenizer: What tokenizer.json is to hold; None for no such file.
    ends: Tokens that end a text.
    shard_bytes: The most bytes of tensors in a file; larger models come in
      several.

  Returns:
    The family.

  Raises:
    ValueError: if directory holds something, params are not those of config,
      or no family has a place for a field of config, which is then named.

  Example:
    See `load_huggingface`.
  """
  flat = traverse_util.flatten_dict(params, sep='/')
  flat = {name: np.asarray(x) for name, x in flat.items()}
  embedding = flat.get('embed/embedding')
  dtype = 'float32' if embedding is None else embedding.dtype.name
  name, fields = config_json(config, family, dtype=dtype, ends=tuple(ends))
  tensors: dict[str, np.ndarray] = {}
  for theirs, tensor, prefix in _tensors(FAMILIES[name], config):
    parts = [prefix + ours for ours in tensor.ours]
    missing = next((part for part in parts if part not in flat), None)
    if missing is not None:
      raise ValueError(f'params: got no {missing}, wanted one for {name}')
    x = np.concatenate([flat.pop(part) for part in parts], -1)
    x = x.T if tensor.transposed else x
    wanted = _shape(config, tensor)
    if x.shape != wanted:
      raise ValueError(
        f'params: {parts[0]}: got {x.shape} as {theirs}, wanted {wanted}'
      )
    tensors[theirs] = x
  if flat:
    raise ValueError(f'params: got {min(flat)}, wanted nothing else for {name}')
  write_directory(directory, fields, tensors, tokenizer, shard_bytes)
  return name


def _parse(directory: pathlib.Path) -> Parsed:
  if not directory.is_dir():
    raise ValueError(f'{directory}: is no directory')
  path = directory / 'config.json'
  return parse_config(path, read_json(path))


def _tensors(
  family: Family, config: CausalLMConfig, *, bare: bool = False
) -> Iterator[tuple[str, Tensor, str]]:
  """Name, tensor, and prefix of its parameters, one after the other.

  One by one: a config.json may claim any number of layers.
  """

  def there(tensor: Tensor) -> bool:
    if tensor.needs == 'untied':
      return not config.tied_head
    return tensor.needs is None or getattr(config, tensor.needs)

  prefix = '' if bare else family.prefix
  for tensor in family.whole:
    if there(tensor):
      of_head = tensor.theirs.startswith('lm_head')
      yield ('' if of_head else prefix) + tensor.theirs, tensor, ''
  for layer in range(config.num_layers):
    for tensor in family.of_layer:
      if there(tensor):
        name = f'{prefix}{family.layer}{layer}.{tensor.theirs}'
        yield name, tensor, f'block_{layer}/'


def _shape(config: CausalLMConfig, tensor: Tensor) -> tuple[int, ...]:
  kv_heads = config.num_kv_heads or config.num_heads
  sizes = {
    'V': config.vocab_size,
    'C': config.context,
    'D': config.embed_dim,
    '3D': 3 * config.embed_dim,
    'F': config.mlp_dim,
    'H': config.head_size,
    'Q': config.num_heads * config.head_size,
    'KH': kv_heads * config.head_size,
  }
  return tuple(sizes[axis] for axis in tensor.axes)


def _check(
  shard: pathlib.Path, name: str, entry: Entry, wanted: tuple[int, ...]
) -> None:
  if entry.shape != wanted:
    raise ValueError(
      f'{shard}: tensor {name}: got shape {entry.shape!r:.80}, wanted '
      f'{wanted}, as config.json says'
    )
  check_dtype(shard, name, entry)


def _spare_head(
  config: CausalLMConfig, places: Mapping[str, pathlib.Path]
) -> set[str]:
  """A head that is written although it is the embedding."""
  return {'lm_head.weight'} & places.keys() if config.tied_head else set()


def _are_equal(
  shards: Mapping[pathlib.Path, Mapping[str, Entry]],
  places: Mapping[str, pathlib.Path],
  *names: str,
) -> bool:
  """Whether two tensors have the same bits; only these two are read."""
  entries = [shards[places[name]][name] for name in names]
  if entries[0][:2] != entries[1][:2]:
    return False
  one, other = (
    read_tensors(places[name], {name: entry})[name].reshape(-1).view('B')
    for name, entry in zip(names, entries)
  )
  # Compared as they lie: NumPy would write out where they differ.
  return one.data == other.data


def _parameters(
  config: CausalLMConfig, prefix: str, tensor: Tensor, x: np.ndarray
) -> dict[str, np.ndarray]:
  x = x.T if tensor.transposed else x
  parts = np.split(x, len(tensor.ours), axis=-1)
  return {prefix + ours: part for ours, part in zip(tensor.ours, parts)}
