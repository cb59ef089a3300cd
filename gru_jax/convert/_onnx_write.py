"""Writing a stack as an ONNX model."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._onnx_graph import import_onnx

_OPSET, _IR_VERSION = 17, 8  # of 2022, the oldest with every operator used here


def write_model(path: Path, resets: Sequence[str], weights: Sequence[dict[str, jax.Array]]) -> None:
    """Writes a model with one GRU node per layer, atomically.

    ONNX does not define the last state of a row of length 0 (onnxruntime gives zeros), nor lengths
    outside [0, T]: the nodes around the GRUs implement the semantics of `sequence_mask`.

    Args:
      path: the file.
      resets: the position of each layer's reset gate.
      weights: the inputs W, R and B of each layer's node.
    """
    onnx = import_onnx("to_onnx with a path")
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    dtype = weights[0]["W"].dtype
    if dtype not in (jnp.float32, jnp.float64):
        raise ValueError(f"the parameters are {dtype}, but must be float32 or float64 for ONNX.")
    if any(isinstance(array, jax.core.Tracer) for layer in weights for array in layer.values()):
        raise ValueError("network is traced, but a file must be written outside jit and grad.")

    def value(name: str, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)

    inputs = [
        value("xs", "time", "batch", weights[0]["W"].shape[2]),
        helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["batch"]),
    ]
    nodes = [
        helper.make_node("Shape", ["xs"], ["time_int64"], start=0, end=1),
        helper.make_node("Cast", ["time_int64"], ["time"], to=onnx.TensorProto.INT32),
        helper.make_node("Min", ["lengths", "time"], ["at_most_time"]),
        helper.make_node("Max", ["at_most_time", "zero"], ["steps"]),
        helper.make_node("Equal", ["steps", "zero"], ["is_empty"]),
        helper.make_node("Unsqueeze", ["is_empty", "not_batch"], ["is_empty_row"]),  # [1, batch, 1]
    ]
    constants = [
        from_array(np.zeros(1, np.int32), "zero"),
        from_array(np.array([0, 2]), "not_batch"),
    ]
    outputs = []
    below = "xs"
    for i, (reset, arrays) in enumerate(zip(resets, weights, strict=True)):
        count, _, hidden = arrays["R"].shape
        constants += [from_array(np.asarray(array), f"{k}_{i}") for k, array in arrays.items()]
        # not -1, which cannot be inferred if the time axis is empty
        constants.append(from_array(np.array([0, 0, count * hidden]), f"features_{i}"))
        above = "hs" if i == len(weights) - 1 else f"hs_{i}"
        nodes += [
            helper.make_node(
                "GRU",
                [below, f"W_{i}", f"R_{i}", f"B_{i}", "steps", f"h0_{i}"],
                [f"states_{i}", f"last_{i}"],
                name=f"gru_{i}",
                hidden_size=hidden,
                direction="bidirectional" if count == 2 else "forward",
                linear_before_reset=int(reset == "after"),
            ),
            # [time, D, batch, H] -> [time, batch, D, H] -> [time, batch, D H]
            helper.make_node("Transpose", [f"states_{i}"], [f"transposed_{i}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"transposed_{i}", f"features_{i}"], [above]),
            helper.make_node("Where", ["is_empty_row", f"h0_{i}", f"last_{i}"], [f"h_last_{i}"]),
        ]
        inputs.append(value(f"h0_{i}", count, "batch", hidden))
        outputs.append(value(f"h_last_{i}", count, "batch", hidden))
        below = above
    outputs.insert(0, value("hs", "time", "batch", count * hidden))
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
