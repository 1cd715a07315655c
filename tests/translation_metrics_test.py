"""How good translations are, worked by hand."""

import math

import numpy as np
import pytest

from attn.training import translation_metrics as metrics

WANTED = [('the', 'dog', 'sleeps'), ('a', 'cat'), ('we', 'wait', 'here', 'now')]


def test_exact_match_counts_whole_sentences():
  written = [('the', 'dog', 'sleeps'), ('a', 'cat', 'cat'), WANTED[2]]
  assert metrics.exact_match(written, WANTED) == 2 / 3
  assert math.isnan(metrics.exact_match([], []))
  with pytest.raises(ValueError, match='zip'):
    metrics.exact_match(written[:2], WANTED)


def test_bleu_by_hand():
  wanted = [('one', 'two', 'three', 'four', 'five', 'six')]
  assert metrics.bleu(wanted, wanted) == pytest.approx(100)
  # 5 of 6 words right, 4 of 5 pairs, 3 of 4 triples, 2 of 3 quadruples.
  written = [('one', 'two', 'three', 'four', 'five', 'seven')]
  right = (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
  assert metrics.bleu(written, wanted) == pytest.approx(100 * right, rel=1e-6)
  # One word short: the same n-grams, and a penalty.
  short = [('one', 'two', 'three', 'four', 'five')]
  assert metrics.bleu(short, wanted) == pytest.approx(
    100 * math.exp(1 - 6 / 5), rel=1e-6
  )


def test_links_join_the_favourite_and_its_equals():
  weights = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0, 0, 0]])
  assert metrics.links(weights) == {(0, 0), (1, 0), (1, 1), (2, 1)}
  assert metrics.links(np.zeros((0, 3))) == frozenset()


def test_alignment_error_rate_by_hand():
  gold = [frozenset({(0, 0), (1, 1), (3, 1)}), frozenset({(0, 0)})]
  # Two of three and one of two; what joins target word 2 of the first counts
  # for nothing, since that word comes from nowhere.
  found = [
    frozenset({(0, 0), (1, 1), (2, 2)}),
    frozenset({(0, 0), (1, 0)}),
  ]
  expected = 1 - 2 * 3 / (4 + 4)
  assert metrics.alignment_error_rate(found, gold) == pytest.approx(expected)
  assert metrics.alignment_error_rate(gold, gold) == 0
  assert metrics.alignment_error_rate([], []) == 0


def test_by_length_groups():
  got = metrics.by_length([4, 5, 9, 10], [True, False, True, True], 5)
  assert got == [
    {'words': 2.0, 'exact_match': 1.0, 'count': 1},
    {'words': 7.0, 'exact_match': 0.5, 'count': 2},
    {'words': 12.0, 'exact_match': 1.0, 'count': 1},
  ]
