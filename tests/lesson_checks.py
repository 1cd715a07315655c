"""What each lesson must find: its numbers again in NumPy, and as printed."""

import functools
import re

import chex
import numpy as np
import pytest

TOKENS = np.array(
  [
    [0.43, 0.15, 0.89],
    [0.55, 0.87, 0.66],
    [0.57, 0.85, 0.64],
    [0.22, 0.58, 0.33],
    [0.77, 0.25, 0.10],
    [0.05, 0.80, 0.55],
  ]
)

# Numbers with four digits are off by half of the last one at most.
near = functools.partial(chex.assert_trees_all_close, rtol=0, atol=0.51e-4)
same = functools.partial(chex.assert_trees_all_close, rtol=0, atol=2e-6)


def softmax(scores):
  exponentials = np.exp(scores - scores.max(-1, keepdims=True))
  return exponentials / exponentials.sum(-1, keepdims=True)


def array(x):
  return np.asarray(x, np.float64)


def check_01_weight_free(lesson, printed):
  near(array(lesson['scores']), np.array([0.7842, 1.3569, 1.2487]))
  near(array(lesson['weights']), np.array([0.2291, 0.4063, 0.3646]))
  near(array(lesson['context']), np.array([0.3990, 0.3854, 0.8610]))
  near(lesson['rounded_context'], np.array([0.3990, 0.3854, 0.8610]))
  near(lesson['article_context'], np.array([0.3992, 0.3858, 0.8610]))
  assert '0.3990    0.3854    0.8610' in printed
  assert '0.3992    0.3858    0.8610' in printed

  scores = np.array([0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865])
  weights = np.array([0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581])
  context = np.array([0.4419, 0.6515, 0.5683])
  for form in ('loop', 'matrix'):
    near(array(lesson[f'{form}_scores'][1]), scores)
    near(array(lesson[f'{form}_weights'][1]), weights)
    near(array(lesson[f'{form}_context'][1]), context)
  for form in ('loop', 'matrix', 'library'):
    same(array(lesson[f'{form}_weights']), softmax(TOKENS @ TOKENS.T))
    same(array(lesson[f'{form}_context']), softmax(TOKENS @ TOKENS.T) @ TOKENS)
  assert '0.4419    0.6515    0.5683' in printed


def check_02_why_softmax(lesson, printed):
  weights = np.array([0.6590, 0.2424, 0.0986])
  near(array(lesson['weights']), weights)
  near(array(lesson['stable_large']), weights)
  near(array(lesson['stable_small']), weights)
  assert np.isnan(lesson['naive_large']).all()
  assert np.isnan(lesson['naive_small']).all()
  assert '0.6590    0.2424    0.0986' in printed

  near(array(lesson['sum_positive']), np.array([0.6452, 0.3226, 0.0323]))
  chex.assert_trees_all_close(
    array(lesson['sum_mixed']), np.array([20.0, 10.0, -29.0]), rtol=1e-4
  )
  assert np.isinf(lesson['sum_opposite']).all()

  assert lesson['sizes'] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
  sizes = array(lesson['sizes'])
  plain, scaled = array(lesson['deviations']).T
  chex.assert_trees_all_close(plain, np.sqrt(sizes), rtol=0.05)
  chex.assert_trees_all_close(scaled, np.ones(11), rtol=0.05)
  plain, scaled = array(lesson['typical']).T
  assert scaled.min() > 0.3
  assert plain[-1] < 1e-4 < plain[6] < 0.1
  plain, scaled = array(lesson['mean']).T
  assert scaled.min() > 0.3
  assert plain[-1] < 0.06
  # The Jacobian of one draw, from its closed form.
  scores = array(lesson['query'][0, 0] @ lesson['key'][0].T) / 32
  w = softmax(scores)
  norm = np.linalg.norm(np.diag(w) - np.outer(w, w))
  same(array(lesson['norms'][-1, 1, 0]), norm)


def check_03_query_key_value(lesson, printed):
  heads = [[array(w) for w in head] for head in lesson['heads']]
  past = np.tril(np.ones((6, 6)))
  contexts = []
  for w_query, w_key, w_value in heads:
    scores = TOKENS @ w_query @ (TOKENS @ w_key).T / np.sqrt(2)
    causal = softmax(np.where(past, scores, -np.inf))
    contexts.append(causal @ (TOKENS @ w_value))
    if len(contexts) == 1:
      weights, masked = softmax(scores), causal
      context = weights @ (TOKENS @ w_value)
  near(array(lesson['weights']), weights)
  near(array(lesson['context']), context)
  near(array(lesson['journey_weights']), weights[1])
  near(array(lesson['journey_context']), context[1])
  for name in ('before', 'after', 'causal_weights'):
    near(array(lesson[name]), masked)
    assert not array(lesson[name])[past == 0].any()

  kept = array(lesson['dropped']) > 0
  assert 0 < kept.sum() < 21
  same(array(lesson['dropped'])[kept], 2 * array(lesson['before'])[kept])
  assert (array(lesson['many']) > 0)[:, past > 0].mean() == pytest.approx(
    0.5, abs=0.01
  )
  # A mean of n doubled or dropped weights deviates by weight / √n.
  error = np.abs(array(lesson['average']) - masked)
  assert (error <= 4 * masked / np.sqrt(lesson['DRAWS']) + 1e-6).all()

  for name in ('stacked', 'split', 'called'):
    near(array(lesson[name]), np.concatenate(contexts, -1))
  same(array(lesson['split']), array(lesson['stacked']))
  same(array(lesson['called']), array(lesson['stacked']))
  assert '1 1 1 0 0 0\n' in printed


def check_04_why_three_vectors(lesson, printed):
  chex.assert_shape(lesson['telegrams'], (24, 7))
  curves, errors = lesson['losses'], lesson['role_errors']
  # The best share is 2/7: a name keeps 5/7 and gives 1/21 to each other word.
  share, rest = 5 / 7, 1 / 21
  name = share**2 + (1 - rest) ** 2 + 5 * rest**2
  other = (1 - share) ** 2 + 6 * rest**2
  ratio = np.array([name, other, other, (2 * name + 5 * other) / 7])
  near(array(errors['fixed_ratio']), ratio)
  # One key: half for a name, half for a noun, nothing for filler.
  chex.assert_trees_all_close(
    array(errors['one_key']), np.array([1 / 2, 1 / 2, 0, 2 / 7]), atol=0.01
  )
  assert errors['one_key'][0] >= 0.5 - 1e-6
  assert curves['one_key'].min() >= 2 / 7 - 1e-6
  assert errors['query_and_key'].max() < 1e-3
  assert curves['query_and_key'][-1] < 2e-4

  weights = {name: array(w) for name, w in lesson['weights'].items()}
  for w in weights.values():
    same(w.sum(-1), np.ones(7))
  assert weights['query_and_key'][0, 1] > 0.98  # Pim sees baker,
  assert weights['query_and_key'][1, 0] < 0.01  # baker not Pim.
  w = weights['one_key']
  assert (w <= np.diag(w)[:, None] + 1e-6).all()
  assert w[0, 1] == pytest.approx(w[1, 0], abs=0.01)

  # Keys of any length: nouns are loud; a ring still defeats them.
  assert lesson['loud_curve'][-1] < 1e-3
  lengths = array(lesson['lengths'])
  assert lengths[4:8].min() > lengths[:4].max()
  near(array(lesson['ring_one'][-1]), np.array(2 / 3))
  assert lesson['ring_two'][-1] < 1e-3
  assert 'Pim baker Ola sailor' in printed


def check_05_a_summary_loses(lesson, printed):
  words = lesson['words']
  assert len(words) == 10
  assert sum(map(len, words)) == 50
  assert sorted(words) == sorted(lesson['other'].split())
  assert words != lesson['other'].split()
  shares = dict(zip(words, array(lesson['shares'])))
  by_length = {len(word): share for word, share in shares.items()}
  near(by_length[9], 0.180)
  near(by_length[2], 0.040)
  near(sum(shares.values()), 1.0)
  assert '0.180\n' in printed
  assert '0.040\n' in printed

  for blind in ('sum_gap', 'placed_gap', 'blind_gap'):
    assert lesson[blind] < 1e-6
  assert lesson['seen_gap'] > 0.1
  one, other = array(lesson['seen'])
  same(one.sum(), 1.0)
  same(other.sum(), 1.0)
  quiet, snowy = words.index('quiet'), words.index('snowy')
  assert one[quiet] > 2 * one[snowy]
  assert other[snowy] > 2 * other[quiet]


def check_06_the_bottleneck(lesson, printed):
  # Three words by hand: signs, multiplied and added.
  places, words = array(lesson['place_signs']), array(lesson['word_signs'])
  assert set(np.unique([*places.ravel(), *words.ravel()])) == {-1, 1}
  memory = (places * words[1:4]).sum(0)
  chex.assert_trees_all_equal(array(lesson['memory']), memory)
  likeness = words @ (memory * places[1])
  chex.assert_trees_all_equal(array(lesson['likeness']), likeness)
  assert likeness.argmax() == 2
  assert 'most like: boat\n' in printed

  # Recall falls with length, rises with size, and stays at 1 with attention.
  recall = array(lesson['from_sum'])
  chex.assert_shape(recall, (4, 7))
  assert (recall[:, 0] == 1).all()
  assert (np.diff(recall, axis=1) <= 0).all()
  assert (np.diff(recall, axis=0) >= 0).all()
  assert recall[0, 3] < 0.5
  assert recall[:, -1].max() < 0.5
  assert recall[3, 3] > 0.99
  # Twice the numbers hold twice the words.
  for steps in (2, 3):
    diagonal = np.diagonal(recall, steps)
    assert np.ptp(diagonal) < 0.05
  assert (array(lesson['from_attention']) == 1).all()

  # One recall again, in NumPy: d = 64, 16 words.
  words, places = (array(lesson['signs'](i, 64, 64)) for i in (2, 3))
  sentences = np.asarray(lesson['sentences'])[:, :16]
  memories = (places[:16] * words[sentences]).sum(1, keepdims=True)
  told = (places[:16] * memories @ words.T).argmax(-1)
  near((told == sentences).mean(), recall[1, 4])

  forward, backward = array(lesson['forward']), array(lesson['backward'])
  assert forward[:6].max() < 0.2 < 0.9 < forward[-3:].min()
  assert backward[-6:].max() < 0.2 < 0.9 < backward[:3].min()
  assert forward.mean() == pytest.approx(backward.mean(), abs=0.05)


def check_07_additive_alignment(lesson, printed):
  needed = np.array([0, 1, 5, 3, 4, 2])
  away = np.arange(6) - needed[:, None]
  scores = 4 * (np.tanh(away + 1) - np.tanh(away - 1))
  same(array(lesson['scores']), scores[2])
  same(array(lesson['all_scores']), scores)
  same(array(lesson['alignment']), softmax(scores))
  chex.assert_trees_all_equal(np.asarray(lesson['found']), needed)
  near(array(lesson['weights'][-2:]), np.array([0.0954, 0.8931]))
  near(array(lesson['context']), np.array([4.8690, 1.0]))
  assert 'ich muss malen das Haus heute\n' in printed
  assert '0.0954    0.8931\n' in printed

  # No tanh, and all queries see the same; with it they do not.
  deaf, heard = array(lesson['deaf']), array(lesson['heard'])
  same(deaf, np.broadcast_to(deaf[0], (6, 6)))
  assert np.ptp(deaf[0]) > 0.1
  assert np.abs(heard[0] - heard[2]).max() > 0.1
  assert lesson['step_error'] < 1e-6
  assert (lesson['naive'], lesson['once']) == (144, 24)


def check_08_three_scores(lesson, printed):
  query, key = array(lesson['query']), array(lesson['key'])
  # Animal, thing and action, of both.
  ordered = query[:, [1, 2, 0]]
  same(array(lesson['dot']), query @ key.T)
  same(array(lesson['general']), 4 * ordered @ key.T)
  concat = -8 * np.tanh(ordered[:, None] + key).sum(-1)
  chex.assert_trees_all_close(array(lesson['concat']), concat, rtol=1e-6)
  assert lesson['concat_error'] < 1e-6
  near(array(lesson['general'][0, 0]), 4.16)
  assert re.findall('looks at: (.*)', printed) == [
    'Haus malt Hund',
    'Hund Haus malt',
    'Hund Haus malt',
  ]

  surest = {
    name: array([w[0, 0] for w in weights])
    for name, weights in lesson['surest'].items()
  }
  assert (np.diff(surest['general']) >= 0).all()
  assert surest['general'][-1] > 0.9999
  assert (np.diff(surest['concat']) < 0).all()
  assert surest['concat'][-1] < 0.55
  assert lesson['costs'] == {
    'dot': (0, 10**6),
    'general': (512**2, 10**6),
    'concat': (2 * 512**2 + 512, 512 * 10**6),
  }


def check_09_self_attention(lesson, printed):
  x, w = array(lesson['x']), array(lesson['w'])
  weights = softmax(x @ w @ x.T)
  same(array(lesson['weights']), weights)
  same(array(lesson['context']), weights @ x)
  same(array(lesson['called']), weights @ x)
  same(array(lesson['asked'][0]), weights[3])
  same(array(lesson['halves']), w)
  assert lesson['split_error'] < 1e-5
  # 4 and four zeros; 2, 2 and three zeros; five zeros.
  near(array(lesson['asked'][0, 0]), np.e**4 / (np.e**4 + 4))
  near(array(lesson['weights'][1, 0]), np.e**2 / (2 * np.e**2 + 3))
  assert '0.9317    0.0171' in printed

  recurrent, direct = array(lesson['reach'])
  chex.assert_shape([recurrent, direct], (64,))
  assert recurrent[1] > 1
  assert recurrent[-1] < 1e-12
  assert direct[1:].min() > 0.02
  assert direct[1:].max() < 0.1
  # One of the recurrences again, by the chain rule in NumPy.
  turn, story = array(lesson['turn']), array(lesson['sentences'][0])
  same(turn @ turn.T, np.eye(8))
  state, chain = np.zeros(8), np.eye(8)
  for word in story:
    state = np.tanh(state @ turn + word)
    slope = 1 - state**2
    chain = (
      np.diag(slope) if word is story[0] else slope[:, None] * turn.T @ chain
    )
  chex.assert_trees_all_close(
    array(lesson['felt'](lesson['sentences'][0]))[0, 0],
    np.linalg.norm(chain),
    rtol=1e-3,
  )
  assert lesson['twins'] < 1e-6
  assert lesson['shuffle_error'] < 1e-6


def check_10_sliding_window(lesson, printed):
  away = np.arange(6) - np.arange(6)[:, None]
  scores = np.where((away <= 0) & (away > -3), TOKENS @ TOKENS.T, -np.inf)
  same(array(lesson['weights']), softmax(scores))
  same(array(lesson['context']), softmax(scores) @ TOKENS)
  same(array(lesson['from_store'][0]), array(lesson['context'][5]))
  assert '1 1 1 0 0 0\n0 1 1 1 0 0\n' in printed  # three back
  assert '1 1 1 0 0 0\n1 1 1 1 0 0\n1 0 1 1 1 0\n' in printed  # and a hub

  assert '/ . . . . .\n# / . . . .\n/ # / . . .\n. / # / . .\n' in printed
  blocks = np.array([8, 16, 32, 64])
  chex.assert_trees_all_equal(
    np.array(lesson['visited']),
    np.array([3 * blocks - 3, blocks * (blocks + 1) // 2]),
  )
  explanation = lesson['explanation']
  assert explanation.blocks_visited < explanation.blocks / 4
  assert f'{explanation.blocks_visited:,} visited of' in printed

  layers = np.arange(1, 8)
  chex.assert_trees_all_equal(lesson['reach'].sum(1), 2 * layers + 1)
  assert all(row[-n:].all() for row, n in zip(lesson['reach'], 2 * layers + 1))
  # 16 words: a band of 3, and of 5 after two layers; cut at the ends.
  band, hub = (array(share) * 256 for share in lesson['shares'].values())
  same(band, np.array([48 - 2, 80 - 6.0]))
  same(hub, np.array([48 - 2 + 2 * 14, 256.0]))


def check_11_online_softmax(lesson, printed):
  # By hand, in units of 1/16: the powers, their sum and the context.
  sixteenths = np.array([2, 4, 16, 1, 8, 2])
  context = sixteenths @ lesson['value'] / sixteenths.sum()
  chex.assert_trees_all_equal(lesson['dense_context'], context)
  chex.assert_trees_all_equal(lesson['online_context'], context)
  same(array(lesson['library_context']), context)
  carried = [
    [step[0].item(), *(float(x) for part in step[2:] for x in part[0])]
    for step in lesson['steps']
  ]
  assert carried == [
    [0, 2, 1.5, 2.5, 4],
    [0.25, 4, 1.4375, 4.125, 2.125],
    [1, 4, 2.0625, 4.625, 5.625],
  ]
  assert 'same bits: True\n' in printed
  bits = [float(number).hex() for number in context]
  assert printed.count(' '.join(bits)) == 2
  assert printed.count('2.242424    2.727273\n') == 4

  truth = softmax(TOKENS @ TOKENS.T) @ TOKENS
  for name in ('dense', 'by_blocks', 'blockwise'):
    same(array(lesson[name]), truth)
  assert printed.count('0.441866    0.651482    0.568309\n') == 3
  assert lesson['all_error'] < 5e-7
  assert lesson['library_error'] < 5e-7
  costs = lesson['costs']
  assert (
    costs['dense'].temporary_bytes > 20 * costs['blockwise'].temporary_bytes
  )
  same(lesson['provisional'].sum(1), np.ones(3))
  near(lesson['provisional'][0, :2], np.array([1 / 3, 2 / 3]))
  same(lesson['provisional'][2], sixteenths / 33)
