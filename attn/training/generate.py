"""Continue a text, one token at a time."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.modules import CausalLM

Array = jax.Array


def generate(
  model: CausalLM,
  params: Any,
  prompt: np.ndarray,
  *,
  length: int,
  seed: int,
  temperature: float = 1.0,
  top_k: int | None = None,
  samples: int = 1,
) -> np.ndarray:
  """Draw tokens after a prompt.

  Where prompt and continuation are longer than the context, the model sees the
  last tokens only.  The prompt is all that a model with a prefix may read both
  ways.

  Args:
    model: The model.
    params: Its parameters.
    prompt: int[P], P at least 1.
    length: How many tokens to draw.
    seed: The same seed draws the same tokens.
    temperature: Divides the logits; 0 takes the most likely token.
    top_k: Draw from the k most likely tokens only; None for all.
    samples: How many continuations.

  Returns:
    int32[samples, length].

  Raises:
    ValueError: if prompt is empty, temperature is negative, or length, top_k or
      samples is below 1.
  """
  if len(prompt) < 1:
    raise ValueError('prompt: got no token, wanted at least 1')
  if not temperature >= 0:  # NaN is refused too
    raise ValueError(f'temperature: got {temperature}, wanted at least 0')
  for name, value in (
    ('length', length),
    ('samples', samples),
    ('top_k', 1 if top_k is None else top_k),
  ):
    if value < 1:
      raise ValueError(f'{name}: got {value}, wanted at least 1')
  context = model.config.context
  seen = prompt[-context:]
  window = np.zeros((samples, context), np.int32)
  window[:, : len(seen)] = seen
  prefix = None
  if model.config.attention == 'prefix':
    prefix = jnp.asarray(min(model.config.prefix_length, len(seen)), jnp.int32)
  k = min(top_k or model.config.vocab_size, model.config.vocab_size)
  drawn = _generate(
    model,
    length,
    k,
    params,
    prefix,
    jnp.asarray(window),
    jnp.asarray(len(seen)),
    jax.random.key(seed),
    jnp.asarray(temperature, jnp.float32),
  )
  return np.asarray(drawn)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(
  model: CausalLM,
  length: int,
  top_k: int,
  params: Any,
  prefix: Array | None,
  window: Array,
  used: Array,
  rng: Array,
  temperature: Array,
) -> Array:
  """Window [samples, context] holds the last tokens, `used` of them real."""

  def draw(carry: Any, rng: Array) -> Any:
    window, used = carry
    out = model.apply({'params': params}, window, prefix_length=prefix)
    logits = jnp.asarray(out)[:, used - 1]
    token = _sample(logits, top_k, temperature, rng)
    full = used == window.shape[1]
    window = jnp.where(full, jnp.roll(window, -1, axis=1), window)
    used = jnp.where(full, used, used + 1)
    return (window.at[:, used - 1].set(token), used), token

  _, tokens = jax.lax.scan(draw, (window, used), jax.random.split(rng, length))
  return tokens.T


def _sample(logits: Array, top_k: int, temperature: Array, rng: Array) -> Array:
  least = jax.lax.top_k(logits, top_k)[0][:, -1:]
  logits = jnp.where(logits < least, -jnp.inf, logits)
  # At temperature 0 the division is not used, but must not make NaN.
  softened = logits / jnp.where(temperature == 0, 1, temperature)
  drawn = jax.random.categorical(rng, softened).astype(jnp.int32)
  likeliest = logits.argmax(-1).astype(jnp.int32)
  return jnp.where(temperature == 0, likeliest, drawn)
