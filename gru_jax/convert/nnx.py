"""Flax nnx: the state of `flax.nnx.GRUCell`."""

import re
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..cells.gru import GRUParams
from ..stack.params import Bidirectional, GRUStack
from ._arrays import shape_of, to_array
from ._entries import checked, from_rzn, hidden_size, require, to_rzn, zero_bias
from ._find import Layout, cells_of, check_mapping, flatten, one_layer, select
from ._formats import FORMATS
from ._stacked import each_layer

_NAMES = "dense_i/kernel", "dense_i/bias", "dense_h/kernel"


def _is_gru(entries: Mapping[str, Any]) -> bool:
    shape = shape_of(entries.get("dense_h/kernel"))
    return len(shape) in (2, 3) and shape[-1] == 3 * shape[-2]


_LAYOUT = Layout("state of flax.nnx.GRUCell", "/", re.compile(r"(?:(.*)/)?dense_[ih]/\w+"), _is_gru)


def from_nnx(state: Any, *, prefix: str | None = None) -> GRUParams | Bidirectional | GRUStack:
    """Reads a `flax.nnx.GRUCell`: the module or its state, alone or within a model.

    The conversion is lossless. Flax orders the gates r | z | n and computes
    h' = (1 − z) ∘ n + z ∘ h: the gates are reordered and z is negated. The cell has no bias in the
    candidate's recurrent product, although its docstring says so: b_hn is None.

    Args:
      state: {"dense_i": {"kernel": `[I, 3H]`, "bias": `[3H]`}, "dense_h": {"kernel": `[H, 3H]`}},
        or a mapping that contains it: `nnx.state(model)`, `nnx.to_pure_dict` of it, or what orbax
        restores; or the module itself, whose activations are then checked, too. Float16,
        bfloat16, float32 or float64.
      prefix: the path of the cell, such as "encoder/rnn/cell" for `model.encoder.rnn.cell`;
        "forward_rnn/cell" and "backward_rnn/cell" within `nnx.Bidirectional`. None selects the
        only GRU.

    Returns:
      A `GRUParams` with reset="after", w_x `[I, 3H]`, w_h `[H, 3H]` and b `[3H]`; a
      `Bidirectional` for siblings "forward_rnn" and "backward_rnn"; a `GRUStack` if all arrays
      have a leading axis for the layers that `nnx.vmap` made for an `nnx.scan`, where I = H.

    Raises:
      ValueError: no GRU, several GRUs without a `prefix`, none at the `prefix`, a module with
        other activations, or an entry that is missing, unknown or has the wrong shape or dtype.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> dense_i = {"kernel": np.ones((3, 15)), "bias": np.ones(15)}
    >>> dense_h = {"kernel": np.ones((5, 15))}
    >>> state = {"rnn": {"cell": {"dense_i": dense_i, "dense_h": dense_h}}}
    >>> convert.from_nnx(state, prefix="rnn/cell").hidden_size
    5
    """
    nnx: Any = sys.modules.get("flax.nnx")  # imported by whoever built an nnx module
    module = state if nnx is not None and isinstance(state, nnx.Module) else None
    if module is not None:
        state = nnx.state(module)
    check_mapping("state", state, "nnx.state(model), or an nnx module")
    # files store a variable as a mapping that holds the array as "value"
    entries = {k.removesuffix("/value"): v for k, v in flatten(_LAYOUT.what, state).items()}
    # the random state of a cell with keep_rngs=True
    entries = {k: v for k, v in entries.items() if "rngs" not in k.split("/")}
    cells = select(_LAYOUT, cells_of(_LAYOUT, entries), prefix)
    if module is not None:
        for path, cell in cells.items():
            if _is_gru(cell):
                _check_activations(_LAYOUT.at(path), module, path)
    layer = one_layer(_LAYOUT, cells)
    for what, weights in layer:
        if _NAMES[2] in weights and not _is_gru(weights):  # an LSTM has the same names
            kernel = to_array(f"{what}: {_NAMES[2]}", weights[_NAMES[2]])
            hidden_size(what, _NAMES[2], kernel, axis=1)  # raises with the kind of the cell
    return each_layer(layer, _NAMES, _read)


def to_nnx(params: GRUParams) -> dict[str, dict[str, jax.Array]]:
    """Writes the state of a `flax.nnx.GRUCell`: the inverse of `from_nnx`.

    To load it into a cell: `state = nnx.state(cell); nnx.replace_by_pure_dict(state, to_nnx(
    params)); nnx.update(cell, state)`.

    Args:
      params: w_x `[I, 3H]`, w_h `[H, 3H]` and b `[3H]` or None, with reset="after"; b_hn zero or
        None.

    Returns:
      {"dense_i": {"kernel": `[I, 3H]`, "bias": `[3H]`}, "dense_h": {"kernel": `[H, 3H]`}} in the
      dtype of the parameters; a missing bias is zero.

    Raises:
      ValueError: another class, reset="before", a b_hn that is not zero or is traced, or an array
        of the wrong shape or dtype.

    >>> import dataclasses, jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5, reset="after")
    >>> params = dataclasses.replace(params, b_hn=None)
    >>> gru_jax.convert.to_nnx(params)["dense_i"]["kernel"].shape
    (3, 15)
    """
    params = checked(FORMATS["nnx"], params)
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
    """Raises `ValueError` for other activations.

    Compared by value, because a copy of a function is another object.
    """
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
