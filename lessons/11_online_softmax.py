# %% [markdown]
"""# 11. Online softmax, by hand

The idea: softmax seems to need all scores of a row before the first weight is
known, for it divides by their sum.  It does not: keep a running maximum, a
running sum and a running context, and correct them when a larger score comes.
So a row is read in blocks, none is kept, and the result is the same, here to
the last bit.  This is what flash attention does.

Run it:  `python lessons/11_online_softmax.py [FOLDER]`

Figure:  `11_online.png`, the weights of one query as they would be if the row
ended after each block: new keys make the old weights shrink.

Papers:  Dao et al., 2022, https://arxiv.org/abs/2205.14135
Milakov and Gimelshein, 2018, https://arxiv.org/abs/1805.02867
"""

# %%
import blackboard as board
import jax.numpy as jnp
import numpy as np

import attn

# %% [markdown]
# ## Six tokens, with a pencil
#
# One query, six keys, two keys to a block.  To have numbers that a pencil can
# follow, we take powers of 2 in place of powers of e; it is softmax all the
# same, of scores times ln 2.  Then the powers are 1, 1/2, 1/4 ..., and a
# computer adds and multiplies such numbers without rounding.  The values are
# two whole numbers a token.

# %%
tokens = ['Your', 'journey', 'starts', 'with', 'one', 'step']
scores = np.array([1.0, 2.0, 4.0, 0.0, 3.0, 1.0])
value = np.array([[1, 0], [2, 4], [3, 1], [8, 2], [0, 6], [4, 4.0]])

board.title('Six scores and six values')
board.show('scores', scores, columns=tokens, digits=0)
board.show('values', value, rows=tokens, digits=0)

# %% [markdown]
# **Dense**, as in lesson 2: subtract the maximum of the row, 4; take powers;
# divide by their sum.  (The division can wait until after the weighted sum,
# where it is one for each number of the context, not one for each token.)

# %%
powers = 2.0 ** (scores - scores.max())
dense_total = powers.sum()
dense_context = powers @ value / dense_total

board.title('Dense')
board.show('2^(score - 4)', powers, columns=tokens)
board.show('their sum', dense_total)
board.show('context', dense_context, digits=6)
library_weights = attn.softmax(jnp.array(scores * np.log(2), jnp.float32))
library_context = attn.weighted_sum(
  library_weights, jnp.array(value, jnp.float32)
)
board.show('attn', library_context, digits=6)

# %% [markdown]
# **Block by block.**  We carry three things: `top`, the largest score so far;
# `total`, the sum of the powers so far; `context`, the sum of powers times
# values so far, not yet divided.  Both sums were made with the old top.  When a
# block has a larger score, every old power is too large by the same factor, and
#
#     shrink = 2^(old top - new top)
#
# puts both right at once.  If the top stays, shrink is 1.  At the start there
# is nothing to shrink: the top is -∞, and 2^(-∞) = 0.


# %%
def visit(state, block_scores, block_value, base):
  """Take in one block of keys: scores [T, keys], values [keys, Hv]."""
  top, total, context = state
  new_top = np.maximum(top, block_scores.max(-1, keepdims=True))
  shrink = base ** (top - new_top)
  powers = base ** (block_scores - new_top)
  total = total * shrink + powers.sum(-1, keepdims=True)
  context = context * shrink + powers @ block_value
  return (new_top, total, context), shrink, powers


def start(rows, size):
  """What is known before the first block: nothing."""
  return (
    np.full((rows, 1), -np.inf),
    np.zeros((rows, 1)),
    np.zeros((rows, size)),
  )


BLOCKS = [slice(0, 2), slice(2, 4), slice(4, 6)]
state = start(1, 2)
steps = []
for block in BLOCKS:
  state, shrink, powers = visit(state, scores[None, block], value[block], 2.0)
  steps.append((shrink, powers, *state))
  board.title(' and '.join(tokens[block]))
  board.show('scores', scores[block])
  for name, x in zip(
    ('shrink', 'powers', 'top', 'total', 'context'), steps[-1]
  ):
    board.show(name, x[0])

top, total, context = state
online_context = (context / total)[0]

# %% [markdown]
# Check the second block: the top goes from 2 to 4, so what was there shrinks to
# a quarter; 1.5 / 4 + 1 + 0.0625 = 1.4375.  In the third the top stays.
#
# At the end we divide, once.  To see that it is the same number, not only as
# far as six digits go, we print all its bits: in base 16, four to a digit.

# %%
board.title('Dense and online, to the last bit')
for name, x in {'dense': dense_context, 'online': online_context}.items():
  board.show(name, x, digits=6)
  print(f'{"":<16}', *(float(number).hex() for number in x))
print('same bits:', bool((dense_context == online_context).all()))

# %% [markdown]
# ## Six tokens, with e
#
# Now the words of lesson 1, all six queries at once, and powers of e.  These
# are rounded, and sums in another order are rounded otherwise, so from here on
# only the last digit of a float32 may differ.  Of a row, we never hold more
# than two scores.

# %%
x = jnp.array(
  [
    [0.43, 0.15, 0.89],
    [0.55, 0.87, 0.66],
    [0.57, 0.85, 0.64],
    [0.22, 0.58, 0.33],
    [0.77, 0.25, 0.10],
    [0.05, 0.80, 0.55],
  ]
)
state = start(6, 3)
for block in BLOCKS:
  block_scores = np.array(attn.dot_product_scores(x, x[block], scale=1.0))
  state, _, _ = visit(state, block_scores, np.array(x[block]), np.e)
by_blocks = state[2] / state[1]
dense, dense_weights = attn.self_attention(x)

board.title('The context of "journey", as in lesson 1')
board.show('dense', dense[1], digits=6)
board.show('block by block', by_blocks[1], digits=6)
all_error = np.abs(by_blocks - dense).max()
board.show('off by at most', all_error, digits=7)

# %% [markdown]
# ## The library
#
# `attn.attention` with `implementation='blockwise'` is this loop, compiled, in
# blocks of hundreds of queries and keys.  Scores are computed when needed and
# forgotten: memory grows with T, where the dense form holds T² of them.  And a
# block is small enough to stay in the fast memory next to the processor.  That
# is why more arithmetic can take less time.

# %%
heads = x[:, None]
blockwise = attn.attention(
  heads, heads, heads, scale=1.0, implementation='blockwise'
)[:, 0]
library_error = jnp.abs(blockwise - dense).max()
long = jnp.ones((8192, 1, 64))

board.title('attn.attention, by blocks')
board.show('"journey"', blockwise[1], digits=6)
board.show('off by at most', library_error, digits=7)

costs = {}
for name in ('dense', 'blockwise'):
  board.title(f'8192 words, {name}')
  costs[name] = attn.explain(long, long, long, implementation=name)

# %%
provisional = np.zeros((3, 6))
for row, block in zip(provisional, BLOCKS):
  powers = 2.0 ** scores[: block.stop]
  row[: block.stop] = powers / powers.sum()
figure, [axes] = board.canvas(8, 4.6)
labels = ['block 1', 'blocks 1, 2', 'blocks 1, 2, 3']
board.heat_map(axes, provisional, tokens, 'If the row ended here', rows=labels)
axes.set(xlabel='key: who is seen', ylabel='read so far')
board.save(figure, '11_online')
