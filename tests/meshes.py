"""A program: one small model on many meshes of 8 devices; told as JSON.

It has 8 devices, and so a process of its own; `meshes_test.py` starts it.
"""

import functools
import json
import math
import pathlib
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from attn.training import devices, step
from attn.training.batches import iterate
from attn.training.checkpoints import Checkpoints
from attn.training.experiment import make_config_optimizer
from attn.training.language_task import LanguageTask
from configs import tiny

STEPS = 50
MESHES = {
  'one': {},
  'data': {'data': 8},
  'fsdp': {'fsdp': -1},
  'tensor': {'tensor': 4, 'data': 2},
  'sequence': {'sequence': 4, 'fsdp': 2},
  'all': {'tensor': 2, 'sequence': 2, 'fsdp': 2},
  'four': {'data': 4},
}
# A run that moves on: which mesh, and until which step.
MOVES = (('fsdp', 15), ('one', 25), ('four', 35), ('tensor', 50))


class Trainer:
  """The same training, on any mesh."""

  def __init__(self, sizes: dict[str, int]) -> None:
    config = tiny.get_config()
    config.update(steps=STEPS, batch_size=8, context=120)
    config.model.update(num_layers=1, embed_dim=32, mlp_dim=64, num_kv_heads=2)
    # Where tokens are divided keys go around, whatever one device would do.
    if sizes.get('sequence', 1) == 1:
      config.model.implementation = 'dense'
    config.optimizer.update(name='adamw', warmup_steps=10)
    config.eval.rows = 8
    self.task = LanguageTask(config)
    count = abs(math.prod(sizes.values()))
    count = 8 if -1 in sizes.values() else count
    self.mesh = devices.make_mesh(
      sizes, devices=None if count == 1 else jax.devices()[:count]
    )
    optimizer = make_config_optimizer(config, self.mesh)
    self.fresh = functools.partial(
      step.init_state, self.task.init, optimizer, 0, self.mesh
    )
    self.state = self.fresh()
    self.steps = step.make_train_steps(
      self.task.nats, optimizer, 0, 1, self.mesh
    )

  def train(self, first: int, last: int) -> list[float]:
    """Make steps; their losses."""
    losses = []
    for batch in iterate(self.task, first, last, 5):
      self.state, measured = self.steps(self.state, batch)
      losses += np.asarray(measured.loss).tolist()
    return losses


def bytes_of_a_device(state: step.State) -> int:
  """The most that a device keeps of parameters and optimiser."""
  kept = np.zeros(8, int)
  for x in jax.tree.leaves((state.params, state.opt_state)):
    for shard in x.addressable_shards:
      kept[shard.device.id] += shard.data.nbytes
  return int(kept.max())


def move(
  trainers: dict[str, Trainer], folder: pathlib.Path
) -> tuple[list[float], bool]:
  """Save on one mesh, go on on another: losses, and whether all bits came."""
  checkpoints = Checkpoints(folder, keep=1)
  first, losses, same, saved = 0, [], True, None
  trainers['fsdp'].state = trainers['fsdp'].fresh()
  for name, last in MOVES:
    trainer = trainers[name]
    if first:
      restored = checkpoints.restore(trainer.fresh())
      assert restored is not None
      same &= is_same(restored, saved)
      same &= is_laid_out_alike(restored, trainer.state)
      trainer.state = restored
    losses += trainer.train(first, last)
    checkpoints.save(trainer.state)
    saved, first = jax.device_get(trainer.state), last
  # And back to where it began.
  back = checkpoints.restore(trainers['fsdp'].fresh())
  checkpoints.close()
  return losses, bool(same and is_same(back, saved))


def is_same(one: Any, other: Any) -> bool:
  """Bit for bit."""
  return all(
    jax.tree.leaves(jax.tree.map(np.array_equal, jax.device_get(one), other))
  )


def is_laid_out_alike(one: step.State, other: step.State) -> bool:
  """Each array on the same devices, divided in the same way."""
  return all(
    x.sharding.is_equivalent_to(y.sharding, x.ndim)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other))
  )


def main() -> None:
  """Train on each."""
  jax.config.update('jax_num_cpu_devices', 8)
  told: dict[str, Any] = {'losses': {}, 'bytes': {}, 'judged': {}}
  trainers = {}
  for name, sizes in MESHES.items():
    trainer = trainers[name] = Trainer(sizes)
    fresh = jax.device_get(trainer.state)
    told['losses'][name] = trainer.train(0, STEPS)
    told['bytes'][name] = bytes_of_a_device(trainer.state)
    if name in ('one', 'all'):
      params = trainer.state.params
      told['judged'][name] = {
        **trainer.task.evaluate(params),
        **trainer.task.observe(params),
      }
    if name == 'data':
      trainer.state = devices.place(fresh, trainer.mesh)
      told['again'] = trainer.train(0, STEPS)
  with tempfile.TemporaryDirectory() as folder:
    told['moved'], told['same'] = move(trainers, pathlib.Path(folder))
  json.dump(told, sys.stdout)


if __name__ == '__main__':
  main()
