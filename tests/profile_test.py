"""A trace of the steps that it says, and none where none is asked for."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from attn.training.profile import Profile


@pytest.mark.parametrize('steps', [13, 25])
def test_a_trace_is_written(steps: int, tmp_path: pathlib.Path, capsys):
  add = jax.jit(lambda x: x + 1)
  with Profile(tmp_path / 'profile') as trace:
    for step in range(1, steps + 1):
      trace.before(step)
      add(jnp.zeros(3)).block_until_ready()
      begun = (tmp_path / 'profile').exists()
      assert begun or step <= 20
  assert list(tmp_path.rglob('perfetto_trace.json.gz'))
  assert capsys.readouterr().out == f'profile: {tmp_path / "profile"}\n'


def test_nothing_is_written_unless_asked_for(tmp_path: pathlib.Path, capsys):
  with Profile(None) as trace:
    for step in range(1, 25):
      trace.before(step)
  assert capsys.readouterr().out == ''


def test_a_run_of_few_steps_has_nothing_to_trace(tmp_path: pathlib.Path):
  with Profile(tmp_path / 'profile') as trace:
    trace.before(1)
  assert not list(tmp_path.iterdir())
