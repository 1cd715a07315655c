"""Continue texts, one token at a time, with what was read kept in a cache."""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attn.modules import CachePlan, CausalLM
from attn.training.sampling import PLAIN, Sampling, draw

Array = jax.Array

# Tokens drawn in one call of the compiled program.
_AT_ONCE = 16
# Caches and prompts come in multiples of this, so that few programs serve all.
_STEP = 64

# Positions that mean the same wherever a text has got to.
_RELATIVE = ('rotary', 'alibi', 'relative_bias', 'none')


class _Texts(NamedTuple):
  """B texts that are being written.

  Attributes:
    cache: The model's.
    lengths: int32[B], tokens that the model read.
    logits: float32[B, V], of the token that comes next.
    occurred: bool[B, V], tokens in the text.
    rngs: A PRNG key for each text.
  """

  cache: Any
  lengths: Array
  logits: Array
  occurred: Array
  rngs: Array


def generate(
  model: CausalLM,
  params: Any,
  prompts: Sequence[np.ndarray],
  *,
  length: int,
  seed: int,
  sampling: Sampling = PLAIN,
) -> np.ndarray:
  """Draw tokens after prompts.

  Args:
    model: The model.
    params: Its parameters.
    prompts: int[P], P at least 1, for each text; they may differ in length.
      The prompt is all that a model with a prefix may read both ways.
    length: How many tokens to draw.
    seed: The same seed draws the same tokens, whatever comes after them and
      whatever other texts there are but for their order.
    sampling: How.

  Returns:
    int32[B, length].

  Raises:
    ValueError: if there is no prompt, one is empty or longer than the context,
      length is below 1, or the model cannot go past its context and would have
      to.
  """
  pieces = stream(
    model, params, prompts, length=length, seed=seed, sampling=sampling
  )
  return np.concatenate(list(pieces), axis=1)


def stream(
  model: CausalLM,
  params: Any,
  prompts: Sequence[np.ndarray],
  *,
  length: int,
  seed: int,
  sampling: Sampling = PLAIN,
) -> Iterator[np.ndarray]:
  """As `generate`, a few tokens after the other.

  A text longer than the context slides: its beginning is forgotten.  That takes
  positions which mean the same wherever they are, so learned and sinusoidal
  ones end with the context.

  Returns:
    Yields int32[B, n]; all together they are what `generate` returns.
  """
  check_request(model, prompts, length)
  longest = max(map(len, prompts))
  slots = min(_rounded(longest + length), model.config.context)
  tokens = np.zeros((len(prompts), min(_rounded(longest), slots)), np.int32)
  for row, prompt in zip(tokens, prompts):
    row[: len(prompt)] = prompt
  lengths = jnp.array([len(prompt) for prompt in prompts], jnp.int32)
  rngs = jax.vmap(jax.random.fold_in, (None, 0))(
    jax.random.key(seed), jnp.arange(len(prompts))
  )
  texts = _read(model, slots, params, jnp.asarray(tokens), lengths, rngs)
  prefix = prefix_of(model, lengths)

  def pieces(texts: _Texts) -> Iterator[np.ndarray]:
    for start in range(0, length, _AT_ONCE):
      texts, drawn = _write(model, slots, sampling, params, prefix, texts)
      yield np.asarray(drawn)[:, : length - start]

  return pieces(texts)


def room(model: CausalLM, prompts: Sequence[np.ndarray]) -> float:
  """How many tokens may follow prompts; inf where a text slides."""
  if model.config.positions in _RELATIVE:
    return math.inf
  return model.config.context - max(map(len, prompts))


def check_request(
  model: CausalLM, prompts: Sequence[np.ndarray], length: int
) -> None:
  """Refuse what `generate` says it refuses."""
  context = model.config.context
  if not len(prompts):
    raise ValueError('prompts: got none, wanted at least one')
  for prompt in prompts:
    if not 1 <= len(prompt) <= context:
      raise ValueError(
        f'prompt: got {len(prompt)} tokens, wanted 1 to {context}, the context'
      )
  if length < 1:
    raise ValueError(f'length: got {length}, wanted at least 1')
  most = room(model, prompts)
  if length > most:
    raise ValueError(
      f'length: got {length}, wanted at most {most}: '
      f'{model.config.positions} positions end with the context, {context} '
      'tokens with the prompt'
    )


def read_prompts(
  model: CausalLM, slots: int, params: Any, tokens: Array, lengths: Array
) -> tuple[Array, Any]:
  """Read what texts begin with.

  Args:
    model: The model.
    slots: The most tokens that any layer keeps.
    params: Its parameters.
    tokens: int32[B, P], padded at the end.
    lengths: int32[B], how many of them are real.

  Returns:
    Logits of the token that comes next, float32[B, V], and the cache.
  """
  places = jnp.arange(tokens.shape[1])
  logits, state = model.apply(
    {'params': params},
    tokens,
    positions=jnp.where(places < lengths[:, None], places, -1),
    prefix_length=prefix_of(model, lengths),
    cache=CachePlan(slots, first=True),
    mutable=['cache'],
  )
  last = jnp.take_along_axis(logits, lengths[:, None, None] - 1, axis=1)
  return last[:, 0], state.get('cache', {})


def read_token(
  model: CausalLM,
  slots: int,
  params: Any,
  cache: Any,
  token: Array,
  lengths: Array,
  prefix: Array | None,
) -> tuple[Array, Any]:
  """Read one token more of each text.

  Args:
    model: As in `read_prompts`.
    slots: As in `read_prompts`.
    params: As in `read_prompts`.
    cache: What was read before.
    token: int32[B].
    lengths: int32[B], tokens read before.
    prefix: How much of each text is read both ways, from `prefix_of`.

  Returns:
    As `read_prompts`.
  """
  logits, state = model.apply(
    {'params': params, 'cache': cache},
    token[:, None],
    positions=lengths[:, None],
    prefix_length=prefix,
    cache=CachePlan(slots),
    mutable=['cache'],
  )
  return logits[:, 0], state.get('cache', {})


def prefix_of(model: CausalLM, lengths: Array) -> Array | None:
  """How much of each prompt is read both ways; None where nothing is."""
  if model.config.pattern != 'prefix':
    return None
  return jnp.minimum(lengths, model.config.prefix_length)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(
  model: CausalLM,
  slots: int,
  params: Any,
  tokens: Array,
  lengths: Array,
  rngs: Array,
) -> _Texts:
  """Read the prompts, tokens [B, P]."""
  last, cache = read_prompts(model, slots, params, tokens, lengths)
  is_real = jnp.arange(tokens.shape[1]) < lengths[:, None]
  rows = jnp.arange(len(tokens))[:, None]
  occurred = jnp.zeros(last.shape, bool)
  # A token that is padding is kept out of the vocabulary.
  found = jnp.where(is_real, tokens, last.shape[-1])
  occurred = occurred.at[rows, found].set(True, mode='drop')
  return _Texts(cache, lengths, last, occurred, rngs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnames='texts')
def _write(
  model: CausalLM,
  slots: int,
  sampling: Sampling,
  params: Any,
  prefix: Array | None,
  texts: _Texts,
) -> tuple[_Texts, Array]:
  """Some tokens more, int32[B, n]."""
  penalised = sampling.repetition_penalty != 1

  def step(texts: _Texts, _: None) -> tuple[_Texts, Array]:
    rngs = jax.vmap(jax.random.fold_in)(texts.rngs, texts.lengths)
    seen = texts.occurred if penalised else None
    token = draw(texts.logits, sampling, rngs, seen)
    logits, cache = read_token(
      model, slots, params, texts.cache, token, texts.lengths, prefix
    )
    occurred = texts.occurred
    if penalised:
      occurred = occurred | jax.nn.one_hot(
        token, occurred.shape[-1], dtype=bool
      )
    after = texts._replace(
      cache=cache,
      lengths=texts.lengths + 1,
      logits=logits,
      occurred=occurred,
    )
    return after, token

  texts, drawn = jax.lax.scan(step, texts, None, length=_AT_ONCE)
  return texts, drawn.T


def _rounded(count: int) -> int:
  return -(-count // _STEP) * _STEP
