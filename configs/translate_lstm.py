"""Translation through the last states of deep LSTMs: Sutskever et al., 2014.

  python train.py --config=configs/translate_lstm.py --workdir=runs/lstm

The source is read from its end, so that its beginning is near the target's.
"""

import ml_collections

from attn.training.config import Config
from configs import translate_bahdanau


def get_config() -> ml_collections.ConfigDict:
  """As `translate_bahdanau`, with another model."""
  config: Config = translate_bahdanau.get_config()
  config.model.update(kind='lstm', num_layers=2, hidden_dim=176)
  config.optimizer.learning_rate = 4e-3
  return config
