"""Flax Linen modules assembled from the kernels."""

from attn.modules.block import FeedForward, TransformerBlock
from attn.modules.causal_lm import CausalLM, CausalLMConfig
from attn.modules.linear import Linear
from attn.modules.multi_head import MultiHeadAttention
from attn.modules.textbook import (
  CausalSelfAttention,
  SelfAttention,
  StackedHeadsAttention,
)

__all__ = [
  'CausalLM',
  'CausalLMConfig',
  'CausalSelfAttention',
  'FeedForward',
  'Linear',
  'MultiHeadAttention',
  'SelfAttention',
  'StackedHeadsAttention',
  'TransformerBlock',
]
