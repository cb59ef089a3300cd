"""Haiku: the parameters of `haiku.GRU`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._params import GRUParams
from ._entries import hidden_size, read, require, reset_of


def from_haiku(params: Mapping[str, Any]) -> GRUParams:
    """Takes the parameters of a `haiku.GRU`: params["gru"] of the transformed function.

    Lossless: the equations, the signs and the order of the gates are ours.

    Args:
      params: {"w_i": `[I, 3H]`, "w_h": `[H, 3H]`, "b": `[3H]`}.

    Returns:
      A `GRUParams` with reset="before".

    Raises:
      ValueError: an entry missing, unknown or of the wrong shape.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> shapes = {"w_i": (3, 15), "w_h": (5, 15), "b": 15}
    >>> convert.from_haiku({name: np.ones(shape) for name, shape in shapes.items()}).hidden_size
    5
    """
    what = "haiku.GRU"
    w_x, w_h, b = read(what, params, ["w_i", "w_h", "b"])
    hidden = hidden_size(what, "w_h", w_h, axis=1)
    require(what, "w_i", w_x, (*w_x.shape[:1], 3 * hidden), "(I, 3H)")
    require(what, "b", b, (3 * hidden,), "(3H,)")
    return GRUParams(w_x, w_h, b)


def to_haiku(params: GRUParams) -> dict[str, jax.Array]:
    """The inverse of `from_haiku`; zeros for a missing bias.

    Raises:
      ValueError: reset="after".
    """
    reset_of("haiku.GRU", params, "before")
    zeros = jnp.zeros(3 * params.hidden_size, params.w_h.dtype)
    return {"w_i": params.w_x, "w_h": params.w_h, "b": zeros if params.b is None else params.b}
