"""Directories that lie: one clear error each, and no memory for claims."""

import os
import pathlib
import pickle
import struct
import sys
import tempfile
import tracemalloc
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from attn.interop import load_huggingface
from attn.interop.safetensors_files import read_header, read_tensors
from tests import huggingface_cases
from tests.hostile_cases import CASES
from tests.hostile_changes import FILE, write


class _Trap:
  """A pickle that leaves a trace when it is opened."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


class HostileTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = write(pathlib.Path(folder) / 'model', 'qwen3')

  @parameterized.named_parameters(
    *((name.replace(' ', '_'), name) for name in CASES)
  )
  def test_one_clear_error_and_no_memory(self, name):
    load_huggingface(self.folder)  # it is not hostile yet
    spoil, message = CASES[name]
    spoil(self.folder)
    size = sum(x.stat().st_size for x in self.folder.glob('*.safetensors'))
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    with self.assertRaisesRegex(ValueError, message) as raised:
      load_huggingface(self.folder)
    _, peak = tracemalloc.get_traced_memory()
    # Nothing beyond the files.  Where nearly nothing is left of one, Python
    # needs more for the error itself.
    self.assertLessEqual(peak, max(size, 2**19))
    said = str(raised.exception)
    self.assertIn(str(self.folder), said)
    self.assertNotIn('\n', said)
    self.assertLess(len(said), 400 + len(str(self.folder)))

  def test_there_are_enough(self):
    self.assertGreaterEqual(len(CASES), 40)

  def test_a_pickle_is_never_opened(self):
    trace = self.folder / 'trace'
    (self.folder / FILE).rename(self.folder / 'kept')
    for name in ('pytorch_model.bin', 'model.pt', 'training_args.bin'):
      (self.folder / name).write_bytes(pickle.dumps(_Trap(trace)))
    opened = []

    def watch(event, args):
      if event == 'open':
        opened.append(str(args[0]))

    _watchers.append(watch)
    try:
      with self.assertRaisesRegex(
        ValueError, r'holds neither .*; model.pt may run code and is never op'
      ):
        load_huggingface(self.folder)
      (self.folder / 'kept').rename(self.folder / FILE)
      with mock.patch.object(pickle, 'load', side_effect=AssertionError):
        load_huggingface(self.folder)
    finally:
      _watchers.remove(watch)
    self.assertFalse(trace.exists())
    self.assertTrue(any(x.endswith(FILE) for x in opened))
    self.assertFalse([x for x in opened if x.endswith(('.bin', '.pt'))])

  def test_what_is_no_regular_file_is_not_read(self):
    # Reading from a pipe would wait for ever.
    (self.folder / FILE).unlink()
    os.mkfifo(self.folder / FILE)
    with self.assertRaisesRegex(ValueError, f'{FILE}: is not a regular file'):
      load_huggingface(self.folder)
    with self.assertRaisesRegex(ValueError, 'nowhere: is no directory'):
      load_huggingface(self.folder / 'nowhere')


class FuzzTest(parameterized.TestCase):
  @parameterized.parameters(*range(4))
  def test_damage_anywhere_is_an_error_or_harmless(self, seed):
    """Bytes of the header changed, cut out or put in: never another error."""
    generator = np.random.default_rng(seed)
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    path = folder / FILE
    huggingface_cases.write(folder, 'mistral')
    whole = path.read_bytes()
    (length,) = struct.unpack('<Q', whole[:8])
    refused = 0
    for _ in range(100):
      at = int(generator.integers(8 + length))
      cut = int(generator.integers(3))
      extra = generator.integers(32, 127, int(generator.integers(3)))
      path.write_bytes(
        whole[:at] + extra.astype(np.uint8).tobytes() + whole[at + cut :]
      )
      try:
        header = read_header(path)
        read_tensors(path, header)
      except ValueError as error:
        refused += 1
        self.assertIn(str(path), str(error))
        continue
      for entry in header.values():
        self.assertLessEqual(entry.end, len(whole))
    self.assertGreater(refused, 50)


# An audit hook cannot be taken away, so there is one for all.
_watchers = []


def _audit(event, args):
  for watch in _watchers:
    watch(event, args)


def setUpModule():
  sys.addaudithook(_audit)


if __name__ == '__main__':
  absltest.main()
