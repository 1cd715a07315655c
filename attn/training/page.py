"""Pages of one file that ask nobody for anything.

Style, script and data are part of the file, and its content security policy
forbids the rest.
"""

import base64
import hashlib
import html
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attn.training.artifacts import Path, replace_file


def write_page(
  path: Path,
  template: str,
  *,
  styles: Sequence[str],
  scripts: Sequence[str],
  parts: Mapping[str, str],
) -> None:
  """Fill a template, and write it.

  Args:
    path: The file to write; its folder exists.
    template: Its name.
    styles: Names of style sheets.
    scripts: Names of scripts, which share their names.
    parts: What stands for {{name}} in the template, as HTML; style, script and
      policy are there.

  Raises:
    OSError: if the file cannot be written; an old one is left as it was.
  """
  style = '\n'.join(map(_resource, styles))
  script = "'use strict';\n" + '\n'.join(map(_resource, scripts))
  # Only this style and this script are obeyed, whatever a text says.
  policy = (
    f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
    f"script-src '{_digest(script)}'"
  )
  own = {'style': style, 'script': script, 'policy': policy}
  page = _filled(template, {**parts, **own})
  # Half a surrogate pair has no UTF-8; a browser shows its reference as '�'.
  replace_file(path, page.encode('utf-8', 'xmlcharrefreplace'))


def gaze_section(unit: str) -> str:
  """The section of a text to point at; `unit` is what there is to point at."""
  return _filled('gaze.html.template', {'unit': unit})


def escape(text: str) -> str:
  """Text as HTML; control characters, which HTML may not hold, as pictures."""
  pictures = {
    code: 0x2400 + code for code in range(32) if chr(code) not in '\n\t'
  }
  return html.escape(text.translate(pictures))


def embed(data: Any) -> str:
  """JSON that cannot end the script element it stands in."""
  text = json.dumps(data, allow_nan=False, separators=(',', ':'))
  return text.replace('<', '\\u003c')


def _filled(template: str, parts: Mapping[str, str]) -> str:
  # In one pass: braces in a story are not looked at again.
  return re.sub(
    r'\{\{(\w+)\}\}', lambda match: parts[match[1]], _resource(template)
  )


def _resource(name: str) -> str:
  folder = importlib.resources.files('attn.training')
  return folder.joinpath(name).read_text(encoding='utf-8')


def _digest(source: str) -> str:
  digest = hashlib.sha256(source.encode()).digest()
  return f'sha256-{base64.b64encode(digest).decode()}'
