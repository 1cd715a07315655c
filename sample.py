"""Continue or translate: python sample.py --workdir=runs/tiny --prompt=Mia."""

from absl import flags

from attn.training import command_line
from attn.training.sample import sample


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_string('workdir', 'runs/tiny', 'A trained run.')
  flags.DEFINE_string('prompt', '\n', 'What to continue, or to translate.')
  flags.DEFINE_integer('length', 300, 'Characters to draw.')
  flags.DEFINE_float('temperature', 1.0, '0 for the likeliest character.')
  flags.DEFINE_integer('top_k', None, 'Draw from the k likeliest only.')
  flags.DEFINE_integer('seed', 0, 'The same seed draws the same text.')
  flags.DEFINE_integer('beam', 4, 'Beginnings of a translation that are kept.')


def main() -> None:
  """Flags in, one call."""
  options = flags.FLAGS
  text = sample(
    options.workdir,
    options.prompt,
    length=options.length,
    temperature=options.temperature,
    top_k=options.top_k,
    seed=options.seed,
    beam=options.beam,
  )
  print(text)


if __name__ == '__main__':
  command_line.run(main, define_flags)
