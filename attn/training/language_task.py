"""The task of a causal language model: to predict the next token of a text."""

import functools
from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
import numpy as np

from attn.modules.ngram_counts import COUNTS, count_ngrams
from attn.modules.sharding import undivided
from attn.training import language_model
from attn.training.batches import Batch, Text
from attn.training.config import Config
from attn.training.devices import mesh_of, using
from attn.training.experiment import make_data, make_model
from attn.training.figures import draw_attention_maps, draw_gaze
from attn.training.flops import training_flops
from attn.training.generate import generate
from attn.training.imported import imported_params
from attn.training.run_directory import RunDirectory
from attn.training.sampling import Sampling
from attn.training.task import Exhibits
from attn.training.tokenizer import save_tokenizer, share_among_characters

Array = jax.Array

# Characters of a sample; a story of the toy language ends itself before.
_SAMPLE_LENGTH = 240


class LanguageTask:
  """See `task.Task`; the model reads the toy language, or any text.

  Attributes:
    floor: The least possible loss, in nats per character, if it is known.
    unit: What a token is.
    nats: The loss of each target.
  """

  def __init__(self, config: Config) -> None:
    """Args: the experiment.  Raises: UserError if there can be none."""
    self._config = config
    self._data = make_data(config)
    self._model = make_model(config, self._data.tokenizer.vocab_size)
    self.unit = self._data.tokenizer.unit
    self._validation = self._data.validation(config.eval.rows)
    self._eval_step = language_model.make_eval_step(self._model)
    self.floor = self._validation.floor
    self.nats = functools.partial(language_model.nats, self._model)
    self._capture = self._make_capture()
    if self._model.config.counts:
      # While the rest is compiled.
      self._counting = futures.ThreadPoolExecutor(1).submit(self._count)

  def init(self, rng: Array) -> Any:
    """Fresh parameters, or those that the run begins with.

    What is read or counted comes in by a callback: as constants it would be
    compiled into the program.
    """

    def fresh() -> Any:
      return language_model.init(self._model, rng)

    if self._model.config.counts:
      params = fresh()
      shapes = jax.eval_shape(lambda: params[COUNTS])
      params[COUNTS] = jax.pure_callback(self._counting.result, shapes)
      return params
    if not self._config.get('init_from'):
      return fresh()
    shapes = jax.eval_shape(fresh)
    read = functools.partial(
      imported_params, self._config.init_from, self._model.config
    )
    return jax.pure_callback(read, shapes)

  def _count(self) -> dict[str, np.ndarray]:
    shape = self._model.config
    assert isinstance(self._data, Text)
    return count_ngrams(
      self._data.train_tokens,
      shape.vocab_size,
      longest=shape.counts,
      rows=shape.count_rows,
    )

  def train_batch(self, index: int, rows: slice = slice(None)) -> Batch:
    """Batch number index, or some of its rows."""
    return self._data.train_batch(index, rows)

  def flops_per_token(self, params: Any) -> float:
    """Of a training step, in products; attention as if it saw all before."""
    return training_flops(
      params,
      self._data.tokenizer.vocab_size,
      (self._config.context + 1) / 2,
      tied_head=self._config.model.tied_head,
    )

  def evaluate(self, params: Any) -> dict[str, float]:
    """Loss and what else the validation split knows."""
    return language_model.evaluate(self._eval_step, params, self._validation)

  def observe(self, params: Any) -> dict[str, float]:
    """How widely each head looks."""
    results = {}
    captured = self._captured(params, self._data.example()[0])
    for layer, heads in enumerate(entropies(captured), 1):
      for head, entropy in enumerate(heads, 1):
        name = f'attention_entropy/layer_{layer}/head_{head}'
        results[name] = float(entropy)
    return results

  def save(self, run: RunDirectory) -> None:
    """Write the tokenizer."""
    save = functools.partial(save_tokenizer, self._data.tokenizer)
    run.write_sealed(run.tokenizer, save)

  def exhibit(self, run: RunDirectory, params: Any) -> Exhibits:
    """Samples, and who attends to whom in a text."""
    samples = self._samples(params)
    text, far = self._data.example()
    marked = np.flatnonzero(far).tolist()
    weights = self._weights(params, text)
    if len(weights):
      draw_attention_maps(run.figures / 'attention.png', text, weights, marked)
    if len(weights) and marked:
      # Row t predicts the character after t: the first far fact is the pronoun.
      query = marked[0]
      answer = text[query + 1 :].split(maxsplit=1)[0]
      draw_gaze(run.figures / 'gaze.png', text, weights, query, answer)
    return Exhibits(samples, text, weights, tuple(marked))

  def _samples(self, params: Any) -> list[str]:
    config, tokenizer = self._config, self._data.tokenizer
    given = self._model.config.given
    known = getattr(tokenizer, 'characters', '\n')
    start = '\n' if '\n' in known else ' '
    if given:
      start = self._data.example()[0][:given]
    prompt = tokenizer.encode(start)
    drawn = generate(
      self._model,
      params,
      [prompt] * config.eval.samples,
      length=min(_SAMPLE_LENGTH, config.context - len(prompt)),
      seed=config.seed,
      sampling=Sampling(temperature=config.eval.temperature),
    )
    texts = [tokenizer.decode(tokens.tolist()) for tokens in drawn]
    if given:
      texts = [start.removeprefix('\n') + text for text in texts]
    if config.task == 'toy_language':
      return [text.split('\n', 1)[0] for text in texts]
    return texts

  def _weights(self, params: Any, text: str) -> np.ndarray:
    """float[L, N, T, T] over a text; no layers where attention is left out."""
    captured = self._captured(params, text)
    lengths = self._data.tokenizer.byte_lengths(
      self._data.tokenizer.encode(text)
    )
    # Some tokenizers change a text before they cut it up.
    known = sum(lengths) == len(text.encode())
    if not len(captured) or not known:
      return np.zeros((0, 0, len(text), len(text)), np.float32)
    return share_among_characters(self._data.tokenizer, text, captured)

  def _captured(self, params: Any, text: str) -> np.ndarray:
    """The same over its tokens."""
    tokens = self._data.tokenizer.encode(text)
    if self._model.config.pattern == 'none':
      return np.zeros((0, 0, len(tokens), len(tokens)), np.float32)
    with using(mesh_of(params)):
      layers = self._capture(params, tokens[None])
    return np.stack(
      [
        np.asarray(layers[f'block_{i}']['attention']['weights'][0])[0]
        for i in range(self._config.model.num_layers)
      ]
    )

  def _make_capture(self) -> Callable[[Any, np.ndarray], Any]:
    """(params, tokens) -> what the layers sow; compiled once."""
    config, tokenizer = self._config, self._data.tokenizer
    model = make_model(config, tokenizer.vocab_size, capture_weights=True)

    @jax.jit
    def capture(params: Any, tokens: Array) -> Any:
      _, captured = model.apply(
        {'params': params}, tokens, mutable=['intermediates']
      )
      return jax.tree.map(undivided, captured['intermediates'])

    return capture


def entropies(weights: np.ndarray) -> np.ndarray:
  """How widely each head looks: -Σ w log w, the mean over its rows, in nats.

  Args:
    weights: float[L, N, T, S], whose rows need not add up to 1.

  Returns:
    float[L, N]; 0 where each row looks at one token.
  """
  size = np.abs(weights)
  shares = size / np.maximum(size.sum(-1, keepdims=True), 1e-30)
  logs = np.log(np.where(shares > 0, shares, 1))
  return -(shares * logs).sum(-1).mean(-1)
