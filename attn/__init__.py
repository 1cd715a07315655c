"""Attention in JAX: every mechanism as a small pure function.

  query, key, value → scores → weights → context

Importing `attn` imports jax and numpy, nothing more.  Flax modules are in
`attn.modules`, the trainer is in `attn.training`.
"""

from attn import masks, mods
from attn.additive import additive_attention
from attn.alignment import (
  coverage,
  coverage_loss,
  local_mask,
  local_weights,
  predicted_centers,
)
from attn.dispatch import attention, explain
from attn.heads import merge_heads, repeat_kv, split_heads
from attn.inspection import attention_rows, attention_statistics
from attn.positions import (
  alibi_slopes,
  apply_rope,
  relative_buckets,
  sinusoidal_positions,
)
from attn.scores import (
  additive_scores,
  bilinear_scores,
  concat_scores,
  cosine_scores,
  dot_product_scores,
  l2_scores,
  location_scores,
)
from attn.sharded import decode_attention, ring_attention
from attn.single_head import self_attention, single_head_attention
from attn.variants import linear_attention, sigmoid_attention
from attn.weights import (
  dropout,
  log_normalizer,
  naive_softmax,
  softmax,
  sum_normalize,
  weighted_sum,
)

__all__ = [
  'additive_attention',
  'additive_scores',
  'alibi_slopes',
  'apply_rope',
  'attention',
  'attention_rows',
  'attention_statistics',
  'bilinear_scores',
  'concat_scores',
  'cosine_scores',
  'coverage',
  'coverage_loss',
  'decode_attention',
  'dot_product_scores',
  'dropout',
  'explain',
  'l2_scores',
  'linear_attention',
  'local_mask',
  'local_weights',
  'location_scores',
  'log_normalizer',
  'masks',
  'merge_heads',
  'mods',
  'naive_softmax',
  'predicted_centers',
  'relative_buckets',
  'repeat_kv',
  'ring_attention',
  'self_attention',
  'sigmoid_attention',
  'single_head_attention',
  'sinusoidal_positions',
  'softmax',
  'split_heads',
  'sum_normalize',
  'weighted_sum',
]
