"""Haiku: the parameters of `haiku.GRU`."""

import re
from collections.abc import Mapping
from typing import Any

import jax

from ..cells.gru import GRUParams
from ._arrays import shape_of
from ._entries import checked, hidden_size, read, require, zero_bias
from ._find import Layout, cells_of, check_mapping, flatten, one_layer, select
from ._formats import FORMATS


def _is_gru(entries: Mapping[str, Any]) -> bool:
    shape = shape_of(entries.get("w_h"))
    return len(shape) == 2 and shape[1] == 3 * shape[0]


_LAYOUT = Layout(
    "params of haiku.GRU", "/", re.compile(r"(?:(.*)/)?w_[ih]"), _is_gru, directions=False
)


def from_haiku(params: Mapping[str, Any], *, prefix: str | None = None) -> GRUParams:
    """Reads the parameters of a `haiku.GRU`, alone or within those of a transformed function.

    The conversion is lossless: Haiku has the same equations, signs and order of gates.

    Args:
      params: {"w_i": `[I, 3H]`, "w_h": `[H, 3H]`, "b": `[3H]`}, or a mapping of modules that
        contains it, as returned by `transformed.init`; float16, bfloat16, float32 or float64.
      prefix: the name of the module, such as "gru_1" or "agent/~/gru". None selects the only GRU.

    Returns:
      A `GRUParams` with reset="before", w_x `[I, 3H]`, w_h `[H, 3H]` and b `[3H]`.

    Raises:
      ValueError: no GRU, several GRUs without a `prefix`, none at the `prefix`, or an entry that
        is missing, unknown or has the wrong shape or dtype.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> gru = {"w_i": np.ones((3, 15)), "w_h": np.ones((5, 15)), "b": np.ones(15)}
    >>> convert.from_haiku({"net/~/gru": gru, "net/~/linear": {"b": np.ones(2)}}).hidden_size
    5
    """
    check_mapping("params", params, "of a haiku.GRU, or of a whole transformed function")
    cells = select(_LAYOUT, cells_of(_LAYOUT, flatten(_LAYOUT.what, params)), prefix)
    ((what, entries),) = one_layer(_LAYOUT, cells)
    w_x, w_h, b = read(what, entries, ["w_i", "w_h", "b"])
    hidden = hidden_size(what, "w_h", w_h, axis=1)
    require(what, "w_i", w_x, (None, 3 * hidden), "(I, 3H)")
    require(what, "b", b, (3 * hidden,), "(3H,)")
    return GRUParams(w_x, w_h, b)


def to_haiku(params: GRUParams) -> dict[str, jax.Array]:
    """Writes the parameters of a `haiku.GRU`: the inverse of `from_haiku`.

    Args:
      params: w_x `[I, 3H]`, w_h `[H, 3H]` and b `[3H]` or None, with reset="before".

    Returns:
      {"w_i": `[I, 3H]`, "w_h": `[H, 3H]`, "b": `[3H]`} in the dtype of the parameters; b is zero
      without biases.

    Raises:
      ValueError: another class, reset="after", or an array of the wrong shape or dtype.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> {name: array.shape for name, array in gru_jax.convert.to_haiku(params).items()}
    {'w_i': (3, 15), 'w_h': (5, 15), 'b': (15,)}
    """
    params = checked(FORMATS["haiku"], params)
    b = zero_bias(params) if params.b is None else params.b
    return {"w_i": params.w_x, "w_h": params.w_h, "b": b}
