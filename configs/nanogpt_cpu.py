"""nanoGPT's recipe for a CPU, step by step the same.

  python train.py --config=configs/nanogpt_cpu.py --data=PATH

PATH is any text; the recipe is known for tiny Shakespeare, a million
characters.  The settings are those of nanoGPT's README, section 'I only have a
MacBook': https://github.com/karpathy/nanoGPT
"""

import ml_collections

from attn.training.config import Config
from configs import tiny


def get_config() -> ml_collections.ConfigDict:
  """As `tiny`, which tells of every field, with another model and schedule."""
  config: Config = tiny.get_config()
  config.steps = 2000
  config.steps_at_once = 25
  config.mesh.data = 2
  config.batch_size = 12
  config.context = 64
  config.model.update(
    num_layers=4,
    embed_dim=128,
    num_heads=4,
    mlp_dim=512,
    positions='learned',
    norm='layernorm',
    activation='gelu',
    qk_norm=False,
    tied_head=True,
    kernel_std=0.02,
  )
  config.optimizer.update(
    name='adamw',
    learning_rate=1e-3,
    warmup_steps=100,
    final_fraction=0.1,
    beta2=0.99,
  )
  config.eval.every = 250
  config.checkpoint.every = 250
  return config
