"""Every entry of the gallery against its plain definition, and the page."""

import inspect
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from matplotlib import image

from attn import masks, mods
from benchmarks import gallery, gallery_page, results
from benchmarks.catalogue import ENTRIES, Size, observe
from tests import gallery_oracles
from tests.checks import compile_fast

_ROOT = pathlib.Path(gallery.__file__).parents[1]

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
  """A number in which every entry of a context, [..., B, T, N, H], counts."""
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
    batch = [x[None] for x in arrays]
    wanted = gallery_oracles.context_of(name, *batch, **given)
    self.assertEqual(context.dtype, np.float64)
    chex.assert_trees_all_close(context, wanted[0].real, **_EXACT)

    def plain(*arrays):
      return _probe(gallery_oracles.context_of(name, *arrays, **given))

    chex.assert_trees_all_close(
      gradients, gallery_oracles.slopes(plain, arrays), **_EXACT
    )
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


class CatalogueTest(absltest.TestCase):
  def test_every_mask_and_mod_is_shown(self):
    code = '\n'.join(entry.code for entry in ENTRIES.values())
    for module, shown in ((masks, 'masks'), (mods, 'mods')):
      for name in module.__all__:
        # `with_offset` says where the queries are, and bends nothing.
        is_one = inspect.isfunction(getattr(module, name))
        if is_one and name != 'with_offset':
          self.assertIn(f'{shown}.{name}(', code)

  def test_each_entry_has_a_definition_an_idea_and_a_paper(self):
    self.assertGreaterEqual(len(ENTRIES), 35)
    self.assertEqual(set(ENTRIES), gallery_oracles.NAMES)
    titles = {entry.title for entry in ENTRIES.values()}
    self.assertLen(titles, len(ENTRIES))
    for entry in ENTRIES.values():
      self.assertTrue(entry.idea.endswith('.'), entry.name)
      self.assertTrue(entry.papers, entry.name)
      for _, address in entry.papers:
        self.assertStartsWith(address, 'https://')

  def test_the_code_is_the_source(self):
    self.assertEqual(
      ENTRIES['dilated_window'].code,
      'mask = masks.dilated(step) & '
      'masks.sliding_window(step * window - 1, 0)\n'
      'context = attn.attention(query, key, value, mask=mask)',
    )
    self.assertEqual(
      ENTRIES['top_k'].code.count('return '), 1, ENTRIES['top_k'].code
    )

  def test_costs_are_those_of_the_blocks_visited(self):
    size = Size(length=1024, heads=3, head_size=8)
    entry = ENTRIES['sliding_window']
    cost = gallery.cost_of(entry, size)
    window = entry.given(size)['window']
    mask = masks.sliding_window(window - 1, 0)
    rows, columns = cost['block_shape']
    classes = mask.blocks(1024, 1024, rows, columns)
    self.assertGreater(classes.size, 1)
    self.assertEqual(cost['blocks'], 3 * classes.size)
    visited = 3 * int((classes != masks.EMPTY).sum())
    self.assertEqual(cost['blocks_visited'], visited)
    self.assertEqual(cost['flops'], 4 * visited * rows * columns * 8)
    self.assertEqual(cost['flops_of_full'], 4 * 3 * 1024**2 * 8)
    self.assertEqual(cost['calls'], 1)
    self.assertEqual(gallery.cost_of(ENTRIES['differential'], size)['calls'], 2)
    self.assertIsNone(gallery.cost_of(ENTRIES['top_k'], size))

  def test_dense_gives_what_it_is_timed_against(self):
    small = Size(length=16, head_size=8)
    found = gallery.measure(ENTRIES['big_bird'], small, small)
    for direction in ('forward', 'with_gradient'):
      self.assertLess(found['times_dense'][direction]['difference'], 1e-5)
    self.assertEqual(found['given']['size'], 4)
    self.assertEqual(found['given']['chosen'], 'bool[4, 4]')


class PageTest(parameterized.TestCase):
  def test_the_page_is_as_the_command_writes_it(self):
    found = results.read(_ROOT / 'benchmarks' / 'results' / 'gallery.json')
    self.assertEqual(set(found), set(ENTRIES))
    page = (_ROOT / 'docs' / 'gallery.md').read_text()
    self.assertEqual(page, gallery_page.render(found))

  def test_each_entry_has_its_picture(self):
    pictures = (_ROOT / 'docs' / 'gallery').glob('*')
    self.assertEqual(
      {path.name for path in pictures}, {f'{name}.png' for name in ENTRIES}
    )

  @parameterized.parameters('dilated_window', 'differential')
  def test_a_picture_shows_the_weights(self, name):
    picture = image.imread(_ROOT / 'docs' / 'gallery' / f'{name}.png')
    drawn = gallery_page.draw(ENTRIES[name])
    small = np.round(255 * picture[1::3, 1::3, :3]).astype(int)
    self.assertEqual(small.shape, drawn.shape)
    self.assertLessEqual(np.abs(small - drawn).max(), 2)

  def test_a_mask_is_drawn_as_it_is(self):
    drawn = gallery_page.draw(ENTRIES['dilated_window'])
    mask = masks.dilated(2) & masks.sliding_window(7, 0)
    white = (drawn == 255).all(-1)
    chex.assert_trees_all_equal(~white, np.asarray(mask.dense(64, 64)))


if __name__ == '__main__':
  absltest.main()
