"""Translation by attention alone: Vaswani et al., 2017.

  python train.py --config=configs/translate_transformer.py \
    --workdir=runs/transformer

No state is handed on: every word looks at every other in every layer.
"""

import ml_collections

from attn.training.config import Config
from configs import translate_bahdanau


def get_config() -> ml_collections.ConfigDict:
  """As `translate_bahdanau`, with another model."""
  config: Config = translate_bahdanau.get_config()
  config.model.update(kind='transformer', num_layers=2, embed_dim=128)
  return config
