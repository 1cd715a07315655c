"""The best we know for a million characters and two cores of a CPU.

  python train.py --config=configs/shakespeare_cpu.py --data=PATH

PATH is any text; known for tiny Shakespeare.  What each ingredient brings tells
`python -m benchmarks.shakespeare --text=PATH --without=all --seeds=0`.
"""

import ml_collections

from attn.training.config import Config
from configs import tiny


def get_config() -> ml_collections.ConfigDict:
  """As `tiny`, which tells of every field, with another model and schedule."""
  config: Config = tiny.get_config()
  config.steps = 1000
  config.steps_at_once = 10
  config.batch_size = 16
  config.context = 128
  config.mesh.data = 2
  config.model.update(
    num_layers=3,
    embed_dim=128,
    num_heads=4,
    mlp_dim=512,
    ngrams=5,
    ngram_rows=8192,
    ngram_dim=32,
    embed_norm=True,
    zero_init=True,
    logit_cap=15.0,
  )
  config.optimizer.update(
    name='muon',
    learning_rate=0.02,
    adam_learning_rate=3e-3,
    table_learning_rate=0.03,
    table_decay=0.5,
    warmup_steps=20,
    decay_fraction=0.5,
    final_fraction=0.0,
    beta1=0.8,
    weight_decay=0.0,
    clip_norm=100.0,
  )
  config.eval.every = 500
  config.eval.log_every = 50
  config.checkpoint.every = 500
  return config
