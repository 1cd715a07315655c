"""A trained model as a directory of Hugging Face, for `transformers`.

python -m attn.training.to_huggingface --workdir=runs/mine --out=path/to/model
"""

import tokenizers
from absl import flags
from tokenizers import decoders, models, pre_tokenizers

from attn.interop import save_huggingface
from attn.training import command_line
from attn.training.errors import UserError
from attn.training.run_directory import RunDirectory
from attn.training.tokenizer import Tokenizer
from attn.training.trained import load_language


def to_huggingface(workdir: str, out: str) -> str:
  """Write the model of a run, with its tokenizer.

  Args:
    workdir: The run directory, of a language model.
    out: A directory that is empty, or not there.

  Returns:
    The family that the model is written as.

  Raises:
    UserError: if there is no such run, no family has a place for its model, or
      out holds something.
  """
  trained = load_language(RunDirectory(workdir))
  try:
    return save_huggingface(
      out,
      trained.model.config,
      trained.params,
      tokenizer=tokenizer_json(trained.tokenizer),
    )
  except ValueError as error:
    raise UserError(str(error)) from error


def tokenizer_json(tokenizer: Tokenizer) -> str:
  """What a tokenizer.json says that makes the same tokens.

  Example:
    >>> from attn.training.file_tokenizer import FileTokenizer
    >>> from attn.training.tokenizer import CharTokenizer
    >>> text = tokenizer_json(CharTokenizer('abc'))
    >>> FileTokenizer(text, vocab_size=3).encode('cab').tolist()
    [2, 0, 1]
  """
  state = tokenizer.state()
  match state['kind']:
    case 'characters':
      words = {c: i for i, c in enumerate(state['characters'])}
      made = tokenizers.Tokenizer(models.WordLevel(words, unk_token=''))
      each = tokenizers.Regex(r'[\s\S]')
      made.pre_tokenizer = pre_tokenizers.Split(each, 'isolated')
      made.decoder = decoders.Fuse()
    case 'bytes':
      made = tokenizers.Tokenizer(models.BPE(_byte_characters(), []))
      made.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
      )
      made.decoder = decoders.ByteLevel()
    case _:
      return state['model']
  return made.to_str()


def _byte_characters() -> dict[str, int]:
  """The character that stands for each byte, where a byte-level BPE has it.

  Itself where it can be seen; the others follow after the bytes.
  """
  seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
  hidden = [byte for byte in range(256) if byte not in seen]
  places = {byte: 256 + i for i, byte in enumerate(hidden)}
  return {chr(places.get(byte, byte)): byte for byte in range(256)}


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_string('workdir', 'runs/tiny', 'A trained run.')
  flags.DEFINE_string('out', None, 'Where to: a new directory.')


def main() -> None:
  """Flags in, one call."""
  options = flags.FLAGS
  if options.out is None:
    raise UserError('out: got none, wanted a new directory')
  family = to_huggingface(options.workdir, options.out)
  print(f'{options.out} holds a {family} for transformers')


if __name__ == '__main__':
  command_line.run(main, define_flags)
