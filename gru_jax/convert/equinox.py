"""Equinox: `equinox.nn.GRUCell`."""

from typing import Any

import jax

from ..cells.gru import GRUParams
from ._entries import biases, checked, from_rzn, hidden_size, read, require, to_rzn
from ._find import check_mapping
from ._formats import FORMATS

_NAMES = "weight_ih", "weight_hh", "bias", "bias_n"


def from_equinox(arrays: Any) -> GRUParams:
    """Reads an `equinox.nn.GRUCell`, or its arrays.

    The conversion is lossless. Equinox orders the gates r | z | n and computes
    h' = n + z ∘ (h − n): the gates are reordered and z is negated.

    Args:
      arrays: the cell, or its attributes {"weight_ih": `[3H, I]`, "weight_hh": `[3H, H]`,
        "bias": `[3H]`, "bias_n": `[H]`}; with use_bias=False both biases are None or absent;
        float16, bfloat16, float32 or float64.

    Returns:
      A `GRUParams` with reset="after", w_x `[I, 3H]`, w_h `[H, 3H]`, and b `[3H]` and b_hn `[H]`
      or None.

    Raises:
      ValueError: another object, or an entry that is missing, unknown or has the wrong shape or
        dtype.

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
    """Writes the arrays of an `equinox.nn.GRUCell`: the inverse of `from_equinox`.

    To load them into a cell: `equinox.tree_at(lambda cell: [getattr(cell, name) for name in
    arrays], cell, list(arrays.values()))`.

    Args:
      params: w_x `[I, 3H]`, w_h `[H, 3H]`, and b `[3H]` and b_hn `[H]` or None, with
        reset="after".

    Returns:
      {"weight_ih": `[3H, I]`, "weight_hh": `[3H, H]`, "bias": `[3H]`, "bias_n": `[H]`} in the
      dtype of the parameters; no biases if `params` has none, zeros if it lacks one of the two.

    Raises:
      ValueError: another class, reset="before", or an array of the wrong shape or dtype.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5, reset="after", bias=False)
    >>> {name: array.shape for name, array in gru_jax.convert.to_equinox(params).items()}
    {'weight_ih': (15, 3), 'weight_hh': (15, 5)}
    """
    params = checked(FORMATS["equinox"], params)
    arrays = {"weight_ih": to_rzn(params.w_x).T, "weight_hh": to_rzn(params.w_h).T}
    both = biases(params)
    return arrays if both is None else arrays | {"bias": to_rzn(both[0]), "bias_n": both[1]}
