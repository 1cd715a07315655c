"""Translation through one vector: Cho et al., 2014.

  python train.py --config=configs/translate_bottleneck.py \
    --workdir=runs/bottleneck

A GRU reads the sentence; its last state is all that the decoder is told.
"""

import ml_collections

from attn.training.config import Config
from configs import translate_bahdanau


def get_config() -> ml_collections.ConfigDict:
  """As `translate_bahdanau`, with another model."""
  config: Config = translate_bahdanau.get_config()
  config.model.update(kind='bottleneck', hidden_dim=248)
  return config
