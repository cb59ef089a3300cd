"""The textbook's GRU, whose weights act on the concatenation [h, x]."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._readout import ReadoutParams
from ..cells.gru import GRUParams
from ._entries import check_zero, checked, read, require
from ._find import check_mapping
from ._formats import FORMATS

_FORMAT = FORMATS["textbook"]


def from_textbook(weights: Mapping[str, Any]) -> GRUParams | tuple[GRUParams, ReadoutParams]:
    """Reads the weights of the textbook's GRU, which act on the concatenation [h, x].

        z = σ(W_z [h, x]),   r = σ(W_r [h, x]),   n = tanh(W [r ∘ h, x]),   y = σ(W_y h')

    The conversion is lossless.

    Args:
      weights: {"W_z": `[H, H + I]`, "W_r": `[H, H + I]`, "W": `[H, H + I]`}, and optionally
        "W_y": `[O, H]`; float16, bfloat16, float32 or float64.

    Returns:
      A `GRUParams` with reset="before", w_x `[I, 3H]`, w_h `[H, 3H]` and no bias; with "W_y" the
      pair `(GRUParams, ReadoutParams)`, whose readout has w `[H, O]`.

    Raises:
      ValueError: `weights` is not a mapping, or an entry is missing, unknown or has the wrong
        shape or dtype.

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
    """Writes the weights of the textbook's GRU: the inverse of `from_textbook`.

    Args:
      params: w_x `[I, 3H]` and w_h `[H, 3H]`, with reset="before"; biases zero or None.
      readout: w `[H, O]`, its bias zero or None; None for no readout.

    Returns:
      {"W_z": `[H, H + I]`, "W_r": `[H, H + I]`, "W": `[H, H + I]`}, and "W_y": `[O, H]` if there
      is a readout, in the dtype of the parameters.

    Raises:
      ValueError: another class, reset="after", a wrong shape or dtype, or a bias that is not
        zero or is traced.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 2, bias=False)
    >>> {name: array.shape for name, array in gru_jax.convert.to_textbook(params).items()}
    {'W_z': (2, 5), 'W_r': (2, 5), 'W': (2, 5)}
    """
    params = checked(_FORMAT, params)
    stacked = jnp.concatenate([params.w_h, params.w_x])
    weights = dict(zip(["W_z", "W_r", "W"], (w.T for w in jnp.split(stacked, 3, 1)), strict=True))
    if readout is None:
        return weights
    if not isinstance(readout, ReadoutParams):
        raise ValueError(f"readout is a {type(readout).__name__}, but must be a ReadoutParams.")
    (w,) = read("readout", {"w": readout.w}, ["w"])
    require("readout", "w", w, (params.hidden_size, None), "(H, O)")
    check_zero("readout.b", readout.b, _FORMAT)
    return weights | {"W_y": w.T}
