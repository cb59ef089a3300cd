"""Equinox: the arrays of `equinox.nn.GRUCell`."""

from typing import Any

import jax

from ..cells.gru import GRUParams
from ._entries import biases, checked, from_rzn, hidden_size, read, require, to_rzn
from ._find import check_mapping

_NAMES = "weight_ih", "weight_hh", "bias", "bias_n"


def from_equinox(arrays: Any) -> GRUParams:
    """Takes an `equinox.nn.GRUCell`, or its arrays.

    Lossless, with z negated and the gates, r | z | n there, reordered.

    Args:
      arrays: the cell itself, or {"weight_ih": `[3H, I]`, "weight_hh": `[3H, H]`, "bias": `[3H]`,
        "bias_n": `[H]`}, its attributes by these names; both biases None, or absent, with
        use_bias=False.

    Returns:
      A `GRUParams` with reset="after".

    Raises:
      ValueError: another object, or an entry missing, unknown, of the wrong shape or dtype.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> arrays = {"weight_ih": np.ones((15, 3)), "weight_hh": np.ones((15, 5))}
    >>> convert.from_equinox(arrays).hidden_size
    5
    """
    what = "arrays of equinox.nn.GRUCell"
    if all(hasattr(arrays, name) for name in _NAMES):
        arrays = {name: getattr(arrays, name) for name in _NAMES}
    check_mapping("arrays", arrays, f"an equinox.nn.GRUCell, or its {', '.join(_NAMES)}")
    biased = arrays.get("bias") is not None or arrays.get("bias_n") is not None
    w_ih, w_hh, *b = read(what, arrays, _NAMES if biased else _NAMES[:2])
    hidden = hidden_size(what, "weight_hh", w_hh, axis=0)
    require(what, "weight_ih", w_ih, (3 * hidden, None), "(3H, I)")
    bias = b_hn = None
    if b:
        bias, b_hn = b
        require(what, "bias", bias, (3 * hidden,), "(3H,)")
        require(what, "bias_n", b_hn, (hidden,), "(H,)")
        bias = from_rzn(bias)
    return GRUParams(from_rzn(w_ih.T), from_rzn(w_hh.T), bias, b_hn, "after")


def to_equinox(params: GRUParams) -> dict[str, jax.Array]:
    """The inverse of `from_equinox`; without biases the result has none.

    `equinox.tree_at(lambda cell: [getattr(cell, name) for name in arrays], cell,
    list(arrays.values()))` puts the result into a cell.

    Raises:
      ValueError: no `GRUParams`, or one with reset="before".
    """
    params = checked("equinox.nn.GRUCell", params, "after")
    arrays = {"weight_ih": to_rzn(params.w_x).T, "weight_hh": to_rzn(params.w_h).T}
    both = biases(params)
    return arrays if both is None else arrays | {"bias": to_rzn(both[0]), "bias_n": both[1]}
