"""What is half written belongs to who writes it; opening starts nothing."""

import gc
import pathlib
import threading

import jax
import jax.numpy as jnp
import optax
import pytest

from attn.training import checkpoints
from attn.training.errors import UserError
from attn.training.step import State

pytestmark = pytest.mark.smoke


def state(step: int) -> State:
  """Hardly anything."""
  return State(jnp.int32(step), {'w': jnp.ones(3)}, optax.EmptyState())


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
  """Two checkpoints, and a third that is being written."""
  kept = checkpoints.Checkpoints(tmp_path, keep=2)
  kept.save(state(4))
  kept.save(state(8))
  kept.close()
  (tmp_path / '12.orbax-checkpoint-tmp-0' / 'state').mkdir(parents=True)
  return tmp_path


def test_opening_starts_nothing_and_removes_nothing(
  folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
  """A main that fails at once would end while a thread still works."""
  started = []
  start = threading.Thread.start

  def note(thread: threading.Thread) -> None:
    started.append(thread)
    start(thread)

  monkeypatch.setattr(threading.Thread, 'start', note)
  kept = checkpoints.Checkpoints(folder, keep=2)
  restored = kept.restore(state(0))
  kept.close()
  assert restored is not None
  assert jax.device_get(restored.step) == 8
  for thread in started:
    thread.join(10)
  assert (folder / '12.orbax-checkpoint-tmp-0' / 'state').exists()


def test_nothing_is_said_of_a_damaged_one_but_by_the_error(
  tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
):
  """Also not later, by what was still reading when the first part failed."""
  params = {f'{i}': jnp.arange(3000.0) for i in range(31)}
  whole = State(jnp.int32(4), params, optax.EmptyState())
  kept = checkpoints.Checkpoints(tmp_path, keep=2)
  kept.save(whole)
  kept.close()
  for path in tmp_path.rglob('d/*'):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  kept = checkpoints.Checkpoints(tmp_path, keep=2)
  for _ in range(7):  # Who is still reading is a matter of chance.
    with pytest.raises(UserError, match='damaged'):
      kept.restore(whole)
  kept.close()
  gc.collect()
  assert capfd.readouterr() == ('', '')


def test_who_goes_on_removes_what_is_half_written(folder: pathlib.Path):
  kept = checkpoints.Checkpoints(folder, keep=2)
  kept.discard_after(4)
  kept.close()
  assert [path.name for path in folder.iterdir()] == ['4']
