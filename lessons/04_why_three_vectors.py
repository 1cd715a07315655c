# %% [markdown]
"""# 4. Why three vectors

The idea: why does a word need a query, a key and a value, and not one vector
for everything?  Because looking is not mutual: a name must look at the noun
that says what it is, and the noun need not look back.  Three designs try.

Run it:  `python lessons/04_why_three_vectors.py [FOLDER]`

Figure:  `04_three_designs.png`, the losses while training, and who looks at
whom afterwards.  Only query and key get "Pim → baker, baker → baker" right.
"""

# %%
import itertools

import blackboard as board
import jax
import jax.numpy as jnp
import optax

import attn

# %% [markdown]
# ## The task
#
# Telegrams: two names, each with the noun that says what it is, and three words
# of filler.  Afterwards a name must hold the meaning of its noun, and every
# other word its own.  Each word means one direction of its own (a row of the
# identity), and that is its value, handed over to whoever finds it.  What is
# left to learn is who finds whom.

# %%
names = ['Pim', 'Ola', 'Juno', 'Wren']
nouns = ['baker', 'sailor', 'painter', 'miller']
vocabulary = [*names, *nouns, 'still', 'here', 'today', 'again']
pairs = [[a, a + 4, b, b + 4] for a, b in itertools.combinations(range(4), 2)]
rests = itertools.combinations(range(8, 12), 3)
telegrams = jnp.array([[*p, *r] for p, r in itertools.product(pairs, rests)])
meanings = jnp.eye(12)
wanted = meanings[jnp.array([4, 5, 6, 7, *range(4, 12)])]  # Pim means baker.
words = [vocabulary[i] for i in telegrams[0]]

board.title(f'{len(telegrams)} telegrams, such as')
print(' '.join(words))

# %% [markdown]
# ## Three designs
#
# **(a) A fixed ratio.**  Every word keeps one share of itself and spreads the
# rest evenly.  One number to learn: the share.
#
# **(b) One key.**  Relevance is the cosine of two words' keys, times 10.  It is
# mutual, k_i · k_j = k_j · k_i, and nothing is more like a word than itself:
# the cosine is at most 1, and 1 with itself.  So no word can give another more
# weight than itself.
#
# **(c) Query and key.**  The cosine of one word's query with the other's key,
# times 10: what i wants from j says nothing about what j wants from i.


# %%
def fixed_ratio(parameters, x):
  share, itself = jax.nn.sigmoid(parameters['share']), jnp.eye(len(x))
  return share * itself + (1 - share) * (1 - itself) / (len(x) - 1)


def one_key(parameters, x):
  key = x @ parameters['key']
  return attn.softmax(attn.cosine_scores(key, key, scale=10.0))


def query_and_key(parameters, x):
  query, key = x @ parameters['query'], x @ parameters['key']
  return attn.softmax(attn.cosine_scores(query, key, scale=10.0))


STARTS, STEPS = 16, 300


def errors(design, parameters, sentence, wanted):
  """Squared distance of each word's context from what is wanted."""
  x = meanings[sentence]
  context = attn.weighted_sum(design(parameters, x), x)
  return jnp.square(context - wanted[sentence]).sum(-1)


every_error = jax.vmap(errors, in_axes=(None, None, 0, None))


def train(design, shapes, sentences, wanted):
  """From 16 random guesses; the best parameters and their loss by step."""
  optimizer = optax.sgd(1.0, momentum=0.9)

  def loss(parameters):
    return every_error(design, parameters, sentences, wanted).mean()

  def step(state, _):
    parameters, memory = state
    value, gradient = jax.value_and_grad(loss)(parameters)
    updates, memory = optimizer.update(gradient, memory)
    return (optax.apply_updates(parameters, updates), memory), value

  def descend(start):
    state = (start, optimizer.init(start))
    (parameters, _), losses = jax.lax.scan(step, state, length=STEPS)
    return parameters, losses

  guesses = {
    name: jax.random.normal(jax.random.key(seed), (STARTS, *shape)) / 2
    for seed, (name, shape) in enumerate(shapes.items())
  }
  learned, losses = jax.jit(jax.vmap(descend))(guesses)
  best = losses[:, -1].argmin()
  return jax.tree.map(lambda leaf: leaf[best], learned), losses[best]


# %% [markdown]
# ## What they learn
#
# How well can (b) do at best?  If a name gives itself w, it gives its noun no
# more than w, and its squared error is at least w² + (1 - w)²: never below ½.

# %%
designs = {
  fixed_ratio: {'share': ()},
  one_key: {'key': (12, 12)},
  query_and_key: {'query': (12, 12), 'key': (12, 12)},
}
losses, role_errors, weights = {}, {}, {}
board.title(f'Squared error after {STEPS} steps')
print('                      name      noun    filler   overall')
for design, shapes in designs.items():
  name = design.__name__
  learned, losses[name] = train(design, shapes, telegrams, wanted)
  each = every_error(design, learned, telegrams, wanted)
  roles = each[:, 0:4:2], each[:, 1:4:2], each[:, 4:], each
  role_errors[name] = jnp.array([part.mean() for part in roles])
  board.show(name, role_errors[name])
  weights[name] = design(learned, meanings[telegrams[0]])

# %% [markdown]
# (a) treats a name like a noun.  (b) ends at its bound, and what Pim gives to
# baker, half, baker gives back to Pim, uncalled for.  (c) has no such tie.

# %%
board.title('Who looks at whom')
print('               Pim→baker baker→Pim')
for name, w in weights.items():
  board.show(name, jnp.array([w[0, 1], w[1, 0]]))

# %% [markdown]
# ## Is one key hopeless, then?
#
# In fairness: only while all keys are equally long, which the cosine sees to.
# With plain dot products softmax, row by row, lets a long key be heard by all,
# and (b) solves the telegrams by making nouns loud.  But for a to prefer b to
# itself, k_a · k_b > k_a · k_a, b must have the longer key.  So loudness is a
# ranking, and there is no ranking of a ring: Pim means Ola, Ola means Juno, and
# Juno means Pim.  Whoever has the longest key errs by ½ at least, and training
# finds nothing better than an equal third for each, an error of 2/3.


# %%
def one_key_any_length(parameters, x):
  key = x @ parameters['key']
  return attn.softmax(attn.dot_product_scores(key, key, scale=1.0))


loud, loud_curve = train(
  one_key_any_length, designs[one_key], telegrams, wanted
)
lengths = jnp.linalg.norm(loud['key'], axis=-1)

ring, next_one = jnp.array([[0, 1, 2]]), meanings[jnp.array([1, 2, 0])]
_, ring_one = train(one_key_any_length, designs[one_key], ring, next_one)
_, ring_two = train(query_and_key, designs[query_and_key], ring, next_one)

board.title('One key of any length')
board.show('telegrams', loud_curve[-1])
board.show('lengths of keys', lengths[:8], columns=[*names, *nouns])
board.show('ring, one key', ring_one[-1])
board.show('ring, query+key', ring_two[-1])

# %%
labels = ['(a) fixed ratio', '(b) one key', '(c) query and key']
colors = [board.GREY, board.ORANGE, board.BLUE]

figure, panels = board.canvas(18, 4.8, 4)
panels[0].set_box_aspect(1)
heights = [0.7, 0.24, losses['query_and_key'][-1]]
for curve, y, text, color in zip(losses.values(), heights, labels, colors):
  panels[0].semilogy(curve, color=color, linewidth=2)
  board.label(panels[0], STEPS, y, text, color)
board.caption(panels[0], 'Squared error, best of 16', 'step of training')
for axes, w, text in zip(panels[1:], weights.values(), labels):
  board.heat_map(axes, w, words, text)
  axes.set_ylabel('query: who looks' if text == labels[0] else '')
board.save(figure, '04_three_designs')
