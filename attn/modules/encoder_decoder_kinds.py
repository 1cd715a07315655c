"""Which model is meant."""

from attn.modules.bahdanau import AdditiveGRU
from attn.modules.bottleneck import BottleneckGRU, ReversedLSTM
from attn.modules.encoder_decoder import EncoderDecoder
from attn.modules.encoder_decoder_config import EncoderDecoderConfig
from attn.modules.luong import LuongLSTM
from attn.modules.translation_transformer import TranslationTransformer

_MODELS = {
  'bottleneck': BottleneckGRU,
  'lstm': ReversedLSTM,
  'bahdanau': AdditiveGRU,
  'luong': LuongLSTM,
  'transformer': TranslationTransformer,
}


def make_encoder_decoder(config: EncoderDecoderConfig) -> EncoderDecoder:
  """The model that a config describes.

  Args:
    config: Its shape; `config.kind` says which model.

  Returns:
    A Flax module with `encode`, `decode_step`, and a teacher-forced call.

  Example:
    >>> config = EncoderDecoderConfig(
    ...   kind='bahdanau', source_vocab_size=11, target_vocab_size=13,
    ...   embed_dim=8, hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=16,
    ...   score='dot', locality='global', half_width=2, bidirectional=False,
    ...   input_feeding=False, coverage=False, max_source_length=9,
    ...   max_target_length=9, dropout_rate=0.0)
    >>> type(make_encoder_decoder(config)).__name__
    'AdditiveGRU'
  """
  return _MODELS[config.kind](config)
