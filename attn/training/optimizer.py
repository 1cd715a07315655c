"""AdamW or Muon, with warm-up, cosine, clipping, and decay on matrices only."""

import functools
from collections.abc import Hashable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from attn.training.muon import scale_by_muon
from attn.training.spikes import skip_spikes

OPTIMIZERS = ('adamw', 'muon')

_MUON_DECAY = 0.95


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
  decay_fraction: float = 0.0,
  adam_learning_rate: float = 0.0,
  table_learning_rate: float = 0.0,
  table_decay: float = 0.0,
  axis: str | None = None,
  mesh: Mesh | None = None,
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
    decay_fraction: As in `make_schedule`.
    adam_learning_rate: With Muon, of what is no matrix and of the vocabulary
      head, which then is Adam's too; 0 for learning_rate, and the head is
      Muon's.
    table_learning_rate: With Muon, of embedding tables, which then are Adam's;
      0 for tables that are Muon's.
    table_decay: The weight decay of tables that are Adam's.
    axis: With Muon, the devices that share its work; see `scale_by_muon`.
    mesh: Likewise.

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

  def schedule(peak: float) -> optax.Schedule:
    return make_schedule(
      steps, peak, warmup_steps, final_fraction, decay_fraction
    )

  match name:
    case 'adamw':
      update = optax.adamw(
        schedule(learning_rate),
        b1=beta1,
        b2=beta2,
        weight_decay=weight_decay,
        mask=_is_matrix,
      )
    case 'muon':
      kinds: dict[Hashable, optax.GradientTransformation] = {
        'matrix': optax.chain(
          scale_by_muon(_MUON_DECAY, axis, mesh),
          optax.add_decayed_weights(weight_decay),
          optax.scale_by_learning_rate(schedule(learning_rate)),
        )
      }
      for kind, rate, decay in (
        ('other', adam_learning_rate or learning_rate, 0.0),
        ('table', table_learning_rate, table_decay),
      ):
        kinds[kind] = optax.adamw(
          schedule(rate), b1=beta1, b2=beta2, weight_decay=decay
        )
      update = optax.partition(
        kinds,
        functools.partial(
          _kinds, adam_learning_rate > 0, table_learning_rate > 0
        ),
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
  steps: int,
  learning_rate: float,
  warmup_steps: int,
  final_fraction: float,
  decay_fraction: float = 0.0,
) -> optax.Schedule:
  """The learning rate of step 0, 1, ...

  Args:
    steps: As in `make_optimizer`.
    learning_rate: Likewise.
    warmup_steps: Likewise.
    final_fraction: Likewise.
    decay_fraction: The last share of the steps, in which the rate falls in a
      straight line; 0 for a cosine that begins after the warm-up.

  Returns:
    A schedule.
  """
  least = learning_rate * final_fraction
  if not decay_fraction:
    return optax.warmup_cosine_decay_schedule(
      init_value=0.0,
      peak_value=learning_rate,
      warmup_steps=warmup_steps,
      decay_steps=max(steps, warmup_steps + 1),
      end_value=least,
    )
  falling = max(round(steps * decay_fraction), 1)
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, learning_rate, max(warmup_steps, 1)),
      optax.linear_schedule(learning_rate, least, falling),
    ],
    [max(steps - falling, warmup_steps)],
  )


def _is_matrix(params: Any) -> Any:
  return jax.tree.map(lambda x: x.ndim >= 2, params)


def _kinds(head_is_other: bool, has_tables: bool, params: Any) -> Any:
  """'matrix', 'table' or 'other' for each parameter."""

  def kind(path: Any, x: jax.Array) -> str:
    names = [part.key for part in path]
    if x.ndim != 2 or (head_is_other and 'head' in names):
      return 'other'
    return 'table' if has_tables and names[-1] == 'embedding' else 'matrix'

  return jax.tree_util.tree_map_with_path(kind, params)
