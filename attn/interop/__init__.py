"""Weights in and out: layers and models that others trained, or are to run.

Layers come as mappings of NumPy arrays, models as directories; nothing here
needs the library that made them.
"""

from attn.interop.flax_layers import from_flax, to_flax
from attn.interop.huggingface import (
  HuggingFaceModel,
  load_huggingface,
  load_huggingface_config,
  save_huggingface,
)
from attn.interop.linear_layers import from_linear_layers, to_linear_layers
from attn.interop.safetensors_files import (
  read_header,
  read_tensors,
  write_tensors,
)
from attn.interop.states import Imported
from attn.interop.torch_attention import (
  from_torch,
  mask_from_torch,
  to_torch,
)

__all__ = [
  'HuggingFaceModel',
  'Imported',
  'from_flax',
  'from_linear_layers',
  'from_torch',
  'load_huggingface',
  'load_huggingface_config',
  'mask_from_torch',
  'read_header',
  'read_tensors',
  'save_huggingface',
  'to_flax',
  'to_linear_layers',
  'to_torch',
  'write_tensors',
]
