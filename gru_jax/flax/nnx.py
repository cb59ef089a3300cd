"""`flax.nnx.RNN` on the fast recurrence."""

from typing import Any

import jax
from flax import nnx

from ..convert import from_nnx
from ._unroll import check_cell, unroll


class RNN(nnx.RNN):
    """`flax.nnx.RNN(flax.nnx.GRUCell(in_features, hidden_features, rngs=rngs))`, faster.

    The arguments, of the layer and of the call, are those of `flax.nnx.RNN`, and the parameters
    are the cell's own: Flax' checkpoints load as they are. It also takes the place of
    `flax.nnx.RNN` within `flax.nnx.Bidirectional`.

    Two things differ, both with `seq_lengths`: outputs are zero in the padding, where Flax leaves
    what the cell computes from it, and a row of length 0 returns its initial carry.

    Raises:
      ValueError: a cell other than `flax.nnx.GRUCell` with its own activations.

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
    ) -> Any:
        check_cell(self.cell, nnx.GRUCell)
        time_major = self.time_major if time_major is None else time_major
        first = inputs[0] if time_major else inputs[..., 0, :]
        if initial_carry is None:
            initial_carry = self.cell.initialize_carry(first.shape, rngs or self.rngs)
        carry, outputs = unroll(
            from_nnx(nnx.to_pure_dict(nnx.state(self.cell, nnx.Param))),
            initial_carry,
            inputs,
            self.cell.dtype,
            seq_lengths=seq_lengths,
            time_major=time_major,
            reverse=self.reverse if reverse is None else reverse,
            keep_order=self.keep_order if keep_order is None else keep_order,
            unroll=self.unroll,
        )
        return_carry = self.return_carry if return_carry is None else return_carry
        return (carry, outputs) if return_carry else outputs
