"""Text as it comes: nothing is said that would have to be taken back."""

import numpy as np
import pytest

from attn.training.streaming import stream_text


def pieces_of(text: str, *lengths: int):
  """The text's bytes, so many at a time, then the rest."""
  codes = np.frombuffer(text.encode(), np.uint8)
  yield from np.split(codes, np.cumsum(lengths))


def decode(codes) -> str:
  return bytes(codes).decode(errors='replace')


@pytest.mark.parametrize('stops', [(), ('x',), ('longer than the text',)])
def test_all_that_was_drawn_is_said(stops):
  said = list(stream_text(pieces_of('one two', 2, 3), decode, stops))
  assert ''.join(said) == 'one two'
  assert len(said) > 1


def test_half_a_character_waits_for_the_other():
  said = list(stream_text(pieces_of('aé€b', 2, 2, 1), decode))
  assert said == ['a', 'é', '€b']


def test_a_character_that_never_comes_is_shown_as_broken():
  codes = [np.frombuffer('a€'.encode()[:-1], np.uint8)]
  assert ''.join(stream_text(codes, decode)) == 'a\ufffd'


@pytest.mark.parametrize('lengths', [(1, 1, 1, 1, 1, 1), (3,), (4, 1), ()])
@pytest.mark.parametrize(
  ('stops', 'expected'),
  [
    (['cd'], 'ab'),
    (['d', 'cd'], 'ab'),
    (['cx', 'de'], 'abc'),
    (['ab'], ''),
    (['g'], 'abcdef'),
    (['fg'], 'abcdef'),
  ],
)
def test_ends_before_what_stops_it(stops, expected, lengths):
  said = list(stream_text(pieces_of('abcdef', *lengths), decode, stops))
  assert ''.join(said) == expected
  assert '' not in said


def test_what_may_become_a_stop_is_held_back():
  said = list(stream_text(pieces_of('abcabd', 1, 1, 1, 1, 1), decode, ['abd']))
  assert said == ['abc']


def test_no_more_is_drawn_once_it_has_ended():
  drawn = pieces_of('abcdef', 1, 1, 1, 1)
  assert ''.join(stream_text(drawn, decode, ['b'])) == 'a'
  assert next(drawn).tolist() == [ord('c')]
