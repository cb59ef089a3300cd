"""ONNX models that no GRU, or no stack, of this library can represent."""

import numpy as np
import pytest
from common import B, H, I
from convert_common import assert_same, draw
from onnx_graphs import LOWER, UPPER, Builder, draw_weights, layer, refuses, started

from gru_jax import GRUParams, convert


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"clip": 0.5}, "clip=0.5"),
        ({"activations": ["Sigmoid", "Relu"]}, r"activations \['Sigmoid', 'Relu'\]"),
        ({"activations": ["HardSigmoid", "Tanh"]}, r"activations \['HardSigmoid', 'Tanh'\]"),
        ({"activations": ["Sigmoid"]}, r"activations \['Sigmoid'\]"),
        ({"activation_alpha": [0.3]}, "activation_alpha"),
        ({"activation_beta": [0.3]}, "activation_beta"),
        ({"layout": 1}, "layout=1"),
        ({"hidden_size": H + 1}, "hidden_size=8, but R has shape"),
        ({"linear_before_reset": 2}, "linear_before_reset=2"),
        ({"direction": "sideways"}, "direction='sideways'"),
        ({"direction": "bidirectional"}, "R has shape"),
        ({"direction": "reverse"}, "reverse=True"),
        ({"zoneout": 0.1}, "zoneout=0.1"),
    ],
)
def test_attributes_of_other_functions_are_refused(attributes, message):
    build, y = started(**attributes)
    build.nodes[-1].name = "the name"
    helper = build.onnx.helper
    graph = helper.make_graph(
        build.nodes,
        "graph",
        build.inputs,
        [helper.make_empty_tensor_value_info(y)],
        build.initializers,
    )
    refuses(graph, f"the name.*{message}|{message}.*the name")
    refuses(helper.make_model(graph), message, node="the name")
    named = {tensor.name: tensor for tensor in build.initializers}
    refuses(named, message, node=build.nodes[-1])


def test_attributes_without_effect_are_accepted():
    for attributes in (
        {"activations": ["sigmoid", "Tanh"], "layout": 0},
        {"hidden_size": None, "direction": None},
        {"output_sequence": 1},
    ):
        build, _ = started(**attributes)
        helper = build.onnx.helper
        for name, kind in (("activation_alpha", 6), ("activation_beta", 6)):
            build.nodes[-1].attribute.append(helper.make_attribute(name, [], attr_type=kind))
        graph = helper.make_graph(build.nodes, "g", build.inputs, [], build.initializers)
        assert_same(convert.from_onnx(graph).layers, (layer(LOWER),))


def test_reverse_node_needs_the_argument_direction():
    build, y = started(direction="reverse")
    y, _ = build.gru(build.concat(y), UPPER)
    model = build.model(y)
    refuses(model, "'gru_0' .*reverse")
    refuses(model, "runs in reverse", node="gru_0")
    refuses(model, "direction is 'forward', but .*'reverse'", node="gru_0", direction="forward")
    refuses(model, "linear_before_reset is 0, but .* 1", node="gru_1", linear_before_reset=0)
    assert_same(convert.from_onnx(model, node="gru_0", direction="reverse"), layer(LOWER))
    found = convert.from_onnx(model, node="gru_1", linear_before_reset=1, direction="forward")
    assert_same(found, layer(UPPER))
    assert isinstance(found, GRUParams)


def test_constant_initial_states_are_refused():
    learned = draw(1, 1, H, seed=3)

    def constant(build):
        return build.constant(np.tile(learned, (1, B, 1)))

    def expanded(build):
        size = [build.constant(np.array([n])) for n in (1, H)]
        batch = build.add("Shape", "x", start=1, end=2)
        size = build.add("Concat", size[0], batch, size[1], axis=0)
        return build.add("Expand", build.constant(learned), size)

    def filled(build):
        value = build.onnx.numpy_helper.from_array(np.array([0.5], np.float32))
        return build.add("ConstantOfShape", build.constant(np.array([1, B, H])), value=value)

    def computed(build):
        return build.add("Tanh", build.input("code", 1, "batch", H))

    for make, message in (
        (constant, "constant that is not zero"),
        (expanded, "constant that is not zero"),
        (filled, "constant that is not zero"),
        (computed, "computed by Tanh"),
    ):
        build = Builder()
        build.input("x", "time", "batch", I)
        y, _ = build.gru("x", LOWER, h0=make(build))
        refuses(build.model(y), f"initial_h of the GRU node 'gru_0' is .*{message}")
        assert_same(convert.from_onnx(build.model(y), node="gru_0"), layer(LOWER))


def test_constant_lengths_are_refused():
    for first, second, message in (
        ("a", "b", "other sequence_lens"),
        ("a", "", "other sequence_lens"),
        ("", "a", "other sequence_lens"),
        ("fixed", "fixed", r"constant \[5, 3, 1, 4\]"),
    ):
        build = Builder()
        build.input("x", "time", "batch", I)
        build.input("a", "batch", dtype="int32")
        build.input("b", "batch", dtype="int32")
        build.constant(np.array([5, 3, 1, 4], np.int32), "fixed")
        y, _ = build.gru("x", LOWER, first)
        y, _ = build.gru(build.concat(y), UPPER, second)
        refuses(build.model(y), message)


def test_nodes_that_are_no_stack_are_listed_and_selected():
    branches, _ = started()
    branches.gru("x", UPPER)
    encoder, y = started()
    encoder.gru(encoder.add("Transpose", "gru_0:1", perm=[0, 1, 2]), UPPER)
    decoder, y = started()
    decoder.input("target", "time", "batch", H)
    decoder.gru("target", draw_weights(1, H, H, 5), h0="gru_0:1")
    dense, y = started()
    both = dense.add("Concat", dense.concat(y), "x", axis=2)
    dense.gru(both, draw_weights(1, H + I, 6, 5))
    skip, y = started()
    upper, _ = skip.gru(skip.concat(y), draw_weights(1, H, H, 5))
    skip.add("Add", y, upper, name="skip")
    for build in (branches, encoder, decoder, dense, skip):
        output = "skip:0" if build is skip else "gru_1:0"
        model = build.model(output)
        refuses(model, "'gru_0'.*gru_1|'gru_0' reach the output 'skip:0'.*Add")
        assert_same(convert.from_onnx(model, node="gru_0"), layer(LOWER))
        assert_same(convert.from_onnx(model, node="gru_0:1"), layer(LOWER))
        assert convert.from_onnx(model, node=model.graph.node[-1 if build is not skip else 3])
    refuses(model, "node='Add' is none", node="Add")
    refuses(model, "node='skip' is Add 'skip'", node="skip")
    refuses(model, "node=3 is none", node=3)
    refuses(model, "node='' is none", node="")
    model.graph.node[0].name = "gru_1"
    refuses(model, "node='gru_1' is 2 of them", node="gru_1")
