"""How the mains start and how they fail: one line, exit status 2."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from attn.training.errors import UserError

# What a shell reports for a program that SIGINT ended.
_INTERRUPTED = 130


def run(main: Callable[[], None], define_flags: Callable[[], None]) -> None:
  """Define and parse the flags, call main; a user's mistake becomes one line.

  Args:
    main: Called without arguments, once the flags are parsed.
    define_flags: Defines them.  A config flag reads its file, and its fields
      from the command line, already here.
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
    # A disk that is full, or a config file that is not there.
    except OSError as error:
      _fail(str(error))
    except KeyboardInterrupt:
      sys.exit(_INTERRUPTED)

  _or_fail(define_flags)
  app.run(call, flags_parser=lambda argv: _or_fail(flags.FLAGS, argv))


def _or_fail(function: Callable, *arguments: object) -> list[str]:
  try:
    return function(*arguments)
  except (AttributeError, KeyError) as error:
    name = str(error).strip('"\'')
    _fail(f'flags: there is no config field {name}')
  # A config file is Python, and each of its flags is parsed by the config:
  # what they raise for a user's mistake is not of one type.
  except Exception as error:
    _fail(f'flags: {str(error) or type(error).__name__}')


def _fail(message: str) -> NoReturn:
  print('error:', *message.split(), file=sys.stderr, flush=True)
  sys.exit(2)
