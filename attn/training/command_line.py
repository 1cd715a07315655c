"""How the mains start and how they fail: one line, exit status 2."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from attn.training.errors import UserError

# What a shell reports for a program that SIGINT ended.
_INTERRUPTED = 130


def run(main: Callable[[], None]) -> None:
  """Parse the flags, call main, and turn a user's mistake into one line.

  Args:
    main: Called without arguments, once the flags are parsed.
  """

  def call(arguments: Sequence[str]) -> None:
    if len(arguments) > 1:
      _fail(f'got the argument {arguments[1]!r}, wanted flags only')
    if not flags.FLAGS['verbosity'].present:
      # Orbax tells of every file it opens.
      logging.set_verbosity(logging.WARNING)
    try:
      main()
    except UserError as error:
      _fail(str(error))
    except KeyboardInterrupt:
      sys.exit(_INTERRUPTED)

  app.run(call, flags_parser=_parse)


def _parse(arguments: Sequence[str]) -> list[str]:
  try:
    return flags.FLAGS(arguments)
  # A config file is Python, and each of its flags is parsed by the config:
  # what they raise for a user's mistake is not of one type.
  except Exception as error:
    _fail(str(error) or type(error).__name__)


def _fail(message: str) -> NoReturn:
  first, *_ = message.strip().splitlines()
  print(f'error: {first}', file=sys.stderr, flush=True)
  sys.exit(2)
