"""Written dates become ISO dates, character by character.

  python train.py --config=configs/dates.py --workdir=runs/dates
  python sample.py --workdir=runs/dates --prompt='3 March 2021'

The smallest task on which attention can be watched at work.
"""

import ml_collections

from attn.training.config import Config
from configs import translate_bahdanau


def get_config() -> ml_collections.ConfigDict:
  """As `translate_bahdanau`, smaller."""
  config: Config = translate_bahdanau.get_config()
  config.update(task='dates', steps=600, batch_tokens=2048)
  config.model.update(
    embed_dim=32, hidden_dim=64, max_source_length=40, max_target_length=16
  )
  config.eval.update(every=100, beam=1)
  return config
