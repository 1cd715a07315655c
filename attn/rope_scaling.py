"""Rotary angles stretched, so that a model reads further than it was taught.

A frequency is how far a pair of dimensions turns from one token to the next.
Divided by `factor`, it turns at token `factor p` as far as it did at p.  The
scalings differ in which frequencies they divide.
"""

import dataclasses
import math

import numpy as np

SCALINGS = ('linear', 'dynamic', 'llama3', 'yarn')


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """How the frequencies of `apply_rope` are divided.

    f[i] = base^(-2i/H),   turns = C f / 2π   in the original context, C

    linear   f / factor
    dynamic  f: only texts longer than the context would be stretched
    llama3   f m + f / factor (1 - m),
             m = clip((turns - low) / (high - low), 0, 1)
    yarn     f (1 - r) + f / factor r,  r[i] = clip((i - a) / (b - a), 0, 1),
             a and b the places i at which turns are beta_fast and beta_slow,
             rounded outwards if truncate; the rotated vectors are then
             multiplied by attention_factor

  Attributes:
    kind: 'linear', 'dynamic', 'llama3' or 'yarn'.
    factor: At least 1.
    original_context: C, of 'llama3' and 'yarn': tokens the model was trained
      on before.
    low_freq_factor: low, of 'llama3'.
    high_freq_factor: high, of 'llama3'; more than low.
    beta_fast: Of 'yarn'.
    beta_slow: Of 'yarn'; less than beta_fast.
    attention_factor: Of 'yarn'; 0 for 0.1 log(factor) + 1.
    truncate: Of 'yarn'.

  Raises:
    ValueError: if a field is not what it should be.

  Example:
    >>> RopeScaling('linear', factor=4.0).frequencies(4, base=100.0)
    array([0.25 , 0.025])

  References:
    Chen et al., 2023 (linear). https://arxiv.org/abs/2306.15595
    Grattafiori et al., 2024 (llama3). https://arxiv.org/abs/2407.21783
    Peng et al., 2023 (yarn, dynamic). https://arxiv.org/abs/2309.00071
  """

  kind: str
  factor: float = 1.0
  original_context: int = 0
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  attention_factor: float = 0.0
  truncate: bool = True

  def __post_init__(self) -> None:
    known = self.kind in SCALINGS
    self._check('kind', known, f'one of {SCALINGS}')
    self._check('factor', 1 <= self.factor < math.inf, 'at least 1')
    if self.kind in ('llama3', 'yarn'):
      self._check('original_context', self.original_context >= 1, 'at least 1')
    low = self.low_freq_factor
    self._check('low_freq_factor', 0 < low < math.inf, 'a positive number')
    held = low < self.high_freq_factor < math.inf
    self._check('high_freq_factor', held, f'more than low_freq_factor {low}')
    slow = self.beta_slow
    self._check('beta_slow', 0 < slow < math.inf, 'a positive number')
    held = slow < self.beta_fast < math.inf
    self._check('beta_fast', held, f'more than beta_slow {slow}')
    held = 0 <= self.attention_factor < math.inf
    self._check('attention_factor', held, '0 or a positive number')

  def frequencies(self, size: int, base: float) -> np.ndarray:
    """float64[size / 2]: radians from a token to the next, of each pair."""
    plain = float(base) ** -(np.arange(0, size, 2) / max(size, 1))
    match self.kind:
      case 'linear':
        return plain / self.factor
      case 'llama3':
        turns = self.original_context * plain / (2 * math.pi)
        low, high = self.low_freq_factor, self.high_freq_factor
        kept = np.clip((turns - low) / (high - low), 0, 1)
      case 'yarn':
        kept = 1 - self._ramp(size, base)
      case _:
        return plain
    return plain * kept + plain / self.factor * (1 - kept)

  @property
  def magnitude(self) -> float:
    """What rotated vectors are multiplied by."""
    if self.kind != 'yarn':
      return 1.0
    return self.attention_factor or 0.1 * math.log(self.factor) + 1

  def _ramp(self, size: int, base: float) -> np.ndarray:
    """Of 'yarn', r: 0 where pairs turn often, 1 where they hardly do."""
    first, last = (
      size
      * math.log(self.original_context / (2 * math.pi * turns))
      / (2 * math.log(base))
      for turns in (self.beta_fast, self.beta_slow)
    )
    if self.truncate:
      first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    # Where both are the same place, a step.
    width = last - first or 1e-3
    return np.clip((np.arange(size // 2) - first) / width, 0, 1)

  def _check(self, name: str, holds: bool, wanted: str) -> None:
    if not holds:
      got = getattr(self, name)
      raise ValueError(f'{name}: got {got!r}, wanted {wanted}')
