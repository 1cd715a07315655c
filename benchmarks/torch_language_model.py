"""nanoGPT's recipe in PyTorch, to be trained beside ours.

The same architecture, initialisation, optimiser and schedule as
https://github.com/karpathy/nanoGPT, in lines of our own.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]


class Block(nn.Module):
  """Pre-norm attention and feed-forward."""

  def __init__(self, width: int, heads: int) -> None:
    """Args: width D and heads N."""
    super().__init__()
    self.heads = heads
    self.attention_norm = nn.LayerNorm(width, bias=False)
    self.projection = nn.Linear(width, 3 * width, bias=False)
    self.out = nn.Linear(width, width, bias=False)
    self.feed_forward_norm = nn.LayerNorm(width, bias=False)
    self.widen = nn.Linear(width, 4 * width, bias=False)
    self.narrow = nn.Linear(4 * width, width, bias=False)

  def forward(
    self, x: torch.Tensor, cache: list[torch.Tensor] | None = None
  ) -> torch.Tensor:
    """Transform [B, T, D]; a cache holds keys and values [B, N, S, H]."""
    batch, length, width = x.shape
    query, key, value = (
      part.view(batch, length, self.heads, -1).transpose(1, 2)
      for part in self.projection(self.attention_norm(x)).split(width, dim=2)
    )
    is_first = True
    if cache is not None:
      is_first = not cache
      if not is_first:
        key = torch.cat([cache[0], key], dim=2)
        value = torch.cat([cache[1], value], dim=2)
      cache[:] = [key, value]
    context = F.scaled_dot_product_attention(
      query, key, value, is_causal=is_first
    )
    context = context.transpose(1, 2).reshape(batch, length, width)
    x = x + self.out(context)
    return x + self.narrow(F.gelu(self.widen(self.feed_forward_norm(x))))


class LanguageModel(nn.Module):
  """Learned positions, tied head, no biases."""

  def __init__(
    self, vocab_size: int, context: int, layers: int, heads: int, width: int
  ) -> None:
    """Args: V, the context, L, N and D."""
    super().__init__()
    self.context = context
    self.tokens = nn.Embedding(vocab_size, width)
    self.places = nn.Embedding(context, width)
    self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
    self.norm = nn.LayerNorm(width, bias=False)
    self.head = nn.Linear(width, vocab_size, bias=False)
    self.head.weight = self.tokens.weight
    for name, parameter in self.named_parameters():
      if parameter.ndim == 2:
        narrow = name.endswith(('out.weight', 'narrow.weight'))
        scale = 0.02 / math.sqrt(2 * layers) if narrow else 0.02
        nn.init.normal_(parameter, std=scale)

  def forward(
    self,
    tokens: torch.Tensor,
    caches: list[list[torch.Tensor]] | None = None,
    start: int = 0,
  ) -> torch.Tensor:
    """Logits [B, T, V] of tokens that stand from `start` on."""
    places = torch.arange(start, start + tokens.shape[1])
    x = self.tokens(tokens) + self.places(places)
    for layer, block in enumerate(self.blocks):
      x = block(x, None if caches is None else caches[layer])
    return self.head(self.norm(x))


def make_model(config: Any, vocab_size: int) -> LanguageModel:
  """The model of one of our configs; V."""
  return LanguageModel(
    vocab_size,
    config.context,
    config.model.num_layers,
    config.model.num_heads,
    config.model.embed_dim,
  )


def make_optimizer(model: nn.Module, options: Any) -> torch.optim.AdamW:
  """AdamW, decay on matrices only; options as in our configs."""
  matrices = [x for x in model.parameters() if x.ndim >= 2]
  others = [x for x in model.parameters() if x.ndim < 2]
  return torch.optim.AdamW(
    [
      {'params': matrices, 'weight_decay': options.weight_decay},
      {'params': others, 'weight_decay': 0.0},
    ],
    lr=options.learning_rate,
    betas=(options.beta1, options.beta2),
  )


def learning_rate(step: int, steps: int, options: Any) -> float:
  """Warm-up and cosine, of step 0, 1, ..."""
  if step < options.warmup_steps:
    return options.learning_rate * (step + 1) / (options.warmup_steps + 1)
  done = (step - options.warmup_steps) / (steps - options.warmup_steps)
  least = options.learning_rate * options.final_fraction
  share = 0.5 * (1 + math.cos(math.pi * done))
  return least + share * (options.learning_rate - least)


def windows(
  tokens: np.ndarray, batch_size: int, context: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
  """Endless batches of inputs and targets, at random places."""
  data = torch.from_numpy(tokens.astype(np.int64))
  generator = torch.Generator().manual_seed(seed)
  while True:
    starts = torch.randint(
      len(data) - context, (batch_size,), generator=generator
    )
    rows = [data[start : start + context + 1] for start in starts]
    batch = torch.stack(rows)
    yield batch[:, :-1], batch[:, 1:]


class Trainer:
  """The recipe, a number of steps at a time."""

  def __init__(self, config: Any, vocab_size: int, tokens: np.ndarray) -> None:
    """Args: our config; V; the training tokens."""
    torch.manual_seed(config.seed)
    self.config = config
    self.model = make_model(config, vocab_size)
    self._optimizer = make_optimizer(self.model, config.optimizer)
    self._batches = windows(
      tokens, config.batch_size, config.context, config.seed
    )
    self._step = 0

  def train(self, steps: int) -> float:
    """Make some steps; the last loss."""
    options = self.config.optimizer
    loss = torch.zeros(())
    for _ in range(steps):
      rate = learning_rate(self._step, self.config.steps, options)
      for group in self._optimizer.param_groups:
        group['lr'] = rate
      inputs, targets = next(self._batches)
      logits = self.model(inputs)
      loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
      self._optimizer.zero_grad(set_to_none=True)
      loss.backward()
      nn.utils.clip_grad_norm_(self.model.parameters(), options.clip_norm)
      self._optimizer.step()
      self._step += 1
    return float(loss)

  @torch.no_grad()
  def validate(self, tokens: np.ndarray) -> float:
    """Mean loss over all tokens, in consecutive windows of the context."""
    context = self.config.context
    data = torch.from_numpy(tokens.astype(np.int64))
    total, count = 0.0, len(data) - 1
    starts = range(0, count, context)
    whole = [s for s in starts if s + context <= count]
    for first in range(0, len(whole), 64):
      rows = torch.stack(
        [data[s : s + context + 1] for s in whole[first : first + 64]]
      )
      total += self._nats(rows)
    if count % context:
      total += self._nats(data[len(whole) * context :][None])
    return total / count

  def _nats(self, rows: torch.Tensor) -> float:
    logits = self.model(rows[:, :-1])
    loss = F.cross_entropy(
      logits.flatten(0, 1), rows[:, 1:].flatten(), reduction='sum'
    )
    return float(loss)


@torch.no_grad()
def write(
  model: LanguageModel, prompt: list[int], length: int, *, cached: bool
) -> list[int]:
  """Draw tokens one by one; without a cache all is read for each."""
  tokens = torch.tensor([prompt])
  caches = [[] for _ in model.blocks] if cached else None
  for _ in range(length):
    if cached and tokens.shape[1] > len(prompt):
      logits = model(tokens[:, -1:], caches, start=tokens.shape[1] - 1)
    else:
      logits = model(tokens[:, -model.context :], caches)
    chances = F.softmax(logits[:, -1], dim=-1)
    tokens = torch.cat([tokens, torch.multinomial(chances, 1)], dim=1)
  return tokens[0].tolist()
