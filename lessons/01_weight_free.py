# %% [markdown]
"""# 1. Weight-free attention

The idea: a word becomes a mixture of all the words around it, and how much of
each goes in is decided by how alike the two are.  Nothing is trained.

    query, key, value → scores → weights → context

Run it:  `python lessons/01_weight_free.py [FOLDER]`

Figure:  `01_six_tokens.png`, who looks at whom in a sentence of six words.
"journey" and "starts", near twins, see the same; few look at "one".
"""

# %%
import blackboard as board
import jax.numpy as jnp
import numpy as np

import attn

# %% [markdown]
# ## Three words
#
# Each word is a vector of three numbers, its embedding.  We look through the
# eyes of "shiny": its own embedding is the query, and every word, "shiny" too,
# is a key.

# %%
words = ['Hello', 'shiny', 'sun']
x = jnp.array([[0.34, 0.22, 0.54], [0.53, 0.34, 0.98], [0.29, 0.54, 0.93]])

board.title('Hello shiny sun')
board.show('embeddings', x, rows=words)

# %% [markdown]
# **Scores.**  The dot product of the query with each key: large where both
# vectors point the same way.

# %%
query = x[1]
scores = jnp.array([jnp.dot(query, key) for key in x])
board.show('scores', scores, columns=words)

# %% [markdown]
# **Weights.**  Softmax makes the scores positive and lets them sum to 1.

# %%
weights = attn.softmax(scores)
board.show('weights', weights)
board.show('their sum', weights.sum())

# %% [markdown]
# **Context.**  The embeddings once more, as values now: their average, each
# with its weight.

# %%
context = sum(weight * value for weight, value in zip(weights, x))
board.show('context', context)

# %% [markdown]
# ### A number that does not come out
#
# A widely copied article works this very example by hand and ends with 0.3992
# and 0.3858 where we have 0.3990 and 0.3854.  It rounds its weights first, two
# of them one off in the last digit; but that moves the context by less than
# 0.0001.  The rest are slips of the pen in two products: 0.4064 · 0.53 is
# 0.2154 and not 0.2156, and 0.3645 · 0.54 is 0.1968 and not 0.1972.  Added up,
# the products as printed do give the context as printed.

# %%
rounded_weights = np.array([0.2291, 0.4064, 0.3645])
rounded_context = rounded_weights @ np.asarray(x)
article_products = np.array(
  [[0.0779, 0.0504, 0.1237], [0.2156, 0.1382, 0.3983], [0.1057, 0.1972, 0.3390]]
)
article_context = article_products.sum(0)

board.title('The same by hand, rounded')
board.show('weights', rounded_weights, columns=words)
true_products = rounded_weights[:, None] * np.asarray(x)
board.show('their products', true_products, rows=words)
board.show('context', rounded_context)
board.show('printed products', article_products, rows=words)
board.show('printed context', article_context)

# %% [markdown]
# ## Six tokens
#
# Now every word of a longer sentence looks at every word.  First one query at
# a time, in two loops.

# %%
tokens = ['Your', 'journey', 'starts', 'with', 'one', 'step']
embeddings = jnp.array(
  [
    [0.43, 0.15, 0.89],
    [0.55, 0.87, 0.66],
    [0.57, 0.85, 0.64],
    [0.22, 0.58, 0.33],
    [0.77, 0.25, 0.10],
    [0.05, 0.80, 0.55],
  ]
)

loop_scores = jnp.array(
  [[jnp.dot(query, key) for key in embeddings] for query in embeddings]
)
loop_weights = jnp.array([attn.softmax(row) for row in loop_scores])
loop_context = jnp.array(
  [sum(w * value for w, value in zip(row, embeddings)) for row in loop_weights]
)

board.title('Your journey starts with one step: the second token')
board.show('scores', loop_scores[1], columns=tokens)
board.show('weights', loop_weights[1])
board.show('context', loop_context[1])

# %% [markdown]
# The loops are two matrix products with a softmax between them, which is the
# form everyone computes.

# %%
matrix_scores = embeddings @ embeddings.T
matrix_weights = attn.softmax(matrix_scores)
matrix_context = matrix_weights @ embeddings

board.title('All six at once')
board.show('weights', matrix_weights, rows=tokens, columns=tokens)
board.show('context', matrix_context, rows=tokens)

# %% [markdown]
# And both are what `attn.self_attention` does.

# %%
library_context, library_weights = attn.self_attention(embeddings)

board.title('Three forms, one result: the largest differences')
loop_error = jnp.abs(loop_context - library_context).max()
matrix_error = jnp.abs(matrix_context - library_context).max()
board.show('loops, attn', loop_error, digits=7)
board.show('matrices, attn', matrix_error, digits=7)

# %%
figure, [axes] = board.canvas(5.8, 5.6)
board.heat_map(
  axes, library_weights, tokens, 'Weights: each row sums to 1', top=0.3
)
board.save(figure, '01_six_tokens')
