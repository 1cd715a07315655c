"""How much arithmetic a model asks for, and how much the machine can do."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from attn.modules.ngram_counts import COUNTS

# Of the product that the machine is judged by.
_SIDE = 1024
_TRIES = 5


def training_flops(
  params: Any, vocab_size: int, attended: float, *, tied_head: bool
) -> float:
  """Operations of a training step for each token, in products of matrices.

    6 Σ size of each matrix + 12 L D keys

  Forward each weight is multiplied and added once, backward twice as often; of
  attention the same, its two products being D times as long as there are keys.
  What is computed again to save memory does not count.

  Args:
    params: The parameters of a `CausalLM`.
    vocab_size: V.
    attended: Keys that a query sees, on average.
    tied_head: Whether the embedding is multiplied as well.

  Returns:
    A number of operations.

  References:
    Chowdhery et al., 2022, appendix B. https://arxiv.org/abs/2204.02311
  """
  size, layers, width = 0, 0, params['embed']['embedding'].shape[1]
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    names = [part.key for part in path]
    if x.ndim >= 2 and names[-1] != 'embedding' and names[0] != COUNTS:
      size += x.size
    layers += names[-2:] == ['out', 'kernel'] and names[-3] == 'attention'
  if tied_head:
    size += vocab_size * width
  return 6 * size + 12 * layers * width * attended


def product_rate(devices: int = 1) -> float:
  """Operations a second of a product of two square float32 matrices.

  Args:
    devices: How many a run uses; they are taken to be alike.  On a CPU they are
      its cores, which share one product.
  """
  x = jnp.ones((_SIDE, _SIDE), jnp.float32)
  multiply = jax.jit(jnp.matmul)
  multiply(x, x).block_until_ready()
  best = float('inf')
  for _ in range(_TRIES):
    start = time.perf_counter()
    multiply(x, x).block_until_ready()
    best = min(best, time.perf_counter() - start)
  shared = jax.default_backend() == 'cpu'
  return 2 * _SIDE**3 / best * (1 if shared else devices)
