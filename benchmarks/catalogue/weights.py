"""Weights that are no softmax, or more than one."""

import math

import jax
import jax.numpy as jnp

import attn
from benchmarks.catalogue.entry import entry


@entry(
  'Differential',
  'softmax(query[:H/2] · key[:H/2]) - share softmax(query[H/2:] · key[H/2:])',
  ('Ye et al., 2024', 'https://arxiv.org/abs/2410.05258'),
  given=lambda size: {'share': 0.5},
  draw_scores=True,
)
def differential(query, key, value, share):
  """The difference of two softmaxes cancels what both see."""
  queries, keys = jnp.split(query, 2, axis=-1), jnp.split(key, 2, axis=-1)
  one, other = (attn.attention(q, k, value) for q, k in zip(queries, keys))
  return one - share * other


@entry(
  'Sigmoid',
  'weight = sigmoid(score - log S)',
  ('Ramapuram et al., 2024', 'https://arxiv.org/abs/2409.04431'),
  draw_scores=True,
)
def sigmoid(query, key, value):
  """Each key is weighed for itself."""
  shift = -math.log(key.shape[1])
  return attn.sigmoid_attention(query, key, value, shift=shift)


@entry(
  'ReLU',
  'weight = max(score, 0) / S',
  ('Wortsman et al., 2023', 'https://arxiv.org/abs/2309.08586'),
  draw_scores=True,
)
def relu(query, key, value):
  """Softmax of the logarithm, times the sum that softmax divided by."""

  def log_relu(score, b, n, q, k):
    positive = jnp.where(score > 0, score, 1)
    return jnp.where(score > 0, jnp.log(positive), -jnp.inf)

  context, log_total = attn.attention(
    query, key, value, score_mod=log_relu, return_residual=True
  )
  return context * jnp.exp(log_total)[..., None] / key.shape[1]


@entry(
  'Linear',
  'weight ∝ feature(query) · feature(key),  feature(x) = elu(x) + 1',
  ('Katharopoulos et al., 2020', 'https://arxiv.org/abs/2006.16236'),
  draw_scores=True,
)
def linear(query, key, value):
  """A product of positive features in place of an exponential."""
  return attn.linear_attention(query, key, value)


@entry(
  'Top-k',
  'softmax over the `kept` largest scores of each row',
  ('Gupta et al., 2021', 'https://arxiv.org/abs/2106.06899'),
  given=lambda size: {'kept': size.stretch},
  draw_scores=True,
  memory='T × S: a row must be known whole before any of it is dropped',
)
def top_k(query, key, value, kept):
  """Of each row the few largest scores; not by `attention`, and not linear."""

  def one_head(query, key, value):
    scores = attn.dot_product_scores(query, key)
    least = jax.lax.top_k(scores, kept)[0][..., -1:]
    return attn.weighted_sum(attn.softmax(scores, scores >= least), value)

  return jax.vmap(one_head, in_axes=-2, out_axes=-2)(query, key, value)
