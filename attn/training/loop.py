"""The training loop: from a config to a finished run directory."""

import json
import math
import pathlib
import statistics
import time
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import optax
from absl import logging
from jax.sharding import Mesh

from attn.modules.sharding import AXES
from attn.training.batches import iterate
from attn.training.checkpoints import Checkpoints
from attn.training.config import (
  LANGUAGE_TASKS,
  Config,
  check_config,
  check_mesh,
)
from attn.training.devices import keep_freed_memory, make_mesh, rows_here
from attn.training.errors import LostError, UserError
from attn.training.experiment import (
  make_config_optimizer,
  make_config_schedule,
)
from attn.training.finish import finish
from attn.training.flops import product_rate
from attn.training.interrupt import Interrupt
from attn.training.language_task import LanguageTask
from attn.training.log import Log, Silence
from attn.training.processes import Processes, connect
from attn.training.profile import Profile
from attn.training.run_directory import RunDirectory
from attn.training.shards import whole
from attn.training.spikes import skipped_steps
from attn.training.step import Measured, State, init_state, make_train_steps
from attn.training.task import Task
from attn.training.translation_task import TranslationTask
from attn.training.watch import Watch


def train(
  config: Config, workdir: str, *, profile: bool = False
) -> dict[str, Any]:
  """Train, or go on training, until the run is finished.

  The same config and workdir continue a run from its last checkpoint, and end
  with the same bits as a run that was never interrupted.

  Args:
    config: The experiment; see `configs/tiny.py`.
    workdir: The run directory.
    profile: Whether to write a trace of a few steps, into its folder `profile`.

  Returns:
    What `summary.json` holds.

  Raises:
    UserError: if config, data or workdir are not usable, or the loss is no
      longer a number; the last good checkpoint is kept.
    KeyboardInterrupt: after Ctrl-C, once a checkpoint is saved.
  """
  started = time.monotonic()
  check_config(config)
  keep_freed_memory()
  processes = connect(config.get('distributed', {}))
  processes.agree(config, workdir)
  mesh = make_mesh(config.get('mesh', {}), processes.count)
  if config.task in LANGUAGE_TASKS:
    check_mesh(config, mesh.shape if mesh else dict.fromkeys(AXES, 1))
  task = _make_task(config)
  optimizer = make_config_optimizer(config, mesh)
  run = RunDirectory(workdir)
  summary = processes.first_does('run', lambda: _open(run, config, task))
  if summary is not None:
    return summary
  state = init_state(task.init, optimizer, config.seed, mesh)
  checkpoints = Checkpoints(run.checkpoints, config.checkpoint.keep, processes)
  try:
    restored = checkpoints.restore(state)
    if restored is not None:
      state = restored
      if processes.is_first:
        print(f'going on after step {int(state.step)} of {config.steps}')
    step = int(state.step)
    checkpoints.discard_after(step)
    before = processes.first_does('seconds', lambda: _forget_after(run, step))
    fit = _Fit(
      config,
      task,
      optimizer,
      mesh,
      run,
      checkpoints,
      processes,
      started - before,
    )
    traced = profile and processes.is_first
    state = fit.run(state, run.profile if traced else None)
  except (UserError, OSError):
    raise
  except Exception as error:
    if processes.count == 1:
      raise
    raise _lost(processes, checkpoints, error) from error
  finally:
    checkpoints.close()
  params = whole(state.params)
  if not processes.is_first:
    return {}
  params = jax.device_put(params, jax.local_devices()[0])
  return finish(config, run, task, params, started - before)


def _open(run: RunDirectory, config: Config, task: Task) -> Any:
  """Make a run directory ready; the summary of one that is finished."""
  run.open(config)
  if run.summary.exists():
    print(f'{run.path} is finished; for another run choose another --workdir')
    return json.loads(run.summary.read_text())
  task.save(run)
  return None


def _lost(
  processes: Processes, checkpoints: Checkpoints, error: Exception
) -> LostError:
  kept = checkpoints.steps()
  which = f'that of step {kept[-1]}' if kept else 'none'
  reason = (str(error).splitlines() or [type(error).__name__])[0]
  return LostError(
    f'process {processes.index} of {processes.count} has lost another one; the '
    f'last good checkpoint is {which} ({reason})'
  )


def _forget_after(run: RunDirectory, step: int) -> float:
  """Drop what was measured after a step; the seconds until then."""
  history = run.forget_metrics_after(step)
  return max((line['seconds'] for line in history), default=0.0)


def _make_task(config: Config) -> Task:
  if config.task in LANGUAGE_TASKS:
    return LanguageTask(config)
  return TranslationTask(config)


class _Fit:
  """The steps of one run, and what is done between them."""

  def __init__(
    self,
    config: Config,
    task: Task,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None,
    run: RunDirectory,
    checkpoints: Checkpoints,
    processes: Processes,
    started: float,
  ) -> None:
    self._config = config
    self._task = task
    self._run = run
    self._checkpoints = checkpoints
    self._processes = processes
    self._rows = slice(None)
    self._parts = 1
    if processes.count > 1:
      rows = config.batch_size
      self._rows = rows_here(mesh, rows)
      self._parts = rows // (self._rows.stop - self._rows.start)
    self._started = started
    self._schedule = make_config_schedule(config)
    self._at_once = config.get('steps_at_once', 1)
    self._train_steps = make_train_steps(
      task.nats,
      optimizer,
      config.seed,
      config.optimizer.accumulate,
      mesh,
    )

  def run(self, state: State, profile: pathlib.Path | None) -> State:
    """Make the steps that are left."""
    first, steps = int(state.step), self._config.steps
    counted = self._counted(state)
    batches = iterate(self._task, first, steps, self._at_once, self._rows)
    made: list[Measured] = []
    tokens, clock = 0.0, time.monotonic()
    log = Silence()
    if self._processes.is_first:
      log = Log(self._run, steps, first, self._task.floor)
    watch = Watch(self._processes, log.say)
    with log, watch, Interrupt() as interrupt, Profile(profile) as trace:
      if first == 0 and self._config.eval.get('first', False):
        log.validation(self._line(0, **self._task.evaluate(state.params)))
        clock = time.monotonic()
      for done, batch in enumerate(batches):
        step = first + (done + 1) * self._at_once
        trace.before(step - first)
        watch.at(step)
        state, measured = self._train_steps(state, batch)
        made.append(measured)
        tokens += float(batch.weights.sum()) * self._parts
        evaluates = step == steps or step % self._config.eval.every == 0
        saves = step == steps or step % self._config.checkpoint.every == 0
        logs = step % self._config.eval.log_every == 0 or done == 0
        due = evaluates or saves or logs
        # Read once: it may be raised at any moment from here on.
        stops = interrupt.requested and step < steps
        if self._processes.count > 1:
          # All must stop at the same step.
          stops = due and step < steps and self._processes.is_any(stops)
        if not (due or stops):
          continue
        line = _mean_of_finite(made, step)
        elapsed = time.monotonic() - clock
        line |= {
          'learning_rate': np.asarray(self._schedule(step - 1)).item(),
          'tokens_per_second': tokens / elapsed,
          'milliseconds_per_step': 1000 * elapsed / len(made) / self._at_once,
        }
        line |= {name: x * tokens / elapsed for name, x in counted.items()}
        skipped = skipped_steps(state.opt_state)
        if skipped is not None:
          line['skipped_steps'] = int(skipped)
        if evaluates:
          results = self._task.evaluate(state.params)
          results |= self._task.observe(state.params)
          log.validation(self._line(step, **results))
        log.train(self._line(step, **line))
        # Last: what was measured up to a checkpoint must be there with it.
        if saves or stops:
          self._checkpoints.save(state)
        if stops:
          log.say(
            f'interrupted after step {step}; the same command goes on from here'
          )
          raise KeyboardInterrupt
        made.clear()
        tokens, clock = 0.0, time.monotonic()
    return state

  def _counted(self, state: State) -> dict[str, float]:
    """What a token counts for, of the work that a second does."""
    flops = self._task.flops_per_token(state.params)
    if flops is None:
      return {}
    most = product_rate(len(state.step.devices()))
    return {
      'model_flops_per_second': flops,
      'share_of_product_rate': flops / most,
    }

  def _line(self, step: int, **measured: float) -> dict[str, float]:
    seconds = time.monotonic() - self._started
    return {'step': step, 'seconds': round(seconds, 3), **measured}


def _mean_of_finite(made: list[Measured], step: int) -> dict[str, float]:
  """What was measured of the last steps, up to and including `step`."""
  losses = _joined(measured.loss for measured in made)
  for place, value in enumerate(losses, step - len(losses) + 1):
    if not math.isfinite(value):
      logging.debug('losses up to step %d: %s', step, losses)
      raise UserError(
        f'loss: became {value} at step {place}; the last good checkpoint is '
        'kept. A lower config.optimizer.learning_rate may help'
      )
  norms = _joined(measured.gradient_norm for measured in made)
  return {
    'loss': statistics.fmean(losses),
    'gradient_norm': statistics.fmean(norms),
  }


def _joined(arrays: Iterable[jax.Array]) -> list[float]:
  return np.concatenate(jax.device_get(list(arrays))).astype(float).tolist()
