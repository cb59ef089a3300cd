"""Haiku: the parameters of `haiku.GRU`."""

import re
from collections.abc import Mapping
from typing import Any

import jax

from ..cells.gru import GRUParams
from ._arrays import shape_of
from ._entries import checked, hidden_size, read, require, zero_bias
from ._find import Layout, cells_of, check_mapping, flat, narrowed, one_layer


def _is_gru(entries: Mapping[str, Any]) -> bool:
    shape = shape_of(entries.get("w_h"))
    return len(shape) == 2 and shape[1] == 3 * shape[0]


_LAYOUT = Layout(
    "params of haiku.GRU", "/", re.compile(r"(?:(.*)/)?w_[ih]"), _is_gru, directions=False
)


def from_haiku(params: Mapping[str, Any], *, prefix: str | None = None) -> GRUParams:
    """Takes the parameters of a `haiku.GRU`, or those of a whole transformed function.

    Lossless: the equations, the signs and the order of the gates are ours.

    Args:
      params: {"w_i": `[I, 3H]`, "w_h": `[H, 3H]`, "b": `[3H]`}, or a mapping of modules with such
        a one, as `transformed.init` gives it.
      prefix: the name of the module, such as "gru_1" or "agent/~/gru". None takes the only GRU
        that there is.

    Returns:
      A `GRUParams` with reset="before".

    Raises:
      ValueError: no GRU or several, a `prefix` without one, an entry missing, unknown, of the
        wrong shape or dtype.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> gru = {"w_i": np.ones((3, 15)), "w_h": np.ones((5, 15)), "b": np.ones(15)}
    >>> convert.from_haiku({"net/~/gru": gru, "net/~/linear": {"b": np.ones(2)}}).hidden_size
    5
    """
    check_mapping("params", params, "of a haiku.GRU, or of a whole transformed function")
    cells = narrowed(_LAYOUT, cells_of(_LAYOUT, flat(_LAYOUT.what, params)), prefix)
    ((what, entries),) = one_layer(_LAYOUT, cells)
    w_x, w_h, b = read(what, entries, ["w_i", "w_h", "b"])
    hidden = hidden_size(what, "w_h", w_h, axis=1)
    require(what, "w_i", w_x, (None, 3 * hidden), "(I, 3H)")
    require(what, "b", b, (3 * hidden,), "(3H,)")
    return GRUParams(w_x, w_h, b)


def to_haiku(params: GRUParams) -> dict[str, jax.Array]:
    """The inverse of `from_haiku`; zeros for a missing bias.

    Raises:
      ValueError: no `GRUParams`, or one with reset="after".
    """
    params = checked("haiku.GRU", params, "before")
    b = zero_bias(params) if params.b is None else params.b
    return {"w_i": params.w_x, "w_h": params.w_h, "b": b}
