"""The textbook's weights, which act on the concatenation [h, x]."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._readout import ReadoutParams
from ..cells.gru import GRUParams
from ._entries import check_zero, checked, read, require
from ._find import check_mapping


def from_textbook(weights: Mapping[str, Any]) -> GRUParams | tuple[GRUParams, ReadoutParams]:
    """Takes W_z, W_r, W `[H, H + I]`, and W_y `[O, H]` if it is there.

        z = σ(W_z [h, x]),   r = σ(W_r [h, x]),   n = tanh(W [r ∘ h, x]),   y = σ(W_y h')

    Lossless: the result has reset="before" and no bias.

    Args:
      weights: "W_z", "W_r", "W", and perhaps "W_y".

    Returns:
      A `GRUParams`; with "W_y" the pair `(GRUParams, ReadoutParams)`.

    Raises:
      ValueError: no mapping, or an entry missing, unknown, of the wrong shape or dtype.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> params = convert.from_textbook({name: np.ones((2, 5)) for name in ("W_z", "W_r", "W")})
    >>> params.hidden_size, params.input_size
    (2, 3)
    """
    names = ["W_z", "W_r", "W"]
    what = "weights of the textbook"
    check_mapping("weights", weights, "the matrices W_z, W_r and W by these names")
    matrices = read(what, {k: v for k, v in weights.items() if k != "W_y"}, names)
    shape = matrices[0].shape
    if len(shape) != 2 or not 0 < shape[0] < shape[1]:
        raise ValueError(f"{what}: W_z has shape {shape}, but must have (H, H + I).")
    for name, matrix in zip(names, matrices, strict=True):
        require(what, name, matrix, shape, "(H, H + I) like W_z")
    stacked = jnp.concatenate([matrix.T for matrix in matrices], axis=1)
    params = GRUParams(w_x=stacked[shape[0] :], w_h=stacked[: shape[0]])
    if weights.get("W_y") is None:
        return params
    (w_y,) = read(what, {"W_y": weights["W_y"]}, ["W_y"])
    require(what, "W_y", w_y, (None, shape[0]), "(O, H)")
    if w_y.dtype != params.w_h.dtype:
        raise ValueError(f"{what}: W_y is {w_y.dtype}, but W_z is {params.w_h.dtype}: cast one.")
    return params, ReadoutParams(w_y.T)


def to_textbook(params: GRUParams, readout: ReadoutParams | None = None) -> dict[str, jax.Array]:
    """The inverse of `from_textbook`.

    Args:
      params: with reset="before" and without a bias.
      readout: without a bias, or None.

    Returns:
      "W_z", "W_r", "W" `[H, H + I]`, and "W_y" `[O, H]` if there is a read-out.

    Raises:
      ValueError: another class, reset="after", or a bias that is not zero: there is no place for
        it.
    """
    what = "the textbook's GRU"
    params = checked(what, params, "before")
    check_zero("params.b", params.b, f"{what} has no biases")
    stacked = jnp.concatenate([params.w_h, params.w_x])
    weights = dict(zip(["W_z", "W_r", "W"], (w.T for w in jnp.split(stacked, 3, 1)), strict=True))
    if readout is None:
        return weights
    if not isinstance(readout, ReadoutParams):
        raise ValueError(f"readout is a {type(readout).__name__}, but must be a ReadoutParams.")
    (w,) = read("readout", {"w": readout.w}, ["w"])
    require("readout", "w", w, (params.hidden_size, None), "(H, O)")
    check_zero("readout.b", readout.b, f"{what} has no biases")
    return weights | {"W_y": w.T}
