"""Conversion from and to ONNX's GRU node, and the models that `to_onnx` writes."""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_params
from convert_common import assert_same, draw
from onnx_graphs import Builder, draw_weights, run, unroll

import gru_jax
from gru_jax import Bidirectional, GRUStack, convert

EITHER_RESET = pytest.mark.parametrize("reset", ["before", "after"])


def node_cases():
    """The ONNX project's own tests of the GRU node."""
    try:
        from onnx.backend.test.case.node import gru
    except ImportError:
        return [pytest.param(None, None, None, id="onnx is not installed")]
    cases = []

    def record(node, inputs, outputs, name):
        attributes = {a.name: a.s.decode() if a.type == 3 else a.i for a in node.attribute}
        names = dict(zip(node.input, inputs, strict=True))
        expected = dict(zip([o for o in node.output if o], outputs, strict=True))
        cases.append(pytest.param(attributes, names, expected, id=name))

    np.random.seed(0)  # noqa: NPY002 (where the cases take their numbers from)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gru, "expect", record)
        for name, export in sorted(vars(gru.GRU).items()):
            if name.startswith("export"):
                export.__func__()
    return cases


def run_node(params, direction, xs, h0, lengths=None):
    """Our Y `[T, D, B, H]` and Y_h `[D, B, H]`."""
    if direction == "bidirectional":
        (last,), hs = unroll(params, xs, [h0], lengths)
        return jnp.stack(jnp.split(hs, 2, -1), 1), last
    mask = None if lengths is None else gru_jax.sequence_mask(lengths, len(xs))
    last, hs = gru_jax.gru_unroll(params, h0[0], xs, mask=mask, reverse=direction == "reverse")
    return hs[:, None], last[None]


@pytest.mark.parametrize(("attributes", "inputs", "expected"), node_cases())
def test_outputs_match_cases_of_the_onnx_project(attributes, inputs, expected):
    if inputs is None:
        pytest.skip("onnx is not installed")
    layout = attributes.get("layout", 0)
    direction = attributes.get("direction", "forward")
    params = convert.from_onnx(
        {k: v for k, v in inputs.items() if k in "WRB"},
        linear_before_reset=attributes.get("linear_before_reset", 0),
        direction=direction,
    )
    xs, count = jnp.asarray(inputs["X"]), len(inputs["W"])
    xs = jnp.swapaxes(xs, 0, 1) if layout else xs
    zeros = jnp.zeros((count, xs.shape[1], attributes["hidden_size"]))
    h0 = inputs.get("initial_h", zeros)
    h0 = jnp.swapaxes(h0, 0, 1) if layout and "initial_h" in inputs else jnp.asarray(h0)
    y, y_h = run_node(params, direction, xs, h0)
    if layout:
        y, y_h = jnp.transpose(y, (2, 0, 1, 3)), jnp.swapaxes(y_h, 0, 1)
    for name, ours in (("Y", y), ("Y_h", y_h)):
        if name in expected:
            assert_close(ours, expected[name])


@EITHER_RESET
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("masked", [False, True])
def test_node_outputs_match_onnxruntime(reset, direction, masked):
    """A node with random biases, also those of which only the sum matters."""
    linear = int(reset == "after")
    weights = draw_weights(2 if direction == "bidirectional" else 1)
    h0, xs = draw(len(weights["R"]), B, H), draw(T, B, I, seed=3)
    lengths = np.array([5, 3, 1, 4] if masked else [T] * B, np.int32)
    build = Builder()
    build.input("X", T, B, I)
    build.input("lengths", B, dtype="int32")
    build.input("H", len(h0), B, H)
    outputs = build.gru(
        "X", weights, "lengths", "H", direction=direction, linear_before_reset=linear
    )
    expected = run(build.model(*outputs), {"X": xs, "lengths": lengths, "H": h0})
    params = convert.from_onnx(weights, linear_before_reset=linear, direction=direction)
    actual = run_node(params, direction, jnp.asarray(xs), jnp.asarray(h0), lengths)
    assert_close(actual, tuple(expected))
    again = convert.from_onnx(
        convert.to_onnx(params), linear_before_reset=linear, direction=direction
    )
    assert_same(again, params)


def two_layers(reset, bidirectional):
    stack = gru_jax.init_gru_stack(
        jax.random.key(0), I, (7, 6), bidirectional=bidirectional, reset=reset, preset="torch"
    )
    return stack, [draw(1 + bidirectional, 1, size, seed=size) for size in (7, 6)]


def feeds_of(xs, lengths, h0s):
    states = {f"h0_{i}": h0 for i, h0 in enumerate(h0s)}
    return {"xs": xs, "lengths": np.asarray(lengths, np.int32), **states}


@EITHER_RESET
@pytest.mark.parametrize("bidirectional", [True, False])
def test_written_model_matches_in_onnxruntime(reset, bidirectional, tmp_path):
    """For any batch, time and lengths, also rows of length 0 and T = 0."""
    stack, h0 = two_layers(reset, bidirectional)
    pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    convert.to_onnx(stack, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    for steps, lengths in (
        (5, [5, 3, 0, 4]),
        (5, [0, 0, 0, 0]),
        (5, [7, 2, 2**31 - 1, 5]),
        (5, [-1, 2, -(2**31), 1]),
        (1, [1]),
        (1, [0]),
        (0, [0, 3]),
    ):
        xs, batch = draw(steps, len(lengths), I), len(lengths)
        for row, length in enumerate(lengths):
            xs[max(length, 0) :, row] = np.nan  # padding is never looked at
        h0s = [np.tile(h, (1, batch, 1)) for h in h0]
        hs, *lasts = run(path, feeds_of(xs, lengths, h0s))
        our_lasts, our_hs = unroll(stack, xs, h0s, np.clip(lengths, 0, steps))
        assert_close((our_hs, our_lasts), (hs, lasts))
        assert hs.shape == (steps, batch, 6 * (1 + bidirectional))


@EITHER_RESET
def test_written_model_streams_in_pieces(reset, tmp_path):
    """Run on consecutive pieces, also empty ones, it gives the same outputs as on the whole."""
    pytest.importorskip("onnx")
    stack, h0 = two_layers(reset, bidirectional=False)
    convert.to_onnx(stack, tmp_path / "model.onnx")
    lengths, h0s = np.array([9, 4, 0, 6]), [np.tile(h, (1, 4, 1)) for h in h0]
    xs, states, pieces = draw(9, 4, I), h0s, []
    for start, stop in ((0, 4), (4, 6), (6, 6), (6, 9)):
        rest = np.clip(lengths - start, 0, stop - start)
        hs, *states = run(tmp_path / "model.onnx", feeds_of(xs[start:stop], rest, states))
        pieces.append(hs)
    assert_close((states, np.concatenate(pieces)), unroll(stack, xs, h0s, lengths))


def test_round_trip_of_a_written_model_is_exact(tmp_path):
    pytest.importorskip("onnx")
    for reset in ("before", "after"):
        for bidirectional in (False, True):
            stack, _ = two_layers(reset, bidirectional)
            convert.to_onnx(stack, tmp_path / "model.onnx")
            assert_same(convert.from_onnx(tmp_path / "model.onnx"), stack)
            convert.to_onnx(stack.layers[0], str(tmp_path / "model.onnx"))
            assert_same(convert.from_onnx(tmp_path / "model.onnx"), GRUStack(stack.layers[:1]))


def test_wrong_nodes_are_refused():
    params = random_params()
    node = convert.to_onnx(params)
    for changes, message in (
        ({"linear_before_reset": 2}, "linear_before_reset is 2"),
        ({"linear_before_reset": "1"}, "linear_before_reset is '1'"),
        ({"linear_before_reset": np.array([0, 1])}, "linear_before_reset is array"),
        ({"direction": "sideways"}, "direction is 'sideways'"),
        ({"direction": np.array(["forward", "reverse"])}, "direction is array"),
        ({"direction": "bidirectional"}, "R has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.from_onnx(node, **changes)
    for name in ("W", "R"):
        with pytest.raises(ValueError, match=f"lacks .*{name}"):
            convert.from_onnx({k: v for k, v in node.items() if k != name})
        with pytest.raises(ValueError, match=f"{name} has shape"):
            convert.from_onnx(node | {name: node[name][:, 1:]})
        with pytest.raises(ValueError, match=f"{name} has shape"):
            convert.from_onnx(node | {name: node[name][..., :0]})
        with pytest.raises(ValueError, match=f"{name} has shape"):
            convert.from_onnx(node | {name: node[name][0]})
    for changes, message in (
        ({"B": node["B"][:, 1:]}, "B has shape"),
        ({"P": node["B"]}, "unknown"),
        ({"R": node["R"].astype(jnp.bfloat16)}, "bfloat16.*float32.*one dtype"),
        ({"R": "weights"}, "R is .*must be a floating array"),
        ({"R": [[1.0], [2.0, 3.0]]}, "R is a list"),
        ({"R": object()}, "R is a object"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.from_onnx(node | changes)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "bool", "complex64"])
def test_weights_that_are_not_floating_are_refused(dtype):
    """Quantised weights need a scale, which a GRU node does not have."""
    params = random_params(reset="after")
    node = {name: np.asarray(array) for name, array in convert.to_onnx(params).items()}
    for name in node:
        with pytest.raises(ValueError, match=f"{name} is {dtype}, but must be float16"):
            convert.from_onnx(node | {name: np.abs(node[name] * 100).astype(dtype)})
    cast = jax.tree.map(lambda leaf: jnp.abs(leaf * 100).astype(dtype), params)
    for network in (cast, Bidirectional(cast, cast), GRUStack((cast,))):
        with pytest.raises(ValueError, match=dtype):
            convert.to_onnx(network)


def test_wrong_networks_and_paths_are_refused(tmp_path):
    params, other = random_params(), random_params(hidden=6)
    lstm = gru_jax.init_lstm(jax.random.key(0), I, H)
    path = tmp_path / "model.onnx"
    for network, message in (
        (Bidirectional(params, other), "one hidden size"),
        (Bidirectional(params, random_params(reset="after")), "resets before the product"),
        (GRUStack((params, params)), "layer 1 takes 3 features, but is given 7"),
        (GRUStack((params, random_params(inputs=H, dtype=jnp.bfloat16))), "layer 1 is bfloat16"),
        (GRUStack(()), r"network\.layers is \(\)"),
        (lstm, "GRUParams, not from a LSTMParams"),
        (GRUStack((lstm,)), "GRUParams, not from a LSTMParams"),
        (None, "GRUParams, not from a NoneType"),
        ({"W": 1}, "GRUParams, not from a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.to_onnx(network, path)
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match="bfloat16"):
        convert.to_onnx(random_params(dtype=jnp.bfloat16), path)
    with pytest.raises(ValueError, match="network is traced"):
        jax.jit(lambda params: convert.to_onnx(params, path))(params)
    for wrong in (3, "", b"model.onnx", ["model.onnx"]):
        with pytest.raises(ValueError, match="path is"):
            convert.to_onnx(params, wrong)
    for wrong in (tmp_path, tmp_path / "missing" / "model.onnx"):
        with pytest.raises(OSError, match=str(wrong.parent)):
            convert.to_onnx(params, wrong)
    assert not os.listdir(tmp_path)
    assert [each["B"].shape for each in convert.to_onnx(GRUStack((params,)))] == [(1, 6 * H)]


def test_no_two_arrays_share_memory():
    """Within a result, or of a result and an argument."""
    same = jnp.asarray(draw(1, 3 * H, H))
    node = {"W": same, "R": same, "B": jnp.asarray(draw(1, 6 * H))}
    for linear in (0, 1):
        params = convert.from_onnx(node, linear_before_reset=linear)
        twice = convert.to_onnx(Bidirectional(params, params))
        arrays = [*node.values(), *jax.tree.leaves(params), *twice.values()]
        arrays += convert.to_onnx(params).values()
        pointers = {array.unsafe_buffer_pointer() for array in arrays}
        assert len(pointers) == len(arrays) - 1  # `same` is there twice
    plain = {name: np.array(array) for name, array in node.items()}
    params = convert.from_onnx(plain, linear_before_reset=1)
    before = jax.tree.map(np.array, params)
    for array in plain.values():
        array[:] = 0
    assert_same(jax.tree.map(np.asarray, params), before)


def test_onnx_is_imported_for_models_only(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    node = convert.to_onnx(random_params())
    assert convert.from_onnx(node).reset == "before"
    with pytest.raises(ModuleNotFoundError, match="package onnx: pip install onnx"):
        convert.from_onnx(tmp_path / "model.onnx")
    with pytest.raises(ModuleNotFoundError, match="package onnx: pip install onnx"):
        convert.to_onnx(random_params(), tmp_path / "model.onnx")
