"""`flax.linen.RNN` on the fast recurrence."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ..convert import from_linen
from ._unroll import Call, check_call, is_standard, step_shape, unroll


class RNN(nn.RNN):
    """A drop-in replacement for `flax.linen.RNN` around a `flax.linen.GRUCell`, but faster.

    It has the same arguments and the same parameters (names, shapes and initialisers), so that
    checkpoints of Flax load unchanged, also within `flax.linen.Bidirectional`. In addition a call
    takes `resets` and `reset_state`: see `gru_jax.gru_unroll`.

    Two results differ from Flax, both with `seq_lengths`: outputs in the padding are zero, and a
    row of length 0 returns its initial carry.

    A cell with other activations than sigmoid and tanh, a subclass of `flax.linen.GRUCell`, and a
    layer with options of `flax.linen.scan` run as in Flax, without resets.

    Args:
      cell: a `flax.linen.GRUCell(features=H)`. Its `dtype` is that of the computation (None
        promotes those of the inputs and the parameters), its `param_dtype` that of the parameters.
      time_major: whether inputs and outputs are `[T, *batch, ...]`; False (the default) for
        `[*batch, T, ...]`.
      return_carry: whether to return the pair of the last state and the outputs; False (the
        default) for the outputs only.
      reverse: whether to run from the last step to the first. Outputs are then in the order of
        computation, with the padding at the end.
      keep_order: whether outputs of a reverse run are in the order of the inputs.
      unroll: the number of steps per iteration of the loop; see `gru_jax.gru_unroll`.
      variable_axes: passed to `flax.linen.scan`; other values than the default run as in Flax.
      variable_broadcast: see `variable_axes`.
      variable_carry: see `variable_axes`.
      split_rngs: passed to `flax.linen.scan`; a GRU draws no random numbers.

    Raises:
      ValueError: when called, if the cell is not a `flax.linen.GRUCell`.

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
    def __call__(
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
        """Runs the cell over a sequence.

        Args:
          inputs: `[*batch, T, I]`, or `[T, *batch, I]` if time-major; real.
          initial_carry: the first state `[*batch, H]`; None draws it by the cell's
            `initialize_carry`, zeros by default.
          init_key: the random key for that; the key is consumed. None uses `jax.random.key(0)`.
          seq_lengths: integers `[*batch]`, the number of steps of each row; None for T.
          return_carry: overrides the layer's argument.
          time_major: overrides the layer's argument.
          reverse: overrides the layer's argument.
          keep_order: overrides the layer's argument.
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
        inputs, call = check_call(self, nn.GRUCell, inputs, call)
        default_scan = self.variable_broadcast == "params" and not (
            self.variable_axes or self.variable_carry
        )
        if not is_standard(self.cell, nn.GRUCell) or not default_scan:
            return super().__call__(
                inputs, initial_carry=initial_carry, init_key=init_key, **call.for_flax()
            )
        first = step_shape(inputs, call)
        if initial_carry is None:
            key = jax.random.key(0) if init_key is None else init_key
            initial_carry = self.cell.initialize_carry(key, first)
        if self.is_initializing():
            self.cell(initial_carry, jnp.zeros(first, inputs.dtype))
        params = from_linen(nn.meta.unbox(self.cell.variables["params"]))
        return unroll(self, params, initial_carry, inputs, call)
