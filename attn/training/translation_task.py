"""The task of an encoder-decoder: to say in one language what another says."""

import json
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from attn.training.artifacts import replace_file
from attn.training.config import Config
from attn.training.experiment import (
  init_encoder_decoder,
  make_encoder_decoder,
  make_pairs,
)
from attn.training.pair_batches import PairBatch
from attn.training.pairs import Pair
from attn.training.run_directory import RunDirectory
from attn.training.task import Alignment, Exhibits
from attn.training.translate import translate
from attn.training.translation_figures import (
  draw_alignments,
  draw_match_by_length,
)
from attn.training.translation_metrics import (
  alignment_error_rate,
  bleu,
  by_length,
  exact_match,
  links,
)

Array = jax.Array

# A sentence of so many words is long.
_LONG = 20
# Sentences that are taken together where quality is drawn over their length.
_LENGTHS = 5


class TranslationTask:
  """See `task.Task`; the model reads a sentence and writes its translation.

  Attributes:
    floor: None; a sentence may be translated with certainty.
    unit: What a token is.
  """

  floor = None

  def __init__(self, config: Config) -> None:
    """Args: the experiment.  Raises: UserError if there can be none."""
    self._config = config
    self._data = make_pairs(config)
    self.unit = self._data.source_tokenizer.unit
    sizes = (
      self._data.source_tokenizer.vocab_size,
      self._data.target_tokenizer.vocab_size,
    )
    self._model = make_encoder_decoder(config, *sizes)
    self._validation = self._data.validation(config.eval.pairs)
    self._eval_step = jax.jit(self._sums)
    self._read = jax.jit(self._apply)

  def init(self, rng: Array) -> Any:
    """Fresh parameters."""
    return init_encoder_decoder(self._model, rng)

  def train_batch(self, index: int, rows: slice = slice(None)) -> PairBatch:
    """Batch number index, or some of its rows."""
    return self._data.train_batch(index, rows)

  def nats(self, params: Any, batch: PairBatch, rng: Array | None) -> Array:
    """-log p of each target, float32[B, T]."""
    logits = self._apply(params, batch, rng).logits
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, batch.targets
    )

  def flops_per_token(self, params: Any) -> None:
    """Not counted: the sentences of a batch differ in length."""
    del params

  def observe(self, params: Any) -> dict[str, float]:
    """Nothing more."""
    del params
    return {}

  def evaluate(self, params: Any) -> dict[str, float]:
    """Loss, and how many validation sentences come out right, greedily."""
    sums = np.sum(
      [
        np.array(jax.device_get(self._eval_step(params, batch)), np.float64)
        for _, batch in self._data.batches(self._validation)
      ],
      axis=0,
    )
    written = self._translate(params, self._validation, beam=1)
    wanted = [pair.target for pair in self._validation]
    return {
      'loss': float(sums[0] / sums[1]),
      'exact_match': exact_match(written, wanted),
    }

  def save(self, run: RunDirectory) -> None:
    """Write both tokenizers."""
    for tokenizer, path in (
      (self._data.source_tokenizer, run.source_tokenizer),
      (self._data.target_tokenizer, run.target_tokenizer),
    ):
      run.write_sealed(path, tokenizer.save)

  def exhibit(self, run: RunDirectory, params: Any) -> Exhibits:
    """The test sentences: translations, who looked at whom, and how good."""
    options = self._config.eval
    pairs = self._data.test(options.test_pairs)
    written = self._translate(params, pairs, options.beam)
    right = [x == pair.target for x, pair in zip(written, pairs, strict=True)]
    lengths = [len(pair.source) for pair in pairs]
    curve = by_length(lengths, right, _LENGTHS)
    replace_file(run.lengths, json.dumps(curve, indent=2).encode())
    kind = self._config.model.kind
    draw_match_by_length(run.figures / 'length.png', {kind: curve})
    shown = pairs[: options.samples]
    samples = [
      f'{self._join(pair.source)} → {self._join(words)}'
      for pair, words in zip(shown, written)
    ]
    alignments = self._alignments(params, shown, written[: options.samples])
    if alignments:
      draw_alignments(run.figures / 'alignment.png', alignments)
    return Exhibits(
      samples,
      alignments=tuple(alignments),
      results=self._results(params, pairs, written),
    )

  def _results(
    self,
    params: Any,
    pairs: Sequence[Pair],
    written: Sequence[tuple[str, ...]],
  ) -> dict[str, float]:
    """Right ones, BLEU, and alignment; only what there is a figure for."""
    options = self._config.eval
    long = [i for i, x in enumerate(pairs) if len(x.source) >= _LONG]
    if self.unit != 'word':
      long = []
    wanted = [pair.target for pair in pairs]
    results = {
      'exact_match': exact_match(written, wanted),
      'exact_match_long': exact_match(
        [written[i] for i in long], [wanted[i] for i in long]
      ),
      'bleu': bleu(written, wanted),
    }
    longer = self._data.longer(options.test_pairs)
    if longer:
      results['exact_match_longer'] = exact_match(
        self._translate(params, longer, options.beam),
        [pair.target for pair in longer],
      )
    aligned = [pair for pair in pairs if pair.alignment is not None]
    weights = self._weights(params, aligned)
    if aligned and weights is not None:
      results['alignment_error_rate'] = alignment_error_rate(
        [links(x) for x in weights],
        [pair.alignment or frozenset() for pair in aligned],
      )
    return {
      name: value for name, value in results.items() if not math.isnan(value)
    }

  def _alignments(
    self,
    params: Any,
    pairs: Sequence[Pair],
    written: Sequence[tuple[str, ...]],
  ) -> list[Alignment]:
    """Of what the model wrote; none where it has no attention."""
    # One that found no end may be a word longer than what can be read.
    most = self._data.limit.target_length - 1
    read = [
      Pair(
        pair.source,
        words[:most],
        pair.alignment if words == pair.target else None,
      )
      for pair, words in zip(pairs, written, strict=True)
    ]
    weights = self._weights(params, read)
    if weights is None:
      return []
    return [
      Alignment(pair.source, pair.target, here, pair.alignment)
      for pair, here in zip(read, weights, strict=True)
    ]

  def _apply(
    self, params: Any, batch: PairBatch, rng: Array | None = None
  ) -> Any:
    return self._model.apply(
      {'params': params},
      batch.source,
      batch.source_mask,
      batch.inputs,
      deterministic=rng is None,
      rngs=None if rng is None else {'dropout': rng},
    )

  def _sums(self, params: Any, batch: PairBatch) -> tuple[Array, Array]:
    nats = self.nats(params, batch, None)
    return (nats * batch.weights).sum(), batch.weights.sum()

  def _translate(
    self, params: Any, pairs: Sequence[Pair], beam: int
  ) -> list[tuple[str, ...]]:
    written: list[tuple[str, ...]] = [()] * len(pairs)
    for places, batch in self._data.batches(pairs):
      found = translate(
        self._model,
        params,
        batch.source,
        batch.source_mask,
        beam=beam,
        max_length=batch.inputs.shape[1],
        length_penalty=self._config.eval.length_penalty,
      )
      for place, tokens in zip(places, np.asarray(found.tokens)):
        written[place] = self._data.target_tokenizer.decode(tokens)
    return written

  def _weights(
    self, params: Any, pairs: Sequence[Pair]
  ) -> list[np.ndarray] | None:
    """float[T, S] of each pair; None where the model has no attention."""
    found: list[np.ndarray] = [np.zeros((0, 0))] * len(pairs)
    for places, batch in self._data.batches(pairs):
      weights = self._read(params, batch).weights
      if weights is None:
        return None
      for place, here in zip(places, np.asarray(weights)):
        source, target, _ = pairs[place]
        found[place] = here[: len(target), : len(source)]
    return found

  def _join(self, tokens: Sequence[str]) -> str:
    return self._data.source_tokenizer.join(tokens)
