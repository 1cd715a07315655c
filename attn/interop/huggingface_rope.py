"""What a config.json says of rotary positions, in its old spelling and new."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from attn.modules import CausalLMConfig
from attn.rope_scaling import RopeScaling

# Fields of each kind -> those of `RopeScaling`; of 'yarn', two more.
_FACTOR = {'factor': 'factor'}
_ORIGINAL = {'original_max_position_embeddings': 'original_context'}
_KINDS: dict[str, dict[str, str]] = {
  'default': {},
  'linear': _FACTOR,
  'dynamic': _FACTOR,
  'llama3': {
    **_FACTOR,
    **_ORIGINAL,
    'low_freq_factor': 'low_freq_factor',
    'high_freq_factor': 'high_freq_factor',
  },
  'yarn': {
    **_FACTOR,
    **_ORIGINAL,
    'beta_fast': 'beta_fast',
    'beta_slow': 'beta_slow',
    'attention_factor': 'attention_factor',
    'truncate': 'truncate',
  },
}
_OF_ALL = ('rope_type', 'type', 'rope_theta', 'partial_rotary_factor')
_OF_YARN = ('mscale', 'mscale_all_dim')


def parse_rope(
  path: pathlib.Path, fields: Mapping[str, Any], context: int
) -> dict[str, Any]:
  """Base and scaling of the rotary angles.

  Args:
    path: Of the config.json, for messages.
    fields: What it holds: `rope_parameters`, or in files of before 2025
      `rope_theta` and `rope_scaling`.
    context: The most tokens that the model reads.

  Returns:
    `rope_base` and `rope_scaling` of `CausalLMConfig`.

  Raises:
    ValueError: naming the file and the field.
  """

  def wrong(name: str, got: Any, wanted: str) -> ValueError:
    return ValueError(f'{path}: {name}: got {got!r:.80}, wanted {wanted}')

  where, said = 'rope_parameters', fields.get('rope_parameters')
  older = fields.get('rope_scaling')
  if said is not None and older is not None:
    raise wrong('rope_scaling', older, 'none beside rope_parameters')
  if said is None:
    where, said = 'rope_scaling', {} if older is None else older
  if not isinstance(said, dict):
    raise wrong(where, said, 'an object, or null')
  said = {name: value for name, value in said.items() if value is not None}
  kind = said.get('rope_type', said.get('type', 'default'))
  if not isinstance(kind, str) or kind not in _KINDS:
    raise wrong(f'{where}.rope_type', kind, f'one of {", ".join(_KINDS)}')
  names = _KINDS[kind]
  known = {*names, *_OF_ALL, *(_OF_YARN if kind == 'yarn' else ())}
  for name, value in said.items():
    if name not in known:
      raise wrong(f'{where}.{name}', value, f'no such field in {kind}')
    if name == 'truncate':
      if not isinstance(value, bool):
        raise wrong(f'{where}.{name}', value, 'true or false')
    elif name not in ('type', 'rope_type'):
      whole = name == 'original_max_position_embeddings'
      if not _is_number(value, whole):
        raise wrong(f'{where}.{name}', value, 'a positive number')
  for at, part in (
    (f'{where}.partial_rotary_factor', said.get('partial_rotary_factor')),
    ('partial_rotary_factor', fields.get('partial_rotary_factor')),
  ):
    if part is not None and part != 1:
      raise wrong(at, part, '1: heads are rotated whole')
  base = _base(fields, said, wrong)
  if kind == 'default':
    return {'rope_base': base, 'rope_scaling': None}
  ours = {names[name]: x for name, x in said.items() if name in names}
  if 'original_max_position_embeddings' in names:
    ours.setdefault('original_context', context)
  if kind == 'yarn':
    ours.setdefault('factor', context / ours['original_context'])
    if 'attention_factor' not in ours and {*_OF_YARN} <= said.keys():
      above, below = (_magnitude(ours['factor'], said[x]) for x in _OF_YARN)
      ours['attention_factor'] = above / below
  for name, of_ours in names.items():
    if kind != 'yarn' and of_ours not in ours:
      raise wrong(f'{where}.{name}', None, f'a number for {kind}')
  try:
    scaling = RopeScaling(kind, **ours)
  except ValueError as error:
    raise ValueError(f'{path}: {where}: {error}') from error
  return {'rope_base': base, 'rope_scaling': scaling}


def rope_json(config: CausalLMConfig) -> dict[str, Any]:
  """The `rope_parameters` of a model."""
  scaling = config.rope_scaling
  said: dict[str, Any] = {
    'rope_type': 'default' if scaling is None else scaling.kind,
    'rope_theta': float(config.rope_base),
  }
  if scaling is not None:
    for theirs, ours in _KINDS[scaling.kind].items():
      said[theirs] = getattr(scaling, ours)
    if scaling.kind == 'yarn':
      said['attention_factor'] = scaling.magnitude
  return said


def _base(
  fields: Mapping[str, Any], said: Mapping[str, Any], wrong: Any
) -> Any:
  inside, outside = said.get('rope_theta'), fields.get('rope_theta')
  if outside is not None and not _is_number(outside, False):
    raise wrong('rope_theta', outside, 'a positive number')
  if None not in (inside, outside) and inside != outside:
    raise wrong('rope_theta', outside, f'{inside}, as beside rope_type')
  given = outside if inside is None else inside
  return 10_000.0 if given is None else float(given)


def _is_number(value: Any, whole: bool) -> bool:
  kinds = (int,) if whole else (int, float)
  is_one = isinstance(value, kinds) and not isinstance(value, bool)
  return is_one and 0 < value < 2**63


def _magnitude(factor: float, share: float) -> float:
  return 1.0 if factor <= 1 else 0.1 * share * math.log(factor) + 1
