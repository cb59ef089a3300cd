"""Forms of ONNX models: files, bytes, protos, exports of PyTorch; and objects that are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, assert_close, random_params
from convert_common import assert_same, draw
from onnx_graphs import LOWER, UPPER, XS, Builder, layer, refuses, run, started, unroll

import gru_jax
from gru_jax import GRUStack, convert

DTYPES = pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])


def two_layers():
    build, y = started()
    y, _ = build.gru(build.concat(y), UPPER)
    return build.model(y), GRUStack((layer(LOWER), layer(UPPER)))


def test_forms_of_a_model_give_the_same_stack(tmp_path):
    model, stack = two_layers()
    path = tmp_path / "model.onnx"
    path.write_bytes(content := model.SerializeToString())
    for form in (path, str(path), content, bytearray(content), memoryview(content), model):
        assert_same(convert.from_onnx(form), stack)
    assert_same(convert.from_onnx(model.graph), stack)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for i, name in enumerate(("gru_0", "gru_1")):
        (node,) = (node for node in model.graph.node if node.name == name)
        assert_same(convert.from_onnx(model, node=node), stack.layers[i])
        assert_same(convert.from_onnx(tensors, node=node), stack.layers[i])
        plain = dict(zip("WRB", (tensors[name] for name in node.input[1:4]), strict=True))
        assert_same(convert.from_onnx(plain, linear_before_reset=1), stack.layers[i])
        refuses(node, f"weights is the NodeProto '{name}'.*node=")
        for slot, tensor in zip("WRB", node.input[1:4], strict=True):
            missing = {k: v for k, v in tensors.items() if k != tensor}
            refuses(missing, rf"lacks \['{slot}'\]", node=node)
    refuses(plain, "node is a str", node="gru_0")
    refuses(plain, "node is Transpose", node=model.graph.node[1])
    refuses(tensors, "direction is 'reverse'", node=node, direction="reverse")


@DTYPES
@pytest.mark.parametrize("raw", [False, True])
def test_dtypes_and_storage_of_tensors(dtype, raw, tmp_path):
    """As raw bytes or as lists of numbers, in the file or in a second one."""
    onnx = pytest.importorskip("onnx")
    kind = onnx.helper.np_dtype_to_tensor_dtype(jnp.dtype(dtype))
    build = Builder()
    build.input("x", "time", "batch", I)
    y, _ = build.gru("x", LOWER)
    arrays = [array.astype(jnp.dtype(dtype)) for array in LOWER.values()]
    tensors = []
    for tensor, array in zip(build.initializers, arrays, strict=True):
        values = array.tobytes() if raw else array.astype(np.float64)
        tensors.append(onnx.helper.make_tensor(tensor.name, kind, array.shape, values, raw=raw))
    build.initializers = tensors
    model = build.model(y)
    with jax.enable_x64(True):
        expected = layer(dict(zip("WRB", arrays, strict=True)))
        assert expected.w_h.dtype == dtype
        plain = dict(zip("WRB", tensors, strict=True))
        assert_same(convert.from_onnx(plain, linear_before_reset=1), expected)
        assert_same(convert.from_onnx(model).layers[0], expected)
        path = tmp_path / "model.onnx"
        if raw:
            onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
            assert_same(convert.from_onnx(path).layers[0], expected)
            refuses(onnx.load(path, load_external_data=False), "data in another file")
            refuses(path.read_bytes(), "data in another file")
            (tmp_path / "weights").unlink()
            with pytest.raises((ValueError, OSError), match="weights"):
                convert.from_onnx(path)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool", "int64"])
def test_integer_tensors_are_refused(dtype):
    build, _ = started({k: (v * 9).astype(dtype) for k, v in LOWER.items()})
    graph = build.onnx.helper.make_graph(build.nodes, "g", build.inputs, [], build.initializers)
    refuses(graph, f"'gru_0': [WRB] is {dtype}, but must be float16")


def test_weights_computed_from_constants():
    """Reordered gates, half precision and a quantised matrix, converted by nodes of the model."""
    build = Builder()
    build.input("x", "time", "batch", I)
    w, r, b = (array[0] for array in LOWER.values())
    z, r_, n = np.split(w, 3)
    torch_order = build.constant(np.concatenate([r_, z, n]))
    ends = [[build.constant(np.array([i * H])) for i in pair] for pair in ((1, 2), (0, 1), (2, 3))]
    gates = [build.add("Slice", torch_order, *pair, build.constant(np.array([0]))) for pair in ends]
    zero = build.constant(np.array([0]))
    w = build.add("Unsqueeze", build.add("Concat", *gates, axis=0), zero)
    scale, quantised = np.float32(0.01), np.round(r * 100).astype(np.int8)
    r = build.add("DequantizeLinear", build.constant(quantised), build.constant(scale))
    r = build.add("Transpose", build.add("Transpose", r, perm=[1, 0]), perm=[1, 0])
    r = build.add("Identity", build.add("Unsqueeze", r, zero))
    b = build.onnx.numpy_helper.from_array(b[None].astype(np.float16))
    b = build.add("Cast", build.add("Constant", value=b), to=1)
    y, _ = build.add(
        "GRU", "x", w, r, b, outputs=2, hidden_size=H, linear_before_reset=1, name="gru_0"
    )
    model = build.model(y, opset=19)  # the first whose DequantizeLinear onnx evaluates
    exact = {
        "W": LOWER["W"],
        "R": (quantised * scale)[None],
        "B": LOWER["B"].astype(np.float16).astype(np.float32),
    }
    stack = convert.from_onnx(model)
    assert_same(stack, GRUStack((layer(exact),)))
    assert_close(unroll(stack, XS)[1][:, None], run(model, {"x": XS})[0])


def test_weights_that_are_not_constant_are_refused():
    for op, message in (
        ("Tanh", "W 'Tanh_1:0' of the ONNX GRU node 'gru' is no constant, but made from 'w' by"),
        ("Identity", "no constant, but made from 'w' by Identity 'Identity_1'"),
        ("RandomNormalLike", "random"),
    ):
        build, y = started()
        build.input("w", 1, 3 * H, I)
        w = build.add(op, "w" if op != "RandomNormalLike" else build.initializers[0].name)
        build.nodes.append(build.nodes.pop(0))
        build.nodes[-1].input[1] = w
        build.nodes[-1].name = "gru"
        refuses(build.model(y), message)
    build, y = started()
    build.nodes[0].input[2] = "nowhere"
    graph = build.onnx.helper.make_graph(build.nodes, "g", build.inputs, [], build.initializers)
    refuses(graph, "R 'nowhere' .* made from 'nowhere'")


def test_functions_are_inlined():
    """As written by PyTorch's newer exporter without its optimiser."""
    build, _ = started()
    helper = build.onnx.helper
    (gru,) = build.nodes
    gru.output[0] = "y"
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in build.initializers]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("custom", "Cell", ["x"], ["y"], [*constants, gru], imports)
    outer = Builder()
    outer.input("x", "time", "batch", I)
    outer.nodes.append(helper.make_node("Cell", ["x"], ["y"], domain="custom"))
    model = outer.model("y", functions=[function])
    assert_same(convert.from_onnx(model), GRUStack((layer(LOWER),)))


def test_models_without_a_gru_are_refused():
    build = Builder()
    build.input("x", "time", "batch", I)
    y = build.add("Relu", "x")
    refuses(build.model(y), "no GRU node, but Relu")
    lstm = [build.constant(draw(1, 4 * H, size)) for size in (I, H)]
    y = build.add("LSTM", y, *lstm, hidden_size=H, name="encoder")
    refuses(build.model(y), "no GRU node, but LSTM, Relu; recurrent are LSTM 'encoder'")
    refuses(build.model(y), "recurrent are LSTM 'encoder'", node="encoder")
    build.nodes[-1].op_type, build.nodes[-1].domain = "DynamicQuantizeLSTM", "com.microsoft"
    graph = build.onnx.helper.make_graph(build.nodes, "g", build.inputs, [], build.initializers)
    refuses(graph, "Relu, com.microsoft.DynamicQuantizeLSTM")
    build.nodes[-1].op_type = "GRU"
    graph = build.onnx.helper.make_graph(build.nodes, "g", build.inputs, [], build.initializers)
    refuses(graph, "no GRU node, but Relu, com.microsoft.GRU")
    build, y = started()
    build.add("RNN", build.concat(y), name="other")
    refuses(build.model(y), "'gru_0'.*and besides RNN 'other'")
    assert_same(convert.from_onnx(build.model(y), node="gru_0"), layer(LOWER))


def test_nodes_inside_other_nodes_are_refused():
    inner, y = started()
    helper = inner.onnx.helper
    value = helper.make_empty_tensor_value_info(y)
    branch = helper.make_graph(inner.nodes, "then", [], [value], inner.initializers)
    build = Builder()
    build.input("x", "time", "batch", I)
    build.input("flag", dtype="bool")
    out = build.add("If", "flag", then_branch=branch, else_branch=branch, name="choice")
    refuses(build.model(out), "only inside of If 'choice'")
    y, _ = build.gru("x", LOWER)
    refuses(build.model(y), "'gru_0'.*and besides If 'choice'")
    assert_same(convert.from_onnx(build.model(y), node="gru_0"), layer(LOWER))


def test_other_objects_and_files_are_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    model, stack = two_layers()
    params = random_params()
    lstm = gru_jax.init_lstm(jax.random.key(0), I, H)
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "half.onnx").write_bytes(model.SerializeToString()[:-100])
    tensor = model.graph.initializer[0]
    wrong = [None, 3, 1.5, ["W"], (), {"W"}, params, stack, lstm, np.zeros(3), jnp.zeros(3)]
    for value in (*wrong, object(), tensor, model.graph.input[0], onnx.FunctionProto()):
        refuses(value, f"weights is a {type(value).__name__}, but must be")
    for name in ("empty", "text", "half"):
        refuses(tmp_path / f"{name}.onnx", f"{name}.onnx (cannot be read|is no ONNX model)")
    for value in (b"", b"no model", onnx.ModelProto()):
        refuses(value, "cannot be read as an ONNX model|is no ONNX model")
    for path in (tmp_path, tmp_path / "missing.onnx", "missing.onnx", ""):
        with pytest.raises(OSError, match=f"'{path}'"):
            convert.from_onnx(path)


@pytest.mark.filterwarnings("ignore")  # warnings of the exporters are not ours to fix
@pytest.mark.parametrize("exporter", ["torchscript", "torchscript unfolded", "dynamo"])
@pytest.mark.parametrize(
    ("layers", "options"),
    [
        (1, {}),
        (2, {"batch_first": True, "bidirectional": True}),
        (3, {"bias": False}),
    ],
)
def test_exports_of_pytorch_match(exporter, layers, options, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript" if exporter == "dynamo" else "onnx")
    torch.manual_seed(0)
    module = torch.nn.GRU(I, H, layers, **options).eval()
    count, path = 2 if options.get("bidirectional") else 1, tmp_path / "model.onnx"
    xs = XS.swapaxes(0, 1) if options.get("batch_first") else XS
    h0 = draw(layers * count, B, H, seed=4)
    settings = {"dynamo": exporter == "dynamo", "input_names": ["x", "h0"], "verbose": False}
    if exporter == "torchscript unfolded":
        settings["do_constant_folding"] = False
    torch.onnx.export(module, (torch.tensor(xs), torch.tensor(h0)), path, **settings)
    stack = convert.from_onnx(path)
    hs, h_last = run(path, {"x": xs, "h0": h0})
    h_lasts, our_hs = unroll(stack, XS, np.split(h0, layers))
    our_hs = our_hs.swapaxes(0, 1) if options.get("batch_first") else our_hs
    assert_close((our_hs, jnp.concatenate(h_lasts)), (hs, h_last))
    state_dict = {name: array.numpy() for name, array in module.state_dict().items()}
    expected = convert.from_torch(state_dict)
    assert_same(stack, expected)


@pytest.mark.filterwarnings("ignore")
def test_packed_sequences_of_pytorch_match(tmp_path):
    """The model sorts by length internally; our lengths are in the caller's order."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    rnn = torch.nn.utils.rnn

    class Packed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = torch.nn.GRU(I, H, 2, bidirectional=True)

        def forward(self, xs, lengths):
            packed = rnn.pack_padded_sequence(xs, lengths, enforce_sorted=False)
            hs, h_last = self.gru(packed)
            return rnn.pad_packed_sequence(hs)[0], h_last

    lengths, path = np.array([3, 5, 1, 4]), tmp_path / "model.onnx"
    example = (torch.tensor(XS), torch.tensor(lengths))
    names = {"input_names": ["x", "lengths"], "dynamic_axes": {"x": [0, 1], "lengths": [0]}}
    torch.onnx.export(Packed().eval(), example, path, dynamo=False, **names)
    hs, h_last = run(path, {"x": XS, "lengths": lengths})
    h_lasts, our_hs = unroll(convert.from_onnx(path), XS, None, lengths)
    assert_close((our_hs, jnp.concatenate(h_lasts)), (hs, h_last))
