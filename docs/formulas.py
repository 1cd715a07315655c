"""Docstrings as Markdown understands them; loaded by mkdocstrings.

Ours are for `help()` first: a formula is what stands two spaces further in, an
asterisk is an asterisk, an example needs no fence, a paper has a line.
"""

import re
from typing import Any

import griffe

_SECTION = re.compile(r'^[A-Z]\w+:$')
# What is code already, and the name of an argument.
_VERBATIM = re.compile(r'``.*?``|`[^`\n]*`|^ *\*{1,2}\w+(?=:)', re.MULTILINE)


class Formulas(griffe.Extension):
  """Rewrite every docstring before it is parsed."""

  def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
    """Rewrite one."""
    if obj.docstring is not None:
      obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
  r"""The docstring with formulas as code, and papers a line each.

  >>> print(as_markdown('Sum.\n\n  a*b\n\nOf a*b.\n\nExample:\n  >>> 1*1\n  1'))
  Sum.
  <BLANKLINE>
      a*b
  <BLANKLINE>
  Of a\*b.
  <BLANKLINE>
  Examples:
    >>> 1*1
    1
  """
  section, blocks = '', []
  for block in re.split(r'\n{2,}', docstring.strip('\n')):
    first, *rest = block.split('\n')
    if _SECTION.match(first) and rest:
      section = first
      if section == 'Example:':
        block = '\n'.join(['Examples:', *rest])
    blocks.append(_of_section(section, block))
  return '\n\n'.join(blocks)


def _of_section(section: str, block: str) -> str:
  lines = block.split('\n')
  if section == 'Example:':
    return block
  if section == 'References:':
    # Two spaces end a line.
    return '\n'.join(x + '  ' if 'http' in x else x for x in lines)
  indent = min(len(x) - len(x.lstrip()) for x in lines)
  if not section and indent >= 4:
    return block
  if not section and indent >= 2:
    return '\n'.join('  ' + x for x in lines)
  return _escape(block)


def _escape(text: str) -> str:
  """Asterisks outside of code, escaped."""
  out, end = [], 0
  for match in _VERBATIM.finditer(text):
    out += [text[end : match.start()].replace('*', r'\*'), match.group()]
    end = match.end()
  return ''.join([*out, text[end:].replace('*', r'\*')])
