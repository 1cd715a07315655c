"""The compiled steps: one pure function, whatever the batch is cut into."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attn.modules import CausalLM, CausalLMConfig
from attn.training import batches, devices, language_model, optimizer, step
from attn.training.errors import UserError

pytestmark = pytest.mark.smoke


@pytest.fixture(autouse=True)
def _standard_promotion():
  # optax multiplies a Python float by an int32 count.
  with jax.numpy_dtype_promotion('standard'):
    yield


def make_model(dropout_rate: float = 0.0) -> CausalLM:
  """A model of a few hundred parameters."""
  return CausalLM(
    CausalLMConfig(
      vocab_size=46,
      context=128,
      num_layers=1,
      embed_dim=6,
      num_heads=1,
      num_kv_heads=0,
      mlp_dim=7,
      attention='full',
      window=5,
      positions='learned',
      rope_base=100.0,
      norm='rmsnorm',
      activation='gelu',
      qk_norm=False,
      tied_head=False,
      dropout_rate=dropout_rate,
    )
  )


make_sgd = functools.partial(optax.sgd, 0.5)


@pytest.fixture
def data() -> batches.ToyLanguage:
  """Batches of eight rows."""
  return batches.ToyLanguage(seed=0, batch_size=8, context=128)


def init_of(model: CausalLM):
  """Makes its parameters."""
  return functools.partial(language_model.init, model)


def nats_of(model: CausalLM):
  """Its loss."""
  return functools.partial(language_model.nats, model)


@pytest.fixture(scope='module')
def batch() -> batches.Batch:
  """Four rows; their stories differ in length, so parts differ in weight."""
  return batches.ToyLanguage(seed=0, batch_size=4, context=128).train_batch(0)


def make_train_step(*args, **kwargs):
  """(state, batch) -> (state, what was measured), of one step at a time."""
  steps = step.make_train_steps(*args, **kwargs)

  def one(state: step.State, batch: batches.Batch):
    state, measured = steps(state, jax.tree.map(lambda x: x[None], batch))
    return state, jax.tree.map(lambda x: x[0], measured)

  return one


def by_hand(model: CausalLM, params, batch: batches.Batch) -> tuple:
  """Mean nats and far facts, in NumPy."""
  logits = np.asarray(
    model.apply(
      {'params': params},
      batch.inputs,
      segment_ids=batch.segment_ids,
      positions=batch.positions,
    ),
    np.float64,
  )
  log_sum = np.log(np.exp(logits).sum(-1))
  chosen = np.take_along_axis(logits, batch.targets[..., None], -1)[..., 0]
  nats = (log_sum - chosen)[batch.weights == 1]
  far = (logits.argmax(-1) == batch.targets)[batch.far]
  return nats.sum(), len(nats), far.sum(), len(far)


def test_loss_is_the_mean_over_what_counts(batch: batches.Batch):
  model = make_model()
  state = step.init_state(init_of(model), make_sgd(), seed=1)
  nats, count, *_ = by_hand(model, state.params, batch)
  train_step = make_train_step(nats_of(model), make_sgd(), seed=0, accumulate=1)
  _, (loss, _) = train_step(state, batch)
  np.testing.assert_allclose(loss, nats / count, rtol=1e-5)


def test_evaluation_is_by_hand(batch: batches.Batch):
  model = make_model()
  params = step.init_state(init_of(model), make_sgd(), seed=1).params
  validation = batches.Validation([batch, batch], 0.125, 0.25, 0.5)
  got = language_model.evaluate(
    language_model.make_eval_step(model), params, validation
  )
  nats, count, right, far = by_hand(model, params, batch)
  expected = {
    'loss': nats / count,
    'bits_per_byte': nats / count / np.log(2) / 2,
    'floor': 0.125,
    'gap': nats / count - 0.125,
    'far_fact_accuracy': right / far,
    'far_fact_chance': 0.25,
  }
  assert got.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(got[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize('accumulate', [2, 4])
def test_accumulated_gradient_is_the_whole_one(
  batch: batches.Batch, accumulate: int
):
  model = make_model()

  def after(parts: int) -> step.State:
    state = step.init_state(init_of(model), make_sgd(), seed=1)
    return make_train_step(nats_of(model), make_sgd(), 0, parts)(state, batch)

  chex.assert_trees_all_close(after(accumulate), after(1), rtol=1e-5, atol=1e-7)


def test_steps_at_once_are_steps_one_by_one(data: batches.ToyLanguage):
  model = make_model(dropout_rate=0.5)
  made = [data.train_batch(i) for i in range(3)]
  one_step = make_train_step(nats_of(model), make_sgd(), 0, 1)
  state = step.init_state(init_of(model), make_sgd(), seed=1)
  measured = []
  for batch in made:
    state, at_this = one_step(state, batch)
    measured.append(at_this)
  steps = step.make_train_steps(nats_of(model), make_sgd(), 0, 1)
  got, losses = steps(
    step.init_state(init_of(model), make_sgd(), seed=1),
    jax.tree.map(lambda *x: np.stack(x), *made),
  )
  chex.assert_trees_all_close(got, state, rtol=1e-5, atol=1e-7)
  expected = jax.tree.map(lambda *x: np.stack(x), *measured)
  chex.assert_trees_all_close(losses, expected, rtol=1e-5)


@pytest.mark.parametrize('accumulate', [1, 2])
def test_devices_that_share_the_rows_make_the_same_step(
  data: batches.ToyLanguage, accumulate: int
):
  """Also where one device is given more targets than the other."""
  model, mesh = make_model(), devices.make_mesh({'data': 2})
  made = data.train_batch(0)
  made.weights[:2] = 0
  assert 0 < made.weights[:4].sum() < made.weights[4:].sum()
  stacked = jax.tree.map(lambda x: np.stack([x, x]), made)

  def after(mesh: jax.sharding.Mesh | None) -> tuple[step.State, step.Measured]:
    state = step.init_state(init_of(model), make_sgd(), 1, mesh)
    return step.make_train_steps(
      nats_of(model), make_sgd(), 0, accumulate, mesh
    )(state, stacked)

  shared, alone = after(mesh), after(None)
  chex.assert_trees_all_close(shared, alone, rtol=1e-5, atol=1e-6)
  assert len(shared[0].step.sharding.device_set) == 2


def test_devices_drop_different_things(data: batches.ToyLanguage):
  """Two equal halves of a batch do not lose the same."""
  model, mesh = make_model(dropout_rate=0.5), devices.make_mesh({'data': 2})
  halves = jax.tree.map(
    lambda x: np.concatenate([x[:4]] * 2), data.train_batch(0)
  )
  state = step.init_state(init_of(model), make_sgd(), 1, mesh)
  steps = step.make_train_steps(nats_of(model), make_sgd(), 0, 1, mesh)
  both = steps(state, jax.tree.map(lambda x: x[None], halves))[1].loss[0]
  rng = jax.random.fold_in(jax.random.key(0), 0)
  params = step.init_state(init_of(model), make_sgd(), 1).params
  half = jax.tree.map(lambda x: x[:4], halves)
  losses = [
    (
      language_model.nats(model, params, half, jax.random.fold_in(rng, device))
      * half.weights
    ).sum()
    / half.weights.sum()
    for device in range(2)
  ]
  assert abs(losses[0] - losses[1]) > 1e-4
  np.testing.assert_allclose(both, sum(losses) / 2, rtol=1e-5)


def test_a_model_that_drops_is_judged_on_several_devices():
  """Evaluation drops nothing, so it is traced anew, inside of `shard_map`."""
  data = batches.Text('abcdefgh' * 400, seed=0, batch_size=8, context=128)
  model, mesh = make_model(dropout_rate=0.5), devices.make_mesh({'data': 2})
  state = step.init_state(init_of(model), make_sgd(), 1, mesh)
  steps = step.make_train_steps(nats_of(model), make_sgd(), 0, 1, mesh)
  state, _ = steps(state, next(batches.iterate(data, 0, 1)))
  evaluate = functools.partial(
    language_model.evaluate,
    language_model.make_eval_step(model),
    validation=data.validation(8),
  )
  alone = evaluate(params=jax.device_put(jax.device_get(state.params)))
  chex.assert_trees_all_close(evaluate(params=state.params), alone, rtol=1e-6)


def test_too_many_devices_are_refused():
  with pytest.raises(
    UserError, match=r'config.mesh.data: got a mesh of data 99'
  ):
    devices.make_mesh({'data': 99})


def test_evaluation_on_several_devices_is_the_same(data: batches.ToyLanguage):
  model, mesh = make_model(), devices.make_mesh({'data': 2})
  params = step.init_state(init_of(model), make_sgd(), seed=1).params
  evaluate = functools.partial(
    language_model.evaluate,
    language_model.make_eval_step(model),
    validation=data.validation(8),
  )
  shared = evaluate(params=devices.place(params, mesh))
  chex.assert_trees_all_close(shared, evaluate(params=params), rtol=1e-5)


def test_padding_does_not_teach(batch: batches.Batch):
  """What stands in the padding changes nothing."""
  model = make_model()
  padding = batch.segment_ids == 0
  assert padding.any()
  other = batch._replace(
    inputs=np.where(padding, 17, batch.inputs),
    targets=np.where(padding, 23, batch.targets),
  )
  train_step = make_train_step(nats_of(model), make_sgd(), 0, 1)
  results = [
    train_step(step.init_state(init_of(model), make_sgd(), 1), b)
    for b in (batch, other)
  ]
  chex.assert_trees_all_equal(*results)


def test_dropout_follows_seed_and_step(batch: batches.Batch):
  model = make_model(dropout_rate=0.5)

  def loss(seed: int, made: int) -> float:
    state = step.init_state(init_of(model), make_sgd(), 1)
    state = state._replace(step=jnp.asarray(made, jnp.int32))
    return float(
      make_train_step(nats_of(model), make_sgd(), seed, 1)(state, batch)[1].loss
    )

  assert loss(0, 3) == loss(0, 3)
  assert len({loss(0, 3), loss(0, 4), loss(1, 3)}) == 3


def options(**changed: object) -> dict:
  """Options of make_optimizer."""
  return {
    'name': 'adamw',
    'steps': 100,
    'learning_rate': 0.5,
    'warmup_steps': 10,
    'final_fraction': 0.1,
    'beta1': 0.9,
    'beta2': 0.95,
    'weight_decay': 0.0,
    'clip_norm': 1.0,
    **changed,
  }


@pytest.mark.parametrize('name', optimizer.OPTIMIZERS)
def test_weight_decay_is_on_matrices_only(name: str):
  params = {'matrix': jnp.ones((3, 5)), 'vector': jnp.ones(7)}
  nothing = jax.tree.map(jnp.zeros_like, params)
  transform = optimizer.make_optimizer(
    **options(name=name, weight_decay=0.2, warmup_steps=0)
  )
  updates, _ = transform.update(nothing, transform.init(params), params)
  chex.assert_trees_all_close(updates['matrix'], jnp.full((3, 5), -0.1))
  chex.assert_trees_all_equal(updates['vector'], jnp.zeros(7))


def test_learning_rate_warms_up_and_falls():
  params = {'vector': jnp.zeros(1)}
  transform = optimizer.make_optimizer(**options())
  state, sizes = transform.init(params), []
  for _ in range(100):
    # Adam's step for a constant gradient is the learning rate itself.
    updates, state = transform.update({'vector': jnp.ones(1)}, state, params)
    sizes.append(-float(updates['vector'][0]))
  assert sizes[0] == 0
  np.testing.assert_allclose(sizes[5], 0.25, rtol=1e-3)
  np.testing.assert_allclose(sizes[10], 0.5, rtol=1e-3)
  np.testing.assert_allclose(sizes[55], (0.5 + 0.05) / 2, rtol=1e-2)
  np.testing.assert_allclose(sizes[99], 0.05, rtol=1e-2)


def test_learning_rate_may_stay_and_then_fall_in_a_line():
  schedule = optimizer.make_schedule(100, 0.5, 10, 0.1, decay_fraction=0.4)
  got = [float(schedule(made)) for made in (0, 5, 10, 35, 60, 80, 100)]
  expected = [0, 0.25, 0.5, 0.5, 0.5, (0.5 + 0.05) / 2, 0.05]
  np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize(
  ('rates', 'moved'),
  [
    ({}, set()),
    ({'adam_learning_rate': 1.0}, {'head', 'norm'}),
    ({'table_learning_rate': 1.0}, {'embed'}),
    (
      {'adam_learning_rate': 1.0, 'table_learning_rate': 1.0},
      {'head', 'norm', 'embed'},
    ),
  ],
)
def test_tables_and_head_may_be_adams(rates: dict, moved: set[str]):
  params = {
    'embed': {'embedding': jnp.ones((3, 5))},
    'out': {'kernel': jnp.ones((3, 5))},
    'head': {'kernel': jnp.ones((3, 5))},
    'norm': {'scale': jnp.ones(5)},
  }
  transform = optimizer.make_optimizer(
    **options(name='muon', learning_rate=0.0, warmup_steps=0, **rates)
  )
  updates, _ = transform.update(params, transform.init(params), params)
  assert moved == {
    name for name, of in updates.items() if jax.tree.leaves(of)[0].any()
  }


def test_tables_decay_alone():
  params = {
    'embed': {'embedding': jnp.ones((3, 5))},
    'out': {'kernel': jnp.ones((3, 5))},
  }
  nothing = jax.tree.map(jnp.zeros_like, params)
  transform = optimizer.make_optimizer(
    **options(
      name='muon', warmup_steps=0, table_learning_rate=0.5, table_decay=0.2
    )
  )
  updates, _ = transform.update(nothing, transform.init(params), params)
  assert not updates['out']['kernel'].any()
  chex.assert_trees_all_close(
    updates['embed']['embedding'], jnp.full((3, 5), -0.1)
  )


def test_unknown_optimizer_is_refused():
  with pytest.raises(ValueError, match="name: got 'sgd', wanted one of"):
    optimizer.make_optimizer(**options(name='sgd'))


def test_no_recompilation_after_the_first_step(batch: batches.Batch):
  model = make_model()
  traces = []

  class Counting(CausalLM):
    def __call__(self, *args, **kwargs):
      traces.append(1)
      return super().__call__(*args, **kwargs)

  train_step = make_train_step(
    nats_of(Counting(model.config)), make_sgd(), 0, 1
  )
  state = step.init_state(init_of(model), make_sgd(), 1)
  for _ in range(3):
    state, _ = train_step(state, batch)
  assert len(traces) == 1
