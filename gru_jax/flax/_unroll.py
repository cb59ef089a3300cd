"""What the layers of both of Flax' interfaces do."""

from typing import Any

import jax
import jax.numpy as jnp
from flax.linen.recurrent import flip_sequences

from .._fast import gru_unroll
from .._params import GRUParams
from .._scan import sequence_mask


def check_cell(cell: Any, kind: Any) -> None:
    """Refuses a cell that is not Flax' GRU with its own activations."""
    if not isinstance(cell, kind):
        raise ValueError(f"cell is a {type(cell).__name__}, but must be a Flax GRUCell.")
    activations = [(cell.gate_fn, jax.nn.sigmoid), (cell.activation_fn, jnp.tanh)]
    if any(getattr(f, "__name__", f) != g.__name__ for f, g in activations):
        raise ValueError("cell has other activations, but must have sigmoid and tanh.")


def unroll(
    params: GRUParams,
    carry: jax.Array,
    inputs: jax.Array,
    dtype: Any,
    *,
    seq_lengths: jax.Array | None,
    time_major: bool,
    reverse: bool,
    keep_order: bool,
    unroll: int,
) -> tuple[jax.Array, jax.Array]:
    """`gru_unroll` with the arguments, and the dtypes, of Flax' RNN."""
    dtype = dtype or jnp.promote_types(inputs.dtype, params.w_x.dtype)
    params, inputs = jax.tree.map(lambda array: array.astype(dtype), (params, inputs))
    carry = carry.astype(jnp.promote_types(carry.dtype, dtype))
    xs = inputs if time_major else jnp.moveaxis(inputs, -2, 0)
    mask = None if seq_lengths is None else sequence_mask(seq_lengths, len(xs))
    h_last, hs = gru_unroll(params, carry, xs, mask=mask, reverse=reverse, unroll=unroll)
    if reverse and not keep_order:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            hs = flip_sequences(hs, seq_lengths, num_batch_dims=xs.ndim - 2, time_major=True)
    return h_last, hs if time_major else jnp.moveaxis(hs, 0, -2)
