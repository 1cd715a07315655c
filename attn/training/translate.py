"""Translate: greedily, or with a beam that keeps the best few beginnings."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from attn.training.word_tokenizer import BOS, EOS, PAD

Array = jax.Array


class Translations(NamedTuple):
  """The best that was found for each sentence.

  Attributes:
    tokens: int32[B, max_length], EOS included, PAD after it; without EOS where
      there was no room for it.
    scores: float32[B], log-probability over `length_norm` of the length.
  """

  tokens: Array
  scores: Array


class _Beams(NamedTuple):
  """K beginnings of each of B translations.

  Attributes:
    step: int32[], tokens written.
    tokens: int32[B, K, max_length].
    totals: float32[B, K], their log-probabilities; -inf for none.
    ended: bool[B, K].
    state: The model's, first axis B * K.
  """

  step: Array
  tokens: Array
  totals: Array
  ended: Array
  state: Any


@functools.partial(
  jax.jit, static_argnums=0, static_argnames=('beam', 'max_length')
)
def translate(
  model: Any,
  params: Any,
  source: Array,
  source_mask: Array,
  *,
  beam: int,
  max_length: int,
  length_penalty: Array | float,
) -> Translations:
  """The likeliest translations that a beam search finds.

  One of the beams is always the greedy translation, so a wider beam never ends
  with a lower score than a beam of one; a beam of one is greedy.

  Args:
    model: With `encode` and `decode_step`; see `attn.modules`.
    params: Its parameters.
    source: int32[B, S].
    source_mask: bool[B, S], False for padding.
    beam: How many beginnings are kept for each sentence, at least 1.
    max_length: The most tokens to write.
    length_penalty: The higher, the longer the translations; 0 compares plain
      log-probabilities, which favours short ones.

  Returns:
    One translation a sentence.

  References:
    Wu et al., 2016, section 7 (length penalty).
    https://arxiv.org/abs/1609.08144
  """
  variables = {'params': params}
  batch = source.shape[0]
  encoded = model.apply(
    variables, source, source_mask, max_length=max_length, method='encode'
  )
  memory, state = jax.tree.map(
    lambda x: jnp.repeat(x, beam, axis=0), (encoded.memory, encoded.state)
  )

  def step(beams: _Beams) -> _Beams:
    last = beams.tokens[:, :, jnp.maximum(beams.step - 1, 0)]
    last = jnp.where(beams.step == 0, BOS, last).reshape(-1)
    decoded, state = model.apply(
      variables, last, memory, beams.state, method='decode_step'
    )
    nats = jax.nn.log_softmax(decoded.logits).reshape(batch, beam, -1)
    return _extend(beams._replace(state=state), nats)

  def goes_on(beams: _Beams) -> Array:
    return (beams.step < max_length) & ~beams.ended.all()

  start = _Beams(
    step=jnp.int32(0),
    tokens=jnp.full((batch, beam, max_length), PAD, jnp.int32),
    # Only one beginning there is: nothing.
    totals=jnp.where(jnp.arange(beam) == 0, 0.0, -jnp.inf)
    * jnp.ones((batch, 1)),
    ended=jnp.zeros((batch, beam), bool),
    state=state,
  )
  beams = jax.lax.while_loop(goes_on, step, start)
  lengths = (beams.tokens != PAD).sum(-1)
  scores = beams.totals / length_norm(lengths, length_penalty)
  best = scores.argmax(-1)[:, None]
  return Translations(
    tokens=jnp.take_along_axis(beams.tokens, best[..., None], 1)[:, 0],
    scores=jnp.take_along_axis(scores, best, 1)[:, 0],
  )


def length_norm(lengths: Array, length_penalty: Array | float) -> Array:
  """What a log-probability is divided by: ((5 + length) / 6) ** penalty."""
  return ((5 + lengths.astype(jnp.float32)) / 6) ** length_penalty


def _extend(beams: _Beams, nats: Array) -> _Beams:
  """Each beginning by one token; the best K of all go on.

  Args:
    beams: K beginnings; their state is that after the last token.
    nats: float32[B, K, V], log-probabilities of the next token.

  Returns:
    K beginnings, the first of them the greedy one.
  """
  batch, beam, vocab_size = nats.shape
  # What has ended goes on with padding, at no cost.
  padding = jnp.where(jnp.arange(vocab_size) == PAD, 0.0, -jnp.inf)
  nats = jnp.where(beams.ended[..., None], padding, nats)
  totals = (beams.totals[..., None] + nats).reshape(batch, -1)
  # The first beam goes on greedily; the others take the best of what is left.
  greedy = totals[:, :vocab_size].argmax(-1)[:, None]
  taken = jnp.arange(totals.shape[1]) == greedy
  _, others = jax.lax.top_k(jnp.where(taken, -jnp.inf, totals), beam - 1)
  chosen = jnp.concatenate([greedy, others.astype(greedy.dtype)], axis=1)
  origin, token = chosen // vocab_size, (chosen % vocab_size).astype(jnp.int32)

  def follow(x: Array) -> Array:
    x = x.reshape(batch, beam, *x.shape[1:])
    return jax.vmap(lambda x, i: x[i])(x, origin).reshape(-1, *x.shape[2:])

  tokens = jnp.take_along_axis(beams.tokens, origin[..., None], 1)
  ended = jnp.take_along_axis(beams.ended, origin, 1)
  return _Beams(
    step=beams.step + 1,
    tokens=tokens.at[:, :, beams.step].set(token),
    totals=jnp.take_along_axis(totals, chosen, 1),
    ended=ended | (token == EOS),
    state=jax.tree.map(follow, beams.state),
  )
