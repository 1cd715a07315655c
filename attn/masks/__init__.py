"""Who may attend to whom.

A mask is a value: a small immutable object, and a JAX pytree whose numbers are
static and whose arrays are leaves, so that it passes through `jit`, `vmap`,
`grad` and `scan`.  Its definition is element-wise,

    mask(b, n, q, k) -> bool      batch b, head n, query q, key k

and masks combine with `&`, `|` and `~`, and move with `shift`:

    >>> print((causal() & sliding_window(2, 0)).draw(5, 5))
    1 0 0 0 0
    1 1 0 0 0
    1 1 1 0 0
    0 1 1 1 0
    0 0 1 1 1

`blocks` tells which blocks of a mask are empty and which are full, without
writing it out, so that what is hidden need not be computed.

True means may attend.  A mask is never a float and never added to anything;
what is added to scores is called bias.
"""

from attn.masks.ancestry import tree
from attn.masks.arrays import dense, padding, segments
from attn.masks.base import Mask
from attn.masks.between import between_chunks, block_diffusion
from attn.masks.facts import EMPTY, FULL, PARTIAL
from attn.masks.functions import from_fn
from attn.masks.heads import per_head
from attn.masks.layouts import (
  block_diagonal,
  global_tokens,
  neighbourhood_2d,
  windows_2d,
)
from attn.masks.positional import (
  causal,
  chunked,
  dilated,
  prefix,
  sliding_window,
)

__all__ = [
  'EMPTY',
  'FULL',
  'PARTIAL',
  'Mask',
  'between_chunks',
  'block_diagonal',
  'block_diffusion',
  'causal',
  'chunked',
  'dense',
  'dilated',
  'from_fn',
  'global_tokens',
  'neighbourhood_2d',
  'padding',
  'per_head',
  'prefix',
  'segments',
  'sliding_window',
  'tree',
  'windows_2d',
]
