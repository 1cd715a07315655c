"""Bend the scores before softmax.

A score modification is a function of one score and its place,

    mod(score, b, n, q, k) -> score      batch b, head n, query q, key k

and `attn.attention(..., score_mod=mod)` applies it to every score.  Any such
function will do.  Those made here are values like the masks: immutable, and
JAX pytrees whose arrays are leaves, so that they pass through `jit`, `vmap`,
`grad` and `scan`.  Numbers are static: `alibi(8) == alibi(8)`.

    >>> print(alibi(2).draw(3, 4))
     0.0000 -0.0625 -0.1250 -0.1875
    -0.0625  0.0000 -0.0625 -0.1250
    -0.1250 -0.0625  0.0000 -0.0625

`compose` applies one after the other.  What makes a token invisible is a mask.
"""

from attn.mods.distance import alibi, distance_decay, relative_bias
from attn.mods.squash import soft_cap, temperature
from attn.mods.values import Mod, compose, with_offset

__all__ = [
  'Mod',
  'alibi',
  'compose',
  'distance_decay',
  'relative_bias',
  'soft_cap',
  'temperature',
  'with_offset',
]
