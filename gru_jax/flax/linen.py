"""`flax.linen.RNN` on the fast recurrence."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ..convert import from_linen
from ._unroll import arguments, check_cell, check_inputs, check_no_resets, is_standard, unroll


class RNN(nn.RNN):
    """`flax.linen.RNN(flax.linen.GRUCell(features))`, faster.

    The arguments, of the layer and of the call, are those of `flax.linen.RNN`, and so are the
    parameters' names, shapes and initialisers: Flax' checkpoints load as they are. It also takes
    the place of `flax.linen.RNN` within `flax.linen.Bidirectional`. A call takes `resets`, bool
    `[*batch, T]` or `[T, *batch]` as the inputs, and `reset_state`, `[H]` or `[*batch, H]`, as
    well: see `gru_jax.gru_unroll`.

    Two things differ, both with `seq_lengths`: outputs are zero in the padding, where Flax leaves
    what the cell computes from it, and a row of length 0 returns its initial carry.

    A cell with other activations than sigmoid and tanh, one derived from `flax.linen.GRUCell`, and
    a layer with options of `flax.linen.scan` run as they do in Flax.

    Raises:
      ValueError: a cell that is no `flax.linen.GRUCell`; inputs, lengths or resets of the wrong
        shape; resets for a cell that runs as in Flax.

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
        resets: jax.Array | None = None,
        reset_state: jax.Array | None = None,
    ) -> Any:
        check_cell(self.cell, nn.GRUCell)
        flags: dict[str, Any] = {
            "seq_lengths": seq_lengths,
            "return_carry": return_carry,
            "time_major": time_major,
            "reverse": reverse,
            "keep_order": keep_order,
        }
        call = arguments(self, resets=resets, reset_state=reset_state, **flags)
        inputs = check_inputs(inputs, 0, call.time_major)
        scan = self.variable_broadcast == "params" and not (
            self.variable_axes or self.variable_carry
        )
        if not is_standard(self.cell, nn.GRUCell) or not scan:
            check_no_resets(call)
            return super().__call__(inputs, initial_carry=initial_carry, init_key=init_key, **flags)
        first = inputs.shape[1:] if call.time_major else (*inputs.shape[:-2], inputs.shape[-1])
        if initial_carry is None:
            key = jax.random.key(0) if init_key is None else init_key
            initial_carry = self.cell.initialize_carry(key, first)
        if self.is_initializing():
            self.cell(initial_carry, jnp.zeros(first, inputs.dtype))
        params = from_linen(nn.meta.unbox(self.cell.variables["params"]))
        inputs = check_inputs(inputs, params.input_size, call.time_major)
        return unroll(params, initial_carry, inputs, self.cell.dtype, call)
