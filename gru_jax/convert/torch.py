"""PyTorch: `torch.nn.GRU` and `torch.nn.GRUCell`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._params import GRUParams
from .._stack_params import Bidirectional, GRUStack
from ._entries import biases, from_rzn, gates, hidden_size, joined, read, require, reset_of, to_rzn

_NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


def from_torch(state_dict: Mapping[str, Any]) -> GRUParams | GRUStack:
    """Takes the `state_dict()` of a `torch.nn.GRU` or a `torch.nn.GRUCell`.

    PyTorch's gates are ordered r | z | n and h' = (1 − z) ∘ n + z ∘ h: z is negated. Of its two
    biases those of z and r only ever add up, and are added here; back in PyTorch the sum stands in
    bias_ih. Everything else is lossless.

    Args:
      state_dict: arrays or tensors; a tensor that requires a gradient must be detached.

    Returns:
      A `GRUParams` from a GRUCell, a `GRUStack` from a GRU, also from one of a single layer;
      layers of a bidirectional GRU are `Bidirectional`. `batch_first` and `dropout` are not in a
      state_dict: ours leads with time, and `gru_stack_unroll` takes the rate.

    Raises:
      ValueError: an entry missing, unknown (a projection) or of the wrong shape.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5)}
    >>> stack = convert.from_torch({name: np.ones(shape) for name, shape in shapes.items()})
    >>> stack.layers[0].hidden_size
    5
    """
    if "weight_ih" in state_dict:
        return _read("torch.nn.GRUCell", state_dict, "", None)
    layers: list[Any] = []
    left = dict(state_dict)
    inputs = None
    while not layers or any(f"_l{len(layers)}" in name for name in left):
        suffix = f"_l{len(layers)}"
        both = any(name.endswith(f"{suffix}_reverse") for name in left)
        found = []
        for each in (suffix, suffix + "_reverse")[: 1 + both]:
            mine = {name: left.pop(name) for name in list(left) if name.split("_l")[-1] == each[2:]}
            found.append(_read("torch.nn.GRU", mine, each, inputs))
        layers.append(Bidirectional(*found) if both else found[0])
        inputs = found[0].hidden_size * (1 + both)
    if left:
        raise ValueError(f"torch.nn.GRU has unknown {sorted(left)}.")
    return GRUStack(tuple(layers))


def to_torch(params: GRUParams | GRUStack) -> dict[str, jax.Array]:
    """The inverse of `from_torch`.

    `module.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in to_torch(...).items()})`

    Args:
      params: a `GRUParams` for a GRUCell; for a GRU a `GRUStack` whose layers all have one size
        and are all, or none of them, bidirectional.

    Returns:
      The state_dict, of arrays. Without biases it has none, as with `bias=False`.

    Raises:
      ValueError: reset="before", or layers that `torch.nn.GRU` cannot have.
    """
    if isinstance(params, GRUParams):
        return _write(params, "")
    directions = {isinstance(layer, Bidirectional) for layer in params.layers}
    flat = [
        (p, f"_l{i}" + "_reverse" * back)
        for i, layer in enumerate(params.layers)
        for back, p in enumerate(layer if isinstance(layer, Bidirectional) else [layer])
    ]
    sizes = sorted({p.hidden_size for p, _ in flat})
    kinds = {biases(p) is None for p, _ in flat}
    if len(directions) > 1 or len(sizes) > 1 or len(kinds) > 1:
        raise ValueError(
            f"the stack has hidden sizes {sizes}, but all layers of a torch.nn.GRU have one size, "
            "the same number of directions, and biases or none."
        )
    return {k: v for p, suffix in flat for k, v in _write(p, suffix).items()}


def _read(what: str, entries: Mapping[str, Any], suffix: str, inputs: int | None) -> GRUParams:
    names = [name + suffix for name in _NAMES]
    if not any("bias" in name for name in entries):
        names = names[:2]
    w_ih, w_hh, *b = read(what, entries, names)
    hidden = hidden_size(what, names[1], w_hh, axis=0)
    inputs = w_ih.shape[-1] if inputs is None else inputs
    require(what, names[0], w_ih, (3 * hidden, inputs), "(3H, I)")
    for name, array in zip(names[2:], b, strict=True):
        require(what, name, array, (3 * hidden,), "(3H,)")
    bias = b_hn = None
    if b:
        (i_r, i_z, i_n), (h_r, h_z, b_hn) = map(gates, b)
        bias = joined(-(i_z + h_z), i_r + h_r, i_n)
    return GRUParams(from_rzn(w_ih.T), from_rzn(w_hh.T), bias, b_hn, "after")


def _write(params: GRUParams, suffix: str) -> dict[str, jax.Array]:
    reset_of("a PyTorch GRU", params, "after")
    arrays = [to_rzn(params.w_x).T, to_rzn(params.w_h).T]
    both = biases(params)
    if both is not None:
        b, b_hn = both
        zeros = jnp.zeros_like(b_hn)
        arrays += [to_rzn(b), joined(zeros, zeros, b_hn)]
    return dict(zip((name + suffix for name in _NAMES), arrays, strict=False))
