"""One ONNX GRU node's arrays as a layer's parameters, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..cells.gru import GRUParams, Reset
from ..stack.params import Bidirectional
from ._arrays import to_array
from ._entries import checked, gates, joined, negated_z, read, require
from ._onnx_graph import tensor_array
from ._onnx_read import Direction


def _array(name: str, value: Any) -> jax.Array:
    """A floating array of whatever NumPy or onnx reads; traced ones stay."""
    if type(value).__name__ == "TensorProto":
        value = tensor_array(name, value)
    return to_array(name, value)


def layer_of(
    what: str, weights: Mapping[str, Any], linear_before_reset: int, direction: Direction
) -> GRUParams | Bidirectional:
    """The parameters of a node with these inputs W, R and B, and attributes."""
    count = 2 if direction == "bidirectional" else 1
    names = ["W", "R"] if weights.get("B") is None else ["W", "R", "B"]
    arrays = {k: v if v is None else _array(f"{what}: {k}", v) for k, v in weights.items()}
    w, r, *b = read(what, arrays, names)
    for name, array in (("W", w), ("R", r)):
        if array.ndim != 3 or array.size == 0:
            raise ValueError(
                f"{what}: {name} has shape {array.shape}, but must have (D, 3H, I) for W and "
                "(D, 3H, H) for R, none of them 0."
            )
    hidden = r.shape[2]
    require(what, "R", r, (count, 3 * hidden, hidden), "(D, 3H, H)")
    require(what, "W", w, (count, 3 * hidden, w.shape[2]), "(D, 3H, I)")
    if b:
        require(what, "B", b[0], (count, 6 * hidden), "(D, 6H)")
    if len(dtypes := {str(array.dtype) for array in (w, r, *b)}) > 1:
        raise ValueError(f"{what}: its weights are {sorted(dtypes)}, but must be of one dtype.")
    found = []
    for i in range(count):
        bias = b_hn = None
        if b:
            bias, inner = jnp.split(b[0][i], 2)
            if linear_before_reset:
                b_hn = inner[2 * hidden :]
                inner = inner.at[2 * hidden :].set(0)
            bias = negated_z(bias + inner)
        reset: Reset = "after" if linear_before_reset else "before"
        found.append(GRUParams(negated_z(w[i].T), negated_z(r[i].T), bias, b_hn, reset))
    return Bidirectional(*found) if count == 2 else found[0]


def checked_layer(layer: Any) -> Any:
    """A copy of the layer, checked; refuses what one node cannot hold."""
    arrays: list[GRUParams] = []
    for params in directions(layer):
        wanted = arrays[0].reset if arrays else None
        arrays.append(checked("an ONNX node", params, wanted))
        if arrays[-1].hidden_size != arrays[0].hidden_size:
            raise ValueError("an ONNX GRU node needs directions of one hidden size.")
    return Bidirectional(*arrays) if isinstance(layer, Bidirectional) else arrays[0]


def connected(what: str, layers: Sequence[Any]) -> None:
    """Refuses layers of different dtypes, or that do not fit on each other."""
    width = directions(layers[0])[0].input_size
    dtype = directions(layers[0])[0].w_h.dtype
    for i, layer in enumerate(layers):
        for params in directions(layer):
            if params.input_size != width:
                raise ValueError(
                    f"{what}: layer {i} takes {params.input_size} features, but is given {width}."
                )
            if params.w_h.dtype != dtype:
                raise ValueError(
                    f"{what}: layer {i} is {params.w_h.dtype}, but layer 0 is {dtype}: "
                    "cast the parameters to one dtype."
                )
        width = sum(params.hidden_size for params in directions(layer))


def directions(layer: Any) -> tuple[GRUParams, ...]:
    """The parameters of each direction."""
    return tuple(layer) if isinstance(layer, Bidirectional) else (layer,)


def node_of(layer: Any) -> dict[str, jax.Array]:
    """The inputs W, R and B of the node for a layer."""
    both = directions(layer)
    biases = []
    for params in both:
        zeros = jnp.zeros(3 * params.hidden_size, params.w_h.dtype)
        b = zeros if params.b is None else negated_z(params.b)
        *_, last = gates(zeros) if params.b_hn is None else (params.b_hn,)
        biases.append(joined(b, *gates(zeros)[:2], last))
    return {
        "W": jnp.stack([negated_z(params.w_x).T for params in both]),
        "R": jnp.stack([negated_z(params.w_h).T for params in both]),
        "B": jnp.stack(biases),
    }
