"""Flax nnx: the state of `flax.nnx.GRUCell`."""

import re
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..cells.gru import GRUParams
from ._arrays import shape_of, to_array
from ._entries import check_zero, checked, from_rzn, hidden_size, require, to_rzn, zero_bias
from ._find import Layout, cells_of, check_mapping, flat, narrowed, one_layer
from ._stacked import each_layer

_NAMES = "dense_i/kernel", "dense_i/bias", "dense_h/kernel"


def _is_gru(entries: Mapping[str, Any]) -> bool:
    shape = shape_of(entries.get("dense_h/kernel"))
    return len(shape) in (2, 3) and shape[-1] == 3 * shape[-2]


_LAYOUT = Layout("state of flax.nnx.GRUCell", "/", re.compile(r"(?:(.*)/)?dense_[ih]/\w+"), _is_gru)


def from_nnx(state: Any, *, prefix: str | None = None) -> Any:
    """Takes the state of a `flax.nnx.GRUCell`, alone or within a whole model's, or the module.

    Lossless, with z negated and the gates, r | z | n there, reordered. The cell has no bias in
    the candidate's recurrent product, against its docstring, so that b_hn is None.

    Args:
      state: {"dense_i": {"kernel": `[I, 3H]`, "bias": `[3H]`}, "dense_h": {"kernel": `[H, 3H]`}},
        or a mapping with such a one: `nnx.state(model)`, `nnx.to_pure_dict` of it, or what orbax
        restores; or the module itself, whose activations are then looked at.
      prefix: where the cell stands, such as "encoder/rnn/cell" for `model.encoder.rnn.cell`;
        within `nnx.Bidirectional` "forward_rnn/cell" and "backward_rnn/cell". None takes the only
        one.

    Returns:
      A `GRUParams` with reset="after"; a `Bidirectional` where "forward_rnn" and "backward_rnn"
      stand side by side; a `GRUStack` where all arrays have a leading axis for the layers that
      `nnx.vmap` made for an `nnx.scan`, whose inputs are then as wide as their outputs.

    Raises:
      ValueError: no GRU or several, a `prefix` without one, an entry missing, unknown, of the
        wrong shape or dtype; a module with other activations.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> dense_i = {"kernel": np.ones((3, 15)), "bias": np.ones(15)}
    >>> dense_h = {"kernel": np.ones((5, 15))}
    >>> state = {"rnn": {"cell": {"dense_i": dense_i, "dense_h": dense_h}}}
    >>> convert.from_nnx(state, prefix="rnn/cell").hidden_size
    5
    """
    nnx: Any = sys.modules.get("flax.nnx")  # a module of nnx has imported it
    module = state if nnx is not None and isinstance(state, nnx.Module) else None
    if module is not None:
        state = nnx.state(module)
    check_mapping("state", state, "nnx.state(model), or an nnx module")
    # a variable that was written to a file is a mapping with the array as its "value"
    entries = {k.removesuffix("/value"): v for k, v in flat(_LAYOUT.what, state).items()}
    # the random state of a cell with keep_rngs=True
    entries = {k: v for k, v in entries.items() if "rngs" not in k.split("/")}
    cells = narrowed(_LAYOUT, cells_of(_LAYOUT, entries), prefix)
    if module is not None:
        for path, cell in cells.items():
            if _is_gru(cell):
                _check_activations(_LAYOUT.at(path), module, path)
    layer = one_layer(_LAYOUT, cells)
    for what, found in layer:
        if "dense_h/kernel" in found and not _is_gru(found):  # an LSTM has these names, too
            hidden_size(what, _NAMES[2], to_array(f"{what}: {_NAMES[2]}", found[_NAMES[2]]), axis=1)
    return each_layer(layer, _NAMES, _read)


def to_nnx(params: GRUParams) -> dict[str, dict[str, jax.Array]]:
    """The inverse of `from_nnx`; zeros for a missing bias.

    `state = nnx.state(cell); nnx.replace_by_pure_dict(state, ...); nnx.update(cell, state)` puts
    the result into a cell.

    Raises:
      ValueError: no `GRUParams`, reset="before", or a b_hn that is not known to be zero: the cell
        has no place for it.
    """
    params = checked("flax.nnx.GRUCell", params, "after")
    reason = "flax.nnx.GRUCell has no bias in the candidate's recurrent product: train without it"
    check_zero("params.b_hn", params.b_hn, reason)
    return {
        "dense_i": {
            "kernel": to_rzn(params.w_x),
            "bias": to_rzn(zero_bias(params) if params.b is None else params.b),
        },
        "dense_h": {"kernel": to_rzn(params.w_h)},
    }


def _read(what: str, arrays: list[jax.Array]) -> GRUParams:
    w_x, b, w_h = arrays
    hidden = hidden_size(what, _NAMES[2], w_h, axis=1)
    require(what, _NAMES[0], w_x, (None, 3 * hidden), "(I, 3H)")
    require(what, _NAMES[1], b, (3 * hidden,), "(3H,)")
    return GRUParams(from_rzn(w_x), from_rzn(w_h), from_rzn(b), reset="after")


def _check_activations(what: str, module: Any, path: tuple[str, ...]) -> None:
    """Refuses other activations: other by what they compute, for copies of a function differ."""
    for part in path:
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    for name, wanted in (("gate_fn", jax.nn.sigmoid), ("activation_fn", jnp.tanh)):
        function = getattr(module, name, wanted)
        with jax.ensure_compile_time_eval():
            points = jnp.linspace(-4, 4, 17)
            same = bool(jnp.array_equal(function(points), wanted(points)))
        if not same:
            raise ValueError(
                f"{what} has {name}={function}, but must have {wanted.__name__}: "
                "the cell computes something else."
            )
