"""Train a model: python train.py --config=configs/tiny.py."""

from absl import flags
from ml_collections import config_flags

from attn.training import command_line
from attn.training.config import task_of_file
from attn.training.imported import adopt
from attn.training.loop import train


def define_flags() -> None:
  """The flags; each field of the config is one as well."""
  config_flags.DEFINE_config_file(
    'config', 'configs/tiny.py', 'The experiment; each of its fields is a flag.'
  )
  flags.DEFINE_string(
    'workdir', 'runs/tiny', 'Where the run is kept, and continued from.'
  )
  flags.DEFINE_string(
    'data',
    None,
    'A UTF-8 text to train on, instead of the toy language; for a translation, '
    'a line each of source, tab, target.',
  )
  flags.DEFINE_string(
    'init_from',
    None,
    'A directory of Hugging Face whose model and tokenizer the run begins '
    'with; goes with --data.',
  )
  flags.DEFINE_bool(
    'profile', False, 'Write a trace of a few steps into the run directory.'
  )


def main() -> None:
  """Flags in, one call."""
  config = flags.FLAGS.config
  if flags.FLAGS.data is not None:
    config.update(task=task_of_file(config), data=flags.FLAGS.data)
  if flags.FLAGS.init_from is not None:
    adopt(config, flags.FLAGS.init_from)
  train(config, flags.FLAGS.workdir, profile=flags.FLAGS.profile)


if __name__ == '__main__':
  command_line.run(main, define_flags)
