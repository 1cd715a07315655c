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
    'HeadCall',
    'Linear',
    'attention_fn',
    'calls_of',
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
  own = vars(thing).get('__doc__') if isinstance(thing, type) else thing.__doc__
  return inspect.cleandoc(own or '')


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


@pytest.fixture(scope='module')
def pages():
  pytest.importorskip('mkdocs')
  return _load('pages')


def test_the_reference_has_every_public_name(pages):
  exports = pages.exports()
  for package, name, thing in _exports():
    assert name in exports[package]
    if not isinstance(thing, types.ModuleType):
      page = pages.reference(package, exports[package])
      assert f'::: {package}.{name}\n' in page


def test_links_lead_from_page_to_page(pages):
  known = {**pages.GUIDES, 'lessons/01_a.py': 'lessons/01_a.md'}
  text = (
    '[a](lessons/01_a.py), ![b](docs/b.png), [c](attn/c.py), [d](#d), '
    '[e](https://e.org), [f](WORKSPACE.md#f)'
  )
  assert pages._relink(text, 'README.md', 'index.md', known) == (
    '[a](lessons/01_a.md), ![b](b.png), c, [d](#d), [e](https://e.org), '
    '[f](workspace.md#f)'
  )
  text = '[a](01_a.py), [up](../README.md)'
  assert pages._relink(
    text, 'lessons/README.md', 'lessons/index.md', known
  ) == ('[a](01_a.md), [up](../index.md)')


def test_docstrings_become_markdown():
  docstring = inspect.cleandoc(
    """Sum.

      out[*B] = a * b

    Of *B in `*B`.

    Args:
      a: float[*B].
      **options: Of *B.

    Example:
      >>> 2 * 3
      6

    References:
      One, 2020. https://one.org
      Two, 2021. https://two.org
    """
  )
  pytest.importorskip('griffe')
  assert _load('formulas').as_markdown(docstring) == (
    'Sum.\n\n    out[*B] = a * b\n\nOf \\*B in `*B`.\n\n'
    'Args:\n  a: float[\\*B].\n  **options: Of \\*B.\n\n'
    'Examples:\n  >>> 2 * 3\n  6\n\n'
    'References:\n  One, 2020. https://one.org  \n'
    '  Two, 2021. https://two.org  '
  )
