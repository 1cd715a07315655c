# %% [markdown]
"""# 6. The bottleneck

The idea: in the first neural translators one network, the encoder, read the
sentence into a vector of fixed size, and another, the decoder, wrote the
translation from that vector alone.  Lesson 5's vector forgot the order of the
words.  But even one that knows it holds only so many.  Attention keeps every
word and looks back.

Run it:  `python lessons/06_the_bottleneck.py [FOLDER]`

Figure:  `06_recall.png`, left how many words come back out of d numbers, the
longer the sentence the fewer; right which ones are lost if memory fades.

Papers:  Cho et al., 2014, https://arxiv.org/abs/1406.1078
Sutskever et al., 2014, https://arxiv.org/abs/1409.3215
Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473
"""

# %%
import functools

import blackboard as board
import jax
import jax.numpy as jnp

import attn


def signs(seed, *shape):
  """Random numbers, each 1 or -1."""
  return jax.random.rademacher(jax.random.key(seed), shape, jnp.float32)


# %% [markdown]
# ## Three words in eight numbers
#
# Every word is a vector of signs, and so is every place in the sentence.  The
# memory starts at 0; reading a word multiplies it by its place, entry by entry,
# and adds the product.  That is a recurrent network at its simplest: one
# vector, updated word by word, as large at the end as at the start.  (Cho's was
# a GRU and Sutskever's an LSTM, which learn what to keep.)

# %%
vocabulary = ['the', 'tall', 'boat', 'leaves', 'at', 'dawn']
word_signs, place_signs = signs(23, 6, 8), signs(25, 3, 8)
read = [1, 2, 3]  # "tall boat leaves"

memory = jnp.zeros(8)
board.title('Reading "tall boat leaves"')
for place, word in zip(place_signs, read):
  board.show('the place', place, digits=0)
  board.show(f'times {vocabulary[word]}', place * word_signs[word], digits=0)
  memory = memory + place * word_signs[word]
  board.show('the memory', memory, digits=0)

# %% [markdown]
# ## Getting a word back
#
# Multiply the memory by the second place.  A sign times itself is 1, so "boat"
# comes out whole; the other words stay scrambled, as noise on top.  Which word
# is that most like?  Its dot product with "boat" is 8 from "boat" itself, plus
# or minus something from the noise.

# %%
heard = memory * place_signs[1]
likeness = word_signs @ heard

board.title('What stands in the second place?')
board.show('boat', word_signs[2], digits=0)
board.show('heard', heard, digits=0)
board.show('likeness', likeness, columns=vocabulary, digits=0)
print('most like:', vocabulary[likeness.argmax()])

# %% [markdown]
# ## Longer sentences
#
# The right word always adds d to its likeness.  The noise of a sentence of T
# words is about √(d T): it grows with T, the signal does not.  We measure it:
# 50 sentences of words drawn from 64, every place asked for.
#
# Beside it attention, which keeps the words apart: the query is the place asked
# for, the keys are all places, the values all words.

# %%
SENTENCES, WORDS, LONGEST = 50, 64, 64
sizes, lengths = [32, 64, 128, 256], [1, 2, 4, 8, 16, 32, 64]
sentences = jax.random.randint(
  jax.random.key(1), (SENTENCES, LONGEST), 0, WORDS
)


def kept_in_sum(words, places, sentence, length):
  """What the memory says at every place, [LONGEST, d]."""
  is_read = jnp.arange(LONGEST) < length
  terms = jnp.where(is_read[:, None], places * words[sentence], 0)
  return places * terms.sum(0)


def looked_up(words, places, sentence, length):
  """What attention says: query a place, keys all places, values the words."""
  is_read = jnp.arange(LONGEST) < length
  weights = attn.softmax(attn.dot_product_scores(places, places), is_read)
  return attn.weighted_sum(weights, words[sentence])


@functools.partial(jax.jit, static_argnums=(0, 1))
def recall(says, d):
  """The share of words that come back, for every length."""
  words, places = signs(2, WORDS, d), signs(3, LONGEST, d)

  def right(sentence, length):
    told = (says(words, places, sentence, length) @ words.T).argmax(-1)
    hits = (told == sentence) & (jnp.arange(LONGEST) < length)
    return hits.sum() / length

  by_length = jax.vmap(right, in_axes=(None, 0))
  all_right = jax.vmap(by_length, in_axes=(0, None))
  return all_right(sentences, jnp.array(lengths)).mean(0)


from_sum = jnp.array([recall(kept_in_sum, d) for d in sizes])
from_attention = recall(looked_up, sizes[0])

board.title('Words that come back')
print(f'{"":<16}{"out of one vector of d numbers":>40}{"attention":>16}')
print('length    ' + ''.join(f'{f"d = {d}":>10}' for d in [*sizes, sizes[0]]))
for i, length in enumerate(lengths):
  board.show(f'{length:6d}', jnp.array([*from_sum[:, i], from_attention[i]]))

# %% [markdown]
# Read the table along a diagonal: 32 numbers give back 0.72 of four words, 64
# as much of eight, 128 nearly as much of sixteen.  Twice the numbers hold twice
# the words, and for every size there is a sentence too long.
#
# Is that the fault of such a simple memory?  In part: training finds far better
# ones.  But no training gets around counting.  If each of d numbers carries b
# bits, there are 2^(b d) memories, and of sentences of T words out of V there
# are V^T.  Beyond T = b d / log2 V two sentences share a memory, and one of
# them must be translated wrongly.
#
# Attention pays for its straight line: it keeps T vectors, not one.  Its memory
# grows with the sentence, which is all that was missing.

# %% [markdown]
# ## Which words are lost?
#
# Our memory treats all places alike.  A real recurrent network forgets step by
# step: to make room for the new, it fades the old.  Keep 0.9 of it a step, and
# the first words are lost.  But a translation begins with them!  Sutskever's
# remedy was to read the sentence backwards: then the first words are the
# freshest.  No more words come back than before, but the right ones to begin
# with.

# %%
SHORT, D, KEEP = 24, 128, 0.9
words, places = signs(2, WORDS, D), signs(3, SHORT, D)
ages = jnp.arange(SHORT, dtype=jnp.float32)  # 0 is the word read last


def faded(strengths):
  """The share of sentences right at each place, its word kept so strongly."""
  bound = strengths[:, None] * places * words[sentences[:, :SHORT]]
  told = (places * bound.sum(1, keepdims=True)) @ words.T
  return (told.argmax(-1) == sentences[:, :SHORT]).mean(0)


forward, backward = faded(KEEP ** ages[::-1]), faded(KEEP**ages)

board.title(f'{SHORT} words, {D} numbers, {KEEP} kept a step')
print(f'{"":<16}       1st       8th      16th      24th       all')
for name, by_place in {'forward': forward, 'backward': backward}.items():
  few = [*by_place[jnp.array([0, 7, 15, 23])], by_place.mean()]
  board.show(f'read {name}', jnp.array(few))

# %%
figure, [left, right] = board.canvas(13, 4.8, 2)
shades = ['#c9cdd2', '#b0b6bd', '#8a949e', '#59636d']
for d, line, shade in zip(sizes, from_sum, shades):
  left.semilogx(lengths, line, 'o-', color=shade)
  board.label(left, 64, line[-1], f'd = {d}', board.INK)
left.semilogx(lengths, from_attention, 'o-', color=board.BLUE)
board.label(left, 64, 1, 'attention', board.BLUE)
left.set_xticks(lengths, [str(length) for length in lengths])
left.minorticks_off()
board.caption(left, 'How much comes back', 'words in the sentence', 'recall')
spots = range(1, SHORT + 1)
right.plot(spots, forward, 'o-', color=board.ORANGE, label='read forward')
right.plot(spots, backward, 'o-', color=board.GREEN, label='read backward')
right.legend(frameon=False, fontsize=12, loc='upper center')
board.caption(right, 'A memory that fades', 'place in the sentence', 'recall')
for axes in (left, right):
  axes.set_ylim(0, 1.05)
board.save(figure, '06_recall')
