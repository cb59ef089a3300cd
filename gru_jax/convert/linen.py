"""Flax linen: the parameters of `flax.linen.GRUCell`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._params import GRUParams
from ._entries import biases, flat, gates, joined, read, require, reset_of

_KERNELS = "iz/kernel", "ir/kernel", "in/kernel", "hz/kernel", "hr/kernel", "hn/kernel"
_BIASES = "iz/bias", "ir/bias", "in/bias", "hn/bias"


def from_linen(params: Mapping[str, Any]) -> GRUParams:
    """Takes the "params" of a `flax.linen.GRUCell`.

    Lossless, with z negated, for Flax writes h' = (1 − z) ∘ n + z ∘ h. Within an `nn.RNN` they
    are variables["params"]["cell"], within an `nn.Bidirectional` those of "forward_rnn" and
    "backward_rnn" have a "cell" each.

    Args:
      params: {"ir": {"kernel": `[I, H]`, "bias": `[H]`}, ...} for ir, iz, in, hr, hz and hn, of
        which hr and hz have no bias.

    Returns:
      A `GRUParams` with reset="after".

    Raises:
      ValueError: an entry missing, unknown or of the wrong shape.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> inputs = {g: {"kernel": np.ones((3, 5)), "bias": np.ones(5)} for g in ("ir", "iz", "in")}
    >>> hidden = {g: {"kernel": np.ones((5, 5))} for g in ("hr", "hz")}
    >>> hidden["hn"] = {"kernel": np.ones((5, 5)), "bias": np.ones(5)}
    >>> convert.from_linen(inputs | hidden).hidden_size
    5
    """
    what = "flax.linen.GRUCell"
    arrays = read(what, flat(params), _KERNELS + _BIASES)
    hidden, inputs = arrays[6].size, arrays[0].shape[0] if arrays[0].ndim else 0
    shapes = [(inputs, hidden)] * 3 + [(hidden, hidden)] * 3 + [(hidden,)] * 4
    for name, array, shape in zip(_KERNELS + _BIASES, arrays, shapes, strict=True):
        require(what, name, array, shape, "(I, H), (H, H) or (H,)")
    x_z, x_r, x_n, h_z, h_r, h_n, b_z, b_r, b_n, b_hn = arrays
    return GRUParams(
        joined(-x_z, x_r, x_n), joined(-h_z, h_r, h_n), joined(-b_z, b_r, b_n), b_hn, "after"
    )


def to_linen(params: GRUParams) -> dict[str, dict[str, jax.Array]]:
    """The inverse of `from_linen`; zeros for missing biases.

    Raises:
      ValueError: reset="before".
    """
    reset_of("flax.linen.GRUCell", params, "after")
    zeros = jnp.zeros(3 * params.hidden_size, params.w_h.dtype)
    b, b_hn = biases(params) or (zeros, zeros[: params.hidden_size])
    x_z, x_r, x_n, h_z, h_r, h_n = *gates(params.w_x), *gates(params.w_h)
    b_z, b_r, b_n = gates(b)
    return {
        "ir": {"kernel": x_r, "bias": b_r},
        "iz": {"kernel": -x_z, "bias": -b_z},
        "in": {"kernel": x_n, "bias": b_n},
        "hr": {"kernel": h_r},
        "hz": {"kernel": -h_z},
        "hn": {"kernel": h_n, "bias": b_hn},
    }
