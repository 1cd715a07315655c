"""Models of `transformers`, and the same ones here: the same numbers."""

import pathlib
import tempfile
from typing import Any

import jax
import numpy as np
import torch
from absl.testing import absltest, parameterized

from attn.interop import load_huggingface, save_huggingface
from attn.modules import CausalLM
from attn.training.generate import generate
from attn.training.sampling import Sampling
from parity.huggingface_cases import (
  CASES,
  EXACT,
  LONGEST,
  V,
  float64,
  load,
  make,
)

_TOKENS = np.random.default_rng(0).integers(0, V, (2, LONGEST))
_PROMPT = _TOKENS[0, :11].astype(np.int32)


def _theirs(model: Any, tokens: np.ndarray) -> np.ndarray:
  with torch.no_grad():
    return model(torch.from_numpy(tokens)).logits.numpy()


def _ours(folder: pathlib.Path, tokens: np.ndarray) -> np.ndarray:
  model = load_huggingface(folder)
  apply = jax.jit(CausalLM(model.config).apply)
  return np.asarray(apply({'params': model.params}, tokens))


class HuggingFaceTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder)

  @parameterized.parameters(*CASES)
  def test_the_same_logits(self, name):
    theirs = _theirs(make(name, self.folder / 'in'), _TOKENS)
    ours = _ours(self.folder / 'in', _TOKENS)
    self.assertGreater(theirs.std(), 0.3)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)

  @parameterized.parameters(*EXACT)
  def test_the_same_logits_in_float64(self, name):
    make(name, self.folder / 'made')
    with float64():
      model = load(self.folder / 'made', torch.float64)
      theirs = _theirs(model, _TOKENS)
    model.save_pretrained(self.folder / 'in')
    self.assertEqual(theirs.dtype, np.float64)
    with jax.enable_x64(True):
      ours = _ours(self.folder / 'in', _TOKENS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)

  @parameterized.parameters(*CASES)
  def test_the_same_100_tokens_with_a_cache(self, name):
    model = make(name, self.folder / 'in')
    with torch.no_grad():
      theirs = model.generate(
        torch.from_numpy(_PROMPT)[None].long(),
        max_new_tokens=100,
        do_sample=False,
        use_cache=True,
      )
    read = load_huggingface(self.folder / 'in')
    ours = generate(
      CausalLM(read.config),
      read.params,
      [_PROMPT],
      length=100,
      seed=0,
      sampling=Sampling(temperature=0.0),
    )
    np.testing.assert_array_equal(ours, theirs[:, len(_PROMPT) :].numpy())
    self.assertGreater(len(set(ours[0].tolist())), 2)

  @parameterized.product(name=list(CASES), shard_bytes=(2**30, 50_000))
  def test_out_and_back_bit_by_bit(self, name, shard_bytes):
    before = make(name, self.folder / 'in', max_shard_size=shard_bytes)
    read = load_huggingface(self.folder / 'in')
    out = self.folder / 'out'
    save_huggingface(
      out,
      read.config,
      read.params,
      family=read.family,
      shard_bytes=shard_bytes,
    )
    self.assertEqual(
      len(list(out.glob('*.safetensors'))) > 1, shard_bytes == 50_000
    )
    after = load(out)
    self.assertIs(type(after), type(before))
    tensors = after.state_dict()
    self.assertEqual(tensors.keys(), before.state_dict().keys())
    for tensor, x in before.state_dict().items():
      self.assertEqual(x.dtype, tensors[tensor].dtype)
      self.assertTrue(torch.equal(x, tensors[tensor]), tensor)
    np.testing.assert_array_equal(
      _theirs(after, _TOKENS), _theirs(before, _TOKENS)
    )

  @parameterized.parameters('gpt2', 'llama', 'gemma2')
  def test_half_the_precision_is_kept(self, name):
    model = make(name, self.folder / 'made').to(torch.bfloat16)
    model.save_pretrained(self.folder / 'in')
    read = load_huggingface(self.folder / 'in')
    save_huggingface(
      self.folder / 'out', read.config, read.params, family=read.family
    )
    after = load(self.folder / 'out', 'auto').state_dict()
    for tensor, x in model.state_dict().items():
      self.assertEqual(after[tensor].dtype, torch.bfloat16)
      self.assertTrue(torch.equal(x, after[tensor]), tensor)


if __name__ == '__main__':
  absltest.main()
