"""A page of all heads of a model that read a text.

python -m attn.training.view --workdir=runs/tiny --text='Lea hugs a map.'
python -m attn.training.view --model=DIR --text='Once upon a time'
"""

import base64
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import flags

from attn.modules import CausalLM, calls_of
from attn.training import command_line
from attn.training.artifacts import Path, word_starts
from attn.training.errors import UserError
from attn.training.head_rows import HeadRows, rows_of_call
from attn.training.page import embed, escape, gaze_section, write_page
from attn.training.run_directory import RunDirectory
from attn.training.tokenizer import Tokenizer
from attn.training.trained import load_imported, load_language

# Rows and columns of a head's map.
_SIDE = 48
_SCRIPTS = ('report_gaze.js', 'view_rows.js', 'view_heads.js', 'view_main.js')


class HeadSummary(NamedTuple):
  """What may be said of the heads of a layer; N heads.

  Attributes:
    entropy: float[N], in nats, of the shares that keys get of a row, absolute
      where weights may be negative; mean over the rows.
    first: float[N], the weight of the first token, mean over the other rows.
    sink: float[N], the weight of no token, mean over the rows; None where rows
      sum to 1, or to anything.
    maps: float[N, G, G], the largest weight in each of G x G parts.
  """

  entropy: np.ndarray
  first: np.ndarray
  sink: np.ndarray | None
  maps: np.ndarray


def summarize(rows: HeadRows, side: int = _SIDE) -> HeadSummary:
  """Look at all rows of a layer, a few at a time.

  Args:
    rows: The layer's.
    side: The most rows and columns of a map.

  Returns:
    See there; memory is proportional to the length.
  """
  heads, length = rows.num_heads, rows.length
  side = min(side, length)
  part = np.arange(length) * side // length
  begins = np.searchsorted(part, np.arange(side))
  entropy, first, total = (np.zeros(heads) for _ in range(3))
  maps = np.zeros((heads, side, side), np.float32)
  for begin in range(0, length, rows.at_once):
    chosen = np.arange(begin, min(begin + rows.at_once, length))
    weights = rows.weights(chosen)
    shares = np.abs(weights)
    sums = shares.sum(-1, keepdims=True)
    shares = shares / np.where(sums == 0, 1, sums)
    entropy -= (shares * np.log(np.where(shares == 0, 1, shares))).sum((1, 2))
    first += weights[:, chosen > 0, 0].sum(1)
    total += weights.sum((1, 2))
    columns = np.maximum.reduceat(weights, begins, axis=2)
    for i, t in enumerate(chosen):
      place = maps[:, part[t]]
      np.maximum(place, columns[:, i], out=place)
  return HeadSummary(
    entropy=entropy / length,
    first=first / max(length - 1, 1),
    sink=None if rows.sink is None else 1 - total / length,
    maps=maps,
  )


def write_view(
  path: Path,
  model: CausalLM,
  params: Any,
  tokenizer: Tokenizer,
  text: str,
  *,
  title: str,
) -> None:
  """Write the page, one file that works offline.

  It holds queries and keys of the text, and computes rows from them: its size
  grows with the length of the text, not with its square.

  Args:
    path: The file; its folder exists.
    model: Any whose layers show their calls; see `calls_of`.
    params: Its parameters.
    tokenizer: Text to tokens.
    text: What the heads read.
    title: The heading.

  Raises:
    UserError: if the text is empty, longer than the context, or has characters
      that the tokenizer does not know.
    ValueError: if the model has no attention, or one that a page cannot show.
    OSError: if the file cannot be written; an old one is left as it was.
  """
  tokens = tokenizer.encode(text)
  context = model.config.context
  if not 1 <= len(tokens) <= context:
    raise UserError(
      f'text: got {len(tokens)} {tokenizer.unit}s, wanted 1 to {context}, the '
      'context'
    )
  calls = calls_of(model, params, jnp.asarray(tokens)[None])
  if not calls:
    raise ValueError('model: has no attention, wanted a layer that has')
  layers = [rows_of_call(call) for call in calls]
  found = [summarize(rows) for rows in layers]
  pieces = [tokenizer.decode([token]) for token in tokens]
  maps = np.stack([each.maps for each in found])
  data = {
    'text': pieces,
    'words': _word_tokens(pieces),
    'layers': len(layers),
    'heads': layers[0].num_heads,
    'marked': [],
    'before': ', before ',
    'calls': [rows.packed() for rows in layers],
    'statistics': [line for each in found for line in _statistics(each)],
    'side': maps.shape[-1],
    # Roots, as they are shown: so small weights are seen as well.
    'maps': base64.b64encode(
      np.rint(255 * np.sqrt(maps.clip(0, 1))).astype(np.uint8).tobytes()
    ).decode(),
  }
  write_page(
    path,
    'view.html.template',
    styles=['report.css', 'view.css'],
    scripts=_SCRIPTS,
    parts={
      'title': escape(title),
      'unit': tokenizer.unit,
      'gaze': gaze_section(tokenizer.unit),
      'data': embed(data),
    },
  )


def _statistics(found: HeadSummary) -> list[dict[str, float | None]]:
  """Of each head, as the page's script reads it."""
  sink = [None] * len(found.first) if found.sink is None else found.sink
  return [
    {
      'entropy': float(entropy),
      'first': float(first),
      'sink': None if none is None else float(none),
    }
    for entropy, first, none in zip(found.entropy, found.first, sink)
  ]


def _word_tokens(pieces: list[str]) -> list[int]:
  """The tokens with which words begin."""
  starts = set(word_starts(''.join(pieces)))
  places = np.cumsum([0, *(len(piece) for piece in pieces)])
  return [t for t in range(len(pieces)) if t == 0 or int(places[t]) in starts]


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_string('workdir', 'runs/tiny', 'A trained run.')
  flags.DEFINE_string(
    'model', None, 'In place of a run, a directory of Hugging Face.'
  )
  flags.DEFINE_string('text', None, 'What the heads read.', required=True)
  flags.DEFINE_string(
    'out', None, 'The file; view.html in the directory of either if none.'
  )


def main() -> None:
  """Flags in, one call."""
  options = flags.FLAGS
  folder = pathlib.Path(options.model or options.workdir)
  if options.model is not None:
    trained = load_imported(options.model)
  else:
    trained = load_language(RunDirectory(options.workdir))
  path = pathlib.Path(options.out or folder / 'view.html')
  try:
    write_view(
      path,
      trained.model,
      trained.params,
      trained.tokenizer,
      options.text,
      title=f'Heads of {folder.resolve().name}',
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  print(f'{path} shows {options.text[:40]!r}; open it in a browser')


if __name__ == '__main__':
  command_line.run(main, define_flags)
