# %% [markdown]
"""# 5. A summary of fixed length loses

The idea: before attention, a sentence was squeezed into one vector, however
long it was.  The simplest such summary, a weighted sum of its words, is the
same for two sentences that say different things.  Attention with positions
tells them apart.

Run it:  `python lessons/05_a_summary_loses.py [FOLDER]`

Figure:  `05_weights.png`, left each word's share of the letters, which is blind
to order; right what "foxes" attends to, which is not.
"""

# %%
import blackboard as board
import jax
import jax.numpy as jnp

import attn

# %% [markdown]
# ## Each word by its share of the letters
#
# A naive idea: a long word says more.  Ten words of 50 letters together, each
# weighted by its length: nine letters weigh 0.180, two letters 0.040.

# %%
story = 'at nightfall four quiet foxes cross your snowy garden again'
words = story.split()
letters = jnp.array([len(word) for word in words])
shares = letters / letters.sum()

board.title(story)
print(f'{len(words)} words, {letters.sum()} letters')
for word, share in zip(words, shares):
  board.show(word, share, digits=3)
board.show('their sum', shares.sum(), digits=3)

# %% [markdown]
# ## One sum for two stories
#
# Two words change places: now the foxes are snowy and the garden is quiet.
# Every word takes its weight along: the same terms in another order, the same
# sum.  Marking each word with its place first does not help, as words and
# places are summed apart and two words of five letters may still be swapped.

# %%
other = 'at nightfall four snowy foxes cross your quiet garden again'
SIZE = 16
rng = jax.random.key(0)
table = dict(zip(words, 0.35 * jax.random.normal(rng, (len(words), SIZE))))


def embed(sentence):
  """One row per word, [T, SIZE]."""
  return jnp.array([table[word] for word in sentence.split()])


def place(sentence):
  """The same, each word marked with its place: a wave is added."""
  x = embed(sentence)
  places = jnp.arange(len(x))
  # Short waves, as the sentence is short; long texts want the default base.
  return x + attn.sinusoidal_positions(places, SIZE, base=10.0)


def attend(x):
  """Weight-free attention, as in lesson 1, divided by √d, as in lesson 2."""
  weights = attn.softmax(attn.dot_product_scores(x, x))
  return attn.weighted_sum(weights, x), weights


def compare(heading, one, two):
  """Print the first numbers of two vectors and how far they are apart."""
  board.title(heading)
  board.show('(1)', one[:6])
  board.show('(2)', two[:6])
  gap = jnp.abs(one - two).max()
  board.show('largest gap', gap)
  return gap


print(f'\n(1) {story}\n(2) {other}')
sum_gap = compare('The sum', shares @ embed(story), shares @ embed(other))
placed_gap = compare(
  'The sum, with places', shares @ place(story), shares @ place(other)
)

# %% [markdown]
# ## Attention
#
# Attention makes no summary: it keeps a vector per word, so there is room for
# more.  But alone it is as blind to order: the context of "foxes" is also a sum
# over all words, the same words both times.

# %%
FOXES = words.index('foxes')

blind_gap = compare(
  'Attention: the context of "foxes"',
  attend(embed(story))[0][FOXES],
  attend(embed(other))[0][FOXES],
)

# %% [markdown]
# With places it can tell.  The waves of near places are alike, so "foxes" looks
# at its neighbours: quiet in the one story, snowy in the other.

# %%
context_one, weights_one = attend(place(story))
context_other, weights_other = attend(place(other))
seen_gap = compare(
  'Attention with places: the context of "foxes"',
  context_one[FOXES],
  context_other[FOXES],
)

# The second story's weights, in the first one's order of words.
order = jnp.array([other.split().index(word) for word in words])
seen = jnp.stack([weights_one[FOXES], weights_other[FOXES][order]])

board.title('What "foxes" sees')
print(f'{"":<16}{"in (1)":>10}{"in (2)":>10}')
for word, pair in zip(words, seen.T):
  board.show(word, pair)

# %%
figure, [left, right] = board.canvas(12, 5, 2)
spots = jnp.arange(len(words), dtype=jnp.float32)
left.barh(spots, shares, color=board.GREY)
for spot, share in zip(spots, shares):
  left.text(share + 0.003, spot, f'{share:.2f}', va='center', color=board.INK)
colors = {'(1) quiet foxes': board.BLUE, '(2) snowy foxes': board.ORANGE}
for shift, (text, color), row in zip((-0.2, 0.2), colors.items(), seen):
  right.barh(spots + shift, row, height=0.38, color=color, label=text)
for axes in (left, right):
  axes.set_yticks(spots, words)
  axes.invert_yaxis()
right.legend(frameon=False, fontsize=12, loc='lower right')
left.set_xticks([0, 0.05, 0.1, 0.15])
board.caption(left, 'A summary: the same in both stories', 'share of letters')
board.caption(right, 'Attention: what "foxes" sees', 'weight')
board.save(figure, '05_weights')
