"""Event loops that see the end of what they began."""

import asyncio
import contextlib
from collections.abc import Iterator

# Seconds that what is still at work gets.
_PATIENCE = 60


@contextlib.contextmanager
def finishing_loops() -> Iterator[None]:
  """A context whose event loops wait for their tasks before they close.

  Orbax reads the parts of a checkpoint in tasks of one loop, and closes it when
  the first of them fails.  The others then find a closed loop, and each says so
  on stderr, from threads that nobody can catch anything from.
  """
  before = asyncio.get_event_loop_policy()
  asyncio.set_event_loop_policy(_Policy())
  try:
    yield
  finally:
    asyncio.set_event_loop_policy(before)


class _Loop(asyncio.SelectorEventLoop):
  def close(self) -> None:
    """Wait, then close."""
    if not self.is_closed():
      self.run_until_complete(self._finish())
    super().close()

  async def _finish(self) -> None:
    left = asyncio.all_tasks(self) - {asyncio.current_task(self)}
    if left:
      done, _ = await asyncio.wait(left, timeout=_PATIENCE)
      for task in done:
        if not task.cancelled():
          task.exception()  # One that nobody asks for is printed.
    await self.shutdown_default_executor()


class _Policy(asyncio.DefaultEventLoopPolicy):
  def new_event_loop(self) -> asyncio.AbstractEventLoop:
    """One that waits."""
    return _Loop()
