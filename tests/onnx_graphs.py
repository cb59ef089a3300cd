"""ONNX graphs for the tests: built node by node, and run by onnxruntime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T
from convert_common import draw

import gru_jax
from gru_jax import Bidirectional, GRUStack, convert


def draw_weights(count=1, inputs=I, hidden=H, seed=0):
    return {
        "W": draw(count, 3 * hidden, inputs, seed=seed),
        "R": draw(count, 3 * hidden, hidden, seed=seed + 1),
        "B": draw(count, 6 * hidden, seed=seed + 2),
    }


class Builder:
    """Builds a graph; each method returns the names of the tensors it adds."""

    def __init__(self):
        self.onnx = pytest.importorskip("onnx")
        self.nodes, self.inputs, self.initializers = [], [], []

    def input(self, name, *shape, dtype="float32"):
        element = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, element, shape))
        return name

    def constant(self, array, name=None):
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(self.onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op, *inputs, outputs=1, name=None, **attributes):
        name = name or f"{op}_{len(self.nodes)}"
        names = [f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(
            self.onnx.helper.make_node(op, list(inputs), names, name=name, **attributes)
        )
        return names[0] if outputs == 1 else names

    def gru(self, x, weights, lengths="", h0="", **attributes):
        """(Y, Y_h); the name is gru_0, gru_1, ..."""
        count, _, hidden = weights["R"].shape
        direction = "bidirectional" if count == 2 else "forward"
        defaults = {"hidden_size": hidden, "direction": direction, "linear_before_reset": 1}
        names = [self.constant(array) for array in weights.values()]
        names += [""] * (3 - len(names))
        name = f"gru_{sum(node.op_type == 'GRU' for node in self.nodes)}"
        attributes = {k: v for k, v in {**defaults, **attributes}.items() if v is not None}
        return self.add("GRU", x, *names, lengths, h0, outputs=2, name=name, **attributes)

    def concat(self, y):
        """[time, D, batch, H] -> [time, batch, D H], as PyTorch's exporters write it."""
        y = self.add("Transpose", y, perm=[0, 2, 1, 3])
        return self.add("Reshape", y, self.constant(np.array([0, 0, -1])))

    def model(self, *outputs, opset=17, functions=()):
        helper = self.onnx.helper
        graph = helper.make_graph(
            self.nodes,
            "graph",
            self.inputs,
            list(map(helper.make_empty_tensor_value_info, outputs)),
            self.initializers,
        )
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)]
        model = helper.make_model(graph, opset_imports=imports, functions=functions)
        model.ir_version = 9
        return self.onnx.shape_inference.infer_shapes(model)  # onnxruntime wants types of outputs


def run(model, feeds):
    """The outputs of a model or a file in onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    source = model.SerializeToString() if hasattr(model, "SerializeToString") else str(model)
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


_UNROLL = jax.jit(lambda *args, mask: gru_jax.gru_stack_unroll(*args, mask=mask))


def unroll(network, xs, h0s=None, lengths=None):
    """Our (h_lasts, hs), with one `[D, batch, H]` per layer in h_lasts."""
    stack = network if isinstance(network, GRUStack) else GRUStack((network,))
    states = h0s and tuple(Bidirectional(*h) if len(h) == 2 else h[0] for h in h0s)
    mask = None if lengths is None else gru_jax.sequence_mask(np.asarray(lengths), len(xs))
    h_lasts, hs = _UNROLL(stack, states, jnp.asarray(xs), mask=mask)
    return [jnp.stack(jax.tree.leaves(h)) for h in h_lasts], hs


LOWER, UPPER = draw_weights(), draw_weights(1, H, 6, 5)
XS = draw(T, B, I, seed=9)


def layer(weights, reset_after=1):
    direction = "bidirectional" if len(weights["R"]) == 2 else "forward"
    return convert.from_onnx(weights, linear_before_reset=reset_after, direction=direction)


def started(lower=LOWER, **attributes):
    """A builder with an input and a first GRU, and the states of that GRU."""
    build = Builder()
    build.input("x", "time", "batch", I)
    return build, build.gru("x", lower, **attributes)[0]


def refuses(model, message, **options):
    with pytest.raises(ValueError, match=message):
        convert.from_onnx(model, **options)
