"""Who is late is told of once, while it is late."""

from attn.training.watch import Lateness


def test_who_is_behind_is_told_once_and_again_when_it_recurs():
  lateness, told = Lateness(patience=3.0), []
  # The second stands at step 5 until second 9, and at 12 for good.
  for now in range(20):
    other = 5 if 5 <= now < 10 else min(now, 12)
    heard = {0: (now, now), 1: (now, other)}
    told += [(now, line) for line in lateness.look(float(now), heard)]
  assert told == [
    (9, 'process 1 is behind: for 3 s at step 5, the others at step 9'),
    (16, 'process 1 is behind: for 3 s at step 12, the others at step 16'),
  ]


def test_a_silent_process_is_told_of():
  lateness, told = Lateness(patience=3.0), []
  for now in range(10):
    heard = {0: (now, 7), 1: (min(now, 2), 7)}
    told += lateness.look(float(now), heard)
  assert told == ['process 1 has given no sign of life for 3 s, since step 7']


def test_what_was_said_a_moment_ago_is_not_late():
  lateness = Lateness(patience=3.0)
  for now in range(10):
    heard = {0: (now, 10 * now), 1: (now, 10 * now - 7)}
    assert lateness.look(float(now), heard) == []
