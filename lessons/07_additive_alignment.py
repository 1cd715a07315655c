# %% [markdown]
"""# 7. Additive alignment, step by step

The idea: before each word it writes, the translator asks which word of the
source it needs now.  A network of one small layer compares the question with
each word; softmax turns the comparisons into weights.  Nobody tells it which
word belongs to which: the weights are the alignment.

Run it:  `python lessons/07_additive_alignment.py [FOLDER]`

Figure:  `07_alignment.png`, left the alignment of a German sentence, whose verb
stands last, and its translation; right the bump that finds a place.

Paper:  Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473
"""

# %%
import blackboard as board
import jax.numpy as jnp

import attn

# %% [markdown]
# ## Two sentences
#
# The encoder has read the German sentence and left a vector for each word, its
# annotation.  Training would decide what it says; ours says two things only,
# the place of the word, and a 1.  The decoder, about to write an English word,
# holds a state, and ours says which place it needs, counted from 0.  German
# sends the verb to the end, so after "must" it needs number 5.

# %%
german = ['ich', 'muss', 'heute', 'das', 'Haus', 'malen']
english = ['I', 'must', 'paint', 'the', 'house', 'today']
key = jnp.array([[place, 1.0] for place in range(6)])
needed = [0, 1, 5, 3, 4, 2]
query = jnp.array([[float(place)] for place in needed])

board.title('Annotations, and the place each English word needs')
board.show('place, 1', key, rows=german, digits=0)
board.show('needs', query, rows=english, digits=0)

# %% [markdown]
# ## The small network
#
#     score = v · tanh(query W_query + key W_key)
#
# Two matrices bring query and key to the same width, A = 2, where they are
# added: hence the name.  Written out, with p for the place needed and s for the
# place of the key, the two hidden numbers are tanh(s - p + 1) and
# tanh(s - p - 1).

# %%
w_query = jnp.array([[-1.0, -1.0]])
w_key = jnp.array([[1.0, 1.0], [1.0, -1.0]])
v = jnp.array([4.0, -4.0])

projected_key = key @ w_key
projected_query = query[2] @ w_query
total = projected_query + projected_key
hidden = jnp.tanh(total)
scores = hidden @ v

board.title('About to write "paint": which German word?')
board.show('key W_key', projected_key, rows=german, digits=0)
board.show('query W_query', projected_query, digits=0)
board.show('their sum', total, rows=german, digits=0)
board.show('tanh', hidden, rows=german)
board.show('scores', scores, columns=german)

# %% [markdown]
# Both hidden numbers are -1 far to the left of the place, and 1 far to the
# right; only near it do they differ.  So their difference is a bump, highest
# where s = p, and v takes that difference, four times so that softmax is
# decided.  A sum and a tanh have tested for equality.
#
# **Weights.**  Softmax, as ever.
#
# **Context.**  The annotations are the values as well: their average, each with
# its weight.  Its first number, a place between 4 and 5, says that the decoder
# got "malen" and a little of "Haus".

# %%
weights = attn.softmax(scores)
context = attn.weighted_sum(weights, key)

board.title('The rest is known')
board.show('weights', weights, columns=german)
board.show('context', context)

# %% [markdown]
# ## All words
#
# `attn.additive_scores` does the same for every query.

# %%
all_scores = attn.additive_scores(query, key, w_query, w_key, v)
alignment = attn.softmax(all_scores)
found = alignment.argmax(-1)

board.title('The alignment')
board.show('weights', alignment, rows=english, columns=german)
print('each word looks at:', *(german[place] for place in found))
by_hand = jnp.abs(all_scores[2] - scores).max()
board.show('by hand, attn', by_hand, digits=7)

# %% [markdown]
# Off the diagonal, where languages differ, it jumps.  And it is soft: "paint"
# gives most to "malen" but not all, so when the translation turns out wrong,
# every weight can be moved a little, and gradient descent can learn it all.
# A hard choice of one word has no gradient.

# %% [markdown]
# ## Why tanh?
#
# Without it a score is a sum of two parts, one from the query and one from the
# key.  The query's part is the same for all keys, and softmax does not notice a
# number added to all its scores (lesson 2).  The question would go unheard.

# %%
other_v = jnp.array([0.5, -0.2])
all_totals = (query @ w_query)[:, None] + projected_key
deaf = attn.softmax(all_totals @ other_v)
heard = attn.softmax(jnp.tanh(all_totals) @ other_v)

board.title('Weights of "I" and of "paint", with a v that makes no bump')
board.show('no tanh: I', deaf[0], columns=german)
board.show('no tanh: paint', deaf[2])
board.show('tanh: I', heard[0])
board.show('tanh: paint', heard[2])

# %% [markdown]
# ## The keys are projected once
#
# In a decoder each state depends on the context before it, so the questions
# come one at a time.  The annotations stay the same.  So `key W_key` is worked
# out once, before the first word is written, and each step pays only for its
# own query, the sum and the tanh.

# %%
steps = []
for state in query:
  one = attn.additive_scores(state[None], projected_key, w_query, None, v)
  steps.append(one[0])
step_error = jnp.abs(jnp.array(steps) - all_scores).max()
naive = len(english) * len(german) * w_key.size
once = len(german) * w_key.size

board.title('Products of annotations with W_key')
board.show('at every step', naive, digits=0)
board.show('once', once, digits=0)
board.show('difference', step_error, digits=7)

# %%
figure, [left, right] = board.canvas(12, 5, 2)
board.heat_map(
  left, alignment, german, 'Who is aligned with whom', rows=english
)
left.set(xlabel='source: who is seen', ylabel='target: who asks')
away = jnp.linspace(-4, 4, 161)
plus, minus = jnp.tanh(away + 1), jnp.tanh(away - 1)
right.plot(away, plus, color=board.BLUE, label='tanh(s - p + 1)')
right.plot(away, minus, color=board.ORANGE, label='tanh(s - p - 1)')
right.plot(away, plus - minus, color=board.INK, lw=2.5, label='difference')
right.legend(frameon=False, fontsize=12, loc='upper left')
right.set_ylim(top=2.4)
board.caption(right, 'A bump where s = p', 's - p: how far the key is off')
board.save(figure, '07_alignment')
