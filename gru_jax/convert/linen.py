"""Flax linen: the parameters of `flax.linen.GRUCell`."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import jax

from ..cells.gru import GRUParams
from ._entries import biases, checked, gates, joined, require, zero_bias
from ._find import Layout, cells_of, check_mapping, flat, narrowed, one_layer
from ._stacked import each_layer

_KERNELS = "iz/kernel", "ir/kernel", "in/kernel", "hz/kernel", "hr/kernel", "hn/kernel"
_BIASES = "iz/bias", "ir/bias", "in/bias", "hn/bias"
_OTHERS = {"hg/kernel": "LSTMCell", "hf/kernel": "MGUCell", "h/kernel": "SimpleCell"}
_LAYOUT = Layout(
    "params of flax.linen.GRUCell",
    "/",
    re.compile(r"(?:(.*)/)?[ih][zr]/\w+"),  # which no other cell of Flax has
    lambda entries: any(name.startswith(("iz/", "ir/", "hz/", "hr/")) for name in entries),
    frozenset({"params"}),
)


def from_linen(params: Mapping[str, Any], *, prefix: str | None = None) -> Any:
    """Takes the parameters of a `flax.linen.GRUCell`, alone or within a whole model's variables.

    Lossless, with z negated, for Flax writes h' = (1 − z) ∘ n + z ∘ h.

    Args:
      params: {"ir": {"kernel": `[I, H]`, "bias": `[H]`}, ...} for ir, iz, in, hr, hz and hn, of
        which hr and hz have no bias; or a mapping with such a one anywhere within "params", as
        `model.init` gives it, a `TrainState` holds it, or msgpack and orbax restore it. Boxes of
        `nn.with_partitioning` are opened.
      prefix: where the cell stands: "cell" within `nn.RNN`, "forward_rnn" and "backward_rnn"
        within `nn.Bidirectional`, "GRUCell_0" within a parent with `nn.compact`,
        "ScannedRNN_0/GRUCell_1" in the policies of purejaxrl. None takes the only one.

    Returns:
      A `GRUParams` with reset="after"; a `Bidirectional` where "forward_rnn" and "backward_rnn"
      stand side by side; a `GRUStack` where all arrays have a leading axis for the layers of an
      `nn.scan`, whose inputs are then as wide as their outputs.

    Raises:
      ValueError: no GRU or several, a `prefix` without one, an entry missing, unknown, of the
        wrong shape or dtype.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> inputs = {g: {"kernel": np.ones((3, 5)), "bias": np.ones(5)} for g in ("ir", "iz", "in")}
    >>> hidden = {g: {"kernel": np.ones((5, 5))} for g in ("hr", "hz")}
    >>> hidden["hn"] = {"kernel": np.ones((5, 5)), "bias": np.ones(5)}
    >>> variables = {"params": {"GRUCell_0": inputs | hidden}}
    >>> convert.from_linen(variables, prefix="GRUCell_0").hidden_size
    5
    """
    check_mapping("params", params, 'variables["params"], or the restored file with them')
    while isinstance(params.get("params"), Mapping):  # beside other collections, or optimisers
        params = params["params"]
    # a box that was written to a file is a mapping with the array as its "value"
    entries = {k.removesuffix("/value"): v for k, v in flat(_LAYOUT.what, params).items()}
    layer = one_layer(_LAYOUT, narrowed(_LAYOUT, cells_of(_LAYOUT, entries), prefix))
    for (what, found), (name, cell) in itertools.product(layer, _OTHERS.items()):
        others = [each for each in found if f"/{each}".endswith(f"/{name}")]
        if others and not _LAYOUT.is_gru(found):
            raise ValueError(f"{what} has {others[0]!r} of an {cell}, but must be a GRUCell's.")
    return each_layer(layer, _KERNELS + _BIASES, _read)


def to_linen(params: GRUParams) -> dict[str, dict[str, jax.Array]]:
    """The inverse of `from_linen`; zeros for missing biases.

    Raises:
      ValueError: no `GRUParams`, or one with reset="before".
    """
    params = checked("flax.linen.GRUCell", params, "after")
    zeros = zero_bias(params)
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


def _read(what: str, arrays: list[jax.Array]) -> GRUParams:
    hidden, inputs = arrays[6].size, arrays[0].shape[0] if arrays[0].ndim else 0
    shapes = [(inputs, hidden)] * 3 + [(hidden, hidden)] * 3 + [(hidden,)] * 4
    for name, array, shape in zip(_KERNELS + _BIASES, arrays, shapes, strict=True):
        require(what, name, array, shape, "(I, H), (H, H) or (H,)")
    x_z, x_r, x_n, h_z, h_r, h_n, b_z, b_r, b_n, b_hn = arrays
    return GRUParams(
        joined(-x_z, x_r, x_n), joined(-h_z, h_r, h_n), joined(-b_z, b_r, b_n), b_hn, "after"
    )
