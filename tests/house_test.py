"""The house: who may import whom, and how its functions document themselves."""

import ast
import inspect
import pathlib
import subprocess
import sys
import types

from absl.testing import absltest, parameterized

import attn

_ROOT = pathlib.Path(attn.__file__).parents[1]

# From the ground up: a file imports only from floors below its own.  A name
# ending in a dot stands for a folder, whose files may import each other.
_FLOORS = (
  ('precision', 'rope_scaling'),
  ('scores', 'alignment', 'weights', 'heads', 'positions', 'masks.'),
  ('mods.',),
  ('call', 'single_head'),
  ('backends.',),
  ('dispatch', 'inspection', 'additive', 'sharded'),
  ('variants',),
  ('',),  # attn itself: the names it exports
  ('modules.',),
  ('interop.',),
  ('training.',),
)

# Files with no test of their own: tests/dispatch_test.py covers them.
_TESTED_ELSEWHERE = {'__init__', 'call'}


def _files(folder):
  return sorted(folder.rglob('*.py'))


def _module(path):
  """Dotted name inside the package: 'backends.dense', or '' for attn."""
  parts = path.relative_to(_ROOT / 'attn').with_suffix('').parts
  return '.'.join(part for part in parts if part != '__init__')


def _floor(module):
  """Its floor, and the folder that it shares with its neighbours."""
  for floor, names in enumerate(_FLOORS):
    for name in names:
      if name.endswith('.') and f'{module}.'.startswith(name):
        return floor, name
      if module == name:
        return floor, None
  raise AssertionError(f'attn/{module}: on no floor of the house')


def _imports(path):
  """Dotted names of all that a file imports, wherever in the file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: a relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _imports_of_attn(path):
  """Modules of attn that a file imports: 'masks', 'backends.dense', ''."""
  modules = {_module(file) for file in _files(_ROOT / 'attn')}
  for name in _imports(path):
    package, _, inner = name.partition('.')
    while package == 'attn' and inner not in modules:
      inner = inner.rpartition('.')[0]
    if package == 'attn':
      yield inner


class LayersTest(parameterized.TestCase):
  def test_each_floor_imports_from_floors_below(self):
    seen = 0
    for path in _files(_ROOT / 'attn'):
      floor, folder = _floor(_module(path))
      for imported in _imports_of_attn(path):
        seen += 1
        below, neighbour = _floor(imported)
        self.assertTrue(
          below < floor or (folder and folder == neighbour),
          f'{path} imports attn.{imported}',
        )
    self.assertGreater(seen, 20)

  def test_nobody_inside_imports_the_mains(self):
    outside = {'tests', 'lessons', 'benchmarks', 'configs', 'train', 'sample'}
    for path in _files(_ROOT / 'attn'):
      roots = {name.partition('.')[0] for name in _imports(path)}
      self.assertFalse(roots & outside, path)

  def test_the_kernels_import_jax_and_numpy_and_nothing_more(self):
    allowed = {'attn', 'jax', 'numpy'} | sys.stdlib_module_names
    for path in _files(_ROOT / 'attn'):
      if _floor(_module(path))[0] <= _floor('')[0]:
        roots = {name.partition('.')[0] for name in _imports(path)}
        if path == _ROOT / 'attn' / 'masks' / 'drawing.py':
          roots -= {'matplotlib'}  # when a picture is asked for, not before
        self.assertLessEqual(roots, allowed, path)

  def test_only_modules_know_linen(self):
    paths = [*_files(_ROOT / 'attn'), *_ROOT.glob('*.py')]
    for folder in ('lessons', 'configs'):
      paths += _files(_ROOT / folder)
    for path in paths:
      knows = any(x.startswith('flax.linen') for x in _imports(path))
      inside = path.is_relative_to(_ROOT / 'attn' / 'modules')
      self.assertTrue(inside or not knows, path)

  def test_importing_attn_loads_little(self):
    program = 'import attn, sys; print(*sys.modules)'
    done = subprocess.run(
      [sys.executable, '-c', program],
      cwd=_ROOT,
      capture_output=True,
      text=True,
      check=True,
    )
    loaded = {name.partition('.')[0] for name in done.stdout.split()}
    self.assertLessEqual({'attn', 'jax', 'numpy'}, loaded)
    heavy = {'flax', 'optax', 'orbax', 'chex', 'absl', 'matplotlib', 'grain'}
    self.assertFalse(loaded & heavy)
    self.assertNotIn('attn.modules', done.stdout.split())
    self.assertNotIn('attn.training', done.stdout.split())

  def test_the_oracles_import_no_jax(self):
    roots = {x.partition('.')[0] for x in _imports(_ROOT / 'tests/oracles.py')}
    self.assertLessEqual(roots - sys.stdlib_module_names, {'numpy'})


class NamesTest(parameterized.TestCase):
  def test_all_is_sorted_and_complete(self):
    self.assertEqual(attn.__all__, sorted(set(attn.__all__)))
    for name in attn.__all__:
      self.assertTrue(hasattr(attn, name), name)

  def test_no_file_bears_the_name_of_a_function(self):
    for module, folder in ((attn, 'attn'), (attn.masks, 'attn/masks')):
      functions = {
        name
        for name in module.__all__
        if not isinstance(getattr(module, name), types.ModuleType)
      }
      for path in (_ROOT / folder).rglob('*'):
        self.assertNotIn(path.stem, functions, path)

  @parameterized.parameters(*((name,) for name in attn.__all__))
  def test_every_function_documents_itself(self, name):
    function = getattr(attn, name)
    if isinstance(function, types.ModuleType):
      return
    doc = inspect.getdoc(function)
    self.assertRegex(doc, r'\n\nReturns:\n')
    self.assertRegex(doc, r'\n\nArgs:\n')
    for parameter in inspect.signature(function).parameters:
      self.assertRegex(doc, rf'\n  \*{{0,2}}{parameter}: ')

  def test_every_mask_draws_itself(self):
    functions = {
      name: function
      for name, function in vars(attn.masks).items()
      if inspect.isfunction(function) and not name.startswith('_')
    }
    self.assertLessEqual(
      {'causal', 'dense', 'from_fn', 'padding', 'per_head', 'prefix'}
      | {'block_diagonal', 'chunked', 'dilated', 'global_tokens', 'segments'}
      | {'between_chunks', 'block_diffusion', 'tree', 'windows_2d'}
      | {'neighbourhood_2d', 'sliding_window'},
      set(functions),
    )
    self.assertLessEqual(set(functions), set(attn.masks.__all__))
    for name, function in functions.items():
      doc = inspect.getdoc(function)
      drawing = r'>>> print\(.*\.draw\(.*\)\)\n( *[01]( [01])*\n)+'
      self.assertRegex(doc, drawing, name)
      for part in ('Args:', 'Returns:', 'Raises:'):
        self.assertIn(f'\n\n{part}\n', doc, name)
      for parameter in inspect.signature(function).parameters:
        self.assertRegex(doc, rf'\n  \*{{0,2}}{parameter}: ', name)

  def test_every_mod_shows_an_example_and_documents_itself(self):
    functions = {
      name: getattr(attn.mods, name)
      for name in attn.mods.__all__
      if inspect.isfunction(getattr(attn.mods, name))
    }
    self.assertLessEqual(
      {'alibi', 'compose', 'relative_bias', 'soft_cap', 'temperature'},
      set(functions),
    )
    self.assertEqual(attn.mods.__all__, sorted(set(attn.mods.__all__)))
    for name, function in functions.items():
      doc = inspect.getdoc(function)
      for part in ('Args:', 'Returns:', 'Raises:', 'Example:\n  >>> '):
        self.assertIn(f'\n\n{part}', doc, name)
      for parameter in inspect.signature(function).parameters:
        self.assertRegex(doc, rf'\n  \*{{0,2}}{parameter}: ', name)

  def test_every_kernel_file_has_its_test(self):
    folders = [_ROOT / 'attn' / name for name in ('masks', 'mods')]
    for path in [*(_ROOT / 'attn').glob('*.py'), *folders]:
      if path.stem not in _TESTED_ELSEWHERE:
        test = _ROOT / 'tests' / f'{path.stem}_test.py'
        self.assertTrue(test.exists(), test)


if __name__ == '__main__':
  absltest.main()
