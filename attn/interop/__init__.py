"""Parameters of attention layers made elsewhere, in and out.

Mappings of NumPy arrays come in and go out; nothing here needs the library that
made them.
"""

from attn.interop.flax_layers import from_flax, to_flax
from attn.interop.linear_layers import from_linear_layers, to_linear_layers
from attn.interop.states import Imported
from attn.interop.torch_attention import (
  from_torch,
  mask_from_torch,
  to_torch,
)

__all__ = [
  'Imported',
  'from_flax',
  'from_linear_layers',
  'from_torch',
  'mask_from_torch',
  'to_flax',
  'to_linear_layers',
  'to_torch',
]
