"""AdamW or Muon, with warm-up, cosine, clipping, and decay on matrices only."""

from typing import Any

import jax
import optax

from attn.training.spikes import skip_spikes

OPTIMIZERS = ('adamw', 'muon')


def make_optimizer(
  *,
  name: str,
  steps: int,
  learning_rate: float,
  warmup_steps: int,
  final_fraction: float,
  beta1: float,
  beta2: float,
  weight_decay: float,
  clip_norm: float,
  spike_factor: float = 0.0,
) -> optax.GradientTransformation:
  """The optimiser that every config describes.

  Args:
    name: 'adamw', or 'muon' to make the updates of matrices orthogonal; what
      is no matrix is left to Adam.
    steps: How many there will be; the cosine ends there.
    learning_rate: At the end of the warm-up.
    warmup_steps: From 0 to learning_rate, linearly.
    final_fraction: Of learning_rate, where the cosine ends.
    beta1: Adam's decay of the mean of gradients.
    beta2: Adam's decay of the mean of their squares.
    weight_decay: On parameters with at least two axes.
    clip_norm: The gradient's norm is at most this.
    spike_factor: A step whose gradient is so many times as large as is usual is
      skipped; 0 for never.

  Returns:
    An optax transformation.

  Raises:
    ValueError: if name is unknown, or spike_factor is neither 0 nor above 1.

  Example:
    >>> optimizer = make_optimizer(
    ...   name='adamw', steps=10, learning_rate=1e-2, warmup_steps=2,
    ...   final_fraction=0.1, beta1=0.9, beta2=0.95, weight_decay=0.1,
    ...   clip_norm=1.0)
    >>> state = optimizer.init({'w': jax.numpy.ones((2, 2))})

  References:
    Loshchilov and Hutter, 2019 (AdamW). https://arxiv.org/abs/1711.05101
    Jordan et al., 2024 (Muon). https://kellerjordan.github.io/posts/muon
  """
  schedule = make_schedule(steps, learning_rate, warmup_steps, final_fraction)
  match name:
    case 'adamw':
      update = optax.adamw(
        schedule,
        b1=beta1,
        b2=beta2,
        weight_decay=weight_decay,
        mask=_is_matrix,
      )
    case 'muon':
      update = optax.contrib.muon(
        schedule,
        adam_b1=beta1,
        adam_b2=beta2,
        weight_decay=weight_decay,
        weight_decay_mask=_is_matrix,
      )
    case _:
      raise ValueError(f'name: got {name!r}, wanted one of {OPTIMIZERS}')
  optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), update)
  if spike_factor == 0:
    return optimizer
  try:
    return skip_spikes(optimizer, spike_factor)
  except ValueError as error:
    raise ValueError(f'spike_{error}, or 0') from error


def make_schedule(
  steps: int, learning_rate: float, warmup_steps: int, final_fraction: float
) -> optax.Schedule:
  """The learning rate of step 0, 1, ...; arguments as `make_optimizer`."""
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=learning_rate,
    warmup_steps=warmup_steps,
    decay_steps=max(steps, warmup_steps + 1),
    end_value=learning_rate * final_fraction,
  )


def _is_matrix(params: Any) -> Any:
  return jax.tree.map(lambda x: x.ndim >= 2, params)
