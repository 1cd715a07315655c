"""Rows of attention weights, computed from what a page can hold.

Of each head its queries and keys, of each layer the rule that makes weights of
them: linear in the length of the text.  `view_rows.js` computes the same.
"""

import base64
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attn.masks import Mask
from attn.modules import HeadCall

# Numbers of whole scores that are in memory at once.
_AT_ONCE = 1 << 22
# A score this large has reached every cap.
_HUGE = 1e6


@dataclasses.dataclass(frozen=True)
class HeadRows:
  """One layer's heads, for a text of T tokens.

    score  = cap tanh(query · key / cap) + bias[m, q - k],  where seen
    weight = as `HeadCall.kind` says

  Attributes:
    kind: As in `HeadCall`.
    query: float32[T, M, H], scaled, rounded to 1/32767 of its largest.
    key: float32[T, K, H], likewise.
    cap: inf for none.
    bias: float32[M, 2 T - 1], from distance 1 - T on; None for none.
    sink: float32[M], or None.
    number: As in `HeadCall`.
    starts: int32[T + 1], of each row's first progression, and where all end.
    progressions: int32[P, 3], keys that are seen: first, count, step.
  """

  kind: str
  query: np.ndarray
  key: np.ndarray
  cap: float
  bias: np.ndarray | None
  sink: np.ndarray | None
  number: Any
  starts: np.ndarray
  progressions: np.ndarray

  @property
  def num_heads(self) -> int:
    """N, of which the weights are."""
    pairs = 2 if self.kind == 'difference' else 1
    return self.query.shape[1] // pairs

  @property
  def length(self) -> int:
    """T."""
    return self.query.shape[0]

  @property
  def at_once(self) -> int:
    """How many rows should be computed at once."""
    width = self.query.shape[2] if self.kind == 'additive' else 1
    return max(1, _AT_ONCE // (self.length * self.query.shape[1] * width))

  def seen(self, rows: np.ndarray) -> np.ndarray:
    """bool[R, T]: which keys queries may attend to."""
    seen = np.zeros((len(rows), self.length), bool)
    for i, t in enumerate(rows):
      for first, count, step in self.progressions[
        self.starts[t] : self.starts[t + 1]
      ]:
        seen[i, first : first + count * step : step] = True
    return seen

  def weights(self, rows: np.ndarray) -> np.ndarray:
    """float32[N, R, T], the weights of some queries; 0 where none is seen."""
    query = self.query[rows]
    groups = query.shape[1] // self.key.shape[1]
    key = np.repeat(self.key, groups, axis=1)
    if self.kind == 'additive':
      hidden = np.tanh(query[:, None] + key[None])
      scores = np.einsum('rsmh,mh->mrs', hidden, self.number)
    else:
      scores = np.einsum('rmh,smh->mrs', query, key, optimize=True)
    if np.isfinite(self.cap):
      scores = self.cap * np.tanh(scores / self.cap)
    if self.bias is not None:
      away = rows[:, None] - np.arange(self.length) + self.length - 1
      scores = scores + self.bias[:, away]
    seen = self.seen(rows)
    match self.kind:
      case 'sigmoid':
        with np.errstate(over='ignore'):
          shares = 1 / (1 + np.exp(-scores - self.number))
        return np.where(seen, shares, 0).astype(np.float32)
      case 'linear':
        return _divided(np.where(seen, scores, 0), 0)
    weights = self._softmax(np.where(seen, scores, -np.inf))
    if self.kind == 'difference':
      weights = weights[::2] - self.number * weights[1::2]
    return weights.astype(np.float32)

  def _softmax(self, scores: np.ndarray) -> np.ndarray:
    largest = scores.max(-1, initial=-np.inf, keepdims=True)
    if self.sink is not None:
      largest = np.maximum(largest, self.sink[:, None, None])
    largest = np.where(np.isfinite(largest), largest, 0)
    shares, none = np.exp(scores - largest), 0.0
    if self.sink is not None:
      none = np.exp(self.sink[:, None, None] - largest)
    return _divided(shares, none)

  def packed(self) -> dict[str, Any]:
    """All of it as JSON, numbers in base64, little-endian."""
    number = self.number
    if isinstance(number, np.ndarray):
      number = np.asarray(number, float).tolist()
    return {
      'kind': self.kind,
      'heads': self.query.shape[1],
      'keyHeads': self.key.shape[1],
      'size': self.query.shape[2],
      'query': _pack(self.query),
      'key': _pack(self.key),
      'cap': self.cap if np.isfinite(self.cap) else None,
      'bias': None if self.bias is None else _base64(self.bias, '<f4'),
      'sink': None if self.sink is None else self.sink.tolist(),
      'number': number,
      'starts': _base64(self.starts, '<i4'),
      'progressions': _base64(self.progressions, '<i4'),
    }


def rows_of_call(call: HeadCall) -> HeadRows:
  """What a page holds of a call of attention.

  Args:
    call: Of one text: the batch axis has size 1.

  Returns:
    The same weights, to the rounding of queries and keys.

  Raises:
    ValueError: if the scores are changed in a way that a page does not know, a
      cap and then a bias of distances, or heads see different keys: if the
      weights would not be the model's.
  """
  query, key = (np.asarray(x[0], np.float32) for x in (call.query, call.key))
  if call.kind != 'additive':
    scale = query.shape[-1] ** -0.5 if call.scale is None else call.scale
    query = query * np.float32(scale)
  length, heads = query.shape[:2]
  cap, bias = np.inf, None
  if call.score_mod is not None:
    cap, bias = _cap_and_bias(call.score_mod, length, heads)
  starts, progressions = _progressions(call.mask, length)
  rows = HeadRows(
    kind=call.kind,
    query=_rounded(query),
    key=_rounded(key),
    cap=cap,
    bias=bias,
    sink=None if call.sink is None else np.asarray(call.sink, np.float32),
    number=_plain(call.number),
    starts=starts,
    progressions=progressions,
  )
  _check(rows, call)
  return rows


def _check(rows: HeadRows, call: HeadCall) -> None:
  """Average random values with either's weights."""
  heads = call.key.shape[-2]
  if call.kind == 'difference':
    heads //= 2
  draw = np.random.default_rng(0).normal
  value = draw(size=(1, rows.length, heads, 2)).astype(np.float32)
  wanted = np.asarray(call.attend(jnp.asarray(value)), np.float32)[0]
  value = np.repeat(value[0], rows.num_heads // heads, axis=1)
  for begin in range(0, rows.length, rows.at_once):
    chosen = np.arange(begin, min(begin + rows.at_once, rows.length))
    found = np.einsum('nrs,snv->rnv', rows.weights(chosen), value)
    error = np.abs(found - wanted[chosen])
    # NaN is not close to anything.
    if not (error <= 5e-3 * np.maximum(1, np.abs(wanted[chosen]))).all():
      raise ValueError(
        'model: its scores are changed in a way that a page cannot show, '
        'wanted a cap, and a bias of distances'
      )


def _cap_and_bias(
  score_mod: Any, length: int, heads: int
) -> tuple[float, np.ndarray]:
  """What becomes of a score of 0 at each distance, and of a huge one."""
  distance = jnp.arange(1 - length, length, dtype=jnp.int32)
  query, key = jnp.maximum(distance, 0), jnp.maximum(-distance, 0)
  head, first = jnp.arange(heads, dtype=jnp.int32), jnp.zeros((), jnp.int32)
  # A mod is a function of one score.
  of_head = jax.vmap(score_mod, (None, None, None, 0, 0))
  of_all = jax.vmap(of_head, (None, None, 0, None, None))

  def bent(score: float) -> np.ndarray:
    scores = of_all(jnp.float32(score), first, head, query, key)
    return np.asarray(scores, np.float32)

  bias = bent(0.0)
  top = float((bent(_HUGE) - bias)[0, length - 1])
  return (np.inf if top > 0.9 * _HUGE else top), bias


def _progressions(mask: Any, length: int) -> tuple[np.ndarray, np.ndarray]:
  """The keys that each query sees, as few progressions."""
  if mask is not None and not isinstance(mask, Mask):
    raise ValueError(f'mask: got a {type(mask).__name__}, wanted a mask object')
  first = jnp.zeros((), jnp.int32)
  keys = jnp.arange(length, dtype=jnp.int32)
  starts: list[int] = [0]
  found: Any = []
  at_once = max(1, _AT_ONCE // length)
  for begin in range(0, length, at_once):
    rows = keys[begin : begin + at_once, None]
    seen = True if mask is None else mask(first, first, rows, keys)
    for row in np.broadcast_to(np.asarray(seen), (len(rows), length)):
      found += _taken_apart(np.flatnonzero(row))
      starts.append(len(found))
  found = np.array(found, np.int32).reshape(-1, 3)
  return np.array(starts, np.int32), found


def _taken_apart(places: np.ndarray) -> list[tuple[int, int, int]]:
  """Rising numbers as progressions: (first, count, step)."""
  steps, found, i = np.diff(places), [], 0
  # Where the step changes, the last place before it.
  turns = np.flatnonzero(np.diff(steps)) + 1
  while i < len(places):
    if i == len(places) - 1:
      found.append((int(places[i]), 1, 1))
      break
    later = turns[turns > i]
    last = int(later[0]) if len(later) else len(places) - 1
    found.append((int(places[i]), last - i + 1, int(steps[i])))
    i = last + 1
  return found


def _divided(shares: np.ndarray, none: np.ndarray | float) -> np.ndarray:
  total = shares.sum(-1, keepdims=True) + none
  return shares / np.where(total == 0, 1, total)


def _plain(number: Any) -> Any:
  if number is None or isinstance(number, float):
    return number
  number = np.asarray(number, np.float32)
  return number if number.ndim else float(number)


def _steps(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Whole numbers up to 32767, and what each vector's are multiples of."""
  largest = np.abs(x).max(-1, keepdims=True, initial=0)
  unit = np.where(largest > 0, largest, 1) / np.float32(32767)
  return np.rint(x / unit).astype('<i2'), unit.astype('<f4')


def _rounded(x: np.ndarray) -> np.ndarray:
  whole, unit = _steps(x)
  return whole.astype(np.float32) * unit


def _pack(x: np.ndarray) -> dict[str, str]:
  whole, unit = _steps(x)
  return {'whole': _base64(whole, '<i2'), 'unit': _base64(unit, '<f4')}


def _base64(x: np.ndarray, dtype: str) -> str:
  return base64.b64encode(np.asarray(x, dtype).tobytes()).decode()
