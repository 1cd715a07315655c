"""Continue or translate: python sample.py --workdir=runs/tiny --prompt=Mia."""

from absl import flags

from attn.training import command_line
from attn.training.sample import Wishes, sample


def define_flags() -> None:
  """The flags."""
  flags.DEFINE_string('workdir', 'runs/tiny', 'A trained run.')
  flags.DEFINE_string(
    'model',
    None,
    'A directory of Hugging Face in place of a run: config.json, safetensors, '
    'tokenizer.json.',
  )
  flags.DEFINE_multi_string(
    'prompt', '\n', 'What to continue, or to translate; may be repeated.'
  )
  flags.DEFINE_integer('length', None, 'Tokens to draw; 300 if there is room.')
  flags.DEFINE_float('temperature', 1.0, '0 for the likeliest token.')
  flags.DEFINE_integer('top_k', None, 'Draw from the k likeliest only.')
  flags.DEFINE_float('top_p', 1.0, 'From the likeliest of this probability.')
  flags.DEFINE_float('min_p', 0.0, 'From those of this share of the likeliest.')
  flags.DEFINE_float(
    'repetition_penalty', 1.0, 'Above 1, what occurred is less likely.'
  )
  flags.DEFINE_multi_string('stop', [], 'The text ends before it.')
  flags.DEFINE_integer('seed', 0, 'The same seed draws the same text.')
  flags.DEFINE_string(
    'draft', None, "A smaller model's run, which proposes tokens."
  )
  flags.DEFINE_integer('ahead', 4, 'How many tokens the draft proposes.')
  flags.DEFINE_integer('beam', 4, 'Beginnings of a translation that are kept.')


def main() -> None:
  """Flags in, one call."""
  options = flags.FLAGS
  sampling = ('temperature', 'top_k', 'top_p', 'min_p', 'repetition_penalty')
  wishes = Wishes(
    length=options.length,
    sampling={name: options[name].value for name in sampling},
    stops=options.stop,
    seed=options.seed,
    draft=options.draft,
    ahead=options.ahead,
    beam=options.beam,
    model=options.model,
  )
  for piece in sample(options.workdir, options.prompt, wishes):
    print(piece, end='', flush=True)


if __name__ == '__main__':
  command_line.run(main, define_flags)
