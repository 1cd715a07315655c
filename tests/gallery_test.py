"""Every entry of the gallery against its plain definition, and the page."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from benchmarks.catalogue import ENTRIES, Size, observe
from tests import gallery_oracles
from tests.checks import compile_fast

_SIZE = Size(length=12, batch=2, heads=2, head_size=4)
_VALUE_SIZE = 3
# Of float64, and sums of a dozen numbers.
_EXACT = {'rtol': 1e-11, 'atol': 1e-11}


def _inputs():
  rng = np.random.default_rng(5)
  shape = (_SIZE.batch, _SIZE.length, _SIZE.heads)
  sizes = (_SIZE.head_size, _SIZE.head_size, _VALUE_SIZE)
  return [rng.normal(size=(*shape, size)) for size in sizes]


def _probe(x):
  """A number in which every entry of a context counts; x is [..., B, T, N, H]."""
  waves = np.cos(np.arange(np.prod(x.shape[-4:]))).reshape(x.shape[-4:])
  return (x * waves).sum((-4, -3, -2, -1))


class DefinitionTest(parameterized.TestCase):
  @parameterized.parameters(*ENTRIES)
  def test_forward_and_gradient(self, name):
    entry, arrays = ENTRIES[name], _inputs()
    given = entry.given(_SIZE)
    learned = {
      key: x
      for key, x in given.items()
      if isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind == 'f'
    }
    with jax.enable_x64(True):
      fixed = {k: x for k, x in entry.at(_SIZE).items() if k not in learned}

      def loss(arrays, learned):
        context = entry.attend(*arrays, **learned, **fixed)
        return _probe(context), context

      run = compile_fast(jax.value_and_grad(loss, (0, 1), has_aux=True))
      with observe.calls('blockwise') as seen:
        (_, context), (gradients, of_learned) = run(
          [jnp.asarray(x) for x in arrays],
          {key: jnp.asarray(x) for key, x in learned.items()},
        )
    self.assertEqual(bool(seen), name != 'top_k')
    wanted = gallery_oracles.context_of(name, *(x[None] for x in arrays), **given)
    self.assertEqual(context.dtype, np.float64)
    chex.assert_trees_all_close(context, wanted[0].real, **_EXACT)

    def plain(*arrays):
      return _probe(gallery_oracles.context_of(name, *arrays, **given))

    chex.assert_trees_all_close(
      gradients, gallery_oracles.slopes(plain, arrays), **_EXACT
    )
    batch = [x[None] for x in arrays]
    for key, x in learned.items():

      def along(x, key=key):
        changed = {**given, key: x}
        return _probe(gallery_oracles.context_of(name, *batch, **changed))[0]

      direction = np.random.default_rng(6).normal(size=x.shape)
      chex.assert_trees_all_close(
        np.sum(np.asarray(of_learned[key]) * direction),
        gallery_oracles.slope(along, x, direction),
        **_EXACT,
      )


if __name__ == '__main__':
  absltest.main()
