"""How the mains start and how they fail: one line, exit status 2."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from attn.training.errors import LostError, UserError

# What a shell reports for a program that SIGINT ended.
_INTERRUPTED = 130
# Of a process that has lost the others.
_LOST = 3


def run(
  main: Callable[..., None],
  define_flags: Callable[[], None],
  *,
  takes_rest: bool = False,
) -> None:
  """Define and parse the flags, call main; a user's mistake becomes one line.

  Args:
    main: Called without arguments, once the flags are parsed.
    define_flags: Defines them.  A config flag reads its file, and its fields
      from the command line, already here.
    takes_rest: Whether main is called with what is no flag, or stands after --.
  """

  def call(arguments: Sequence[str]) -> None:
    rest = arguments[1:]
    if rest and not takes_rest:
      _fail(f'got the argument {rest[0]!r}, wanted flags only')
    if not flags.FLAGS['verbosity'].present:
      # Orbax tells of every file it opens, and of those that it cannot read.
      logging.set_verbosity(logging.FATAL)
    try:
      main(*([rest] if takes_rest else []))
    except LostError as error:
      _fail(str(error), _LOST)
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


def _fail(message: str, status: int = 2) -> NoReturn:
  print('error:', *message.split(), file=sys.stderr, flush=True)
  if 'jax' in sys.modules and sys.modules['jax'].distributed.is_initialized():
    # To leave the others in order would be to wait for them.
    os._exit(status)
  sys.exit(status)
