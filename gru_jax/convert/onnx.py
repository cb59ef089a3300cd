"""ONNX: the GRU node's weights, and whole models."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .._params import GRUParams, Reset
from .._stack_params import Bidirectional, GRUStack
from ._entries import gates, joined, negated_z, read, require, reset_of

Direction = Literal["forward", "reverse", "bidirectional"]
_OPSET, _IR_VERSION = 17, 8  # of 2022: the oldest with all that is used here


def from_onnx(
    weights: Mapping[str, Any],
    *,
    linear_before_reset: int = 0,
    direction: Direction = "forward",
) -> GRUParams | Bidirectional:
    """Takes the inputs W, R and B of an ONNX GRU node with its attributes.

    ONNX writes h' = (1 − z) ∘ n + z ∘ h: z is negated; the order of the gates is ours. Of its two
    biases those that only ever add up are added here: z and r, and with linear_before_reset=0 the
    candidate's, too. Back in ONNX the sum stands in the first. Everything else is lossless.

    Args:
      weights: {"W": `[D, 3H, I]`, "R": `[D, 3H, H]`, "B": `[D, 6H]` or absent}, with D = 2 for
        direction="bidirectional", otherwise 1.
      linear_before_reset: the node's attribute, 0 (reset="before") or 1 (reset="after").
      direction: the node's attribute. "reverse" gives a `GRUParams` for `reverse=True`.

    Returns:
      A `GRUParams`, or a `Bidirectional` of two.

    Raises:
      ValueError: an entry missing, unknown or of the wrong shape; an unknown attribute.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> weights = {"W": np.ones((1, 15, 3)), "R": np.ones((1, 15, 5))}
    >>> convert.from_onnx(weights, linear_before_reset=1).reset
    'after'
    """
    what = "the ONNX GRU node"
    if linear_before_reset not in (0, 1):
        raise ValueError(f"linear_before_reset is {linear_before_reset}, but must be 0 or 1.")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(
            f"direction is {direction!r}, but must be 'forward', 'reverse' or 'bidirectional'."
        )
    count = 2 if direction == "bidirectional" else 1
    names = ["W", "R"] if weights.get("B") is None else ["W", "R", "B"]
    w, r, *b = read(what, weights, names)
    if r.ndim != 3:
        raise ValueError(f"{what}: R has shape {r.shape}, but must have (D, 3H, H).")
    hidden = r.shape[2]
    require(what, "R", r, (count, 3 * hidden, hidden), "(D, 3H, H)")
    require(what, "W", w, (count, 3 * hidden, *w.shape[2:3]), "(D, 3H, I)")
    if b:
        require(what, "B", b[0], (count, 6 * hidden), "(D, 6H)")
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


def to_onnx(
    network: GRUParams | Bidirectional | GRUStack, path: str | os.PathLike[str] | None = None
) -> dict[str, jax.Array] | list[dict[str, jax.Array]]:
    """The inverse of `from_onnx`; with a path, writes a model as well.

    The model takes `xs` `[time, batch, I]`, `lengths` int32 `[batch]` and `h0_0`, `h0_1`, ...
    `[D, batch, H]` for each layer, and gives `hs` `[time, batch, D H]`, zero behind each row's
    length, and `h_last_0`, ...: what `gru_stack_unroll` takes and gives, with
    `mask=sequence_mask(lengths, T)`. Time and batch are left open.

    Args:
      network: a stack, or one layer.
      path: the file; written as a whole or not at all. Needs the package `onnx`.

    Returns:
      {"W": `[D, 3H, I]`, "R": `[D, 3H, H]`, "B": `[D, 6H]`}, B zero without biases; for a
      `GRUStack` a list with one for each layer.

    Raises:
      ValueError: layers that one node cannot hold, or of a dtype other than float32 and float64.
    """
    layers = network.layers if isinstance(network, GRUStack) else (network,)
    nodes = [_node(layer) for layer in layers]
    if path is not None:
        _write(Path(path), layers, nodes)
    return nodes if isinstance(network, GRUStack) else nodes[0]


def _directions(layer: Any) -> tuple[GRUParams, ...]:
    return tuple(layer) if isinstance(layer, Bidirectional) else (layer,)


def _node(layer: Any) -> dict[str, jax.Array]:
    both = _directions(layer)
    for params in both:
        reset_of("an ONNX node", params, getattr(both[0], "reset", None))
        if params.hidden_size != both[0].hidden_size:
            raise ValueError("an ONNX GRU node needs directions of one hidden size.")
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


def _write(path: Path, layers: tuple[Any, ...], weights: list[dict[str, jax.Array]]) -> None:
    import onnx
    from onnx import helper

    dtype = weights[0]["W"].dtype
    if dtype not in (jnp.float32, jnp.float64):
        raise ValueError(f"the parameters are {dtype}, but must be float32 or float64 for ONNX.")
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def value(name: str, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, element, shape)

    width = _directions(layers[0])[0].input_size
    inputs = [
        value("xs", "time", "batch", width),
        helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["batch"]),
    ]
    nodes, outputs, constants = [], [], []
    below = "xs"
    for i, (layer, arrays) in enumerate(zip(layers, weights, strict=True)):
        both = _directions(layer)
        hidden, count = both[0].hidden_size, len(both)
        constants += [
            onnx.numpy_helper.from_array(np.asarray(array), f"{name}_{i}")
            for name, array in arrays.items()
        ]
        nodes.append(
            helper.make_node(
                "GRU",
                [below, f"W_{i}", f"R_{i}", f"B_{i}", "lengths", f"h0_{i}"],
                [f"states_{i}", f"h_last_{i}"],
                hidden_size=hidden,
                direction="bidirectional" if count == 2 else "forward",
                linear_before_reset=int(both[0].reset == "after"),
            )
        )
        above = "hs" if i == len(layers) - 1 else f"hs_{i}"
        nodes.append(  # [time, D, batch, H] -> [time, batch, D, H] -> [time, batch, D H]
            helper.make_node("Transpose", [f"states_{i}"], [f"beside_{i}"], perm=[0, 2, 1, 3])
        )
        nodes.append(helper.make_node("Reshape", [f"beside_{i}", "joined"], [above]))
        inputs.append(value(f"h0_{i}", count, "batch", hidden))
        outputs.append(value(f"h_last_{i}", count, "batch", hidden))
        below, width = above, count * hidden
    constants.append(onnx.numpy_helper.from_array(np.array([0, 0, -1]), "joined"))
    outputs.insert(0, value("hs", "time", "batch", width))
    model = helper.make_model(
        helper.make_graph(nodes, "gru", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="gru_jax",
    )
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(model.SerializeToString())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
