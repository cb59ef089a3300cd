"""What the layers of both Flax interfaces share: arguments, validation, and the recurrence."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.linen.recurrent import flip_sequences

from .._checks import as_array, check_bool, check_floating, check_shape
from .._masks import sequence_mask
from ..recurrence.gru import gru_unroll

_SHAPES = (3,), (2, 3), (1, 2, 3)  # a function may depend on the batch axes, and on the dtype
_DTYPES = jnp.float32, jnp.bfloat16, jnp.float16


class Call(NamedTuple):
    """The optional arguments of one call of a layer; None stands for the layer's own.

    Attributes:
      seq_lengths: integers `[*batch]`, or None.
      return_carry: whether to return the last state as well.
      time_major: whether arrays are `[T, *batch, ...]`.
      reverse: whether to run from the last step to the first.
      keep_order: whether outputs of a reverse run are in the order of the inputs.
      resets: bool `[*batch, T]` or `[T, *batch]`, or None.
      reset_state: `[H]` or `[*batch, H]`, or None.
    """

    seq_lengths: Any
    return_carry: Any
    time_major: Any
    reverse: Any
    keep_order: Any
    resets: Any
    reset_state: Any

    def for_flax(self) -> dict[str, Any]:
        """The arguments for Flax's own layer, which has no resets.

        Raises:
          ValueError: resets or a reset_state is given.
        """
        if self.resets is not None or self.reset_state is not None:
            raise ValueError(
                "resets and reset_state are for Flax' own GRUCell with sigmoid and tanh, but cell "
                "is another one, which runs as it does in Flax."
            )
        return {k: v for k, v in self._asdict().items() if not k.startswith("reset")}


def check_call(layer: Any, kind: Any, inputs: Any, call: Call) -> tuple[jax.Array, Call]:
    """The inputs as an array, and the call with the layer's own arguments for None.

    Raises:
      ValueError: a cell that is not of the given kind, inputs without a time axis, a flag that is
        not a bool.
    """
    if not isinstance(layer.cell, kind):
        raise ValueError(f"cell is a {type(layer.cell).__name__}, but must be a Flax GRUCell.")
    for name in ("return_carry", "time_major", "reverse", "keep_order"):
        if getattr(call, name) is None:
            call = call._replace(**{name: getattr(layer, name)})
        check_bool(name, getattr(call, name))
    array = as_array("inputs", inputs)
    if array.ndim < 2:
        raise _wrong_inputs(array, call, "")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(f"inputs is {array.dtype}, but must be real.")
    return array, call


def step_shape(inputs: jax.Array, call: Call) -> tuple[int, ...]:
    """The shape `[*batch, I]` of the inputs of one step."""
    return inputs.shape[1:] if call.time_major else (*inputs.shape[:-2], inputs.shape[-1])


def is_standard(cell: Any, kind: Any) -> bool:
    """Whether a cell is Flax's GRU itself, with sigmoid and tanh."""
    same = _is_same(cell.gate_fn, jax.nn.sigmoid) and _is_same(cell.activation_fn, jnp.tanh)
    return type(cell) is kind and same


def _is_same(function: Callable[..., Any], standard: Callable[..., Any]) -> bool:
    """Whether a function computes the same as the standard one, by their jaxprs, not by name."""
    if function is standard:
        return True
    try:
        for shape, dtype in itertools.product(_SHAPES, _DTYPES):
            probe = jnp.ones(shape, dtype)
            if str(jax.make_jaxpr(function)(probe)) != str(jax.make_jaxpr(standard)(probe)):
                return False
    except Exception:  # a function that raises, with any error, is not the standard one
        return False
    return True


def unroll(layer: Any, params: Any, carry: Any, inputs: jax.Array, call: Call) -> Any:
    """`gru_unroll` with the arguments, dtypes and results of Flax's RNN.

    Args:
      layer: the Flax layer.
      params: the `GRUParams` of its cell.
      carry: the initial state `[*batch, H]`.
      inputs: `[*batch, T, I]`, or `[T, *batch, I]` if time-major.
      call: the arguments, from `check_call`.

    Returns:
      The outputs `[*batch, T, H]`, or `[T, *batch, H]` if time-major; with return_carry the pair of
      the last state `[*batch, H]` and the outputs.

    Raises:
      ValueError: an array of the wrong shape or dtype.
    """
    if inputs.shape[-1] != params.input_size:
        raise _wrong_inputs(inputs, call, f" with I = {params.input_size}")
    dtype = layer.cell.dtype or jnp.promote_types(inputs.dtype, params.w_x.dtype)
    params, inputs = jax.tree.map(lambda array: array.astype(dtype), (params, inputs))
    carry = as_array("initial_carry", carry)
    xs, resets, mask = inputs, call.resets, None
    if not call.time_major:
        xs = jnp.moveaxis(inputs, -2, 0)
        if resets is not None:
            resets = as_array("resets", resets)
            check_shape("resets", resets, inputs.shape[:-1], "(*batch, T)")
            resets = jnp.moveaxis(resets, -1, 0)
    lengths = None
    if call.seq_lengths is not None:
        given = as_array("seq_lengths", call.seq_lengths)
        check_shape("seq_lengths", given, xs.shape[1:-1], "(*batch)")
        if not jnp.issubdtype(given.dtype, jnp.integer):
            raise ValueError(f"seq_lengths is {given.dtype}, but must be integers.")
        mask = sequence_mask(call.seq_lengths, xs.shape[0])
        lengths = jnp.sum(mask, axis=0, dtype=jnp.int32)  # at most T
    check_shape("initial_carry", carry, (*xs.shape[1:-1], params.hidden_size), "(*batch, H)")
    check_floating("initial_carry", carry.dtype)
    carry = carry.astype(jnp.promote_types(carry.dtype, dtype))
    reset_state = call.reset_state
    if reset_state is not None:
        reset_state = as_array("reset_state", reset_state)
        check_floating("reset_state", reset_state.dtype)
        reset_state = reset_state.astype(carry.dtype)
    h_last, hs = gru_unroll(
        params,
        carry,
        xs,
        mask=mask,
        resets=resets,
        reset_state=reset_state,
        reverse=call.reverse,
        unroll=layer.unroll,
    )
    if call.reverse and not call.keep_order:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            hs = flip_sequences(hs, lengths, num_batch_dims=xs.ndim - 2, time_major=True)
    hs = hs if call.time_major else jnp.moveaxis(hs, 0, -2)
    return (h_last, hs) if call.return_carry else hs


def _wrong_inputs(inputs: jax.Array, call: Call, size: str) -> ValueError:
    meaning = "(T, *batch, I)" if call.time_major else "(*batch, T, I)"
    return ValueError(f"inputs has shape {inputs.shape}, but must have {meaning}{size}.")
