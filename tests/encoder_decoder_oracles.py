"""What encoder–decoders must compute, in NumPy float64, a word at a time.

One sentence without padding: `source` [S] and `inputs` [T] are its words.  All
return logits [T, V] and weights [T, S], or None where there are none.
"""

import numpy as np


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def softmax(scores, allowed):
  """Of a row; 0 where it is not allowed."""
  exponentials = np.where(allowed, np.exp(scores), 0)
  return exponentials / exponentials.sum()


def linear(p, x):
  return x @ p['kernel'] + p.get('bias', 0)


def gru(p, h, x):
  """Cho et al. 2014, with the reset after the product, as in cuDNN."""
  reset = sigmoid(linear(p['ir'], x) + linear(p['hr'], h))
  keep = sigmoid(linear(p['iz'], x) + linear(p['hz'], h))
  new = np.tanh(linear(p['in'], x) + reset * linear(p['hn'], h))
  return (1 - keep) * new + keep * h


def lstm(p, carry, x):
  """Hochreiter and Schmidhuber 1997, with a gate that forgets."""
  cell, hidden = carry
  gate = {
    name: linear(p[f'i{name}'], x) + linear(p[f'h{name}'], hidden)
    for name in 'ifgo'
  }
  cell = sigmoid(gate['f']) * cell + sigmoid(gate['i']) * np.tanh(gate['g'])
  return cell, sigmoid(gate['o']) * np.tanh(cell)


def lstms(p, carries, x):
  """One token through a stack; the new carries, the last of them on top."""
  following = []
  for layer, carry in enumerate(carries):
    following.append(lstm(p[f'cells_{layer}'], carry, x))
    x = following[-1][1]
  return following


def no_carries(p, num_layers):
  zeros = np.zeros(p['cells_0']['hi']['kernel'].shape[0])
  return [(zeros, zeros)] * num_layers


def bottleneck(p, source, inputs):
  context = np.zeros(p['reader']['hn']['bias'].shape)
  for word in p['source_embed']['embedding'][source]:
    context = gru(p['reader'], context, word)
  hidden, logits = context, []
  for word in p['target_embed']['embedding'][inputs]:
    hidden = gru(p['writer'], hidden, np.concatenate([word, context]))
    said = np.tanh(
      linear(p['readout'], np.concatenate([hidden, context, word]))
    )
    logits.append(linear(p['head'], said))
  return np.array(logits), None


def reversed_lstm(p, source, inputs, num_layers):
  carries = no_carries(p['reader'], num_layers)
  for word in p['source_embed']['embedding'][source][::-1]:
    carries = lstms(p['reader'], carries, word)
  logits = []
  for word in p['target_embed']['embedding'][inputs]:
    carries = lstms(p['writer'], carries, word)
    logits.append(linear(p['head'], carries[-1][1]))
  return np.array(logits), None


def bahdanau(p, source, inputs):
  size = p['writer']['hn']['bias'].shape
  words = p['source_embed']['embedding'][source]
  ahead, back = [np.zeros(size)], [np.zeros(size)]
  for word in words:
    ahead.append(gru(p['forward_reader'], ahead[-1], word))
  for word in words[::-1]:
    back.append(gru(p['backward_reader'], back[-1], word))
  states = np.concatenate([ahead[1:], back[:0:-1]], 1)
  hidden = np.tanh(linear(p['start'], back[-1]))
  seen, rows, logits = np.zeros(len(source)), [], []
  for word in p['target_embed']['embedding'][inputs]:
    scores = []
    for s, state in enumerate(states):
      inside = linear(p['query'], hidden) + linear(p['key'], state)
      inside = inside + seen[s] * p.get('score_coverage', 0)
      scores.append(np.tanh(inside) @ p['score'])
    rows.append(softmax(np.array(scores), True))
    seen = seen + rows[-1]
    context = rows[-1] @ states
    hidden = gru(p['writer'], hidden, np.concatenate([word, context]))
    said = np.tanh(
      linear(p['readout'], np.concatenate([hidden, context, word]))
    )
    logits.append(linear(p['head'], said))
  return np.array(logits), np.array(rows)


def luong_score(p, kind, query, state, s):
  match kind:
    case 'dot':
      return query @ state
    case 'general':
      return query @ p['score'] @ state
    case 'concat':
      inside = linear(p['query'], query) + linear(p['key'], state)
      return p['score'] @ np.tanh(inside)
    case 'location':
      return query @ p['score'][:, s]


def luong_read(p, words, num_layers):
  carries, states = no_carries(p, num_layers), []
  for word in words:
    carries = lstms(p, carries, word)
    states.append(carries[-1][1])
  return carries, np.array(states)


def luong(
  p, source, inputs, num_layers, *, score, locality, half_width, feeding
):
  words, length = p['source_embed']['embedding'][source], len(source)
  carries, states = luong_read(p['reader'], words[::-1], num_layers)
  states = states[::-1]
  if 'first_reader' in p:
    _, first = luong_read(p['first_reader'], words, num_layers)
    states = np.concatenate([first, states], -1)
  attended, rows, logits = np.zeros(carries[-1][1].shape), [], []
  for t, word in enumerate(p['target_embed']['embedding'][inputs]):
    x = np.concatenate([word, attended]) if feeding else word
    carries = lstms(p['writer'], carries, x)
    query = carries[-1][1]
    scores = np.array(
      [luong_score(p, score, query, h, s) for s, h in enumerate(states)]
    )
    center = min(t, length - 1)
    if locality == 'local-p':
      inside = np.tanh(query @ p['place'])
      center = length * sigmoid(inside @ p['place_score'])
    far = np.abs(np.arange(length) - center)
    row = softmax(scores, (far <= half_width) | (locality == 'global'))
    if locality == 'local-p':
      row = row * np.exp(-(far**2) / (2 * (half_width / 2) ** 2))
    rows.append(row)
    both = np.concatenate([row @ states, query])
    attended = np.tanh(linear(p['attended'], both))
    logits.append(linear(p['head'], attended))
  return np.array(logits), np.array(rows)
