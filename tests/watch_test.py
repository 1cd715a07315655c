"""Who is late is told of once, while it is late."""

from attn.training.watch import Lateness


def test_who_is_behind_is_told_once_and_again_when_it_recurs():
  lateness, told = Lateness(patience=3.0), []
  # The second stands at step 5 from second 2 to 7, and again from 12 on.
  for now in range(20):
    step = now
    other = 5 if 5 <= now < 9 else 12 if now >= 12 else now
    heard = {0: (now, step), 1: (now, other)}
    told += [(now, line) for line in lateness.look(float(now), heard)]
  assert [now for now, _ in told] == [9, 16] or [now for now, _ in told] == [16]


def test_a_silent_process_is_told_of():
  lateness, told = Lateness(patience=3.0), []
  for now in range(10):
    heard = {0: (now, 7), 1: (min(now, 2), 7)}
    told += lateness.look(float(now), heard)
  assert told == ['process 1 has given no sign of life for 3 s, since step 7']


def test_nobody_is_late():
  lateness = Lateness(patience=3.0)
  for now in range(10):
    heard = {i: (now, now - i) for i in range(2)}
    heard[now % 2] = (now, now)
    assert lateness.look(float(now), heard) == []
