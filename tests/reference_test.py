"""The reference: what every public name shows, and the pages made of it."""

import ast
import importlib
import importlib.util
import inspect
import itertools
import pathlib
import re
import types

import pytest

_ROOT = pathlib.Path(__file__).parents[1]

# What no paper describes: arithmetic, plumbing, the forms of our own.  A new
# name that is not here needs its paper.
_NO_PAPER = {
  'attn': {
    'attention_rows',
    'explain',
    'naive_softmax',
    'self_attention',
    'sum_normalize',
  },
  'attn.masks': {'Mask', 'block_diagonal', 'dense', 'padding'},
  'attn.mods': {'Mod', 'compose', 'with_offset'},
  'attn.modules': {
    'CachePlan',
    'CausalLMConfig',
    'Decoded',
    'Encoded',
    'EncoderDecoderConfig',
    'Linear',
    'attention_fn',
    'make_encoder_decoder',
    'run_cell',
  },
}
_PACKAGES = tuple(_NO_PAPER)


def _load(name):
  """A file of docs/, which is no package."""
  spec = importlib.util.spec_from_file_location(name, _ROOT / f'docs/{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _exports():
  for package in _PACKAGES:
    module = importlib.import_module(package)
    for name in module.__all__:
      yield package, name, getattr(module, name)


def _constant_docs():
  """Docstrings of the constants in masks/facts.py, by name."""
  body = ast.parse((_ROOT / 'attn/masks/facts.py').read_text()).body
  return {
    node.targets[0].id: after.value.value
    for node, after in itertools.pairwise(body)
    if isinstance(node, ast.Assign)
    and isinstance(after, ast.Expr)
    and isinstance(after.value, ast.Constant)
  }


def _docstring(thing):
  """Its own, not that of a class it inherits from."""
  return inspect.cleandoc(vars(thing).get('__doc__') or '')


_NAMES = [
  pytest.param(package, name, thing, id=f'{package}.{name}')
  for package, name, thing in _exports()
]


@pytest.mark.parametrize(('package', 'name', 'thing'), _NAMES)
def test_a_public_name_documents_itself(package, name, thing):
  if isinstance(thing, int):
    assert _constant_docs()[name].endswith('.')
    return
  docstring = _docstring(thing)
  summary = docstring.partition('\n')[0]
  # What dataclasses write by themselves is a signature.
  assert summary
  assert not summary.startswith(f'{name}(')
  assert '>>> ' in docstring
  if isinstance(thing, types.ModuleType):
    return
  has_paper = re.search(
    r'^References:\n(?:  .*\n)*?.*https?://', docstring, re.MULTILINE
  )
  assert bool(has_paper) != (name in _NO_PAPER[package])


def test_nothing_is_excused_that_is_not_there():
  public = {}
  for package, name, _ in _exports():
    public.setdefault(package, set()).add(name)
  for package, names in _NO_PAPER.items():
    assert names <= public[package]
