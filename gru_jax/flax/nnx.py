"""`flax.nnx.RNN` on the fast recurrence."""

from typing import Any

import jax
from flax import nnx
from flax.nnx.nn import dtypes

from ..convert import from_nnx
from ._unroll import arguments, check_cell, check_inputs, check_no_resets, is_standard, unroll


class RNN(nnx.RNN):
    """`flax.nnx.RNN(flax.nnx.GRUCell(in_features, hidden_features, rngs=rngs))`, faster.

    The arguments, of the layer and of the call, are those of `flax.nnx.RNN`, and the parameters
    are the cell's own: Flax' checkpoints load as they are. It also takes the place of
    `flax.nnx.RNN` within `flax.nnx.Bidirectional`. A call takes `resets`, bool `[*batch, T]` or
    `[T, *batch]` as the inputs, and `reset_state`, `[H]` or `[*batch, H]`, as well: see
    `gru_jax.gru_unroll`.

    Two things differ, both with `seq_lengths`: outputs are zero in the padding, where Flax leaves
    what the cell computes from it, and a row of length 0 returns its initial carry.

    A cell with other activations than sigmoid and tanh, one derived from `flax.nnx.GRUCell`, and
    one whose layers have been replaced, by LoRA's for example, run as they do in Flax.

    Raises:
      ValueError: a cell that is no `flax.nnx.GRUCell`; inputs, lengths or resets of the wrong
        shape; resets for a cell that runs as in Flax.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from gru_jax.flax.nnx import RNN
    >>> layer = RNN(nnx.GRUCell(3, 5, rngs=nnx.Rngs(0)))
    >>> layer(jnp.ones((2, 7, 3))).shape  # [B, T, I]
    (2, 7, 5)
    """

    def __call__(  # noqa: D102
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
        check_cell(self.cell, nnx.GRUCell)
        flags: dict[str, Any] = {
            "seq_lengths": seq_lengths,
            "return_carry": return_carry,
            "time_major": time_major,
            "reverse": reverse,
            "keep_order": keep_order,
        }
        call = arguments(self, resets=resets, reset_state=reset_state, **flags)
        inputs = check_inputs(inputs, 0, call.time_major)
        weights = _weights(self.cell) if is_standard(self.cell, nnx.GRUCell) else None
        if weights is None:
            check_no_resets(call)
            return super().__call__(inputs, initial_carry=initial_carry, rngs=rngs, **flags)
        params = from_nnx(weights)
        inputs = check_inputs(inputs, params.input_size, call.time_major)
        if initial_carry is None:
            first = inputs.shape[1:] if call.time_major else (*inputs.shape[:-2], inputs.shape[-1])
            rngs = self.rngs if rngs is None else rngs
            rngs = rngs.carry.fork() if isinstance(rngs, nnx.Rngs) else rngs  # as Flax does
            initial_carry = self.cell.initialize_carry(first, rngs)
        return unroll(params, initial_carry, inputs, self.cell.dtype, call)


def _weights(cell: nnx.GRUCell) -> dict[str, dict[str, Any]] | None:
    """The weights by Flax' names; None where they are not those of two plain linear layers.

    Read by attribute, not by type: a variable may be frozen by being none of `nnx.Param`.
    """
    if all(_is_plain(layer, cell) for layer in (cell.dense_i, cell.dense_h)):
        kernels = {name: {"kernel": getattr(cell, name).kernel[...]} for name in _LAYERS}
        if cell.dense_i.bias is not None and cell.dense_h.bias is None:
            kernels["dense_i"]["bias"] = cell.dense_i.bias[...]
            return kernels
    return None


_LAYERS = "dense_i", "dense_h"


def _is_plain(layer: Any, cell: nnx.GRUCell) -> bool:
    return (
        type(layer) is nnx.Linear
        and layer.dot_general is jax.lax.dot_general
        and layer.precision is None
        and layer.dtype == cell.dtype
        and layer.promote_dtype is dtypes.promote_dtype
        and layer.preferred_element_type is None
    )
