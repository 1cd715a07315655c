"""A config.json of Hugging Face, as a `CausalLMConfig`, and back."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from attn.interop.huggingface_families import (
  FAMILIES,
  REQUIRED,
  Family,
  Field,
)
from attn.interop.huggingface_rope import parse_rope, rope_json
from attn.modules import CausalLMConfig

_LAYERS = {False: 'full_attention', True: 'sliding_attention'}

# No model is so large; larger numbers would not fit where they are used.
_MOST = 2**31

# Fields of windows, where a family has them.
_WINDOW_FIELDS = {
  'none': (),
  'all': ('sliding_window',),
  'alternating': ('sliding_window', 'layer_types'),
  'some': (
    'sliding_window',
    'layer_types',
    'use_sliding_window',
    'max_window_layers',
  ),
}
_ROPE_FIELDS = (
  'rope_theta',
  'rope_scaling',
  'rope_parameters',
  'partial_rotary_factor',
)


class Parsed(NamedTuple):
  """What a config.json says.

  Attributes:
    family: A name of FAMILIES.
    config: The model.
    ends: Tokens that end a text.
  """

  family: str
  config: CausalLMConfig
  ends: tuple[int, ...]


class _Said:
  """The fields of a config.json, which complain by name."""

  def __init__(self, path: pathlib.Path, fields: Mapping[str, Any]) -> None:
    self._path = path
    self.fields = fields

  def wrong(self, name: str, wanted: str) -> ValueError:
    got = repr(self.fields[name])[:80] if name in self.fields else 'nothing'
    return ValueError(f'{self._path}: {name}: got {got}, wanted {wanted}')

  def take(self, name: str, field: Field) -> Any:
    """The value of a field, checked, in our terms."""
    value = self.fields.get(name, field.default)
    if name in self.fields and value is None:
      value = field.null
    elif name in self.fields:
      self.check(name, field.kind)
    if value is REQUIRED:
      raise self.wrong(name, f'a value ({field.kind.__name__})')
    return field.kind(value)

  def check(self, name: str, kind: type) -> None:
    """Numbers are positive, and True is none."""
    value = self.fields[name]
    if kind is bool:
      if not isinstance(value, bool):
        raise self.wrong(name, 'true or false')
      return
    kinds = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
      raise self.wrong(name, 'a whole number' if kind is int else 'a number')
    if not 0 < value < _MOST:
      raise self.wrong(name, f'more than 0 and less than {_MOST}')


def parse_config(path: pathlib.Path, fields: Mapping[str, Any]) -> Parsed:
  """Understand a config.json.

  Args:
    path: Where it is, for messages.
    fields: What it holds.

  Returns:
    What it says.  Rates of dropout, with which a model was trained, are left
    out.

  Raises:
    ValueError: naming the file and the field: if one is unknown, missing, not
      what it should be, or says what a `CausalLM` cannot do.
  """
  said = _Said(path, fields)
  name = fields.get('model_type')
  if not isinstance(name, str) or name not in FAMILIES:
    raise said.wrong('model_type', f'one of {", ".join(FAMILIES)}')
  family = FAMILIES[name]
  _check_names(said, family)
  ours = {
    'rope_base': 10_000.0,
    'qk_norm': False,
    'dropout_rate': 0.0,
    'window': 1,
    **family.fixed,
  }
  for theirs, field in family.fields.items():
    ours[field.ours] = said.take(theirs, field)
  # In GPT-2, null stands for this.
  ours['mlp_dim'] = ours['mlp_dim'] or 4 * ours['embed_dim']
  ours['activation'] = _activation(said, family)
  ours |= _windows(said, family, ours['num_layers'])
  if ours['positions'] == 'rotary':
    ours |= parse_rope(path, fields, ours['context'])
  try:
    config = CausalLMConfig(**ours)
  except ValueError as error:
    at, _, rest = str(error).partition(': ')
    names = {field.ours: theirs for theirs, field in family.fields.items()}
    raise ValueError(f'{path}: {names.get(at, at)}: {rest}') from error
  return Parsed(name, config, _ends(said))


def config_json(
  config: CausalLMConfig,
  family: str | None,
  *,
  dtype: str,
  ends: tuple[int, ...],
) -> tuple[str, dict[str, Any]]:
  """What to write into a config.json.

  Args:
    config: The model.
    family: A name of FAMILIES; the first that can hold the model if None.
    dtype: Of the parameters.
    ends: Tokens that end a text.

  Returns:
    The family, and the fields.

  Raises:
    ValueError: if the family is unknown, or cannot hold the model; names the
      field that it has no place for.
  """
  if family is not None and family not in FAMILIES:
    raise ValueError(
      f'family: got {family!r}, wanted one of {", ".join(FAMILIES)}'
    )
  reasons = []
  for name in FAMILIES if family is None else [family]:
    fields = _fields_of(config, name, dtype, ends)
    try:
      parsed = parse_config(pathlib.Path('config.json'), fields)
    except ValueError as error:
      reasons.append(f'{name}: {error}')
      continue
    # What is read back must be what was there.
    held, meant = _meaning(parsed.config), _meaning(config)
    lost = next((x for x in meant if meant[x] != held[x]), None)
    if lost is None:
      return name, fields
    reasons.append(
      f'{name}: {lost}: got {meant[lost]!r}, wanted {held[lost]!r}'
    )
  raise ValueError('family: no place for the model; ' + '; '.join(reasons))


def _check_names(said: _Said, family: Family) -> None:
  known = {
    *family.fields,
    *family.pinned,
    *family.ignored,
    *family.dropouts,
    family.activation_field,
    *_WINDOW_FIELDS[family.windows],
  }
  if family.fixed['positions'] == 'rotary':
    known.update(_ROPE_FIELDS)
  for name in said.fields:
    if name not in known:
      raise said.wrong(name, 'no such field: it is unknown what it changes')
  classes = said.fields.get('architectures')
  if classes is not None and classes != [family.architecture]:
    raise said.wrong('architectures', f'{[family.architecture]}')
  for name, allowed in family.pinned.items():
    value = said.fields.get(name, allowed[0])
    # 1 is not True here.
    if not any(value is one for one in allowed):
      raise said.wrong(name, f'{allowed[0]}')


def _activation(said: _Said, family: Family) -> str:
  default = next(iter(family.activations))
  name = said.fields.get(family.activation_field, default)
  if not isinstance(name, str) or name not in family.activations:
    wanted = ', '.join(family.activations)
    raise said.wrong(family.activation_field, f'one of {wanted}')
  return family.activations[name]


def _windows(said: _Said, family: Family, num_layers: int) -> dict[str, Any]:
  """Which layers have a window, and how wide it is."""
  if family.windows == 'none':
    return {'attention': 'full'}
  window = None
  if said.fields.get('sliding_window', family.sliding_window) is not None:
    default = family.sliding_window
    window = said.take('sliding_window', Field('window', int, default))
  period = {'all': 0, 'alternating': 2, 'some': 1}[family.windows]
  if family.windows == 'some':
    if not said.take('use_sliding_window', Field('', bool, False)):
      window = None
    elif said.fields.get('layer_types') is None and window is not None:
      period = _period_after(said, num_layers)
  if said.fields.get('layer_types') is not None:
    period = _period_of(said, num_layers)
  if family.windows == 'all' and window is None:
    period = 1
  if period == 1:
    return {'attention': 'full', 'window': window or 1}
  if window is None:
    raise said.wrong('sliding_window', 'a width: layers have a window')
  if period == 0:
    return {'attention': 'sliding_window', 'window': window}
  return {'attention': 'alternating', 'window': window, 'full_every': period}


def _period_after(said: _Said, num_layers: int) -> int:
  """Layers from `max_window_layers` on have a window; see `_period_of`."""
  first = said.fields.get('max_window_layers', 28)
  if type(first) is not int or not 0 <= first < _MOST:
    raise said.wrong('max_window_layers', 'a whole number')
  if 0 < first < num_layers:
    raise said.wrong('max_window_layers', f'0, or {num_layers} and more')
  return 0 if first == 0 else 1


def _period_of(said: _Said, num_layers: int) -> int:
  """Every how manyth layer sees all: 0 for none, 1 for each."""
  types = said.fields['layer_types']
  if not isinstance(types, list) or len(types) != num_layers:
    raise said.wrong('layer_types', f'a list of {num_layers}')
  if not all(x in _LAYERS.values() for x in types):
    raise said.wrong('layer_types', f'of {", ".join(_LAYERS.values())}')
  sees_all = [x == _LAYERS[False] for x in types]
  if not any(sees_all):
    return 0
  period = sees_all.index(True) + 1
  if sees_all != [(i + 1) % period == 0 for i in range(num_layers)]:
    raise said.wrong('layer_types', 'full_attention in every n-th layer')
  return period


def _ends(said: _Said) -> tuple[int, ...]:
  ends = said.fields.get('eos_token_id')
  ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
  if not all(type(end) is int and 0 <= end < _MOST for end in ends):
    raise said.wrong('eos_token_id', 'a token, or several')
  return tuple(ends)


def _fields_of(
  config: CausalLMConfig, name: str, dtype: str, ends: tuple[int, ...]
) -> dict[str, Any]:
  """A config.json, which may say less than the config does."""
  family = FAMILIES[name]
  fields: dict[str, Any] = {
    'architectures': [family.architecture],
    'model_type': name,
    'dtype': dtype,
    'bos_token_id': None,
    'eos_token_id': ends[0] if len(ends) == 1 else list(ends) or None,
    'pad_token_id': None,
  }
  spelled_out = {
    'num_kv_heads': config.num_kv_heads or config.num_heads,
    'head_dim': config.head_size,
    'query_scalar': config.query_scalar or config.head_size,
  }
  for theirs, field in family.fields.items():
    value = spelled_out.get(field.ours, getattr(config, field.ours))
    if value == field.kind(value):
      value = field.kind(value)
    # What is 0 with us, and nothing without it, is null there.
    fields[theirs] = None if value == 0 and field.null == 0 else value
  fields |= {theirs: allowed[0] for theirs, allowed in family.pinned.items()}
  fields |= dict.fromkeys(family.dropouts, config.dropout_rate)
  for theirs, ours in family.activations.items():
    if ours == config.activation:
      fields[family.activation_field] = theirs
      break
  else:
    fields[family.activation_field] = config.activation
  fields |= _window_fields(config, family.windows)
  if family.fixed['positions'] == 'rotary':
    fields['rope_parameters'] = rope_json(config)
  return fields


def _window_fields(config: CausalLMConfig, windows: str) -> dict[str, Any]:
  near = [_pattern(config, i) != 'full' for i in range(config.num_layers)]
  types = [_LAYERS[is_near] for is_near in near]
  match windows:
    case 'all':
      return {'sliding_window': config.window if any(near) else None}
    case 'alternating':
      return {'sliding_window': config.window, 'layer_types': types}
    case 'some':
      return {
        'sliding_window': config.window if any(near) else None,
        'layer_types': types,
        'use_sliding_window': any(near),
        'max_window_layers': config.num_layers,
      }
  return {}


def _pattern(config: CausalLMConfig, layer: int) -> str:
  if config.pattern != 'alternating':
    return config.pattern
  return 'full' if (layer + 1) % config.full_every == 0 else 'sliding_window'


def _meaning(config: CausalLMConfig) -> dict[str, Any]:
  """Fields that change what a model computes, each spelled in one way."""
  meant = dataclasses.asdict(config)
  for name in ('implementation', 'dropout_rate', 'kernel_std', 'zero_init'):
    del meant[name]
  meant |= {
    'attention': (config.kind, config.pattern),
    'num_kv_heads': config.num_kv_heads or config.num_heads,
    'head_dim': config.head_size,
    'query_scalar': config.query_scalar or config.head_size,
  }
  unused = {
    'latent_dim': config.kind != 'latent',
    'dilation': config.pattern != 'dilated',
    'chunk_size': config.pattern != 'chunked',
    'global_tokens': config.pattern != 'global',
    'prefix_length': config.pattern != 'prefix',
    'window': config.pattern not in ('sliding_window', 'alternating'),
    'full_every': config.pattern != 'alternating',
    'relative_buckets': config.positions != 'relative_bias',
    'relative_max_distance': config.positions != 'relative_bias',
    'rope_base': config.positions != 'rotary',
    'ngram_rows': not config.ngrams,
    'ngram_dim': not config.ngrams,
  }
  meant |= {name: None for name, is_unused in unused.items() if is_unused}
  if config.pattern in ('full', 'sliding_window', 'alternating'):
    # Two layers of which the second sees all, or of which every second does.
    layers = range(config.num_layers)
    meant['attention'] = (config.kind, *(_pattern(config, i) for i in layers))
    meant['full_every'] = None
  scaling = config.rope_scaling
  if scaling is not None:
    turns = scaling.frequencies(config.head_size, config.rope_base)
    turns = tuple(turns.tolist())
    meant['rope_scaling'] = (scaling.kind, scaling.magnitude, turns)
    if scaling.kind == 'dynamic':
      meant['rope_scaling'] = (scaling.kind, scaling.factor)
  return meant
