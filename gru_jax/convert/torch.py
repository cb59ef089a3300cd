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
    from_rzn,
    gates,
    hidden_size,
    joined,
    read,
    require,
    shortened,
    to_rzn,
)
from ._find import Layout, cells_of, check_mapping, flat, narrowed, one_layer

_NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
_QUANTISED = r"_all_weight_values\..*|_packed_weight_.*"
_LAYOUT = Layout(
    "state_dict of torch.nn.GRU",
    ".",
    # parametrizations.weight_hh_l0.original0 and weight_hh_l0_g belong to the cell, to be refused
    re.compile(
        rf"(?:(.*?)\.)??(?:(?:parametrizations\.)?(?:weight|bias)_[ih][hr]\w*(?:\..*)?|{_QUANTISED})"
    ),
    lambda entries: any(_is_gru(name, value) for name, value in entries.items()),
    frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}),
    directions=False,
)
_REFUSED = {  # what else a state_dict may hold, and how to get rid of it
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
    """Takes the `state_dict()` of a `torch.nn.GRU`, of a `torch.nn.GRUCell`, or of a whole model.

    PyTorch's gates are ordered r | z | n and h' = (1 − z) ∘ n + z ∘ h: z is negated. Of its two
    biases those of z and r only ever add up, and are added here; back in PyTorch the sum stands in
    bias_ih. Everything else is lossless, in float16, bfloat16, float32 and float64.

    Args:
      state_dict: arrays, or tensors on any device, gradients or not; as `model.state_dict()`,
        `torch.load(path)` or `safetensors.numpy.load_file(path)` give it.
      prefix: where the GRU stands in a whole model, "encoder.rnn." or "encoder.rnn" for
        `model.encoder.rnn`; the "module." of `DataParallel` and the "_orig_mod." of
        `torch.compile` may be left out. None takes the only GRU that there is, and passes over
        LSTMs and other layers.

    Returns:
      A `GRUParams` from a GRUCell, a `GRUStack` from a GRU, also from one of a single layer;
      layers of a bidirectional GRU are `Bidirectional`. `batch_first` and `dropout` are not in a
      state_dict: ours leads with time, and `gru_stack_unroll` takes the rate.

    Raises:
      ValueError: no GRU or several, a `prefix` without one, an entry missing, unknown (weight
        norm, quantised, a projection), of the wrong shape or dtype.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> shapes = {"rnn.weight_ih_l0": (15, 3), "rnn.weight_hh_l0": (15, 5), "head.weight": (2, 5)}
    >>> state_dict = {name: np.ones(shape) for name, shape in shapes.items()}
    >>> convert.from_torch(state_dict, prefix="rnn.").layers[0].hidden_size
    5
    """
    check_mapping("state_dict", state_dict, "model.state_dict(), or torch.load of a file with one")
    cells = narrowed(_LAYOUT, cells_of(_LAYOUT, flat(_LAYOUT.what, state_dict, ".")), prefix)
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
    """The inverse of `from_torch`.

    `module.load_state_dict({k: torch.from_dlpack(v) for k, v in to_torch(params).items()})` puts
    the result into a module, bfloat16 included, which `torch.tensor(np.asarray(v))` cannot. The
    module copies what it loads; `torch.from_dlpack(v).clone()` gives a tensor of its own.

    Args:
      params: a `GRUParams` for a GRUCell; for a GRU a `GRUStack` whose layers all have one size
        and are all, or none of them, bidirectional.

    Returns:
      The state_dict, of arrays. Without biases it has none, as with `bias=False`.

    Raises:
      ValueError: reset="before", or layers that `torch.nn.GRU` cannot have.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5, reset="after", bias=False)
    >>> {name: array.shape for name, array in gru_jax.convert.to_torch(params).items()}
    {'weight_ih': (15, 3), 'weight_hh': (15, 5)}
    """
    if isinstance(params, GRUParams):
        return _write(checked("a PyTorch GRU", params, "after"), "")
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
            cells[suffix] = cell = checked("a PyTorch GRU", cell, "after", name)
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
        found = []
        for each, suffix in zip(names, suffixes, strict=True):
            these = {k: left.pop(k) for k in mine if k.endswith("_reverse") == bool(suffix)}
            found.append(_read(what, these, each if biased else each[:2], inputs))
        layers.append(Bidirectional(*found) if len(found) > 1 else found[0])
        inputs = sum(cell.hidden_size for cell in found)
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
        bias = joined(-(i_z + h_z), i_r + h_r, i_n)
    return GRUParams(from_rzn(w_ih.T), from_rzn(w_hh.T), bias, b_hn, "after")


def _write(params: GRUParams, suffix: str) -> dict[str, jax.Array]:
    arrays = [to_rzn(params.w_x).T, to_rzn(params.w_h).T]
    both = biases(params)
    if both is not None:
        b, b_hn = both
        zeros = jnp.zeros_like(b_hn)
        arrays += [to_rzn(b), joined(zeros, zeros, b_hn)]
    return dict(zip((name + suffix for name in _NAMES), arrays, strict=False))
