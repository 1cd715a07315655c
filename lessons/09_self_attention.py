# %% [markdown]
"""# 9. From alignment to self-attention

The idea: alignment is asked for by a decoder, one word after the other.  Let
the words of the sentence ask instead, all at once, and the recurrent networks
on both sides are no longer needed.

Run it:  `python lessons/09_self_attention.py [FOLDER]`

Figure:  `09_self_attention.png`, left who asks whom in one sentence; right how
much the last word feels of those before it, through a recurrence and by
attention.

Papers:  Luong et al., 2015, https://arxiv.org/abs/1508.04025
Vaswani et al., 2017, https://arxiv.org/abs/1706.03762
"""

# %%
import blackboard as board
import jax
import jax.numpy as jnp

import attn

# %% [markdown]
# ## Someone outside asks
#
# A decoder is about to translate "she".  Its state says only: this points to
# somebody.  By the general score of lesson 8 it asks the sentence who.  A word
# is three numbers here: is it a being, an action, does it point to another?
# The one entry of W that matters, 4 in the last row, lets who points look for
# beings.  The second row lets an action look for beings and for what points to
# them: who did it?

# %%
words = ['Mia', 'fell', 'because', 'she', 'slipped']
being, action, points = jnp.eye(3)
x = jnp.array([being, action, jnp.zeros(3), points, action])
w = jnp.array([[0.0, 0.0, 0.0], [2.0, 0.0, 2.0], [4.0, 0.0, 0.0]])

state = points[None]
asked = attn.softmax(attn.bilinear_scores(state, x, w))

board.title('The decoder asks')
board.show('being act. pts.', x, rows=words, digits=0)
board.show('W', w, digits=0)
board.show('weights', asked, columns=words)

# %% [markdown]
# ## One matrix in two halves
#
# W takes a query of size 3 to a key of size 3.  Here it is a product of two
# narrow matrices, and then the general score is a plain dot product of a
# projected query and a projected key.  Each half now belongs to one side: the
# query's to who asks, the key's to who is asked.  We call them W_query, W_key.
# (Lesson 3 divides by √H, here √2; our W_query makes up for it.)

# %%
H = 2
w_query = H**0.5 * jnp.array([[0.0, 0.0], [2.0, 2.0], [4.0, 0.0]])
w_key = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
halves = w_query @ w_key.T / H**0.5
split_scores = attn.dot_product_scores(state @ w_query, x @ w_key)
split_error = jnp.abs(split_scores - attn.bilinear_scores(state, x, w)).max()

board.title('W_query W_key transposed, divided by √H')
board.show('', halves, digits=0)
board.show('scores, halves', split_error, digits=7)

# %% [markdown]
# ## The words ask
#
# The sentence itself holds a word that points to somebody: "she".  Its vector
# is the same as the decoder's state, so let it ask.  And if one word may, all
# may: in place of one state we put the whole sentence.  Query, key and value
# come from the same words, and that is self-attention.

# %%
context, weights = attn.single_head_attention(x, w_query, w_key, jnp.eye(3))
query, key = x @ w_query, x @ w_key
called = attn.attention(query[:, None], key[:, None], x[:, None])[:, 0]
she, fell, slipped = 3, 1, 4

board.title('Everyone asks')
board.show('weights', weights, rows=words, columns=words)
board.show('context', context, rows=words)
row_error = jnp.abs(weights[she] - asked[0]).max()
call_error = jnp.abs(called - context).max()
board.show('she, the state', row_error, digits=7)
board.show('attn, by name', call_error, digits=7)

# %% [markdown]
# The context of "she" is mostly Mia: a being.  "Mia" and "because" ask nothing,
# all their scores are 0, and they see everyone alike.

# %% [markdown]
# ## Nobody waits
#
# A decoder's next state depends on its last context, so T questions take T
# steps.  Here every question is known from the start, and all are answered in
# one product.  (A model that writes must wait for its own last word.  But in
# training the text is there, and the causal mask of lesson 3 keeps it honest.)
# A translator without recurrence uses both: each sentence asks itself, and the
# target asks the source, as before.
#
# And news travels faster: through a recurrence the first word reaches the last
# in T - 1 steps, and each weakens it; in attention it is one step away.
#
# To measure that we move one word of 64 a little and see how far the last
# output moves: the norm of its derivative, for random words of 8 numbers.  The
# recurrence is state ← tanh(state W + word), and its W turns vectors without
# shrinking them; tanh shrinks enough.  (The gates of a GRU or an LSTM slow this
# fading down.  They do not end it.)

# %%
D, T, DRAWS = 8, 64, 20
turn, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (D, D)))


def recurrence(x):
  """The last state."""

  def read(state, word):
    return jnp.tanh(state @ turn + word), None

  return jax.lax.scan(read, jnp.zeros(D), x)[0]


def attention(x):
  """The last context: lesson 1's, divided by √D."""
  scores = attn.dot_product_scores(x[-1:], x)
  return attn.weighted_sum(attn.softmax(scores), x)[0]


@jax.jit
def felt(x):
  """How much the last output feels of each word, by both ways, [2, T]."""
  derivatives = [jax.jacobian(way)(x) for way in (recurrence, attention)]
  return jnp.linalg.norm(jnp.array(derivatives), axis=(1, 3))


sentences = jax.random.normal(jax.random.key(1), (DRAWS, T, D))
reach = jax.vmap(felt)(sentences).mean(0)[:, ::-1]  # the last word first

board.title(f'What the last of {T} words feels of another')
print(f'{"words back":<16}{"recurrence":>14}{"attention":>14}')
for back in (1, 3, 7, 15, 31, 63):
  print(f'{back:<16}{reach[0, back]:14.1e}{reach[1, back]:14.1e}')

# %% [markdown]
# ## The price
#
# **Order.**  The recurrence knew what came first.  "fell" and "slipped" are the
# same vector here, so they ask the same and see the same, and in a shuffled
# sentence everyone gets the very context they had.  Positions must be added,
# as in lesson 5.
#
# **Size.**  T words ask T words: T² scores.  Five words have 25, a thousand a
# million, a book of 100,000 words ten billion.  Lesson 10 looks at fewer;
# lesson 11 holds fewer at a time.

# %%
shuffle = jnp.array([4, 2, 0, 3, 1])
shuffled, _ = attn.single_head_attention(x[shuffle], w_query, w_key, jnp.eye(3))
twins = jnp.abs(weights[fell] - weights[slipped]).max()
shuffle_error = jnp.abs(shuffled - context[shuffle]).max()

board.title('Blind to order')
board.show('fell, slipped', twins, digits=7)
board.show('shuffled', shuffle_error, digits=7)

# %%
figure, [left, right] = board.canvas(12.5, 4.8, 2)
board.heat_map(left, weights, words, 'A sentence asks itself')
colors = {'recurrence': board.ORANGE, 'attention': board.BLUE}
for (text, color), line in zip(colors.items(), reach[:, 1:]):
  right.semilogy(range(1, T), line, color=color, linewidth=2)
  board.label(right, T - 1, line[-1], text, color)
board.caption(
  right,
  'What the last word feels of another',
  'words back',
  'norm of the derivative',
)
board.save(figure, '09_self_attention')
