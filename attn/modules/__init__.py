"""Flax Linen modules assembled from the kernels."""

from attn.modules.block import FeedForward, TransformerBlock
from attn.modules.causal_lm import CausalLM
from attn.modules.causal_lm_config import CausalLMConfig
from attn.modules.flax_attention import attention_fn
from attn.modules.linear import Linear
from attn.modules.multi_head import MultiHeadAttention
from attn.modules.relative_bias import RelativeBias
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
  'RelativeBias',
  'SelfAttention',
  'StackedHeadsAttention',
  'TransformerBlock',
  'attention_fn',
]
