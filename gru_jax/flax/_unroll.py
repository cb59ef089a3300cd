"""What the layers of both of Flax' interfaces do."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.linen.recurrent import flip_sequences

from .._checks import as_array, check_bool, check_shape
from .._masks import sequence_mask
from ..cells.gru import GRUParams
from ..recurrence.gru import gru_unroll

_SHAPES = (3,), (2, 3), (1, 2, 3)  # a function may depend on the batch axes, and on the dtype
_DTYPES = jnp.float32, jnp.bfloat16, jnp.float16


class Call(NamedTuple):
    """The arguments of a call of Flax' RNN, and ours, the layer's own where a call gives none."""

    seq_lengths: Any
    resets: Any
    reset_state: Any
    return_carry: bool
    time_major: bool
    reverse: bool
    keep_order: bool
    unroll: int


def arguments(layer: Any, **given: Any) -> Call:
    """The arguments of a call, the layer's own where it gives none."""
    for name in ("return_carry", "time_major", "reverse", "keep_order"):
        given[name] = getattr(layer, name) if given[name] is None else given[name]
        check_bool(name, given[name])
    return Call(**given, unroll=layer.unroll)


def check_cell(cell: Any, kind: Any) -> None:
    """Raises `ValueError` for a cell that is not Flax' GRU, nor derived from it."""
    if not isinstance(cell, kind):
        raise ValueError(f"cell is a {type(cell).__name__}, but must be a Flax GRUCell.")


def is_standard(cell: Any, kind: Any) -> bool:
    """Whether a cell computes what Flax' GRU computes by default, as far as its type tells."""
    same = _is_same(cell.gate_fn, jax.nn.sigmoid) and _is_same(cell.activation_fn, jnp.tanh)
    return type(cell) is kind and same


def check_no_resets(call: Call) -> None:
    """Raises `ValueError` where a cell that only Flax can run is asked for what Flax has not."""
    if call.resets is not None or call.reset_state is not None:
        raise ValueError(
            "resets and reset_state are for Flax' own GRUCell with sigmoid and tanh, but cell is "
            "another one, which runs as it does in Flax."
        )


def _is_same(function: Callable[..., Any], standard: Callable[..., Any]) -> bool:
    """Whether a function is the standard one, or a copy of it: not whether it is called so."""
    if function is standard:
        return True
    try:
        for shape, dtype in itertools.product(_SHAPES, _DTYPES):
            probe = jnp.ones(shape, dtype)
            if str(jax.make_jaxpr(function)(probe)) != str(jax.make_jaxpr(standard)(probe)):
                return False
    except Exception:  # whatever a user's function raises on an array, it is not the standard one
        return False
    return True


def check_inputs(inputs: Any, features: int, time_major: bool) -> jax.Array:
    """The inputs as an array; raises `ValueError` without time, or for other features."""
    array = as_array("inputs", inputs)
    if array.ndim < 2 or (features and array.shape[-1] != features):
        meaning = "(T, *batch, I)" if time_major else "(*batch, T, I)"
        size = f" with I = {features}" if features else ""
        raise ValueError(f"inputs has shape {array.shape}, but must have {meaning}{size}.")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(f"inputs is {array.dtype}, but must be real.")
    return array


def _check_floating(name: str, array: jax.Array) -> jax.Array:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} is {array.dtype}, but must be floating.")
    return array


def unroll(params: GRUParams, carry: jax.Array, inputs: jax.Array, dtype: Any, call: Call) -> Any:
    """`gru_unroll` with the arguments, and the dtypes, of Flax' RNN."""
    dtype = dtype or jnp.promote_types(inputs.dtype, params.w_x.dtype)
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
        lengths = jnp.sum(mask, axis=0, dtype=jnp.int32)  # none above T
    check_shape("initial_carry", carry, (*xs.shape[1:-1], params.hidden_size), "(*batch, H)")
    _check_floating("initial_carry", carry)
    carry = carry.astype(jnp.promote_types(carry.dtype, dtype))
    reset_state = call.reset_state
    if reset_state is not None:
        reset_state = _check_floating("reset_state", as_array("reset_state", reset_state))
        reset_state = reset_state.astype(carry.dtype)
    h_last, hs = gru_unroll(
        params,
        carry,
        xs,
        mask=mask,
        resets=resets,
        reset_state=reset_state,
        reverse=call.reverse,
        unroll=call.unroll,
    )
    if call.reverse and not call.keep_order:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            hs = flip_sequences(hs, lengths, num_batch_dims=xs.ndim - 2, time_major=True)
    hs = hs if call.time_major else jnp.moveaxis(hs, 0, -2)
    return (h_last, hs) if call.return_carry else hs
