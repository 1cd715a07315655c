"""Translation with multiplicative attention: Luong et al., 2015.

  python train.py --config=configs/translate_luong.py --workdir=runs/luong
  python train.py --config=configs/translate_luong.py \
    --config.model.locality=local-p --workdir=runs/luong_local

The decoder's state looks at the encoder's by a bilinear score, and the next
step is told what it saw.  Unlike the paper's, the encoder reads from both ends:
of a word that is read from the end alone, what stands before it is not known.
"""

import ml_collections

from attn.training.config import Config
from configs import translate_bahdanau


def get_config() -> ml_collections.ConfigDict:
  """As `translate_bahdanau`, with another model."""
  config: Config = translate_bahdanau.get_config()
  config.model.update(
    kind='luong', num_layers=1, hidden_dim=174, bidirectional=True
  )
  config.optimizer.learning_rate = 4e-3
  return config
