"""Flax nnx: the state of `flax.nnx.GRUCell`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._params import GRUParams
from ._entries import flat, from_rzn, hidden_size, read, require, reset_of, to_rzn

_NAMES = "dense_i/kernel", "dense_i/bias", "dense_h/kernel"


def from_nnx(state: Mapping[str, Any]) -> GRUParams:
    """Takes `flax.nnx.to_pure_dict(nnx.state(cell, nnx.Param))` of a `flax.nnx.GRUCell`.

    Lossless, with z negated and the gates, r | z | n there, reordered. The cell has no bias in
    the candidate's recurrent product, against its docstring, so that b_hn is None.

    Args:
      state: {"dense_i": {"kernel": `[I, 3H]`, "bias": `[3H]`}, "dense_h": {"kernel": `[H, 3H]`}}.

    Returns:
      A `GRUParams` with reset="after".

    Raises:
      ValueError: an entry missing, unknown or of the wrong shape.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> dense_i = {"kernel": np.ones((3, 15)), "bias": np.ones(15)}
    >>> dense_h = {"kernel": np.ones((5, 15))}
    >>> convert.from_nnx({"dense_i": dense_i, "dense_h": dense_h}).hidden_size
    5
    """
    what = "flax.nnx.GRUCell"
    w_x, b, w_h = read(what, flat(state), _NAMES)
    hidden = hidden_size(what, _NAMES[2], w_h, axis=1)
    require(what, _NAMES[0], w_x, (*w_x.shape[:1], 3 * hidden), "(I, 3H)")
    require(what, _NAMES[1], b, (3 * hidden,), "(3H,)")
    return GRUParams(from_rzn(w_x), from_rzn(w_h), from_rzn(b), reset="after")


def to_nnx(params: GRUParams) -> dict[str, dict[str, jax.Array]]:
    """The inverse of `from_nnx`; zeros for a missing bias.

    `state = nnx.state(cell); nnx.replace_by_pure_dict(state, ...); nnx.update(cell, state)` puts
    the result into a cell.

    Raises:
      ValueError: reset="before", or a b_hn that is not zero: the cell has no place for it.
    """
    reset_of("flax.nnx.GRUCell", params, "after")
    if params.b_hn is not None and jnp.any(params.b_hn):
        raise ValueError(
            "params.b_hn is not zero, but flax.nnx.GRUCell has no bias in the candidate's "
            "recurrent product: train with b_hn None."
        )
    zeros = jnp.zeros(3 * params.hidden_size, params.w_h.dtype)
    bias = to_rzn(zeros if params.b is None else params.b)
    return {
        "dense_i": {"kernel": to_rzn(params.w_x), "bias": bias},
        "dense_h": {"kernel": to_rzn(params.w_h)},
    }
