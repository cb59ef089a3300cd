"""`flax.nnx.RNN` on the fast recurrence."""

from typing import Any

import jax
from flax import nnx
from flax.nnx.nn import dtypes

from ..convert import from_nnx
from ._unroll import Call, check_call, is_standard, step_shape, unroll

_STATE_AXES = nnx.StateAxes({...: nnx.Carry})  # the default of `flax.nnx.RNN`


class RNN(nnx.RNN):
    """A drop-in replacement for `flax.nnx.RNN` around a `flax.nnx.GRUCell`, but faster.

    It has the same arguments, and the parameters are the cell's own, so that checkpoints of Flax
    load unchanged, also within `flax.nnx.Bidirectional`. In addition a call takes `resets` and
    `reset_state`: see `gru_jax.gru_unroll`.

    Two results differ from Flax, both with `seq_lengths`: outputs in the padding are zero, and a
    row of length 0 returns its initial carry.

    A cell with other activations than sigmoid and tanh, a subclass of `flax.nnx.GRUCell`, a cell
    whose layers were replaced (by LoRA layers, for example), and a layer with `state_axes` run as
    in Flax, without resets.

    Args:
      cell: a `flax.nnx.GRUCell(I, H, rngs=rngs)`. Its `dtype` is that of the computation (None
        promotes those of the inputs and the parameters), its `param_dtype` that of the parameters.
      time_major: whether inputs and outputs are `[T, *batch, ...]`; False (the default) for
        `[*batch, T, ...]`.
      return_carry: whether to return the pair of the last state and the outputs; False (the
        default) for the outputs only.
      reverse: whether to run from the last step to the first. Outputs are then in the order of
        computation, with the padding at the end.
      keep_order: whether outputs of a reverse run are in the order of the inputs.
      unroll: the number of steps per iteration of the loop; see `gru_jax.gru_unroll`.
      state_axes: passed to `flax.nnx.scan`; other values than the default run as in Flax.
      broadcast_rngs: passed to `flax.nnx.scan`; a GRU draws no random numbers.
      rngs: a `flax.nnx.Rngs` whose stream "carry" draws the initial carry of calls that give none;
        True (the default) for one with seed 0, False for none.

    Raises:
      ValueError: when called, if the cell is not a `flax.nnx.GRUCell`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from gru_jax.flax.nnx import RNN
    >>> layer = RNN(nnx.GRUCell(3, 5, rngs=nnx.Rngs(0)))
    >>> layer(jnp.ones((2, 7, 3))).shape  # [B, T, I]
    (2, 7, 5)
    """

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: jax.Array | None = None,
        seq_lengths: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: Any = None,
        resets: jax.Array | None = None,
        reset_state: jax.Array | None = None,
    ) -> Any:
        """Runs the cell over a sequence.

        Args:
          inputs: `[*batch, T, I]`, or `[T, *batch, I]` if time-major; real.
          initial_carry: the first state `[*batch, H]`; None draws it by the cell's
            `initialize_carry`, zeros by default.
          seq_lengths: integers `[*batch]`, the number of steps of each row; None for T.
          return_carry: overrides the layer's argument.
          time_major: overrides the layer's argument.
          reverse: overrides the layer's argument.
          keep_order: overrides the layer's argument.
          rngs: overrides the layer's argument.
          resets: bool `[*batch, T]`, or `[T, *batch]` if time-major; where True, a new episode
            begins and the state is replaced before the input is consumed.
          reset_state: the state `[H]` or `[*batch, H]` after a reset; None for zeros.

        Returns:
          The outputs `[*batch, T, H]`, or `[T, *batch, H]` if time-major; with return_carry the
          pair of the last state `[*batch, H]` and the outputs.

        Raises:
          ValueError: an array of the wrong shape or dtype, or resets for a cell that runs as in
            Flax.
        """
        call = Call(
            seq_lengths=seq_lengths,
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
            resets=resets,
            reset_state=reset_state,
        )
        inputs, call = check_call(self, nnx.GRUCell, inputs, call)
        standard = is_standard(self.cell, nnx.GRUCell) and self.state_axes == _STATE_AXES
        weights = _weights(self.cell) if standard else None
        if weights is None:
            return super().__call__(
                inputs, initial_carry=initial_carry, rngs=rngs, **call.for_flax()
            )
        if initial_carry is None:
            rngs = self.rngs if rngs is None else rngs
            rngs = rngs.carry.fork() if isinstance(rngs, nnx.Rngs) else rngs  # as in Flax
            initial_carry = self.cell.initialize_carry(step_shape(inputs, call), rngs)
        return unroll(self, from_nnx(weights), initial_carry, inputs, call)


_LAYERS = "dense_i", "dense_h"


def _weights(cell: nnx.GRUCell) -> dict[str, dict[str, Any]] | None:
    """The weights by Flax's names; None if they are not those of two plain linear layers.

    Read by attribute, because a frozen variable is not a `nnx.Param`.
    """
    if all(_is_plain(layer, cell) for layer in (cell.dense_i, cell.dense_h)):
        kernels = {name: {"kernel": getattr(cell, name).kernel[...]} for name in _LAYERS}
        if cell.dense_i.bias is not None and cell.dense_h.bias is None:
            kernels["dense_i"]["bias"] = cell.dense_i.bias[...]
            return kernels
    return None


def _is_plain(layer: Any, cell: nnx.GRUCell) -> bool:
    return (
        type(layer) is nnx.Linear
        and layer.dot_general is jax.lax.dot_general
        and layer.precision is None
        and layer.dtype == cell.dtype
        and layer.promote_dtype is dtypes.promote_dtype
        and layer.preferred_element_type is None
    )
