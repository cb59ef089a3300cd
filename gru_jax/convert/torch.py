"""PyTorch: `torch.nn.GRU` and `torch.nn.GRUCell`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..cells.gru import GRUParams
from ..stack.params import Bidirectional, GRUStack
from ._arrays import shape_of
from ._entries import (
    biases,
    checked,
    concatenate,
    from_rzn,
    gates,
    hidden_size,
    read,
    require,
    shortened,
    to_rzn,
)
from ._find import Layout, cells_of, check_mapping, flatten, one_layer, select
from ._formats import FORMATS

_FORMAT = FORMATS["torch"]
_NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
_QUANTISED = r"_all_weight_values\..*|_packed_weight_.*"
_LAYOUT = Layout(
    "state_dict of torch.nn.GRU",
    ".",
    # also parametrizations.weight_hh_l0.original0 and weight_hh_l0_g, so that they are refused
    re.compile(
        rf"(?:(.*?)\.)??(?:(?:parametrizations\.)?(?:weight|bias)_[ih][hr]\w*(?:\..*)?|{_QUANTISED})"
    ),
    lambda entries: any(_is_gru(name, value) for name, value in entries.items()),
    frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}),
    directions=False,
)
_REFUSED = {  # other entries of a GRU's state_dict, and how to remove them
    r"weight_.*_g": "weight norm: call torch.nn.utils.remove_weight_norm(gru, name)",
    r"parametrizations\..*": "a parametrization, such as weight or spectral norm: call "
    "torch.nn.utils.parametrize.remove_parametrizations(gru, name)",
    r"weight_.*_mask": "pruning: call torch.nn.utils.prune.remove(gru, name)",
    r"weight_.*_u": "spectral norm: call torch.nn.utils.remove_spectral_norm(gru, name)",
    _QUANTISED: "a quantised GRU: convert the one that it was made from",
    r".*_(scale|zero_point)": "a quantised GRU: convert the one that it was made from",
    r"weight_hr_.*": "a projection (an LSTM's proj_size), which no GRU has",
}


def from_torch(state_dict: Mapping[str, Any], *, prefix: str | None = None) -> GRUParams | GRUStack:
    """Reads the `state_dict()` of a `torch.nn.GRU`, a `torch.nn.GRUCell`, or a whole model.

    PyTorch orders the gates r | z | n and computes h' = (1 − z) ∘ n + z ∘ h: the gates are
    reordered and z is negated. Of its two biases per gate, only the sums for z and r matter: they
    are added, and `to_torch` writes the sum to bias_ih. Everything else is lossless.

    Args:
      state_dict: {"weight_ih_l0": `[3H, I]`, "weight_hh_l0": `[3H, H]`, "bias_ih_l0": `[3H]`,
        "bias_hh_l0": `[3H]`, ...} of a GRU, the same without "_l0" of a GRUCell, or a mapping that
        contains either, as returned by `model.state_dict()`, `torch.load(path)` or
        `safetensors.numpy.load_file(path)`. Arrays, or tensors on any device; float16, bfloat16,
        float32 or float64.
      prefix: the path of the GRU in a model, "encoder.rnn" or "encoder.rnn." for
        `model.encoder.rnn`; the "module." of `DataParallel` and the "_orig_mod." of
        `torch.compile` may be omitted. None selects the only GRU and ignores other layers.

    Returns:
      A `GRUParams` for a GRUCell; for a GRU a `GRUStack`, also with a single layer, whose layers
      are `Bidirectional` if the GRU is. Each has reset="after", w_x `[I, 3H]`, w_h `[H, 3H]`, and
      b `[3H]` and b_hn `[H]` or None. A state_dict does not contain `batch_first` and `dropout`:
      arrays of this library are time-major, and `gru_stack_unroll` takes the rate.

    Raises:
      ValueError: no GRU, several GRUs without a `prefix`, none at the `prefix`, or an entry that
        is missing, unknown (weight norm, quantised, a projection) or has the wrong shape or dtype.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> shapes = {"rnn.weight_ih_l0": (15, 3), "rnn.weight_hh_l0": (15, 5), "head.weight": (2, 5)}
    >>> state_dict = {name: np.ones(shape) for name, shape in shapes.items()}
    >>> convert.from_torch(state_dict, prefix="rnn.").layers[0].hidden_size
    5
    """
    check_mapping("state_dict", state_dict, "model.state_dict(), or torch.load of a file with one")
    cells = select(_LAYOUT, cells_of(_LAYOUT, flatten(_LAYOUT.what, state_dict, ".")), prefix)
    ((what, entries),) = one_layer(_LAYOUT, cells)
    for name in entries:
        for pattern, reason in _REFUSED.items():
            if re.fullmatch(pattern, name):
                raise ValueError(f"{what} has unknown {[name]}: {reason}.")
    if any(name in entries for name in _NAMES):
        names = _NAMES if any("bias" in name for name in entries) else _NAMES[:2]
        return _read(what.replace("GRU", "GRUCell", 1), entries, names, None)
    return _stack(what, entries)


def to_torch(params: GRUParams | GRUStack) -> dict[str, jax.Array]:
    """Writes the state_dict of a `torch.nn.GRU` or GRUCell: the inverse of `from_torch`.

    To load it into a module: `module.load_state_dict({k: torch.from_dlpack(v) for k, v in
    to_torch(params).items()})`, also in bfloat16, which `torch.tensor(np.asarray(v))` does not
    support. The module copies what it loads; `torch.from_dlpack(v).clone()` copies a tensor.

    Args:
      params: a `GRUParams` for a GRUCell; for a GRU a `GRUStack` whose layers all have the same
        hidden size, number of directions, and biases or none. With reset="after".

    Returns:
      {"weight_ih": `[3H, I]`, "weight_hh": `[3H, H]`, "bias_ih": `[3H]`, "bias_hh": `[3H]`} of
      arrays in the dtype of the parameters, with "_l0", "_l0_reverse", "_l1", ... appended for a
      `GRUStack`. No biases if `params` has none, as with `bias=False`.

    Raises:
      ValueError: another class, reset="before", an array of the wrong shape or dtype, or layers
        that `torch.nn.GRU` cannot have.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5, reset="after", bias=False)
    >>> {name: array.shape for name, array in gru_jax.convert.to_torch(params).items()}
    {'weight_ih': (15, 3), 'weight_hh': (15, 5)}
    """
    if isinstance(params, GRUParams):
        return _write(checked(_FORMAT, params), "")
    if not isinstance(params, GRUStack):
        raise ValueError(
            f"params is a {type(params).__name__}, but must be a GRUParams for a GRUCell, or a "
            "GRUStack for a GRU: GRUStack((layer,)) of a single layer."
        )
    if not isinstance(params.layers, (tuple, list)) or not params.layers:
        raise ValueError(f"params.layers is {params.layers!r}, but must have at least one layer.")
    width, directions, cells = None, set(), dict[str, GRUParams]()
    for i, layer in enumerate(params.layers):
        both = layer if isinstance(layer, Bidirectional) else [layer]
        for cell, suffix in zip(both, (f"_l{i}", f"_l{i}_reverse"), strict=False):
            name = f"params.layers[{i}]"
            cells[suffix] = cell = checked(_FORMAT, cell, name)
            width = width or cell.input_size
            shape = width, 3 * cell.hidden_size
            require(name, "w_x", cell.w_x, shape, "(I, 3H), and I the outputs of the layer below")
        width = sum(cell.hidden_size for cell in both)
        directions.add(len(both))
    sizes = sorted({cell.hidden_size for cell in cells.values()})
    kinds = {biases(cell) is None for cell in cells.values()}
    if len(directions) > 1 or len(sizes) > 1 or len(kinds) > 1:
        raise ValueError(
            f"params has hidden sizes {sizes}, but all layers of a torch.nn.GRU have one size, "
            "the same number of directions, and biases or none."
        )
    return {k: v for suffix, cell in cells.items() for k, v in _write(cell, suffix).items()}


def _is_gru(name: str, value: Any) -> bool:
    shape = shape_of(value)
    hidden = "weight_hh" in name and len(shape) == 2 and shape[0] == 3 * shape[1]
    return hidden or re.fullmatch(_QUANTISED, name) is not None


def _stack(what: str, entries: Mapping[str, Any]) -> GRUStack:
    """The layers of a `torch.nn.GRU`, from the input up."""
    left, layers, inputs = dict(entries), list[Any](), None
    biased = any(name.startswith("bias") for name in left)
    suffixes = ["", "_reverse"][: 1 + any(name.endswith("_reverse") for name in left)]
    while not layers or any(re.search(r"_l\d+(_reverse)?$", name) for name in left):
        names = [[f"{name}_l{len(layers)}{suffix}" for name in _NAMES] for suffix in suffixes]
        mine = [name for name in left if re.search(rf"_l{len(layers)}(_reverse)?$", name)]
        if left and not mine:
            raise ValueError(
                f"{what} lacks layer {len(layers)} ({names[0][0]}, ...), but has "
                f"{shortened(sorted(left))}."
            )
        cells = []
        for each, suffix in zip(names, suffixes, strict=True):
            these = {k: left.pop(k) for k in mine if k.endswith("_reverse") == bool(suffix)}
            cells.append(_read(what, these, each if biased else each[:2], inputs))
        layers.append(Bidirectional(*cells) if len(cells) > 1 else cells[0])
        inputs = sum(cell.hidden_size for cell in cells)
    if left:
        raise ValueError(f"{what} has unknown {shortened(sorted(left))}.")
    return GRUStack(tuple(layers))


def _read(
    what: str, entries: Mapping[str, Any], names: Sequence[str], inputs: int | None
) -> GRUParams:
    w_ih, w_hh, *b = read(what, entries, names)
    hidden = hidden_size(what, names[1], w_hh, axis=0)
    require(what, names[0], w_ih, (3 * hidden, inputs), "(3H, I)")
    for name, array in zip(names[2:], b, strict=True):
        require(what, name, array, (3 * hidden,), "(3H,)")
    bias = b_hn = None
    if b:
        (i_r, i_z, i_n), (h_r, h_z, b_hn) = map(gates, b)
        bias = concatenate(-(i_z + h_z), i_r + h_r, i_n)
    return GRUParams(from_rzn(w_ih.T), from_rzn(w_hh.T), bias, b_hn, "after")


def _write(params: GRUParams, suffix: str) -> dict[str, jax.Array]:
    arrays = [to_rzn(params.w_x).T, to_rzn(params.w_h).T]
    both = biases(params)
    if both is not None:
        b, b_hn = both
        zeros = jnp.zeros_like(b_hn)
        arrays += [to_rzn(b), concatenate(zeros, zeros, b_hn)]
    return dict(zip((name + suffix for name in _NAMES), arrays, strict=False))
