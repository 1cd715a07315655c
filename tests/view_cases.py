"""Models whose heads are looked at, and their weights."""

import functools

import numpy as np

from attn.modules import CausalLM, calls_of
from attn.training.tokenizer import CharTokenizer
from attn.training.view import write_view
from tests import module_cases
from tests.causal_lm_cases import model_of

# V of `causal_lm_cases` characters, a space among them.
TOKENIZER = CharTokenizer(' abcdefghi\nkl')
TEXT = 'bad cafe\nlike a high face'
T = len(TEXT)
CONTEXT = 29

# What a page must know of: kinds, patterns, and what changes scores.
ATTENTIONS = {
  'softmax': {'attention': 'sliding_window+alibi+sinks'},
  'dilated': {'attention': 'dilated+soft_cap', 'positions': 'relative_bias'},
  'global': {'attention': 'global+multi_query', 'global_tokens': 2},
  'prefix': {'attention': 'prefix', 'prefix_length': 4},
  'cosine': {'attention': 'chunked+cosine', 'chunk_size': 6},
  'additive': {'attention': 'additive', 'num_kv_heads': 3},
  'sigmoid': {'attention': 'sigmoid+alibi'},
  'latent': {'attention': 'latent', 'num_kv_heads': 0},
  'difference': {'attention': 'differential+alibi', 'num_kv_heads': 0},
  'linear': {'attention': 'linear', 'num_kv_heads': 0},
}


@functools.cache
def model_with(name, num_layers=1):
  """A model with this attention, and its parameters."""
  model, variables = model_of(
    **{'num_layers': num_layers, 'context': CONTEXT, 'window': 5},
    **ATTENTIONS[name],
  )
  return model, variables['params']


@functools.cache
def calls_and_weights(name, num_layers=1):
  """Its calls, and float32[L, N, T, T] as the model itself captures them."""
  model, params = model_with(name, num_layers)
  tokens = TOKENIZER.encode(TEXT)[None]
  calls = calls_of(model, params, tokens)
  capturing = CausalLM(model.config, capture_weights=True)
  _, state = module_cases.run(
    capturing, {'params': params}, tokens, mutable=('intermediates',)
  )
  layers = state['intermediates']
  weights = [
    layers[f'block_{layer}']['attention']['weights'][0][0]
    for layer in range(num_layers)
  ]
  return calls, np.stack(weights)


def write(path, *, name='softmax', num_layers=1, text=TEXT):
  """The page of a model that reads the text."""
  model, params = model_with(name, num_layers)
  write_view(path, model, params, TOKENIZER, text, title='Heads')
  return path
