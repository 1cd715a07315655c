"""PyTorch's attention: SDPA, and FlexAttention where it can be compiled.

PyTorch is no dependency: it is imported when asked for, by name, and a machine
without it says 'not installed' in the table.
"""

import importlib
import time
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks import problem as problems
from benchmarks.contenders import (
  BOTH,
  Contender,
  Program,
  Unavailable,
  check_memory,
  first_line,
)
from benchmarks.problem import Problem


def _torch() -> Any:
  torch = machine.load_torch()
  if torch is None:
    raise Unavailable('not installed')
  return torch


def _tensors(torch: Any, problem: Problem, *, gradient: bool) -> list[Any]:
  """Query, key, value, cotangent as PyTorch likes them best: [B, N, T, H]."""
  tensors = [
    torch.from_numpy(np.ascontiguousarray(x.swapaxes(1, 2)))
    for x in problems.arrays(problem)
  ]
  for x in tensors[:3]:
    x.requires_grad_(gradient)
  return tensors


def _outputs(result: Any) -> list[np.ndarray]:
  return [x.detach().numpy().swapaxes(1, 2) for x in result]


def _attn_mask(torch: Any, problem: Problem) -> Any:
  """What SDPA takes as a mask: booleans, or floats that are added."""
  allowed = problems.mask_array(problem)
  if not problem.alibi:
    return torch.from_numpy(allowed)[None, None]
  bias = problems.bias_array(problem)
  np.copyto(bias, -np.inf, where=~allowed)
  return torch.from_numpy(bias)


def _prepare_sdpa(problem: Problem, direction: str) -> Program:
  torch = _torch()
  attend = torch.nn.functional.scaled_dot_product_attention
  options: dict[str, Any] = {}
  if problem.kv_heads != problem.heads:
    options['enable_gqa'] = True
  if problem.is_plain and not problem.alibi:
    options['is_causal'] = problem.is_causal
  else:
    # Booleans become floats inside.
    heads = problem.heads if problem.alibi else 1
    check_memory(8 * heads * problem.length**2, 'torch.sdpa')
    options['attn_mask'] = _attn_mask(torch, problem)
  query, key, value, cotangent = _tensors(
    torch, problem, gradient=direction == BOTH
  )

  def forward():
    with torch.no_grad():
      return (attend(query, key, value, **options),)

  def both():
    context = attend(query, key, value, **options)
    gradients = torch.autograd.grad(context, (query, key, value), cotangent)
    return (context, *gradients)

  mask = options.get('attn_mask')
  kind = 'booleans' if mask is None or mask.dtype == torch.bool else 'floats'
  return Program(
    run=both if direction == BOTH else forward,
    outputs=_outputs,
    note='' if mask is None else f'mask as an array of {kind}',
  )


def _flex_arguments(torch: Any, flex: Any, problem: Problem) -> dict[str, Any]:
  """Mask and ALiBi as a user of FlexAttention writes them."""
  ids = torch.from_numpy(problems.document_ids(problem))
  slopes = torch.from_numpy(problems.slopes(problem))

  def allowed(b, h, q, k):
    mask = q >= k if problem.is_causal else q == q
    if problem.window is not None:
      mask = mask & (q - k <= problem.window)
    if problem.documents is not None:
      mask = mask & (ids[q] == ids[k])
    return mask

  def alibi(score, b, h, q, k):
    return score - slopes[h] * (q - k)

  length = problem.length
  arguments: dict[str, Any] = {
    'block_mask': flex.create_block_mask(
      allowed, None, None, length, length, device='cpu'
    )
  }
  if problem.alibi:
    arguments['score_mod'] = alibi
  if problem.kv_heads != problem.heads:
    arguments['enable_gqa'] = True
  return arguments


def _prepare_flex(problem: Problem, direction: str) -> Program:
  torch = _torch()
  if direction == BOTH:
    raise Unavailable('forward only on a CPU')
  tensors = _tensors(torch, problem, gradient=False)[:3]
  # Building the block mask takes a few arrays of integers of T×S.
  check_memory(32 * problem.length**2, 'torch.flex')
  # It is compiled by a C++ compiler that may be missing, through layers each
  # of which has exceptions of its own.
  try:
    flex = importlib.import_module('torch.nn.attention.flex_attention')
    arguments = _flex_arguments(torch, flex, problem)
    torch.compiler.reset()
    attend = torch.compile(flex.flex_attention, dynamic=False)

    def run():
      with torch.no_grad():
        return (attend(*tensors, **arguments),)

    start = time.perf_counter()
    run()
  except Exception as error:
    raise Unavailable(f'not available: {first_line(error)}') from error
  return Program(run, _outputs, compile_seconds=time.perf_counter() - start)


SDPA = Contender('torch.sdpa', _prepare_sdpa)
FLEX = Contender('torch.flex', _prepare_flex)
