"""Calls of attention that an entry makes, watched as they are made."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from attn import dispatch
from attn.backends.choice import Explanation, choose, describe
from attn.call import Call


@contextlib.contextmanager
def calls(implementation: str | None = None) -> Iterator[list[Explanation]]:
  """Collect what `attn.explain` would say of every call of `attn.attention`.

  Args:
    implementation: Serves them all, whatever would be chosen; None for the
      front door's choice.

  Yields:
    The explanations, which come as the calls are made, or traced.
  """
  explanations: list[Explanation] = []

  def watched(call: Call) -> tuple[str, str, dict[str, str]]:
    best, reason, rejected = choose(call)
    name = implementation or best
    explanations.append(describe(call, name, reason, rejected))
    return name, reason, rejected

  with mock.patch.object(dispatch, 'choose', watched):
    yield explanations
