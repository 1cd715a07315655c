"""Weights in and out: models that others trained, or are to run."""

from attn.interop.huggingface import (
  HuggingFaceModel,
  load_huggingface,
  load_huggingface_config,
  save_huggingface,
)
from attn.interop.safetensors_files import (
  read_header,
  read_tensors,
  write_tensors,
)

__all__ = [
  'HuggingFaceModel',
  'load_huggingface',
  'load_huggingface_config',
  'read_header',
  'read_tensors',
  'save_huggingface',
  'write_tensors',
]
