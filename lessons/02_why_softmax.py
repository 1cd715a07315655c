# %% [markdown]
"""# 2. Why softmax, and why divide by √d

The idea: scores are any numbers; weights must be positive and sum to 1.  Of
the ways from one to the other softmax survives, if two things are done: the
maximum is subtracted first, and the scores are kept from growing with d.

Run it:  `python lessons/02_why_softmax.py [FOLDER]`

Figure:  `02_scale.png`, how strongly softmax still answers to its scores.
Divided by √d it answers the same at every size; undivided it falls silent.

Paper:  Vaswani et al., 2017, https://arxiv.org/abs/1706.03762
"""

# %%
import blackboard as board
import jax
import jax.numpy as jnp

import attn

# %% [markdown]
# ## Softmax
#
# The exponential makes every score positive and keeps their order; the
# division makes them sum to 1.

# %%
scores = jnp.array([2.0, 1.0, 0.1])
weights = attn.softmax(scores)

board.title('Softmax')
board.show('scores', scores)
board.show('weights', weights)

# %% [markdown]
# ## Subtract the maximum
#
# Adding one number to all scores multiplies every exponential by the same
# factor, and the division takes it away again.  On paper, that is: in float32
# exp(98) is infinite, exp(-198) is 0, and neither ∞/∞ nor 0/0 is a number.
# `attn.softmax` turns the freedom to use and subtracts the maximum.

# %%
large = scores + 98
naive_large = attn.naive_softmax(large)
stable_large = attn.softmax(large)
naive_small = attn.naive_softmax(scores - 200)
stable_small = attn.softmax(scores - 200)

board.title('The same scores, all 98 higher, then all 200 lower')
board.show('scores + 98', large)
board.show('naive', naive_large)
board.show('stable', stable_large)
board.show('scores - 200', scores - 200)
board.show('naive', naive_small)
board.show('stable', stable_small)

# %% [markdown]
# ## Why not divide by the plain sum?
#
# With positive scores that works.  But a dot product may be negative, and then
# there are negative weights, weights above 1, or a sum of zero.

# %%
mixed = jnp.array([2.0, 1.0, -2.9])
opposite = jnp.array([1.0, -1.0])
sum_positive = attn.sum_normalize(scores)
sum_mixed = attn.sum_normalize(mixed)
sum_opposite = attn.sum_normalize(opposite)

board.title('Divided by the plain sum')
board.show('scores', scores)
board.show('plain sum', sum_positive)
board.show('scores', mixed)
board.show('plain sum', sum_mixed)
board.show('softmax', attn.softmax(mixed))
board.show('scores', opposite)
board.show('plain sum', sum_opposite)
board.show('softmax', attn.softmax(opposite))

# %% [markdown]
# ## Why divide by √d?
#
# The dot product of two random vectors of size d is a sum of d terms: its
# variance is d.  At d = 1024 scores differ by dozens, softmax gives everything
# to one key, and small changes of the scores change nothing: no gradient.
#
# We draw 2000 queries with 8 keys each, look at their first d entries, and
# measure the Jacobian of softmax, ∂weights/∂scores, by its Frobenius norm.
# "Typical" is the median.  The mean is larger: in a few draws two keys are tied
# for first, and those few carry all the gradient that is left.

# %%
DRAWS, KEYS = 2000, 8
sizes = [2**power for power in range(11)]
rng_query, rng_key = jax.random.split(jax.random.key(0))
query = jax.random.normal(rng_query, (DRAWS, 1, sizes[-1]))
key = jax.random.normal(rng_key, (DRAWS, KEYS, sizes[-1]))


@jax.jit
def jacobian_norms(scores):
  """For every row of scores, the Frobenius norm of softmax's Jacobian."""
  jacobians = jax.vmap(jax.jacobian(attn.softmax))(scores)
  return jnp.linalg.norm(jacobians, axis=(1, 2))


deviations, norms = [], []
for d in sizes:
  q, k = query[..., :d], key[..., :d]
  plain = attn.dot_product_scores(q, k, scale=1.0)[:, 0]
  scaled = attn.dot_product_scores(q, k)[:, 0]  # The default scale is 1/√d.
  deviations.append([plain.std(), scaled.std()])
  norms.append([jacobian_norms(plain), jacobian_norms(scaled)])
deviations, norms = jnp.array(deviations), jnp.array(norms)
typical, mean = jnp.median(norms, axis=-1), norms.mean(-1)

board.title('Softmax of dot products of size d')
print(
  '     d   scores deviate by  Jacobian, typical      Jacobian, mean\n'
  '            plain   scaled      plain   scaled      plain   scaled'
)
for d, by, middle, average in zip(sizes, deviations, typical, mean):
  print(
    f'{d:6d} {by[0]:10.2f} {by[1]:8.2f} {middle[0]:10.1e} {middle[1]:8.3f}'
    f' {average[0]:10.3f} {average[1]:8.3f}'
  )

# %%
figure, [axes] = board.canvas(7.2, 4.6)
axes.loglog(sizes, typical[:, 1], 'o-', color=board.BLUE)
axes.loglog(sizes, typical[:, 0], 'o-', color=board.ORANGE)
axes.loglog(sizes, mean[:, 0], '--', color=board.ORANGE, alpha=0.7)
axes.set_xticks(sizes, [str(d) for d in sizes])
axes.minorticks_off()
for height, color, text in [
  (typical[-1, 1], board.BLUE, 'scores / √d'),
  (mean[-1, 0], board.ORANGE, 'plain, mean'),
  (typical[-1, 0], board.ORANGE, 'plain, typical'),
]:
  board.label(axes, sizes[-1], height, text, color)
board.caption(
  axes,
  'How much the weights answer to the scores',
  'd, the size of query and key',
  'norm of ∂weights/∂scores',
)
board.save(figure, '02_scale')
