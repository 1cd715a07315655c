"""Generate faster: a small model proposes tokens, a large one judges them."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attn.modules import CachePlan, CausalLM
from attn.training.generate import check_request
from attn.training.sampling import PLAIN, Sampling, log_probabilities

Array = jax.Array


class Speaker(NamedTuple):
  """A model and its parameters."""

  model: CausalLM
  params: Any


class _Text(NamedTuple):
  """A text that is being written.

  Attributes:
    cache: Of the model that judges.
    draft_cache: Of the model that proposes.
    length: int32[], tokens that both have read.
    last: int32[], the token that comes then, which neither has read.
  """

  cache: Any
  draft_cache: Any
  length: Array
  last: Array


def speculate(
  speaker: Speaker,
  draft: Speaker,
  prompt: np.ndarray,
  *,
  length: int,
  seed: int,
  sampling: Sampling = PLAIN,
  ahead: int = 4,
) -> Iterator[np.ndarray]:
  """Draw tokens after a prompt; as if the large model had drawn them alone.

  The small model draws `ahead` tokens, one after the other; the large model
  reads them in one call.  A token drawn from q is kept with probability
  min(1, p / q), p what the large model gives it; the first that is not kept is
  drawn anew, from what p has more than q.  So every token has probability p.

  Args:
    speaker: The large model.
    draft: The small model, of the same vocabulary.
    prompt: int[P], P at least 1.
    length: How many tokens to draw.
    seed: The same seed draws the same tokens.
    sampling: How; without a repetition penalty.
    ahead: How many tokens the small model proposes.

  Returns:
    Yields int32[n], 1 to ahead + 1 tokens; all together `length`.

  Raises:
    ValueError: as `generate` for either model; or if vocabularies differ,
      ahead is below 1, there is a repetition penalty, the text would be longer
      than a context, or a model cannot take back what it read.

  References:
    Leviathan et al., 2023. https://arxiv.org/abs/2211.17192
    Chen et al., 2023. https://arxiv.org/abs/2302.01318
  """
  if ahead < 1:
    raise ValueError(f'ahead: got {ahead}, wanted at least 1')
  if sampling.repetition_penalty != 1:
    raise ValueError(
      f'repetition_penalty: got {sampling.repetition_penalty}, wanted 1: what '
      'is proposed together has one distribution'
    )
  for name, (model, _) in (('speaker', speaker), ('draft', draft)):
    _check(name, model, prompt, length, speaker.model.config.vocab_size)
  slots = len(prompt) + length + ahead + 1
  static = speaker.model, draft.model, slots, ahead, sampling
  params, rng = (speaker.params, draft.params), jax.random.key(seed)
  begun = jnp.asarray(prompt, jnp.int32)[None]

  def pieces() -> Iterator[np.ndarray]:
    text = _begin(*static, *params, begun, jax.random.fold_in(rng, 0))
    yield np.asarray(text.last)[None]
    written = 1
    while written < length:
      text, tokens, kept = _extend(
        *static, *params, text, jax.random.fold_in(rng, written)
      )
      piece = np.asarray(tokens)[: min(int(kept), length - written)]
      written += len(piece)
      yield piece

  return pieces()


def _check(
  name: str, model: CausalLM, prompt: np.ndarray, length: int, vocab_size: int
) -> None:
  check_request(model, [prompt], length)
  config = model.config
  if config.vocab_size != vocab_size:
    raise ValueError(
      f'{name}: got a vocabulary of {config.vocab_size}, wanted {vocab_size}'
    )
  if len(prompt) + length > config.context:
    raise ValueError(
      f'length: got {length} after a prompt of {len(prompt)}, wanted both '
      f'within the context of {name}, {config.context}'
    )
  for word, why in (('linear', 'take back what it read'), ('prefix', 'wait')):
    if word in (config.kind, config.pattern):
      raise ValueError(f'{name}: got {word} attention, which cannot {why}')


def _read(
  model: CausalLM, params: Any, cache: Any, tokens: Array, before: Array, **plan
) -> tuple[Array, Any]:
  """Logits [T, V] after tokens [1, T], and the cache."""
  variables = {'params': params}
  if not plan.get('first'):
    variables['cache'] = cache
  logits, state = model.apply(
    variables,
    tokens,
    positions=before + jnp.arange(tokens.shape[1])[None],
    cache=CachePlan(**plan),
    mutable=['cache'],
  )
  return logits[0], state.get('cache', {})


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _begin(
  model: CausalLM,
  draft: CausalLM,
  slots: int,
  ahead: int,
  sampling: Sampling,
  params: Any,
  draft_params: Any,
  prompt: Array,
  rng: Array,
) -> _Text:
  """Both read the prompt, and the large model says what comes next."""
  plan = {'slots': slots, 'at_once': ahead + 1, 'first': True}
  logits, cache = _read(model, params, None, prompt, jnp.int32(0), **plan)
  _, draft_cache = _read(
    draft, draft_params, None, prompt, jnp.int32(0), **plan
  )
  last = jax.random.categorical(rng, log_probabilities(logits[-1], sampling))
  length = jnp.int32(prompt.shape[1])
  return _Text(cache, draft_cache, length, last.astype(jnp.int32))


@functools.partial(
  jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnames='text'
)
def _extend(
  model: CausalLM,
  draft: CausalLM,
  slots: int,
  ahead: int,
  sampling: Sampling,
  params: Any,
  draft_params: Any,
  text: _Text,
  rng: Array,
) -> tuple[_Text, Array, Array]:
  """Some tokens more: int32[ahead + 1], and how many of them count."""
  plan = {'slots': slots, 'at_once': ahead + 1}
  for_draft, for_judge, for_last = jax.random.split(rng, 3)

  def propose(carry: Any, rng: Array) -> Any:
    cache, token, before = carry
    logits, cache = _read(
      draft, draft_params, cache, token[None, None], before, **plan
    )
    nats = log_probabilities(logits[0], sampling)
    drawn = jax.random.categorical(rng, nats).astype(jnp.int32)
    return (cache, drawn, before + 1), (drawn, nats)

  # Once more than needed, so that the draft has read its last token too.
  (draft_cache, *_), (drawn, proposed) = jax.lax.scan(
    propose,
    (text.draft_cache, text.last, text.length),
    jax.random.split(for_draft, ahead + 1),
  )
  read = jnp.concatenate([text.last[None], drawn[:-1]])
  logits, cache = _read(
    model, params, text.cache, read[None], text.length, **plan
  )
  wanted = log_probabilities(logits, sampling)
  kept = _kept(wanted[:-1], proposed[:-1], drawn[:-1], for_judge)
  # After all that were proposed there is nothing to compare with.
  before = jnp.where(jnp.arange(ahead + 1)[:, None] < ahead, proposed, -jnp.inf)
  left = jnp.maximum(jnp.exp(wanted[kept]) - jnp.exp(before[kept]), 0)
  last = jax.random.categorical(for_last, jnp.log(left)).astype(jnp.int32)
  tokens = drawn.at[kept].set(last)
  return (
    _Text(cache, draft_cache, text.length + kept + 1, last),
    tokens,
    kept + 1,
  )


def _kept(wanted: Array, proposed: Array, drawn: Array, rng: Array) -> Array:
  """int32[], how many proposals stand before the first that does not."""
  places = jnp.arange(len(drawn))
  surplus = wanted[places, drawn] - proposed[places, drawn]
  stands = jnp.log(jax.random.uniform(rng, drawn.shape)) < surplus
  return jnp.cumprod(stands.astype(jnp.int32)).sum()
