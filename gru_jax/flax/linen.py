"""`flax.linen.RNN` on the fast recurrence."""

from typing import Any

import jax
from flax import linen as nn

from ..convert import from_linen
from ._unroll import check_cell, unroll


class RNN(nn.RNN):
    """`flax.linen.RNN(flax.linen.GRUCell(features))`, faster.

    The arguments, of the layer and of the call, are those of `flax.linen.RNN`, and so are the
    parameters' names, shapes and initialisers: Flax' checkpoints load as they are. It also takes
    the place of `flax.linen.RNN` within `flax.linen.Bidirectional`.

    Two things differ, both with `seq_lengths`: outputs are zero in the padding, where Flax leaves
    what the cell computes from it, and a row of length 0 returns its initial carry.

    Raises:
      ValueError: a cell other than `flax.linen.GRUCell` with its own activations.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen as nn
    >>> from gru_jax.flax.linen import RNN
    >>> layer = RNN(nn.GRUCell(features=5))
    >>> xs = jnp.ones((2, 7, 3))  # [B, T, I]
    >>> variables = layer.init(jax.random.key(0), xs)
    >>> layer.apply(variables, xs).shape
    (2, 7, 5)
    """

    @nn.compact
    def __call__(  # noqa: D102
        self,
        inputs: jax.Array,
        *,
        initial_carry: jax.Array | None = None,
        init_key: jax.Array | None = None,
        seq_lengths: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        check_cell(self.cell, nn.GRUCell)
        time_major = self.time_major if time_major is None else time_major
        first = inputs[0] if time_major else inputs[..., 0, :]
        if initial_carry is None:
            key = jax.random.key(0) if init_key is None else init_key
            initial_carry = self.cell.initialize_carry(key, first.shape)
        if self.is_initializing():
            self.cell(initial_carry, first)
        carry, outputs = unroll(
            from_linen(self.cell.variables["params"]),
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
