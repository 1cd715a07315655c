# %% [markdown]
"""# 3. Query, key, value

The idea: three matrices, trained, let a word ask with one vector, be found by
another and answer with a third.  Then what a language model adds: no look into
the future (causal), forgetting on purpose (dropout), several heads.

Run it:  `python lessons/03_query_key_value.py [FOLDER]`

Figure:  `03_weights.png`, one head's weights: free, causal, and causal with
half of them dropped and the others doubled.

Paper:  Vaswani et al., 2017, https://arxiv.org/abs/1706.03762
"""

# %%
import blackboard as board
import jax
import jax.numpy as jnp

import attn

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

# %% [markdown]
# ## One head
#
# Training would find the three matrices; here they are random numbers from a
# seed.  They take a word from D = 3 numbers to H = 2.

# %%
D, H = x.shape[1], 2
rng_head, rng_other, rng_drop = jax.random.split(jax.random.key(271), 3)
w_query, w_key, w_value = 2 * jax.random.normal(rng_head, (3, D, H))

query, key, value = x @ w_query, x @ w_key, x @ w_value

board.title('One head')
board.show('query', query, rows=tokens)
board.show('key', key, rows=tokens)
board.show('value', value, rows=tokens)

# %% [markdown]
# The second token, "journey", asks: its query meets every key.  The scores are
# divided by √H (lesson 2), and the context is a mixture of values.

# %%
scores = jnp.array([jnp.dot(query[1], k) for k in key]) / H**0.5
journey_weights = attn.softmax(scores)
journey_context = journey_weights @ value

board.title('"journey" asks')
board.show('scores / √H', scores, columns=tokens)
board.show('weights', journey_weights)
board.show('context', journey_context)

# %% [markdown]
# All at once, and by name:

# %%
context, weights = attn.single_head_attention(x, w_query, w_key, w_value)

board.title('Everyone asks: attn.single_head_attention')
board.show('weights', weights, rows=tokens, columns=tokens)
board.show('context', context, rows=tokens)

# %% [markdown]
# ## Causal
#
# A word that will be predicted must not be seen.  Two ways: give future keys
# the score -∞ before softmax, or set their weights to 0 after it and divide
# each row by what is left.  They agree, since exp(-∞) = 0 and the same sum
# divides what remains.  Code takes the first: in the second, one huge score in
# the future can round the whole past to 0 before it is divided.

# %%
past = attn.masks.causal().dense(6, 6)
all_scores = attn.dot_product_scores(query, key)
before = attn.softmax(jnp.where(past, all_scores, -jnp.inf))
after = attn.sum_normalize(jnp.where(past, weights, 0.0))
causal_context, causal_weights = attn.single_head_attention(
  x, w_query, w_key, w_value, mask=past
)

board.title('Causal: -∞ before softmax, or 0 after it')
print(attn.masks.causal().draw(6, 6))
board.show('before', before, rows=tokens, columns=tokens)
board.show('after', after, rows=tokens, columns=tokens)
board.show('difference', jnp.abs(before - after).max(), digits=7)

# %% [markdown]
# ## Dropout on weights
#
# In training, some weights are dropped at random, so that no word relies on a
# single other.  At rate 0.5 the survivors are doubled: rows no longer sum to 1,
# but on average over many draws every weight is what it was.

# %%
RATE, DRAWS = 0.5, 4000
dropped = attn.dropout(causal_weights, RATE, rng_drop)
kept = dropped > 0
many = jax.vmap(lambda rng: attn.dropout(causal_weights, RATE, rng))(
  jax.random.split(rng_drop, DRAWS)
)
average = many.mean(0)

board.title('Dropout at rate 0.5')
board.show('one draw', dropped, rows=tokens, columns=tokens)
growth = dropped[kept] / causal_weights[kept]
board.show('survivors times', jnp.array([growth.min(), growth.max()]))
board.show(f'mean of {DRAWS}', average, rows=tokens, columns=tokens)
board.show('off by at most', jnp.abs(average - causal_weights).max())

# %% [markdown]
# ## Two heads, stacked
#
# One head asks one question.  A second, with matrices of its own, asks another,
# and their contexts are laid side by side.

# %%
other = 2 * jax.random.normal(rng_other, (3, D, H))
heads = [(w_query, w_key, w_value), tuple(other)]
stacked = jnp.concatenate(
  [attn.single_head_attention(x, *head, mask=past)[0] for head in heads], -1
)

board.title('Two heads, stacked')
board.show('context', stacked, rows=tokens)

# %% [markdown]
# ## Two heads, split
#
# Lay the matrices side by side instead, project once, and cut the result into
# heads: fewer, larger products, same numbers.  A head never learns that there
# are others; `vmap` over the axis of heads is the whole of it.

# %%
wide = [jnp.concatenate(pair, -1) for pair in zip(*heads)]  # Each [D, 2 H].
q, k, v = (attn.split_heads(x @ w, 2) for w in wide)  # Each [T, 2, H].


def one_head(q, k, v):
  """Causal attention of one head."""
  return attn.weighted_sum(attn.softmax(attn.dot_product_scores(q, k), past), v)


mapped = jax.vmap(one_head, in_axes=1, out_axes=1)(q, k, v)
split = attn.merge_heads(mapped)
called = attn.merge_heads(attn.attention(q, k, v, is_causal=True))

board.title('Two heads, split')
board.show('context', split, rows=tokens)
board.show('split, stacked', jnp.abs(split - stacked).max(), digits=7)
board.show('attn, stacked', jnp.abs(called - stacked).max(), digits=7)

# %%
pictures = {
  'Free': (weights, 1.0),
  'Causal': (causal_weights, 1.0),
  'Causal, half dropped': (dropped, 2.0),
}
figure, panels = board.canvas(14, 5.4, 3)
for axes, (heading, (w, top)) in zip(panels, pictures.items()):
  board.heat_map(axes, w, tokens, heading, top)
for axes in panels[1:]:
  axes.set_ylabel('')
board.save(figure, '03_weights')
