"""The arrays of one ONNX GRU node as the parameters of a layer, and the reverse."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..cells.gru import GRUParams, Reset
from ..stack.params import Bidirectional
from ._arrays import to_array
from ._entries import checked, concatenate, gates, negated_z, read, require
from ._formats import FORMATS
from ._onnx_graph import tensor_array
from ._onnx_read import Direction

_FORMAT = FORMATS["onnx"]


def _array(name: str, value: Any) -> jax.Array:
    """A floating array, also of a TensorProto; a tracer stays one."""
    if type(value).__name__ == "TensorProto":
        value = tensor_array(name, value)
    return to_array(name, value)


def layer_of(
    what: str, weights: Mapping[str, Any], linear_before_reset: int, direction: Direction
) -> GRUParams | Bidirectional:
    """The parameters of a node with the given inputs W, R and B, and attributes."""
    count = 2 if direction == "bidirectional" else 1
    names = ["W", "R"] if weights.get("B") is None else ["W", "R", "B"]
    arrays = {k: v if v is None else _array(f"{what}: {k}", v) for k, v in weights.items()}
    w, r, *b = read(what, arrays, names)
    require(what, "R", r, (count, None, None), "(D, 3H, H)")
    hidden = r.shape[2]
    require(what, "R", r, (count, 3 * hidden, hidden), "(D, 3H, H)")
    require(what, "W", w, (count, 3 * hidden, None), "(D, 3H, I)")
    if b:
        require(what, "B", b[0], (count, 6 * hidden), "(D, 6H)")
    cells = []
    for i in range(count):
        bias = b_hn = None
        if b:
            bias, inner = jnp.split(b[0][i], 2)
            if linear_before_reset:
                b_hn = inner[2 * hidden :]
                inner = inner.at[2 * hidden :].set(0)
            bias = negated_z(bias + inner)
        reset: Reset = "after" if linear_before_reset else "before"
        cells.append(GRUParams(negated_z(w[i].T), negated_z(r[i].T), bias, b_hn, reset))
    return Bidirectional(*cells) if count == 2 else cells[0]


def checked_layer(name: str, layer: Any) -> GRUParams | Bidirectional:
    """A validated copy of the layer; raises `ValueError` for what one node cannot represent."""
    if not isinstance(layer, Bidirectional):
        return checked(_FORMAT, layer, name)
    forward = checked(_FORMAT, layer.forward, f"{name}.forward")
    same_reset = _FORMAT._replace(resets=(forward.reset,))
    backward = checked(same_reset, layer.backward, f"{name}.backward")
    if forward.hidden_size != backward.hidden_size:
        raise ValueError(
            f"{name} has directions with hidden sizes {forward.hidden_size} and "
            f"{backward.hidden_size}, but those of an ONNX GRU node have one hidden size."
        )
    return Bidirectional(forward, backward)


def connected(what: str, layers: Sequence[Any]) -> None:
    """Raises `ValueError` for layers of different dtypes, or whose sizes do not match."""
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
    """The parameters of the forward and, if there is one, the backward direction."""
    return tuple(layer) if isinstance(layer, Bidirectional) else (layer,)


def node_of(layer: Any) -> dict[str, jax.Array]:
    """The inputs W, R and B of the node that runs a layer."""
    both = directions(layer)
    biases = []
    for params in both:
        zeros = jnp.zeros(3 * params.hidden_size, params.w_h.dtype)
        b = zeros if params.b is None else negated_z(params.b)
        *_, last = gates(zeros) if params.b_hn is None else (params.b_hn,)
        biases.append(concatenate(b, *gates(zeros)[:2], last))
    return {
        "W": jnp.stack([negated_z(params.w_x).T for params in both]),
        "R": jnp.stack([negated_z(params.w_h).T for params in both]),
        "B": jnp.stack(biases),
    }
