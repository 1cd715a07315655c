"""Continue a prompt: python sample.py --workdir=runs/tiny --prompt='Mia '."""

from absl import flags

from attn.training import command_line
from attn.training.sample import sample

_WORKDIR = flags.DEFINE_string('workdir', 'runs/tiny', 'A trained run.')
_PROMPT = flags.DEFINE_string('prompt', '\n', 'The text to continue.')
_LENGTH = flags.DEFINE_integer('length', 300, 'Characters to draw.')
_TEMPERATURE = flags.DEFINE_float('temperature', 1.0, '0 for the likeliest.')
_TOP_K = flags.DEFINE_integer('top_k', None, 'Draw from the k likeliest only.')
_SEED = flags.DEFINE_integer('seed', 0, 'The same seed draws the same text.')


def main() -> None:
  """Flags in, one call."""
  text = sample(
    _WORKDIR.value,
    _PROMPT.value,
    length=_LENGTH.value,
    temperature=_TEMPERATURE.value,
    top_k=_TOP_K.value,
    seed=_SEED.value,
  )
  print(text)


if __name__ == '__main__':
  command_line.run(main)
