"""Flax Linen modules assembled from the kernels."""

from attn.modules.attention_layers import CachePlan
from attn.modules.bahdanau import AdditiveGRU
from attn.modules.block import FeedForward, TransformerBlock
from attn.modules.bottleneck import BottleneckGRU, ReversedLSTM
from attn.modules.cache import KeyValueCache
from attn.modules.calls import HeadCall, calls_of
from attn.modules.causal_lm import CausalLM
from attn.modules.causal_lm_config import CausalLMConfig
from attn.modules.differential import DifferentialAttention
from attn.modules.encoder_decoder import Decoded, Encoded, EncoderDecoder
from attn.modules.encoder_decoder_config import EncoderDecoderConfig
from attn.modules.encoder_decoder_kinds import make_encoder_decoder
from attn.modules.flax_attention import attention_fn
from attn.modules.key_value_attention import KeyValueAttention
from attn.modules.kneser_ney import KneserNey
from attn.modules.latent import LatentAttention
from attn.modules.linear import Linear
from attn.modules.linearized import LinearAttention
from attn.modules.luong import LuongLSTM
from attn.modules.multi_head import MultiHeadAttention
from attn.modules.ngram_counts import count_ngrams
from attn.modules.ngrams import NgramEmbed
from attn.modules.recurrent import LSTMStack, open_forget_gates, run_cell
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
  'CachePlan',
  'CausalLM',
  'CausalLMConfig',
  'CausalSelfAttention',
  'Decoded',
  'DecoderBlock',
  'DifferentialAttention',
  'Encoded',
  'EncoderDecoder',
  'EncoderDecoderConfig',
  'FeedForward',
  'HeadCall',
  'KeyValueAttention',
  'KeyValueCache',
  'KneserNey',
  'LSTMStack',
  'LatentAttention',
  'Linear',
  'LinearAttention',
  'LuongLSTM',
  'MultiHeadAttention',
  'NgramEmbed',
  'RelativeBias',
  'ReversedLSTM',
  'SelfAttention',
  'StackedHeadsAttention',
  'TransformerBlock',
  'TranslationTransformer',
  'attention_fn',
  'calls_of',
  'count_ngrams',
  'make_encoder_decoder',
  'open_forget_gates',
  'run_cell',
]
