"""A sequence on eight devices; what they find is in tests/ring_checks.py."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

import attn
from attn import masks
from attn.backends.layout import Layout, part_of
from attn.backends.ring_plan import make_ring_plan, visits
from attn.call import prepare
from benchmarks.ring_masks import make_masks
from tests import mask_cases
from tests.inputs import qkv
from tests.processes import ROOT, environment

_DEVICES = 8


@functools.cache
def _found():
  result = subprocess.run(
    [sys.executable, '-m', 'tests.ring_checks'],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=environment(),
    check=False,
  )
  assert result.returncode == 0, result.stderr[-4000:]
  return json.loads(result.stdout.splitlines()[-1])


class RingTest(parameterized.TestCase):
  def test_every_mask_of_the_algebra_equals_one_device(self):
    self.assertEqual(set(_found()['masks']), set(mask_cases.CASES))
    for name, difference in _found()['masks'].items():
      self.assertLess(difference, 2e-6, name)

  def test_gradients_of_everything_at_once(self):
    found = _found()['gradients']
    self.assertLen(found, 7)
    for name, difference in found.items():
      self.assertLess(difference, 2e-6, name)

  def test_promises(self):
    found = _found()['promises']
    self.assertEqual(found.pop('nothing to see'), 0)
    self.assertEqual(found.pop('its gradient'), 0)
    self.assertLen(found, 4)
    self.assertEqual(set(found.values()), {True}, found)

  @parameterized.named_parameters(
    ('in_order', 'causal in order', list(range(8))),
    ('zigzag', 'causal zigzag', list(range(8))),
    ('window', 'window', [0, 1]),
    ('nothing', 'nothing', [0]),
  )
  def test_tiles_computed_are_those_of_the_mask(self, name, steps):
    found = _found()['visits'][name]
    self.assertEqual(found['steps'], steps)
    side, length = 4, 64
    mask = {
      'window': masks.causal() & masks.sliding_window(8, 0),
      'nothing': masks.causal(-length),
    }.get(name, masks.causal())
    classes = mask.blocks(length, length, side, side)
    expected = np.argwhere(classes != masks.EMPTY).tolist()
    # Each score of these tiles once, and none of any other.
    self.assertEqual(found['tiles'], expected)
    self.assertEqual(found['scores'], [side * side] if expected else [])
    self.assertEqual(np.sum(found['planned']), len(expected))

  def test_causal_work_is_balanced_in_every_step(self):
    zigzag = np.array(_found()['visits']['causal zigzag']['planned'])
    self.assertEqual((zigzag.max(0) / zigzag.mean(0)).max(), 1)
    in_order = np.array(_found()['visits']['causal in order']['planned'])
    self.assertGreater(in_order.sum(1).max() / in_order.sum(1).mean(), 1.7)

  def test_axes_of_a_mesh(self):
    for name, difference in _found()['meshes'].items():
      self.assertLess(difference, 2e-6, name)

  def test_decoding_with_keys_on_eight_devices(self):
    found = _found()['decoding']
    self.assertTrue(found.pop('a NaN before'))
    self.assertLen(found, 3)
    for name, difference in found.items():
      self.assertLess(difference, 2e-6, name)


class PlanTest(parameterized.TestCase):
  def _plan(self, mask, length, **options):
    x = jax.ShapeDtypeStruct((1, length, 1, 8), jnp.float32)
    calls = []

    def run(x):
      calls.append(prepare(x, x, x, mask=mask))

    jax.eval_shape(run, x)
    layout = Layout(None, 'sequence', (), (), (_DEVICES, 1, 1))
    part = part_of(calls[0], layout)
    return make_ring_plan(calls[0], part, 'sequence', _DEVICES, **options)

  def test_long_causal_sequences_are_dealt_out_in_zigzag(self):
    ring, plan, classes = self._plan(masks.causal(), 32768)
    self.assertEqual(ring.parts, 2)
    work = visits(ring, plan, classes).sum(1)
    self.assertLessEqual(work.max() / work.mean(), 1.1)

  def test_a_window_keeps_the_order_and_needs_one_neighbour(self):
    near = masks.causal() & masks.sliding_window(1024, 0)
    ring, _, _ = self._plan(near, 32768)
    self.assertEqual((ring.parts, ring.steps), (1, (0, 1)))

  def test_without_a_mask_there_is_nothing_to_decide(self):
    ring, plan, classes = self._plan(None, 4096)
    self.assertEqual((ring.parts, ring.steps), (1, tuple(range(_DEVICES))))
    self.assertIsNone(classes)
    self.assertEmpty(plan.undecided)

  def test_an_odd_length_stays_in_order(self):
    self.assertEqual(self._plan(masks.causal(), 8 * 1025)[0].parts, 1)

  def test_masks_of_the_benchmark_are_those_of_the_algebra(self):
    self.assertEqual(set(make_masks(1, 2, 32)), set(mask_cases.CASES))


class ErrorsTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('no_mesh', {}, (), 'mesh: got None'),
    ('axis', {'axis': 'row'}, (2,), "axis: got 'row', wanted axes of the mesh"),
    ('twice', {'batch_axes': 'sequence'}, (2,), 'batch_axes: got .* once'),
    ('query', {'t': 3}, (2,), r'query: got 3 tokens, wanted a multiple of 2'),
    ('key', {'s': 5}, (2,), r'key: got 5 tokens, wanted a multiple of 2'),
    (
      'heads',
      {'head_axes': 'tensor', 'k': 1},
      (1, 2),
      'key: got 1 heads, wanted a multiple of 2, the devices along head_axes',
    ),
    (
      'rows',
      {'batch_axes': ['tensor']},
      (1, 2),
      'query: got 3 batch elements, wanted a multiple of 2',
    ),
  )
  def test_refuses(self, options, shape, message):
    sizes = {
      name: options.pop(name) for name in ('t', 's', 'k') if name in options
    }
    inputs = qkv(**{'t': 4, 's': 4, 'k': 2, 'n': 2, **sizes})
    if shape:
      axes = ('sequence', 'tensor')[: len(shape)]
      options['mesh'] = jax.make_mesh(shape, axes)
    with self.assertRaisesRegex(ValueError, message):
      attn.ring_attention(**inputs, **options)

  def test_refuses_options_of_nobody(self):
    mesh = jax.make_mesh((2,), ('sequence',))
    for attend in (attn.ring_attention, attn.decode_attention):
      with self.assertRaisesRegex(TypeError, 'implementation'):
        attend(**qkv(t=4, s=4), mesh=mesh, implementation='dense')

  def test_decoding_asks_only_that_the_keys_divide(self):
    mesh = jax.make_mesh((2,), ('sequence',))
    with self.assertRaisesRegex(ValueError, 'key: got 7 tokens'):
      attn.decode_attention(**qkv(t=1, s=7), mesh=mesh)

  def test_empty_axes(self):
    mesh = jax.make_mesh((2,), ('sequence',))
    for attend in (attn.ring_attention, attn.decode_attention):
      self.assertEqual(attend(**qkv(t=4, s=0), mesh=mesh).shape, (3, 4, 4, 13))


if __name__ == '__main__':
  absltest.main()
