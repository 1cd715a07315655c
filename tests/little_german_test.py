"""Little German: grammatical, aligned, and a function of its source."""

import collections
import itertools

import numpy as np
import pytest

from attn.training.little_german import lexicon, vocabulary
from attn.training.little_german.clauses import Clause
from attn.training.little_german.drafts import Draft
from attn.training.little_german.noun_phrases import NounPhrase
from attn.training.little_german.sentences import as_pair, sentence_pair
from tests.little_german_reader import translations

VERBS = (*lexicon.VERBS, lexicon.SAY, lexicon.ASK, lexicon.HOPE)
NOUNS = [noun for nouns in lexicon.NOUNS.values() for noun in nouns]


def draw(count, seed=0, **options):
  return [sentence_pair(seed, i, **options) for i in range(count)]


@pytest.fixture(scope='module')
def sample():
  """Enough to meet every construction many times over."""
  return draw(20_000)


def links(pair):
  """Source place → target places, and the other way round."""
  there, back = collections.defaultdict(set), collections.defaultdict(set)
  for source, target in pair.alignment:
    there[source].add(target)
    back[target].add(source)
  return there, back


def test_equal_sources_have_equal_translations_and_links(sample):
  known = {}
  for pair in itertools.chain(sample, draw(20_000, seed=1, max_words=6)):
    assert known.setdefault(pair.source, pair) == pair
  assert len(known) < 38_000  # so many came twice, and were compared


def test_a_pair_is_named_by_seed_and_number(sample):
  assert sample[11] == sentence_pair(0, 11)
  assert len({sentence_pair(0, i).source for i in range(100, 200)}) > 90
  assert sentence_pair(0, 11) != sentence_pair(1, 11)


def test_every_word_of_the_vocabularies_is_used_and_no_other(sample):
  german = {word for pair in sample for word in pair.source}
  english = {word for pair in sample for word in pair.target}
  assert german == set(vocabulary.source_words())
  assert english == set(vocabulary.target_words())
  assert 150 <= len(german) <= 300
  for words in (vocabulary.source_words(), vocabulary.target_words()):
    assert list(words) == sorted(set(words))


def test_lengths_share_the_words(sample):
  lengths = np.array([len(pair.source) for pair in sample])
  assert lengths.min() == 4
  assert lengths.max() == 60
  words = np.histogram(lengths, [4, 15, 26, 38, 49, 61], weights=lengths)[0]
  shares = words / lengths.sum()
  assert (shares > 0.15).all(), shares
  assert (lengths >= 20).mean() > 0.35


@pytest.mark.parametrize('bounds', [(4, 4), (7, 11), (61, 90)])
def test_bounds_are_kept(bounds):
  least, most = bounds
  pairs = draw(200, min_words=least, max_words=most)
  lengths = [len(pair.source) for pair in pairs]
  assert least <= min(lengths)
  assert max(lengths) <= most
  assert max(len(pair.target) for pair in pairs) <= most + 1
  assert len(set(lengths)) > min(4, most - least)


def test_splits_share_no_sentence():
  found = {
    split: {
      pair.source for pair in draw(1_500, seed=seed, max_words=6, split=split)
    }
    for seed, split in enumerate(('train', 'validation', 'test'))
  }
  free = {pair.source for pair in draw(1_500, seed=3, max_words=6)}
  assert found['train'] & free  # such short sentences do come twice
  for one, other in itertools.combinations(found.values(), 2):
    assert not one & other


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'seed': -1}, 'seed: got -1, wanted at least 0'),
    ({'number': -2}, 'number: got -2, wanted at least 0'),
    ({'min_words': 3}, 'min_words: got 3, wanted at least 4'),
    ({'min_words': 7, 'max_words': 5}, 'max_words: got 5, wanted at least 7'),
    ({'split': 'exam'}, "split: got 'exam', wanted None or one of train, "),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    sentence_pair(**{'seed': 0, 'number': 0, **arguments})


# Links.


def test_links_are_of_words_that_are_there(sample):
  for pair in sample:
    assert all(0 <= s < len(pair.source) for s, _ in pair.alignment)
    assert all(0 <= t < len(pair.target) for _, t in pair.alignment)


def test_every_english_word_comes_from_somewhere(sample):
  for pair in sample:
    _, back = links(pair)
    assert len(back) == len(pair.target)


def test_only_commas_mean_nothing(sample):
  for pair in sample:
    there, _ = links(pair)
    silent = [w for i, w in enumerate(pair.source) if i not in there]
    assert set(silent) <= {','}


def verb_forms():
  """German form → the English words that may come from it."""
  meanings = collections.defaultdict(set)
  for verb in VERBS:
    english = {verb.base, verb.third, verb.preterite, verb.perfect, verb.rest}
    finite = (verb.present, verb.infinitive, verb.past, verb.past_plural)
    for form in (*finite, verb.participle):
      meanings[verb.particle + form] |= english | {'do', 'does', 'did'}
      meanings[form] |= english | {'do', 'does', 'did'}
    meanings[verb.particle] |= english
    for word in lexicon.with_zu(verb):
      meanings[word] |= english | {'to'}
  return meanings


def dictionary():
  """German word → the English words that may come from it."""
  meanings = verb_forms()
  for noun in NOUNS:
    meanings[noun.singular].add(noun.english)
    meanings[noun.plural].add(noun.english_plural)
    meanings[noun.dative_plural].add(noun.english_plural)
  for (said, _, _), (word, _) in lexicon.DETERMINERS.items():
    meanings[word] |= {said, 'an'} if said == 'a' else {said}
  for stem, said in lexicon.ADJECTIVES.items():
    for ending in ('e', 'en', 'er', 'es'):
      meanings[stem + ending].add(said)
  for word in lexicon.RELATIVES.values():
    meanings[word] |= {'who', 'that'}
  for words, (said, _) in lexicon.TIMES.items():
    for one, other in zip(words, said):
      meanings[one].add(other)
  for forms, said in lexicon.MODALS.items():
    for form, words in zip(forms, said):
      meanings[form] |= {*words}
  for table in (lexicon.FREQUENCIES, lexicon.MANNERS, lexicon.SUBORDINATORS):
    for word, said in table.items():
      meanings[word].add(said)
  lines = """er he, sie she they, wir we, ihn him, ihm him, ihr her, uns us,
    ihnen them, nicht not, in in into, im in the, ins into the, mit with,
    hinter behind, und and, aber but, dass that, ob whether, hat has, ist has,
    haben have, sind have, . ."""
  for line in lines.split(','):
    word, *said = line.split()
    meanings[word] |= {*said}
  meanings[','] = {','}
  return meanings


def test_every_link_is_in_the_dictionary(sample):
  meanings, met = dictionary(), set()
  for pair in sample:
    for s, t in pair.alignment:
      assert pair.target[t] in meanings[pair.source[s]], pair
      met.add(pair.source[s])
  assert met == set(vocabulary.source_words())


def noun(word, case='nominative', **options):
  (found,) = (n for n in NOUNS if n.singular == word)
  return NounPhrase(case, found, **options)


def clause(infinitive, particle='', *, tense='present', **options):
  (verb,) = (
    v for v in VERBS if (v.infinitive, v.particle) == (infinitive, particle)
  )
  return Clause(verb, tense, 'second', noun('Frau'), False, **options)


@pytest.mark.parametrize(
  ('said', 'german', 'english', 'gold'),
  [
    (
      clause(
        'rufen',
        'an',
        accusative=NounPhrase('accusative', None, pronoun=('ihn', 'him')),
      ),
      'die Frau ruft ihn an .',
      'the woman calls him up .',
      '0-0 1-1 2-2 3-3 4-4 5-5',
    ),
    (
      clause('machen', 'auf', accusative=noun('Tür', 'accusative')),
      'die Frau macht die Tür auf .',
      'the woman opens the door .',
      '0-0 1-1 2-2 3-3 4-4 5-2 6-5',
    ),
    (
      clause(
        'kaufen',
        tense='modal',
        modal=('will', 'wollen'),
        accusative=noun('Hund', 'accusative'),
      ),
      'die Frau will den Hund kaufen .',
      'the woman wants to buy the dog .',
      '0-0 1-1 2-2 2-3 3-5 4-6 5-4 6-7',
    ),
    (
      clause(
        'sehen',
        accusative=noun('Hund', 'accusative'),
        front='accusative',
        time=('jeden', 'Tag'),
        negated=True,
      ),
      'den Hund sieht die Frau jeden Tag nicht .',
      'the woman does not see the dog every day .',
      '0-5 1-6 2-2 2-4 3-0 4-1 5-7 6-8 7-3 8-9',
    ),
    (
      clause(
        'schlafen', 'ein', tense='perfect', place=noun('Garten', 'dative')
      ),
      'die Frau ist im Garten eingeschlafen .',
      'the woman has fallen asleep in the garden .',
      '0-0 1-1 2-2 3-5 3-6 4-7 5-3 5-4 6-8',
    ),
  ],
)
def test_links_by_hand(said, german, english, gold):
  draft = Draft(lambda: 0.5)
  pair = as_pair(draft, said.write(draft))
  assert ' '.join(pair.source) == german
  assert ' '.join(pair.target) == english
  assert ' '.join(f'{s}-{t}' for s, t in sorted(pair.alignment)) == gold


def test_words_move_far(sample):
  far = crossing = 0
  for pair in sample:
    ordered = sorted(pair.alignment)
    far += any(abs(s - t) >= 5 for s, t in ordered)
    crossing += any(a[1] > b[1] for a, b in itertools.pairwise(ordered))
  assert far > 0.3 * len(sample)
  assert crossing > 0.5 * len(sample)


# Grammar.


@pytest.mark.parametrize('longest', [11, 60, 90])
def test_a_reader_of_the_german_words_alone_finds_the_translation(longest):
  for pair in draw(1_000, seed=2, min_words=4, max_words=longest):
    assert translations(pair.source) == {pair.target}


@pytest.mark.parametrize(
  ('german', 'english'),
  [
    ('der Lehrer schläft .', 'the teacher sleeps .'),
    ('die Lehrer schlafen ein .', 'the teachers fall asleep .'),
    # Who does it is told by the verb, or by the case.
    ('sie sehen die Katze .', 'they see the cat .'),
    ('sie sieht die Katze .', 'she sees the cat .'),
    ('den Hund liebt die Frau .', 'the woman loves the dog .'),
    ('dem Kind hilft ein alter Mann .', 'an old man helps the child .'),
    # The particle at the end makes the verb.
    ('er sieht heute einen Hut an .', 'he looks at a hat today .'),
    ('wir hören der Frau zu .', 'we listen to the woman .'),
    ('das Kind hört die Frau .', 'the child hears the woman .'),
    # In a place, and into one.
    ('heute läuft er ins Haus .', 'today he runs into the house .'),
    ('im Haus läuft er .', 'in the house he runs .'),
    # Modals and perfects: the verb waits at the end.
    (
      'er soll uns oft drei Hüte zeigen .',
      'he should often show us three hats .',
    ),
    ('sie sind gern mit mir gelaufen .', None),
    ('sie sind gern gelaufen .', 'they have run gladly .'),
    # Negation.
    ('er sah meine Frau nicht .', 'he did not see my woman .'),
    ('sie hat kein neues Bild gekauft .', 'she has bought no new picture .'),
    # Clauses within clauses.
    (
      'der Mann sagt , dass die Frau , die ihn sieht , den Hut tragen will .',
      'the man says that the woman who sees him wants to carry the hat .',
    ),
    (
      'wenn er den Brief , den sie sucht , findet , lacht sie .',
      'if he finds the letter that she looks for , she laughs .',
    ),
    (
      'die Tante , der der Bruder hilft , hofft , ihn anzurufen .',
      'the aunt who the brother helps hopes to call him up .',
    ),
    (
      'er fragt , ob wir singen , aber sie schlafen .',
      'he asks whether we sing but they sleep .',
    ),
    # None of these is a sentence.
    ('der Mann die Frau sieht .', None),
    ('weil er schläft sie lacht .', None),
    ('weil er schläft , sie lacht .', None),
    ('er sagt , dass sie schläft ein .', None),
    ('der Mann sehen die Frau .', None),
    ('ein alte Hund singt .', None),
    ('der Frau liebt den Mann .', None),
    ('er hat gelaufen .', None),
    ('er hilft den Hund .', None),
    ('er kauft den Hut heute .', None),
    ('die Frau , der lacht , singt .', None),
  ],
)
def test_the_reader_reads_what_the_grammar_book_says(german, english):
  found = {' '.join(words) for words in translations(tuple(german.split()))}
  assert found == ({english} if english else set())


@pytest.mark.parametrize(
  ('case', 'slot', 'determiner', 'words'),
  [
    ('nominative', 'm', 'the', 'der alte'),
    ('accusative', 'm', 'the', 'den alten'),
    ('dative', 'm', 'the', 'dem alten'),
    ('nominative', 'f', 'the', 'die alte'),
    ('dative', 'f', 'the', 'der alten'),
    ('accusative', 'n', 'the', 'das alte'),
    ('nominative', 'p', 'the', 'die alten'),
    ('dative', 'p', 'the', 'den alten'),
    ('nominative', 'm', 'a', 'ein alter'),
    ('accusative', 'm', 'a', 'einen alten'),
    ('dative', 'm', 'a', 'einem alten'),
    ('accusative', 'f', 'a', 'eine alte'),
    ('dative', 'f', 'a', 'einer alten'),
    ('accusative', 'n', 'a', 'ein altes'),
    ('accusative', 'p', 'no', 'keine alten'),
    ('dative', 'p', 'my', 'meinen alten'),
    ('accusative', 'p', 'two', 'zwei alte'),
    ('dative', 'p', 'three', 'drei alten'),
  ],
)
def test_endings_are_those_of_the_grammar_book(case, slot, determiner, words):
  article, ending = lexicon.DETERMINERS[determiner, case, slot]
  assert f'{article} alt{ending}' == words
