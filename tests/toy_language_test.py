"""The toy language: what is written can be read, and costs what it should."""

import collections
import math
import re

import numpy as np
import pytest

from attn.training import narrators, toy_language

FOREIGN = '#'  # A character that no story contains.


@pytest.fixture(scope='module')
def sample() -> list[narrators.Story]:
  return toy_language.stories(seed=11, first=0, count=4000)


class Script:
  """A generator whose draws are written down beforehand."""

  def __init__(self, *draws: float):
    self._draws = list(draws)

  def random(self) -> float:
    return self._draws.pop(0)


def write(options, draw: float) -> narrators.Story:
  writer = narrators.Writer(Script(draw))
  writer.choose(options)
  return writer.story()


def position_of_refusal(text: str) -> int | None:
  try:
    toy_language.score_story(text)
  except ValueError as error:
    return int(re.search(r'at position (\d+) expected', str(error))[1])
  return None


# The engine, on options small enough to check by hand.


def test_characters_cost_the_mass_they_leave_behind():
  options = {'an': 0.5, 'at': 0.25, 'b': 0.25}
  story = write(options, 0.6)
  assert story.text == 'at'
  np.testing.assert_allclose(story.nats, [-math.log(0.75), -math.log(1 / 3)])


@pytest.mark.parametrize(
  'options',
  [
    ('tea', 'toast', 'toads', 'soup'),
    {'tea': 0.1, 'toast': 0.2, 'toads': 0.3, 'soup': 0.4},
    ('alone',),
  ],
)
def test_conditionals_are_those_of_brute_force(options):
  masses = (
    options
    if isinstance(options, dict)
    else dict.fromkeys(options, 1 / len(options))
  )
  bounds = np.cumsum([0, *masses.values()])
  for option, low, high in zip(masses, bounds, bounds[1:]):
    story = write(options, (low + high) / 2)
    assert story.text == option
    np.testing.assert_allclose(np.exp(-story.nats.sum()), masses[option])
    for i, cost in enumerate(story.nats):
      stem = [m for o, m in masses.items() if o[:i] == option[:i]]
      kept = [m for o, m in masses.items() if o[: i + 1] == option[: i + 1]]
      np.testing.assert_allclose(np.exp(-cost), sum(kept) / sum(stem))


def test_alternatives_at_a_character_sum_to_one():
  options = {'tea': 0.1, 'toast': 0.2, 'toads': 0.3, 'soup': 0.4}
  bounds = np.cumsum([0, *options.values()])
  told = [write(options, x) for x in (bounds[:-1] + bounds[1:]) / 2]
  for i in range(4):
    chances = collections.defaultdict(dict)
    for story in told:
      if len(story.text) > i:
        chances[story.text[:i]][story.text[i]] = np.exp(-story.nats[i])
    for stem, chance in chances.items():
      np.testing.assert_allclose(sum(chance.values()), 1, err_msg=stem)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ((), 'must not be empty'),
    (('tea', 'soup', 'teapot'), "prefix-free, got 'tea', 'teapot'"),
    (('tea', 'tea'), 'prefix-free'),
    (('', 'tea'), 'prefix-free'),
    ({'tea': 0.5, 'soup': 0.4}, 'must have probabilities'),
    ({'tea': 1.0, 'soup': 0.0}, 'must have probabilities'),
  ],
)
def test_ambiguous_or_improper_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    write(options, 0.5)


def test_a_draw_beyond_the_rounded_last_bound_takes_the_last_option():
  options = dict.fromkeys('abcdefghij', 0.1)
  assert sum(options.values()) < 1
  assert write(options, np.nextafter(1, 0)).text == 'j'


def test_recall_is_free_and_marks_where_candidates_part():
  writer = narrators.Writer(Script())
  writer.recall('toast', ('tea', 'toads', 'toast', 'soup'))
  story = writer.story()
  assert story.text == 'toast'
  assert story.nats.tolist() == [0, 0, 0, 0, 0]
  assert story.branches.tolist() == [2, 2, 0, 2, 0]
  assert story.far.tolist() == [True, True, False, True, False]
  with pytest.raises(ValueError, match="got 'tar'"):
    writer.recall('tar', ('tea', 'soup'))


# The stories.


def test_what_is_written_is_read_with_the_same_cost(sample):
  for story in sample[:500]:
    read = toy_language.score_story(story.text)
    assert read.text == story.text
    assert read.nats.dtype == np.float64
    assert read.nats.tobytes() == story.nats.tobytes()
    assert read.branches.dtype == np.int8
    assert read.branches.tobytes() == story.branches.tobytes()


def test_every_character_has_its_books(sample):
  for story in sample:
    assert story.nats.shape == story.branches.shape == (len(story.text),)
    assert np.isfinite(story.nats).all()
    assert (story.nats >= 0).all()
    assert not story.nats[story.far].any()
    assert story.text.index('\n') == len(story.text) - 1


def test_a_foreign_character_is_refused_where_it_stands(sample):
  text = sample[0].text
  for i in range(len(text)):
    assert position_of_refusal(text[:i] + FOREIGN + text[i + 1 :]) == i
    assert position_of_refusal(text[:i]) == i
  assert position_of_refusal(text + text) == len(text)


def test_a_refusal_says_what_was_expected():
  reader = narrators.Reader('We eat toads#')
  reader.say('We eat ')
  with pytest.raises(ValueError, match=r"at position 9 expected one of 'a', "):
    narrators.Reader('We eat to').choose(('We eat toa', 'We eat to '))
  reader.choose(('tea', 'toads'))
  with pytest.raises(
    ValueError, match=r"at position 12 expected '\.', got '#'"
  ):
    reader.say('.')


def test_a_mutation_is_read_or_refused_no_sooner_than_it_stands(sample):
  rng = np.random.default_rng(5)
  letters = toy_language.alphabet()
  refusals = 0
  for story in sample[:300]:
    i = int(rng.integers(len(story.text)))
    letter = letters[rng.integers(len(letters))]
    text = story.text[:i] + letter + story.text[i + 1 :]
    position = position_of_refusal(text)
    if position is None:
      assert toy_language.score_story(text).text == text
    else:
      refusals += 1
      assert position >= i
  assert refusals > 200


def test_another_candidate_in_place_of_a_far_fact_is_refused(sample):
  candidates = {'S': 'H', 'H': 'S', '"': ')', ')': ']', ']': '"'}
  for story in sample[:300]:
    for i in np.flatnonzero(story.far):
      known = story.text[i]
      other = candidates.get(known, 'z' if known.islower() else 'Z')
      assert (
        position_of_refusal(story.text[:i] + other + story.text[i + 1 :]) == i
      )


def swap(text: str, one: str, two: str) -> str:
  exchange = {one: two, two: one}
  return re.sub(f'{one}|{two}', lambda m: exchange[m[0]], text)


def test_far_facts_follow_when_facts_are_swapped(sample):
  names = re.compile('|'.join(toy_language._NAMES))
  answers = 0
  for story in sample[:600]:
    hero, friend = names.findall(story.text)[:2]
    if toy_language._PRONOUNS[hero] != toy_language._PRONOUNS[friend]:
      continue
    swapped = toy_language.score_story(swap(story.text, hero, friend))
    np.testing.assert_allclose(swapped.nats.sum(), story.nats.sum())
    # The facts alone: now a question does not fit, or its answer does not.
    cut = int(np.flatnonzero(story.far)[0])
    facts_only = swap(story.text[:cut], hero, friend) + story.text[cut:]
    refused = position_of_refusal(facts_only)
    assert refused is not None
    question = re.search(r'[Ww]h\w+', story.text[cut:])
    if question[0].lower() == 'who':
      answers += 1
      assert refused == story.text.index('? ', cut) + 2
      assert story.branches[refused] == len(toy_language._NAMES)
  assert answers > 50


def test_the_pronoun_is_the_heros(sample):
  for story in sample[:300]:
    hero = re.search('|'.join(toy_language._NAMES), story.text)[0]
    at = int(np.flatnonzero(story.branches == 2)[0])
    said = re.match(r'\w+', story.text[at:])[0]
    assert said == toy_language._PRONOUNS[hero]
    other = {'She': 'He', 'He': 'She'}[said]
    other_text = story.text[:at] + other + story.text[at + len(said) :]
    assert position_of_refusal(other_text) == at


def test_the_farewell_names_the_hero(sample):
  for story in sample[:300]:
    named = re.findall('|'.join(toy_language._NAMES), story.text)
    assert named[-1] == named[0]
    last = story.text.rindex(named[0])
    assert story.branches[last] == len(toy_language._NAMES)


def test_far_facts_cannot_be_told_from_the_last_characters(sample):
  after = collections.defaultdict(collections.Counter)
  for story in sample:
    for i in np.flatnonzero(story.far):
      after[story.text[i - 12 : i], story.branches[i]][story.text[i]] += 1
  common = {k: n for k, n in after.items() if n.total() >= 30}
  assert {branches for _, branches in common} == {2, 3, 8}
  for (context, _), seen in common.items():
    assert len(seen) > 1, context
    assert max(seen.values()) < 0.8 * seen.total(), context


def test_far_facts_are_far(sample):
  for story in sample[:1000]:
    for i in np.flatnonzero(story.far):
      if story.branches[i] == 3:
        opener = max(story.text.rfind(c, 0, i) for c in '"([')
        assert i - opener > 15
      elif story.branches[i] == 8:
        word = re.match(r'\w+', story.text[i:])[0]
        # Where it was first told, in full.
        assert 0 <= story.text.index(word) < i - 15


def test_brackets_close(sample):
  pairs = {'"': '"', '(': ')', '[': ']'}
  kinds = collections.Counter()
  for story in sample:
    marks = re.sub(r'[^"()\[\]]', '', story.text)
    assert len(marks) == 2
    assert pairs[marks[0]] == marks[1]
    kinds[marks] += 1
  assert len(kinds) == 3


def test_the_people_of_a_story_are_distinct(sample):
  names = re.compile('|'.join(toy_language._NAMES))
  for story in sample:
    people = names.findall(story.text[: np.flatnonzero(story.far)[0]])
    assert len(people) == len(set(people)) >= 2


def test_recalled_words_differ_in_their_first_letters():
  for words in (
    toy_language._NAMES,
    toy_language._PLACES,
    toy_language._THINGS,
  ):
    assert len({word[0] for word in words}) == len(words) == 8


# Chances.


def test_characters_come_as_often_as_they_cost(sample):
  # Every beginning that many stories share is a choice that can be counted.
  seen = collections.defaultdict(collections.Counter)
  chance = collections.defaultdict(dict)
  for story in sample:
    for i in range(30):
      stem, letter = story.text[:i], story.text[i]
      seen[stem][letter] += 1
      chance[stem][letter] = math.exp(-story.nats[i])
  counted = 0
  for stem, counts in seen.items():
    total = counts.total()
    if total < 200 or len(counts) == 1:
      continue
    counted += 1
    assert math.isclose(sum(chance[stem].values()), 1), stem
    for letter, p in chance[stem].items():
      sigma = math.sqrt(p * (1 - p) * total)
      assert abs(counts[letter] - p * total) < 4.5 * sigma, stem + letter
  assert counted >= 5


class Entropist:
  """Adds up the entropies of the choices, and knows no characters."""

  def __init__(self, rng: np.random.Generator):
    self.entropy = 0.0
    self._rng = rng

  def say(self, text):
    del text

  def choose(self, options):
    words = list(options)
    masses = np.array(
      [options[word] for word in words]
      if isinstance(options, dict)
      else [1 / len(words)] * len(words)
    )
    self.entropy -= float(masses @ np.log(masses))
    return words[self._rng.choice(len(words), p=masses / masses.sum())]

  def recall(self, answer, among):
    del answer, among


def test_mean_cost_is_the_entropy_of_the_choices(sample):
  rng = np.random.default_rng(8)
  walks = [Entropist(rng) for _ in range(1000)]
  for walk in walks:
    toy_language._tell(walk)
  entropies = np.array([walk.entropy for walk in walks])
  costs = np.array([story.nats.sum() for story in sample])
  error = math.hypot(
    costs.std() / len(costs) ** 0.5, entropies.std() / len(walks) ** 0.5
  )
  assert error < 0.01 * costs.mean()
  assert abs(costs.mean() - entropies.mean()) < 4 * error


# Seeds, bounds, alphabet.


def test_a_story_is_named_by_seed_and_number():
  texts = [s.text for s in toy_language.stories(3, 10, 20)]
  again = [s.text for s in toy_language.stories(3, 15, 5)]
  assert texts[5:10] == again
  assert len(set(texts)) == 20
  assert texts[0] != toy_language.stories(4, 10, 1)[0].text
  assert toy_language.stories(3, 10, 0) == []


@pytest.mark.parametrize('name', ['seed', 'first', 'count'])
def test_negative_numbers_are_refused(name):
  arguments = {'seed': 0, 'first': 0, 'count': 1, name: -1}
  with pytest.raises(ValueError, match=f'{name} must be at least 0, got -1'):
    toy_language.stories(**arguments)


class Longest:
  """Takes one way through the grammar, and the longest word at each step.

  Options that differ only in a name, a thing, a place or a verb continue in
  the same way, so a way is a list of kinds of option.
  """

  _WORDS = re.compile(
    '|'.join(
      toy_language._NAMES
      + toy_language._THINGS
      + toy_language._PLACES
      + toy_language._HOLDS
      + toy_language._STAYS
    )
  )

  def __init__(self, way: list[int]):
    self.length = 0
    self.forks: list[tuple[int, int]] = []
    self._way = way

  def say(self, text):
    self.length += len(text)

  def choose(self, options):
    kinds = collections.defaultdict(list)
    for option in options:
      kinds[self._WORDS.sub('_', option)].append(option)
    step = len(self.forks)
    taken = self._way[step] if step < len(self._way) else 0
    self.forks.append((taken, len(kinds)))
    words = list(kinds.values())[taken]
    self.length += max(map(len, words))
    return words[0]

  def recall(self, answer, among):
    assert answer in among
    self.length += max(map(len, among))


def every_way():
  way = []
  while way is not None:
    listener = Longest(way)
    toy_language._tell(listener)
    yield listener
    forks = listener.forks
    while forks and forks[-1][0] + 1 == forks[-1][1]:
      forks.pop()
    way = [i for i, _ in forks[:-1]] + [forks[-1][0] + 1] if forks else None


def test_no_story_is_longer_than_the_bound(sample):
  bounds = [listener.length for listener in every_way()]
  assert 10 < len(bounds) < 5000
  # The survey counts the longest option of a choice, taken or not.
  assert max(bounds) <= toy_language.longest_story() <= 255
  assert max(len(story.text) for story in sample) <= max(bounds)


def test_the_alphabet_is_what_stories_are_made_of(sample):
  letters = toy_language.alphabet()
  assert list(letters) == sorted(set(letters))
  assert set(letters) == set().union(*(story.text for story in sample))
  assert FOREIGN not in letters
