"""Choose the next token, from what a model thinks of each."""

import dataclasses
import math

import jax
import jax.numpy as jnp

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How tokens are drawn; the steps follow each other in this order.

  Attributes:
    repetition_penalty: Logits of tokens that occurred are divided by this if
      they are positive, else multiplied; 1 for none.
    temperature: Divides the logits; 0 takes the likeliest token.
    top_k: Only the k likeliest tokens; None for all.
    top_p: Only the likeliest tokens that together have this probability.
    min_p: Only tokens with at least this share of the likeliest's probability.

  Raises:
    ValueError: if a number is out of range; the message begins with its name.

  Example:
    >>> Sampling(temperature=0.7, top_p=0.9).top_k is None
    True

  References:
    Keskar et al., 2019 (penalty). https://arxiv.org/abs/1909.05858
    Fan et al., 2018 (top-k). https://arxiv.org/abs/1805.04833
    Holtzman et al., 2019 (top-p). https://arxiv.org/abs/1904.09751
    Nguyen et al., 2024 (min-p). https://arxiv.org/abs/2407.01082
  """

  temperature: float = 1.0
  top_k: int | None = None
  top_p: float = 1.0
  min_p: float = 0.0
  repetition_penalty: float = 1.0

  def __post_init__(self) -> None:
    # Written so that NaN is refused too.
    for name, holds, wanted in (
      ('temperature', 0 <= self.temperature < math.inf, 'at least 0'),
      ('top_k', self.top_k is None or self.top_k >= 1, 'at least 1'),
      ('top_p', 0 < self.top_p <= 1, 'more than 0 and at most 1'),
      ('min_p', 0 <= self.min_p <= 1, 'from 0 to 1'),
      (
        'repetition_penalty',
        0 < self.repetition_penalty < math.inf,
        'more than 0',
      ),
    ):
      if not holds:
        raise ValueError(f'{name}: got {getattr(self, name)}, wanted {wanted}')


# Everything that a model thinks possible.
PLAIN = Sampling()


def log_probabilities(
  logits: Array, sampling: Sampling, occurred: Array | None = None
) -> Array:
  """What each token is drawn with.

  Args:
    logits: float[..., V].
    sampling: How.
    occurred: bool[..., V], of tokens that are penalised; None for none.

  Returns:
    float[..., V]; -inf for a token that is never drawn.  At temperature 0 the
    likeliest, the first of them if there are several, has all the probability.
  """
  penalty = sampling.repetition_penalty
  if occurred is not None and penalty != 1:
    punished = jnp.where(logits > 0, logits / penalty, logits * penalty)
    logits = jnp.where(occurred, punished, logits)
  vocab_size = logits.shape[-1]
  if sampling.temperature == 0:
    best = logits.argmax(-1, keepdims=True)
    return jnp.where(jnp.arange(vocab_size) == best, 0.0, -jnp.inf)
  logits = logits / sampling.temperature
  if sampling.top_k is not None and sampling.top_k < vocab_size:
    least = jax.lax.top_k(logits, sampling.top_k)[0][..., -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  if sampling.top_p < 1:
    ordered = -jnp.sort(-jax.nn.softmax(logits), axis=-1)
    # Of the likelier ones; a token stays while these have not enough.
    before = jnp.cumsum(ordered, axis=-1) - ordered
    stay = jnp.where(before < sampling.top_p, ordered, jnp.inf)
    least = stay.min(-1, keepdims=True)
    logits = jnp.where(jax.nn.softmax(logits) < least, -jnp.inf, logits)
  if sampling.min_p > 0:
    least = logits.max(-1, keepdims=True) + math.log(sampling.min_p)
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return jax.nn.log_softmax(logits)


def draw(
  logits: Array, sampling: Sampling, rngs: Array, occurred: Array | None = None
) -> Array:
  """One token a row.

  Args:
    logits: float[B, V].
    sampling: How.
    rngs: A PRNG key for each row.
    occurred: As in `log_probabilities`.

  Returns:
    int32[B].
  """
  chances = log_probabilities(logits, sampling, occurred)
  if sampling.temperature == 0:
    return chances.argmax(-1).astype(jnp.int32)
  return jax.vmap(jax.random.categorical)(rngs, chances).astype(jnp.int32)
