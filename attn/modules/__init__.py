"""Flax Linen modules assembled from the kernels."""

from attn.modules.bahdanau import AdditiveGRU
from attn.modules.block import FeedForward, TransformerBlock
from attn.modules.bottleneck import BottleneckGRU, ReversedLSTM
from attn.modules.causal_lm import CausalLM
from attn.modules.causal_lm_config import CausalLMConfig
from attn.modules.encoder_decoder import Decoded, Encoded, EncoderDecoder
from attn.modules.encoder_decoder_config import EncoderDecoderConfig
from attn.modules.encoder_decoder_kinds import make_encoder_decoder
from attn.modules.flax_attention import attention_fn
from attn.modules.key_value_attention import KeyValueAttention
from attn.modules.linear import Linear
from attn.modules.luong import LuongLSTM
from attn.modules.multi_head import MultiHeadAttention
from attn.modules.recurrent import LSTMStack, run_cell
from attn.modules.relative_bias import RelativeBias
from attn.modules.textbook import (
  CausalSelfAttention,
  SelfAttention,
  StackedHeadsAttention,
)
from attn.modules.translation_transformer import (
  DecoderBlock,
  TranslationTransformer,
)

__all__ = [
  'AdditiveGRU',
  'BottleneckGRU',
  'CausalLM',
  'CausalLMConfig',
  'CausalSelfAttention',
  'Decoded',
  'DecoderBlock',
  'Encoded',
  'EncoderDecoder',
  'EncoderDecoderConfig',
  'FeedForward',
  'KeyValueAttention',
  'LSTMStack',
  'Linear',
  'LuongLSTM',
  'MultiHeadAttention',
  'RelativeBias',
  'ReversedLSTM',
  'SelfAttention',
  'StackedHeadsAttention',
  'TransformerBlock',
  'TranslationTransformer',
  'attention_fn',
  'make_encoder_decoder',
  'run_cell',
]
