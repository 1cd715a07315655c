"""Pages that are written elsewhere; a hook of mkdocs, see mkdocs.yml.

The guides are the README files and the lessons; the reference has a page for
each package of `attn` that says in `__all__` what it exports.
"""

import ast
import os
import pathlib
import re
from typing import Any

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = pathlib.Path(__file__).parents[1]

# Path in the repository: page.
GUIDES = {
  'README.md': 'index.md',
  'WORKSPACE.md': 'workspace.md',
  'benchmarks/README.md': 'benchmarks.md',
  'lessons/README.md': 'lessons/index.md',
}

_LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)')


def on_files(files: Files, config: MkDocsConfig, **kwargs: Any) -> Files:
  """Add the guides, the lessons and the reference."""
  lessons = sorted((_ROOT / 'lessons').glob('[0-9]*.py'))
  pages = {**GUIDES, **{f'lessons/{x.name}': _page(x) for x in lessons}}
  for path, page in pages.items():
    source = _ROOT / path
    text = lesson(source) if source.suffix == '.py' else source.read_text()
    files.append(
      File.generated(config, page, content=_relink(text, path, page, pages))
    )
  for package, names in exports().items():
    content = reference(package, names)
    page = f'reference/{package}.md'
    files.append(File.generated(config, page, content=content))
  return files


def exports() -> dict[str, list[str]]:
  """What each package of `attn` exports, found without importing it."""
  found = {}
  for path in sorted((_ROOT / 'attn').rglob('__init__.py')):
    package = '.'.join(path.parent.relative_to(_ROOT).parts)
    for node in ast.parse(path.read_text()).body:
      if isinstance(node, ast.Assign) and '__all__' in map(
        ast.unparse, node.targets
      ):
        found[package] = ast.literal_eval(node.value)
  return found


def reference(package: str, names: list[str]) -> str:
  """The page of a package; its packages have pages of their own."""
  inner = {x.rpartition('.')[2] for x in exports() if x.startswith(package)}
  lines = [f'# {package}', '', f'::: {package}', '    options:']
  lines += ['      members: false', '      show_root_heading: false', '']
  for name in names:
    if name not in inner:
      lines += [f'::: {package}.{name}', '']
  return '\n'.join(lines)


def lesson(path: pathlib.Path) -> str:
  """A lesson as Markdown, its code in fences."""
  cells = jupytext.read(path).cells
  return '\n\n'.join(
    cell.source
    if cell.cell_type == 'markdown'
    else f'```python\n{cell.source}\n```'
    for cell in cells
  )


def _page(path: pathlib.Path) -> str:
  return f'lessons/{path.stem}.md'


def _relink(text: str, path: str, page: str, pages: dict[str, str]) -> str:
  """Links from page to page; those to a file that has none become text."""

  def link(match: re.Match[str]) -> str:
    mark, words, target = match.groups()
    file, hash_, anchor = target.partition('#')
    if '://' in target or not file:
      return match.group()
    wanted = os.path.normpath(os.path.join(os.path.dirname(path), file))
    if wanted.startswith('docs/'):
      to = wanted.removeprefix('docs/')
    elif wanted in pages:
      to = pages[wanted]
    else:
      return words
    to = os.path.relpath(to, os.path.dirname(page) or '.')
    # A picture that is a link: both are paths.
    words = _LINK.sub(link, words)
    return f'{mark}[{words}]({to}{hash_}{anchor})'

  return _LINK.sub(link, text)
