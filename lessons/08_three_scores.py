# %% [markdown]
"""# 8. Luong's three scores

The idea: how well do a question and a word match?  The additive network is one
answer.  A dot product is a simpler one, if both mean the same by each number;
a matrix in between translates if they do not.

Run it:  `python lessons/08_three_scores.py [FOLDER]`

Figure:  `08_three_scores.png`, who is aligned with whom by each of the three.
The dot product compares apples with pears; the other two get it right.

Paper:  Luong et al., 2015, https://arxiv.org/abs/1508.04025
"""

# %%
import blackboard as board
import jax.numpy as jnp

import attn

# %% [markdown]
# ## Two networks, two habits
#
# Encoder and decoder are two networks, and need not use their numbers alike.
# Say the encoder's three numbers tell how much a word is an animal, a thing, an
# action; and the decoder, which asks, keeps the action in front: action,
# animal, thing.  (Luong asks with the decoder's newest state, Bahdanau with the
# one before.  To the scores it is all the same.)

# %%
german = ['Hund', 'Haus', 'malt']
english = ['dog', 'house', 'paints']
key = jnp.array([[1.0, 0.2, 0.0], [0.2, 1.0, 0.0], [0.0, 0.1, 1.0]])
query = jnp.array([[0.0, 1.0, 0.2], [0.0, 0.2, 1.0], [1.0, 0.0, 0.1]])

board.title('Keys: animal, thing, action')
board.show('', key, rows=german, digits=1)
board.title('Queries: action, animal, thing')
board.show('', query, rows=english, digits=1)


def show_scores(name, scores):
  """Print scores, their weights, and whom each query looks at most."""
  weights = attn.softmax(scores)
  board.title(name)
  board.show('scores', scores, rows=english, columns=german, digits=3)
  board.show('weights', weights, rows=english, digits=3)
  print('looks at:', *(german[place] for place in weights.argmax(-1)))
  return weights


# %% [markdown]
# ## Dot
#
#     score = query · key
#
# Nothing to learn, and the cheapest.  But here the first number of one is
# compared with the first number of the other, an action with an animal, and
# every word is found wrongly.  With this score the two networks have no choice:
# in training they must come to one order.

# %%
dot = attn.dot_product_scores(query, key, scale=1.0)
dot_weights = show_scores('dot', dot)

# %% [markdown]
# ## General
#
#     score = query · W · key
#
# W has a row for each number of the query and a column for each of the key, and
# says which are to be compared.  Ours has a 4 where both mean the same: 4 and
# not 1, so that softmax is more decided.  By hand, for dog and Hund:
#
#     4 (action · action + animal · animal + thing · thing)
#     4 (  0.0 · 0.0     +    1.0 · 1.0    +   0.2 · 0.2  )  =  4.16
#
# W need not be square: query and key may then have different sizes.

# %%
same = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
general = attn.bilinear_scores(query, key, 4 * same)
general_weights = show_scores('general', general)

# %% [markdown]
# ## Concat
#
#     score = v · tanh([query; key] W)
#
# Lay query and key end to end and let a small network judge the six numbers.
# The upper half of W meets the query, the lower half the key, and the products
# are added.  So it is the additive score of lesson 7 under another name, its
# two matrices stacked.
#
# Our W only brings the query into the key's order.  What makes it a comparison
# is tanh: it flattens out.  Two features on top of each other count for less,
# tanh 2 = 0.96, than two side by side, 2 tanh 1 = 1.52.  A negative v makes
# less into more.

# %%
w = jnp.concatenate([same, jnp.eye(3)])
v = jnp.full(3, -8.0)
concat = attn.concat_scores(query, key, w, v)
concat_weights = show_scores('concat', concat)
additive = attn.additive_scores(query, key, w[:3], w[3:], v)
concat_error = jnp.abs(concat - additive).max()
board.show('concat, additive', concat_error, digits=7)

# %% [markdown]
# ## Loud questions
#
# A query three times as long makes every dot product three times as large, and
# softmax surer: length is a way to say how sure one is.  A score
# behind tanh is never beyond Σ |v|, here 24: when a loud query has flattened
# every unit, the key is no longer heard.

# %%
loudness = jnp.array([1.0, 3.0, 10.0, 30.0])
surest = {
  'general': [
    attn.softmax(attn.bilinear_scores(c * query, key, 4 * same))
    for c in loudness
  ],
  'concat': [
    attn.softmax(attn.concat_scores(c * query, key, w, v)) for c in loudness
  ],
}

board.title(
  'The weight that "dog" gives to "Hund", its query 1 to 30 times as long'
)
for name, all_weights in surest.items():
  board.show(name, jnp.array([weights[0, 0] for weights in all_weights]))

# %% [markdown]
# ## What they cost
#
# T queries and S keys of size H make T S scores.  Written out, the network of
# concat holds A hidden numbers for each of them besides.

# %%
T, S, H, A = 1000, 1000, 512, 512
costs = {
  'dot': (0, T * S),
  'general': (H * H, T * S),
  'concat': (2 * H * A + A, T * S * A),
}

board.title(f'T = S = {T}, H = A = {H}')
print(f'{"":<16}{"to learn":>14}{"held":>16}')
for name, (learned, held) in costs.items():
  print(f'{name:<16}{learned:>14,}{held:>16,}')

# %% [markdown]
# A dot product is also what machines do fastest.  So dot products it became, of
# vectors first sent through learned matrices, which is the general score again:
# lesson 9.

# %%
figure, panels = board.canvas(13, 4.4, 3)
pictures = {
  'Dot: all wrong': dot_weights,
  'General': general_weights,
  'Concat': concat_weights,
}
for axes, (text, weights) in zip(panels, pictures.items()):
  board.heat_map(axes, weights, german, text, rows=english)
  axes.set_xlabel('source: who is seen')
  axes.set_ylabel('target: who asks' if axes is panels[0] else '')
board.save(figure, '08_three_scores')
