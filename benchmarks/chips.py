"""What accelerators can do at best, as their makers say."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip.

  Attributes:
    flops: Operations a second in products of float32 matrices at JAX's default
      precision: TF32 on a GPU, without sparsity; bfloat16 on a TPU.
    memory: Bytes.
    bandwidth: Of the memory, bytes a second.
    links: Bytes a second to other chips, in one direction.
    source: Where this is from.
  """

  flops: float
  memory: float
  bandwidth: float
  links: float
  source: str


CHIPS = {
  'a100': Chip(
    156e12, 80e9, 2039e9, 300e9, 'NVIDIA A100 data sheet, SXM, 80 GB'
  ),
  'h100': Chip(494.7e12, 80e9, 3350e9, 450e9, 'NVIDIA H100 data sheet, SXM'),
  'h200': Chip(494.7e12, 141e9, 4800e9, 450e9, 'NVIDIA H200 data sheet, SXM'),
  'tpu_v5e': Chip(197e12, 16e9, 819e9, 200e9, 'Google Cloud, TPU v5e'),
  'tpu_v5p': Chip(459e12, 95e9, 2765e9, 600e9, 'Google Cloud, TPU v5p'),
}
