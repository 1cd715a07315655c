"""A trained model as files that run without this package.

python -m attn.training.export --workdir=runs/tiny
"""

import json
import pathlib
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import flags
from flax import traverse_util

from attn.modules import CausalLM
from attn.training import command_line, language_model
from attn.training.artifacts import replace_file
from attn.training.errors import UserError
from attn.training.generate import prefix_of, read_prompts, read_token
from attn.training.run_directory import RunDirectory
from attn.training.tokenizer import Tokenizer
from attn.training.trained import load_language

Array = jax.Array
Flat = dict[str, Array]

PLATFORMS = ('cpu', 'cuda', 'tpu')
_PARAMS = 'params.safetensors'

_README = """\
# A language model, exported

The functions in `*.jax` are StableHLO, written by `jax.export` of JAX {jax} for
{platforms}. They need JAX, which reads them by the package
flatbuffers, and nothing else; the parameters are `params.safetensors`, name to
float array. `export.json` says the same for programs to read, and
`tokenizer.json` which token is which.

{functions}

B = {batch_size} texts, T = {length} tokens, V = {vocab_size} words. Prompts are
padded at their end, with any token; `lengths` says how many tokens were read.
{beyond}

```python
import pathlib

import jax
import jax.export
import numpy as np
import safetensors.numpy

folder = pathlib.Path('.')
params = safetensors.numpy.load_file(folder / 'params.safetensors')
forward, prefill, decode = (
  jax.export.deserialize(bytearray((folder / f'{{name}}.jax').read_bytes()))
  for name in ('forward', 'prefill', 'decode')
)

tokens = np.zeros(({batch_size}, {length}), np.int32)
tokens[:, :2] = 1, 0  # a prompt of two tokens
lengths = np.full({batch_size}, 2, np.int32)
logits, cache = prefill.call(params, tokens, lengths)
for _ in range(5):
  token = np.argmax(logits, -1).astype(np.int32)
  logits, cache = decode.call(params, cache, token, lengths)
  lengths += 1
```
"""


def functions(
  model: CausalLM, *, batch_size: int, length: int
) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
  """What is exported: by name a function and the shapes of its arguments.

    forward(params, tokens)                  -> logits [B, T, V]
    prefill(params, tokens, lengths)         -> (logits [B, V], cache)
    decode(params, cache, token, lengths)    -> (logits [B, V], cache)

  Parameters and cache are flat dictionaries, 'block_0/attention/query/kernel'
  and so on, as safetensors keep them.

  Args:
    model: The model.
    batch_size: B.
    length: T, of forward and of the prompt; at most the context.

  Returns:
    'forward', 'prefill' and 'decode'.

  Raises:
    ValueError: if a number is out of range.
  """
  context = model.config.context
  if batch_size < 1:
    raise ValueError(f'batch_size: got {batch_size}, wanted at least 1')
  if not 1 <= length <= context:
    raise ValueError(
      f'length: got {length}, wanted 1 to {context}, the context'
    )

  def forward(params: Flat, tokens: Array) -> Array:
    logits: Any = model.apply({'params': _nested(params)}, tokens)
    return logits

  def prefill(
    params: Flat, tokens: Array, lengths: Array
  ) -> tuple[Array, Flat]:
    nested = _nested(params)
    logits, cache = read_prompts(model, context, nested, tokens, lengths)
    return logits, flatten(cache)

  def decode(
    params: Flat, cache: Flat, token: Array, lengths: Array
  ) -> tuple[Array, Flat]:
    logits, nested = read_token(
      model,
      context,
      _nested(params),
      _nested(cache),
      token,
      lengths,
      # What was given may not be seen any further: all of it is past.
      prefix_of(model, lengths),
    )
    return logits, flatten(nested)

  tokens = jax.ShapeDtypeStruct((batch_size, length), jnp.int32)
  one_each = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
  params = jax.eval_shape(
    lambda: flatten(language_model.init(model, jax.random.key(0)))
  )
  _, cache = jax.eval_shape(prefill, params, tokens, one_each)
  return {
    'forward': (forward, (params, tokens)),
    'prefill': (prefill, (params, tokens, one_each)),
    'decode': (decode, (params, cache, one_each, one_each)),
  }


def export_model(
  folder: pathlib.Path,
  model: CausalLM,
  params: Any,
  tokenizer: Tokenizer,
  *,
  batch_size: int = 1,
  length: int | None = None,
  platforms: Sequence[str] = PLATFORMS,
) -> None:
  """Write a model's functions and parameters, and what they are.

  Args:
    folder: Where; it is made if it is not there.  Files of these names are
      replaced.
    model: The model.
    params: Its parameters.
    tokenizer: What its tokens mean.
    batch_size: Texts at once.
    length: The most tokens of a prompt; None for the context.
    platforms: Of `jax.export`.

  Raises:
    ValueError: if a number is out of range.
    OSError: if a file cannot be written.
  """
  length = model.config.context if length is None else length
  made = functions(model, batch_size=batch_size, length=length)
  exported = {
    name: jax.export.export(jax.jit(function), platforms=platforms)(*shapes)
    for name, (function, shapes) in made.items()
  }
  sizes = {
    'batch_size': batch_size,
    'length': length,
    'vocab_size': model.config.vocab_size,
    'context': model.config.context,
  }
  signatures = {
    name: _signature(shapes, jax.eval_shape(function, *shapes))
    for name, (function, shapes) in made.items()
  }
  about = {
    'jax': jax.__version__,
    'platforms': list(platforms),
    **sizes,
    'parameters': _PARAMS,
    'functions': {
      name: {'file': f'{name}.jax', **signature}
      for name, signature in signatures.items()
    },
  }
  arrays = {
    name: np.ascontiguousarray(x) for name, x in flatten(params).items()
  }
  folder.mkdir(parents=True, exist_ok=True)
  for name, each in exported.items():
    replace_file(folder / f'{name}.jax', bytes(each.serialize()))
  replace_file(folder / _PARAMS, safetensors.numpy.save(arrays))
  replace_file(
    folder / 'tokenizer.json', json.dumps(tokenizer.state()).encode()
  )
  replace_file(folder / 'export.json', json.dumps(about, indent=1).encode())
  readme = _README.format(
    jax=jax.__version__,
    platforms=', '.join(platforms),
    functions=_told(),
    beyond=_beyond(model),
    **sizes,
  )
  replace_file(folder / 'README.md', readme.encode())


def flatten(tree: Any) -> Flat:
  """Nested dictionaries as one, with a slash between the names."""
  flat: Any = traverse_util.flatten_dict(tree, sep='/')
  return flat


def _nested(flat: Flat) -> Any:
  return traverse_util.unflatten_dict(flat, sep='/')


def _signature(arguments: Any, results: Any) -> dict[str, Any]:
  """Of each array in the order of the program: its place, dtype and shape."""

  def arrays(tree: Any) -> list[dict[str, Any]]:
    return [
      {
        'place': jax.tree_util.keystr(path, simple=True, separator='/'),
        'dtype': str(x.dtype),
        'shape': list(x.shape),
      }
      for path, x in jax.tree_util.tree_leaves_with_path(tree)
    ]

  return {'arguments': arrays(arguments), 'results': arrays(results)}


def _told() -> str:
  return textwrap.dedent("""\
    | function | takes | gives |
    |---|---|---|
    | `forward` | `params`, `tokens` int32[B, T] | logits of the token after \
    each, float32[B, T, V] |
    | `prefill` | `params`, `tokens` int32[B, T], `lengths` int32[B] | logits \
    of the token that comes next, float32[B, V], and a cache |
    | `decode` | `params`, `cache`, `token` int32[B], `lengths` int32[B], read \
    before it | the same |""")


def _beyond(model: CausalLM) -> str:
  context = model.config.context
  if model.config.positions in ('learned', 'sinusoidal'):
    return f'A text ends with the context, {context} tokens.'
  return (
    f'A text may go on beyond the context, {context} tokens: what came first '
    'is\nforgotten.'
  )


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_string('workdir', 'runs/tiny', 'A trained run.')
  flags.DEFINE_string('out', None, 'A folder; WORKDIR/export if none is given.')
  flags.DEFINE_integer('batch_size', 1, 'Texts at once.')
  flags.DEFINE_integer(
    'length', None, 'The most tokens of a prompt; the context if none is given.'
  )


def main() -> None:
  """Flags in, one call."""
  options = flags.FLAGS
  run = RunDirectory(options.workdir)
  trained = load_language(run)
  folder = pathlib.Path(options.out or run.path / 'export')
  try:
    export_model(
      folder,
      trained.model,
      trained.params,
      trained.tokenizer,
      batch_size=options.batch_size,
      length=options.length,
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  print(f'{folder} holds forward, prefill and decode; see its README.md')


if __name__ == '__main__':
  command_line.run(main, define_flags)
