"""The best we know for a million characters and two cores of a CPU.

  python train.py --config=configs/shakespeare_cpu.py --data=PATH

PATH is any text; known for tiny Shakespeare.  The model begins with counts of
n-grams and learns what is left.  What each ingredient brings tells
`python -m benchmarks.shakespeare --text=PATH --without=all --seeds=0`.
"""

import ml_collections

from attn.training.config import Config
from configs import tiny


def get_config() -> ml_collections.ConfigDict:
  """As `tiny`, which tells of every field, with another model and schedule."""
  config: Config = tiny.get_config()
  config.steps = 600
  config.steps_at_once = 10
  config.batch_size = 8
  config.context = 256
  config.mesh.data = 2
  config.model.update(
    num_layers=3,
    embed_dim=128,
    num_heads=4,
    mlp_dim=512,
    counts=7,
    count_rows=300_000,
    embed_norm=True,
    zero_init=True,
    logit_cap=15.0,
  )
  config.optimizer.update(
    name='muon',
    learning_rate=0.01,
    adam_learning_rate=0.01,
    warmup_steps=20,
    decay_fraction=0.8,
    final_fraction=0.0,
    beta1=0.8,
    weight_decay=0.1,
    clip_norm=100.0,
  )
  config.eval.first = True
  config.eval.every = 300
  config.eval.log_every = 50
  config.checkpoint.every = 300
  return config
