"""What `explain` says of a call, and that `attention` does it."""

import contextlib
import io
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from absl.testing import absltest, parameterized

import attn
from attn import dispatch, masks
from attn.backends import plan
from tests.inputs import HV, B, H, N, S, T, qkv

pytestmark = pytest.mark.smoke

# 2 batch elements, 2 heads, tiles of 256 x 256 and sizes 3 and 5.
_LENGTH, _SIDE, _HEADS, _SIZES = 1024, 256, 4, 8
_ROWS = _LENGTH // _SIDE


def _long():
  """Shapes alone."""
  return jax.eval_shape(lambda: qkv((2,), _LENGTH, _LENGTH, 2, 2, 3, 5))


def _explained(arguments, **options):
  """The explanation of shapes, and what was printed."""
  found, printed = [], io.StringIO()

  def run(arguments):
    found.append(attn.explain(**arguments, **options))

  with contextlib.redirect_stdout(printed):
    jax.eval_shape(run, arguments)
  return found[0], printed.getvalue()


class ExplainTest(parameterized.TestCase):
  def test_prints_what_it_returns(self):
    for arguments in (qkv(), _long()):
      explanation, printed = _explained(arguments, is_causal=True)
      self.assertEqual(printed, f'{explanation}\n')
      rejected = {'dense', 'blockwise'} - {explanation.implementation}
      self.assertEqual(set(explanation.rejected), rejected)
      for name, why in explanation.rejected.items():
        self.assertIn(f'not {name}: {why}', printed.splitlines())
        self.assertRegex(why, r'[\d,]+ scores, (under|at least) [\d,]+ on a ')

  @parameterized.named_parameters(
    ('full', None, _ROWS**2),
    ('causal', masks.causal(), _ROWS * (_ROWS + 1) // 2),
    ('window', masks.causal() & masks.sliding_window(_SIDE, 0), 2 * _ROWS - 1),
    ('apart', masks.chunked(_SIDE), _ROWS),
    ('nothing', ~masks.prefix(_LENGTH), 0),
    ('heads', masks.per_head([masks.causal(), masks.prefix(_SIDE)]), 7),
  )
  def test_counts_blocks_and_flops(self, mask, visited):
    with mock.patch.object(plan, '_SIDES', (_SIDE,)):
      explanation = attn.explain(
        **qkv((2,), _LENGTH, _LENGTH, 2, 2, 3, 5),
        mask=mask,
        implementation='blockwise',
      )
    self.assertEqual(explanation.block_shape, (_SIDE, _SIDE))
    self.assertEqual(explanation.blocks, _HEADS * _ROWS**2)
    self.assertEqual(explanation.blocks_visited, _HEADS * visited)
    scores = _HEADS * visited * _SIDE**2
    self.assertEqual(explanation.flops, 2 * scores * _SIZES)

  @mock.patch.object(plan, '_SIDES', (_SIDE,))
  @mock.patch.object(plan, '_UNDECIDED_SIDE', _SIDE)
  def test_documents_of_each_batch_element(self):
    ids = jnp.arange(_LENGTH) // (2 * _SIDE)
    mask = masks.segments(jnp.stack([ids, jnp.zeros_like(ids)]))
    explanation = attn.explain(
      **qkv((2,), _LENGTH, _LENGTH, 2, 2, 3, 5),
      mask=mask & masks.causal(),
      implementation='blockwise',
    )
    # Two documents of 2 x 2 tiles, and one of 4 x 4; two heads each.
    self.assertEqual(explanation.blocks_visited, 2 * (2 * 3 + 10))

  @mock.patch.object(plan, '_UNDECIDED_SIDE', 2 * _SIDE)
  def test_what_traced_arrays_may_hide_is_counted(self):
    def run(ids):
      mask = masks.segments(ids) & masks.causal()
      x = jnp.ones((_LENGTH, 1, 4))
      found.append(attn.explain(x, x, x, mask=mask, implementation='blockwise'))

    found = []
    jax.eval_shape(run, jax.ShapeDtypeStruct((_LENGTH,), jnp.int32))
    self.assertEqual((found[0].blocks_visited, found[0].blocks), (3, 4))

  def test_of_dense(self):
    explanation, _ = _explained(qkv(), is_causal=True, implementation='dense')
    self.assertEqual(explanation.block_shape, (T, S))
    self.assertEqual(explanation.blocks, B * N)
    self.assertEqual(explanation.blocks_visited, B * N)
    self.assertEqual(explanation.flops, 2 * B * N * T * S * (H + HV))
    touched = sum(x.size for x in qkv().values()) + B * T * N * HV
    self.assertEqual(explanation.bytes, 4 * touched)

  def test_says_if_another_would_be_chosen(self):
    explanation, printed = _explained(qkv(), implementation='blockwise')
    self.assertEqual(explanation.implementation, 'blockwise')
    self.assertRegex(printed, '^blockwise: asked for; dense would be chosen')
    self.assertEqual(explanation.rejected, {'dense': 'blockwise was asked for'})
    explanation, _ = _explained(qkv(), implementation='dense')
    self.assertNotIn('asked for', explanation.reason)

  @parameterized.parameters('t', 's', 'batch', 'n', 'h', 'hv')
  def test_of_nothing(self, axis):
    empty = {'batch': (0,)} if axis == 'batch' else {axis: 0}
    for implementation in (None, 'dense', 'blockwise'):
      explanation, _ = _explained(
        qkv(**empty),
        mask=masks.causal(),
        bias=jnp.zeros(()),
        sink=jnp.zeros(empty.get('n', N)),
        implementation=implementation,
      )
      if axis not in ('h', 'hv'):
        self.assertEqual(explanation.flops, 0)

  def test_under_jit_and_outside(self):
    outside = attn.explain(**qkv())
    found = []

    @jax.jit
    def run(arguments):
      found.append(attn.explain(**arguments))
      return attn.attention(**arguments)

    run(qkv())
    self.assertEqual(found, [outside])

  def test_attention_runs_what_is_explained(self):
    ran = []

    def spy(name, backend):
      return lambda call: ran.append(name) or backend(call)

    spies = {k: spy(k, x) for k, x in dispatch._BACKENDS.items()}
    with mock.patch.object(dispatch, '_BACKENDS', spies):
      # On a CPU the choice changes at 2**16 scores.
      for t, name in itertools.product(
        (T, 255, 256, 257), (None, 'dense', 'blockwise')
      ):
        arguments = qkv((2,), t, 64, 2, 2, 3, 3)
        explanation, _ = _explained(arguments, implementation=name)
        jax.eval_shape(
          lambda x, name=name: attn.attention(**x, implementation=name),
          arguments,
        )
        self.assertEqual(explanation.implementation, ran[-1])
    self.assertIn('dense', ran[::3])
    self.assertIn('blockwise', ran[::3])


if __name__ == '__main__':
  absltest.main()
