"""`shakespeare_cpu` with room to grow, for an accelerator.

  python train.py --config=configs/shakespeare_gpu.py --data=PATH

The size, context and batch of nanoGPT's recipe for a GPU, which tells 1.4697 on
tiny Shakespeare; our ingredients.  We have not measured it: the figures of this
repository are from CPUs.
"""

import ml_collections

from attn.training.config import Config
from configs import shakespeare_cpu


def get_config() -> ml_collections.ConfigDict:
  """As `shakespeare_cpu`, larger."""
  config: Config = shakespeare_cpu.get_config()
  config.steps = 2000
  config.batch_size = 64
  config.context = 256
  config.mesh.data = 1
  # A text of a million characters is read 33 times: without dropout a model of
  # this size knows it by heart.
  config.model.update(
    num_layers=6,
    embed_dim=384,
    num_heads=6,
    mlp_dim=1536,
    dropout_rate=0.2,
  )
  config.optimizer.warmup_steps = 100
  config.eval.every = 250
  config.checkpoint.every = 250
  return config
