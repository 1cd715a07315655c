# %% [markdown]
"""# 10. A sliding window

The idea: most of what a word needs stands near it.  If each looks at W words
instead of at all T, the work grows with T and no longer with T².  What is far
away still arrives: handed on from layer to layer, or by way of a few words that
everyone sees.

Run it:  `python lessons/10_sliding_window.py [FOLDER]`

Figure:  `10_window.png`, a window, a window with one global word, and what the
last word knows of the others after 1 to 7 layers of the window.

Papers:  Beltagy et al., 2020, https://arxiv.org/abs/2004.05150
Jiang et al., 2023, https://arxiv.org/abs/2310.06825
"""

# %%
import blackboard as board
import jax
import jax.numpy as jnp
import numpy as np

import attn

# %% [markdown]
# ## Three words back
#
# The six words of lesson 1.  A window of W = 3 is the word itself and the two
# before it: `sliding_window(2, 0)`, two to the left and none to the right.  The
# rest is as in every mask: no weight for what is hidden, and softmax among what
# is left.

# %%
tokens = ['Your', 'journey', 'starts', 'with', 'one', 'step']
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
window = attn.masks.sliding_window(2, 0)
scores = attn.dot_product_scores(x, x, scale=1.0)
weights = attn.softmax(scores, window.dense(6, 6))
context = attn.weighted_sum(weights, x)

board.title('A window of three')
print(window.draw(6, 6))
board.show('weights', weights, rows=tokens, columns=tokens)

# %% [markdown]
# A text that is already there can be read both ways: then the window reaches to
# both sides.  Mistral's is of the first kind, Longformer's of the second.

# %%
both_sides = attn.masks.sliding_window(1, 1)

board.title('One to either side')
print(both_sides.draw(6, 6))

# %% [markdown]
# ## Writing on with a short memory
#
# "step" sees the last three words, so a model that writes word by word need not
# keep the others.  Its store of keys and values has W places, and each new word
# takes the place of the oldest.

# %%
last_three = attn.softmax(scores[5:, 3:])
from_store = attn.weighted_sum(last_three, x[3:])

board.title('"step" from three words, and from six with the window')
board.show('three', from_store[0])
board.show('six', context[5])

# %% [markdown]
# ## A mask saves work only by the block
#
# Hiding a score does not save it: the product was computed first.  What saves
# work is never to start.  Machines compute in blocks, so the mask is asked
# about blocks: is everything hidden (skip it), nothing (no mask needed), or
# some?  No entry of the mask is looked at for that; the distances at a block's
# corners tell.

# %%
wide = attn.masks.sliding_window(5, 0)
classes = wide.blocks(18, 18, 3, 3)
kinds = (attn.masks.EMPTY, attn.masks.PARTIAL, attn.masks.FULL)
signs = dict(zip(kinds, './#'))

board.title('A window of 6 over 18 words, in blocks of 3 by 3')
for row in classes:
  print(' '.join(signs[kind] for kind in row))
print('. skipped   / some of it hidden   # nothing hidden')

# %% [markdown]
# A row of blocks has three to visit at most, however long the text.  So twice
# the text is twice the work.  With all that came before, it is four times.

# %%
near, before = attn.masks.sliding_window(255, 0), attn.masks.causal()
lengths = [1024, 2048, 4096, 8192]
names = ['window of 256', 'all before']
visited = [
  [(mask.blocks(T, T, 128, 128) != attn.masks.EMPTY).sum() for T in lengths]
  for mask in (near, before)
]

board.title('Blocks of 128 by 128 to visit')
columns = [str(T) for T in lengths]
board.show('words', visited, rows=names, columns=columns, digits=0)

# %% [markdown]
# `attn.attention` chooses its own blocks.  `attn.explain` says which, and how
# many it would visit, without computing anything.

# %%
long = jnp.ones((lengths[-1], 1, 8))

board.title('attn.explain, 8192 words, the window of 256')
explanation = attn.explain(long, long, long, mask=near)

# %% [markdown]
# ## Far away, layer by layer
#
# In the second layer a word sees two neighbours back, and these have seen two
# further back.  Each layer adds W - 1, so L layers know of L (W - 1) + 1 words.
# Mistral has a window of 4096 and 32 layers: 32 · 4095 + 1 is 131 thousand.
#
# We count: which words move the last one at all?  The derivative of what comes
# after L layers says so, and where the mask hides it is exactly 0.

# %%
LAYERS, LENGTH = 7, 16
story = 0.3 * jax.random.normal(jax.random.key(0), (LENGTH, 4))


def layers(mask, x):
  """What comes out of each layer of attention, one upon the other."""
  outputs = []
  for _ in range(LAYERS):
    x = attn.attention(x[:, None], x[:, None], x[:, None], mask=mask)[:, 0]
    outputs.append(x)
  return jnp.array(outputs)


@jax.jit
def knows(mask):
  """[layer, t, s]: is word t moved by word s?"""
  moved = jax.jacobian(lambda x: layers(mask, x))(story)
  return (moved != 0).any((2, 4))


reach = np.asarray(knows(window)[:, -1])

board.title(f'What the last of {LENGTH} words knows of, with a window of 3')
for count, row in enumerate(reach, 1):
  print(f'layer {count}  ', *('01'[int(x)] for x in row), f'{row.sum():4}')

# %% [markdown]
# ## Far away, in two steps
#
# Seven layers for 15 words, and what arrives has passed through many hands.
# Longformer lets a few words, such as the first, see all and be seen by all.
# Then everything is two steps away: to the global word and back.

# %%
hub = both_sides | attn.masks.global_tokens(1)
shares = {
  'window': knows(both_sides)[:2].mean((1, 2)),
  'window + global': knows(hub)[:2].mean((1, 2)),
}

board.title('Pairs of words, one knows of the other: 1 layer, 2 layers')
print(hub.draw(6, 6))
for name, share in shares.items():
  board.show(name, share)

# %%
figure, [left, middle, right] = board.canvas(15, 4.8, 3)
for axes, mask, heading in (
  (left, window, 'A window of three'),
  (middle, hub, 'One to either side, first word global'),
):
  mask.plot(LENGTH, LENGTH, axes)
  board.caption(axes, heading, 'key: who is seen', 'query: who looks')
right.imshow(reach, cmap='Blues', vmin=0, vmax=1.25, aspect='auto')
right.set_yticks(range(LAYERS), range(1, LAYERS + 1))
board.caption(right, 'What the last word knows of', 'word', 'layers')
board.save(figure, '10_window')
