"""Flax linen: the parameters of `flax.linen.GRUCell`."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import jax

from ..cells.gru import GRUParams
from ..stack.params import Bidirectional, GRUStack
from ._entries import biases, checked, concatenate, gates, require, zero_bias
from ._find import Layout, cells_of, check_mapping, flatten, one_layer, select
from ._formats import FORMATS
from ._stacked import each_layer

_KERNELS = "iz/kernel", "ir/kernel", "in/kernel", "hz/kernel", "hr/kernel", "hn/kernel"
_BIASES = "iz/bias", "ir/bias", "in/bias", "hn/bias"
_OTHERS = {"hg/kernel": "LSTMCell", "hf/kernel": "MGUCell", "h/kernel": "SimpleCell"}
_LAYOUT = Layout(
    "params of flax.linen.GRUCell",
    "/",
    re.compile(r"(?:(.*)/)?[ih][zr]/\w+"),  # no other Flax cell has these names
    lambda entries: any(name.startswith(("iz/", "ir/", "hz/", "hr/")) for name in entries),
    frozenset({"params"}),
)


def from_linen(
    params: Mapping[str, Any], *, prefix: str | None = None
) -> GRUParams | Bidirectional | GRUStack:
    """Reads the parameters of a `flax.linen.GRUCell`, alone or within the variables of a model.

    The conversion is lossless; z is negated because Flax computes h' = (1 − z) ∘ n + z ∘ h.

    Args:
      params: {"ir": {"kernel": `[I, H]`, "bias": `[H]`}, "hr": {"kernel": `[H, H]`}, ...} for ir,
        iz, in, hr, hz and hn, of which hr and hz have no bias; or a mapping that contains it
        anywhere below "params", as returned by `model.init`, held by a `TrainState`, or restored
        by msgpack or orbax. Boxes of `nn.with_partitioning` are unboxed. Float16, bfloat16,
        float32 or float64.
      prefix: the path of the cell: "cell" within `nn.RNN`, "forward_rnn" and "backward_rnn"
        within `nn.Bidirectional`, "GRUCell_0" within an `nn.compact` parent,
        "ScannedRNN_0/GRUCell_1" in purejaxrl's policies. None selects the only GRU.

    Returns:
      A `GRUParams` with reset="after", w_x `[I, 3H]`, w_h `[H, 3H]`, b `[3H]` and b_hn `[H]`; a
      `Bidirectional` for siblings "forward_rnn" and "backward_rnn"; a `GRUStack` if all arrays
      have a leading axis for the layers of an `nn.scan`, where I = H.

    Raises:
      ValueError: no GRU, several GRUs without a `prefix`, none at the `prefix`, or an entry that
        is missing, unknown or has the wrong shape or dtype.

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
    while isinstance(params.get("params"), Mapping):  # next to other collections or optimisers
        params = params["params"]
    # files store a box as a mapping that holds the array as "value"
    entries = {k.removesuffix("/value"): v for k, v in flatten(_LAYOUT.what, params).items()}
    layer = one_layer(_LAYOUT, select(_LAYOUT, cells_of(_LAYOUT, entries), prefix))
    for (what, weights), (name, cell) in itertools.product(layer, _OTHERS.items()):
        others = [each for each in weights if f"/{each}".endswith(f"/{name}")]
        if others and not _LAYOUT.is_gru(weights):
            raise ValueError(f"{what} has {others[0]!r} of an {cell}, but must be a GRUCell's.")
    return each_layer(layer, _KERNELS + _BIASES, _read)


def to_linen(params: GRUParams) -> dict[str, dict[str, jax.Array]]:
    """Writes the parameters of a `flax.linen.GRUCell`: the inverse of `from_linen`.

    Args:
      params: w_x `[I, 3H]`, w_h `[H, 3H]`, and b `[3H]` and b_hn `[H]` or None, with
        reset="after".

    Returns:
      {"ir": {"kernel": `[I, H]`, "bias": `[H]`}, "hr": {"kernel": `[H, H]`}, ...} for ir, iz, in,
      hr, hz and hn, of which hr and hz have no bias, in the dtype of the parameters; missing
      biases are zero.

    Raises:
      ValueError: another class, reset="before", or an array of the wrong shape or dtype.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5, reset="after")
    >>> weights = gru_jax.convert.to_linen(params)
    >>> sorted(weights), weights["ir"]["kernel"].shape
    (['hn', 'hr', 'hz', 'in', 'ir', 'iz'], (3, 5))
    """
    params = checked(FORMATS["linen"], params)
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
        w_x=concatenate(-x_z, x_r, x_n),
        w_h=concatenate(-h_z, h_r, h_n),
        b=concatenate(-b_z, b_r, b_n),
        b_hn=b_hn,
        reset="after",
    )
