"""The textbook's weights, which act on the concatenation [h, x]."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._params import GRUParams
from .._readout import ReadoutParams
from ._entries import read, require, reset_of


def from_textbook(weights: Mapping[str, Any]) -> GRUParams | tuple[GRUParams, ReadoutParams]:
    """Takes W_z, W_r, W `[H, H + I]`, and W_y `[O, H]` if it is there.

        z = σ(W_z [h, x]),   r = σ(W_r [h, x]),   n = tanh(W [r ∘ h, x]),   y = σ(W_y h')

    Lossless: the result has reset="before" and no bias.

    Args:
      weights: "W_z", "W_r", "W", and perhaps "W_y".

    Returns:
      A `GRUParams`; with "W_y" the pair `(GRUParams, ReadoutParams)`.

    Raises:
      ValueError: an entry missing, unknown or of the wrong shape.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> params = convert.from_textbook({name: np.ones((2, 5)) for name in ("W_z", "W_r", "W")})
    >>> params.hidden_size, params.input_size
    (2, 3)
    """
    names = ["W_z", "W_r", "W"]
    what = "textbook weights"
    matrices = read(what, {k: v for k, v in weights.items() if k != "W_y"}, names)
    shape = matrices[0].shape
    if len(shape) != 2 or shape[1] <= shape[0]:
        raise ValueError(f"{what}: W_z has shape {shape}, but must have (H, H + I).")
    for name, matrix in zip(names, matrices, strict=True):
        require(what, name, matrix, shape, "(H, H + I) like W_z")
    stacked = jnp.concatenate([matrix.T for matrix in matrices], axis=1)
    params = GRUParams(w_x=stacked[shape[0] :], w_h=stacked[: shape[0]])
    if "W_y" not in weights:
        return params
    (w_y,) = read(what, {"W_y": weights["W_y"]}, ["W_y"])
    require(what, "W_y", w_y, (*w_y.shape[:1], shape[0]), "(O, H)")
    return params, ReadoutParams(w_y.T)


def to_textbook(params: GRUParams, readout: ReadoutParams | None = None) -> dict[str, jax.Array]:
    """The inverse of `from_textbook`.

    Args:
      params: with reset="before" and without a bias.
      readout: without a bias, or None.

    Returns:
      "W_z", "W_r", "W" `[H, H + I]`, and "W_y" `[O, H]` if there is a read-out.

    Raises:
      ValueError: reset="after", or a bias that is not zero: there is no place for it.
    """
    reset_of("the textbook's GRU", params, "before")
    for name, b in (("params.b", params.b), ("readout.b", readout.b if readout else None)):
        if b is not None and jnp.any(b):
            raise ValueError(f"{name} is not zero, but the textbook's GRU has no biases.")
    stacked = jnp.concatenate([params.w_h, params.w_x])
    weights = dict(zip(["W_z", "W_r", "W"], (w.T for w in jnp.split(stacked, 3, 1)), strict=True))
    return weights if readout is None else weights | {"W_y": readout.w.T}
