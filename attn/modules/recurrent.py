"""Flax's recurrent cells along a sentence, over what is padding."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


def run_cell(
  cell: nn.RNNCellBase,
  carry: Any,
  inputs: Array,
  mask: Array | None = None,
  *,
  reverse: bool = False,
) -> tuple[Any, Array]:
  """One cell along the sentence, from its first token or from its last.

  Padding is as if it were not there, wherever it stands: the carry passes it
  unchanged.  So a reversed sentence needs no turning around.

  Args:
    cell: A cell of Flax, bound to a module.
    carry: What the cell begins with, arrays [B, ...].
    inputs: float[B, T, D].
    mask: bool[B, T], True where there is a token; None for everywhere.
    reverse: From the last token to the first.

  Returns:
    (carry, outputs): what the cell ends with, and its outputs [B, T, H] at the
    places of their inputs, 0 at padding.

  Example:
    >>> x, real = jnp.ones((1, 3, 2)), jnp.array([[True, True, False]])
    >>> def read(cell):
    ...   return run_cell(cell, jnp.zeros((1, 4)), x, real)
    >>> run = nn.apply(read, nn.GRUCell(4), mutable=True)
    >>> (last, out), _ = run({}, rngs={'params': jax.random.key(0)})
    >>> bool((last == out[:, 1]).all()), out[0, 2]  # it passed the padding
    (True, Array([0., 0., 0., 0.], dtype=float32))
  """

  def step(cell: Any, carry: Any, inputs: Any) -> tuple[Any, Array]:
    x, real = inputs
    following, out = cell(carry, x)
    if real is None:
      return following, out
    real = real[:, None]
    following = jax.tree.map(
      lambda new, old: jnp.where(real, new, old), following, carry
    )
    return following, jnp.where(real, out, 0)

  scan = nn.scan(
    step,
    variable_broadcast='params',
    split_rngs={'params': False},
    in_axes=1,
    out_axes=1,
    reverse=reverse,
  )
  return scan(cell, carry, (inputs, mask))


def open_forget_gates(params: Any) -> Any:
  """Fresh parameters of LSTMs that begin by remembering.

  With a bias of 0 half of a state is forgotten in every step, and what stands
  ten words ahead has next to no gradient.

  Args:
    params: Of any model.

  Returns:
    The same with 1 added to the bias of every forget gate of an LSTM.

  Example:
    >>> cell = nn.OptimizedLSTMCell(2)
    >>> carry = cell.initialize_carry(jax.random.key(0), (3,))
    >>> params = cell.init(jax.random.key(0), carry, jnp.ones(3))['params']
    >>> open_forget_gates(params)['hf']['bias']
    Array([1., 1.], dtype=float32)

  References:
    Gers et al., 2000. https://doi.org/10.1162/089976600300015015
    Jozefowicz et al., 2015. https://proceedings.mlr.press/v37/jozefowicz15
  """

  def open_gate(path: Any, x: Array) -> Array:
    names = [getattr(step, 'key', None) for step in path]
    return x + 1 if names[-2:] == ['hf', 'bias'] else x

  return jax.tree_util.tree_map_with_path(open_gate, params)


class LSTMStack(nn.Module):
  """LSTMs on top of each other: each reads what the one below writes.

  Attributes:
    hidden_dim: H.
    num_layers: L.

  Example:
    >>> stack = LSTMStack(hidden_dim=3, num_layers=2)
    >>> x = jnp.ones((2, 5, 7))
    >>> (carries, outputs), _ = jax.eval_shape(lambda: stack.init_with_output(
    ...   jax.random.key(0), stack.start(2), x))
    >>> len(carries), outputs.shape
    (2, (2, 5, 3))

  References:
    Hochreiter and Schmidhuber, 1997. https://doi.org/10.1162/neco.1997.9.8.1735
  """

  hidden_dim: int
  num_layers: int

  def setup(self) -> None:
    """The cells, from the lowest to the highest."""
    self.cells = [
      nn.OptimizedLSTMCell(self.hidden_dim) for _ in range(self.num_layers)
    ]

  @nn.nowrap
  def start(self, batch: int) -> tuple[Any, ...]:
    """The carries of all layers before anything was read: 0."""
    zeros = jnp.zeros((batch, self.hidden_dim), jnp.float32)
    return ((zeros, zeros),) * self.num_layers

  def __call__(
    self,
    carries: tuple[Any, ...],
    inputs: Array,
    mask: Array | None = None,
    *,
    reverse: bool = False,
  ) -> tuple[tuple[Any, ...], Array]:
    """Read a sentence, layer by layer; otherwise as `run_cell`."""
    ends = []
    for cell, carry in zip(self.cells, carries):
      end, inputs = run_cell(cell, carry, inputs, mask, reverse=reverse)
      ends.append(end)
    return tuple(ends), inputs

  def step(
    self, carries: tuple[Any, ...], x: Array
  ) -> tuple[tuple[Any, ...], Array]:
    """Read one token [B, D] through all layers."""
    ends = []
    for cell, carry in zip(self.cells, carries):
      end, x = cell(carry, x)
      ends.append(end)
    return tuple(ends), x
