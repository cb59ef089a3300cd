"""Reading whole ONNX models, with graphs as exporters write them, compared with onnxruntime."""

import numpy as np
import pytest
from common import B, H, I, T, assert_close
from convert_common import assert_same, draw
from onnx_graphs import (
    LOWER,
    UPPER,
    XS,
    Builder,
    draw_weights,
    layer,
    refuses,
    run,
    started,
    unroll,
)

from gru_jax import Bidirectional, GRUStack, convert

WIDE, BOTH = draw_weights(1, 2 * H, 6, 5), draw_weights(2)


@pytest.mark.parametrize("reset_after", [0, 1])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("zeros", ["ConstantOfShape", "Expand"])
def test_batch_major_model_with_lengths_and_zero_states_matches(reset_after, count, zeros):
    """As written by tf2onnx and Keras: transposes, and zeros of a computed shape."""
    weights = [draw_weights(count), draw_weights(count, count * H, 6, 5)]
    build = Builder()
    build.input("x", "batch", "time", I)
    build.input("lengths", "batch", dtype="int32")
    shape = build.add("Shape", "x", start=0, end=1)
    below = "x"
    for each in weights:
        hidden = each["R"].shape[2]
        size = [build.constant(np.array([count])), shape, build.constant(np.array([hidden]))]
        size = build.add("Concat", *size, axis=0)
        if zeros == "Expand":
            h0 = build.add("Expand", build.constant(np.float32(0)), size)
        else:
            h0 = build.add("ConstantOfShape", size)
        major = build.add("Transpose", below, perm=[1, 0, 2])
        y, _ = build.gru(major, each, "lengths", h0, linear_before_reset=reset_after)
        if count == 1:
            y = build.add("Squeeze", y, build.constant(np.array([1])))
        else:
            y = build.concat(y)
        below = build.add("Transpose", y, perm=[1, 0, 2])
    model = build.model(below)
    lengths = np.array([5, 3, 1, 4], np.int32)
    (expected,) = run(model, {"x": XS.swapaxes(0, 1), "lengths": lengths})
    stack = convert.from_onnx(model)
    assert_same(stack, GRUStack(tuple(layer(each, reset_after) for each in weights)))
    assert_close(unroll(stack, XS, None, lengths)[1].swapaxes(0, 1), expected)


def sliced(build, y):
    """As written by tf2onnx: each direction separately."""
    one, two = build.constant(np.array([1])), build.constant(np.array([2]))
    zero = build.constant(np.array([0]))
    each = [build.add("Slice", y, *ends, one) for ends in ((zero, one), (one, two))]
    each = [build.add("Squeeze", part, one) for part in each]
    return build.add("Concat", *each, axis=2)


def split(build, y):
    each = [
        build.add("Squeeze", part, build.constant(np.array([1])))
        for part in build.add("Split", y, outputs=2, axis=1)
    ]
    return build.add("Identity", build.add("Concat", *each, axis=-1))


def shaped(build, y):
    """A user's reshape(x.shape[0], x.shape[1], -1)."""
    leading = [
        build.add("Gather", build.add("Shape", "x"), build.constant(np.array([i]))) for i in (0, 1)
    ]
    size = build.add("Concat", *leading, build.constant(np.array([2 * H])), axis=0)
    return build.add("Reshape", build.add("Transpose", y, perm=[0, 2, 1, 3]), size)


@pytest.mark.parametrize("glue", [Builder.concat, sliced, split, shaped])
def test_nodes_that_concatenate_directions_are_accepted(glue):
    build, y = started(BOTH)
    y, last = build.gru(glue(build, y), WIDE)
    model = build.model(y, last)
    stack = convert.from_onnx(model)
    assert_same(stack, GRUStack((layer(BOTH), layer(WIDE))))
    (*_, our_last), our_hs = unroll(stack, XS)
    assert_close((our_hs[:, None], our_last), tuple(run(model, {"x": XS})))


def test_fixed_sizes_are_accepted():
    """Exported without dynamic axes: Reshape to fixed sizes, lengths equal to T."""
    build = Builder()
    build.input("x", T, B, I)
    lengths = build.constant(np.full(B, T, np.int32))
    y, _ = build.gru("x", LOWER, lengths, build.constant(np.zeros((1, B, H), np.float32)))
    y = build.add("Reshape", y, build.constant(np.array([T, B, H])))
    y, _ = build.gru(y, UPPER, lengths)
    model = build.model(y)
    stack = convert.from_onnx(model)
    assert_close(unroll(stack, XS)[1][:, None], run(model, {"x": XS})[0])


def norm(build, y):
    scale = build.constant(np.ones(2 * H, np.float32))
    return build.add("LayerNormalization", build.concat(y), scale, axis=-1)


def plus_input(build, y):
    wide = build.add("Concat", *["x"] * 4, build.concat(y), axis=2)
    ends = [build.constant(np.array([n])) for n in (0, 2 * H, 2)]
    return build.add("Add", build.concat(y), build.add("Slice", wide, *ends))


def masked(build, y):
    build.input("mask", "time", "batch", 1)
    return build.add("Mul", build.concat(y), "mask")


def swapped(build, y):
    return build.concat(build.add("Gather", y, build.constant(np.array([1, 0])), axis=1))


def unmoved(build, y):
    return build.add("Reshape", y, build.constant(np.array([0, -1, 2 * H])))


def reversed_in_time(build, y):
    ends = [build.constant(np.array([n])) for n in (-1, -(2**31), 0, -1)]
    return build.add("Slice", build.concat(y), *ends)


def cropped(build, y):
    ends = [build.constant(np.array([n])) for n in (0, 1000, 0)]
    return build.add("Slice", build.concat(y), *ends)


def rounded(build, y):
    half = build.add("Cast", build.concat(y), to=10)
    return build.add("Cast", half, to=1)


def linear(build, y):
    return build.add("MatMul", build.concat(y), build.constant(draw(2 * H, 2 * H)))


@pytest.mark.parametrize(
    ("glue", "names"),
    [
        (norm, "LayerNormalization"),
        (plus_input, "'x'.*Add"),
        (masked, "'mask'.*Mul"),
        (swapped, "Gather"),
        (unmoved, "Reshape"),
        (reversed_in_time, "Slice"),
        (cropped, "Slice"),
        (rounded, "Cast"),
        (linear, "MatMul"),
        *((lambda build, y, op=op: build.add(op, build.concat(y)), op) for op in ("Relu", "Tanh")),
        (lambda build, y: build.add("custom.Norm", build.concat(y)), "custom.Norm"),
    ],
)
def test_nodes_that_change_values_between_layers_are_refused(glue, names):
    build, y = started(BOTH)
    y, _ = build.gru(glue(build, y), WIDE)
    model = build.model(y)
    refuses(model, f"'gru_1'.*{names}")
    for i, weights in enumerate((BOTH, WIDE)):
        assert_same(convert.from_onnx(model, node=f"gru_{i}"), layer(weights))


def test_initial_states_as_model_inputs_match():
    """One input with the states of both layers, as written by PyTorch's exporters."""
    build = Builder()
    build.input("x", "time", "batch", I)
    build.input("h", 2, "batch", H)
    upper, y = draw_weights(1, H, H, 5), "x"
    for i, weights in enumerate((LOWER, upper)):
        ends = [build.constant(np.array([n])) for n in (i, i + 1, 0)]
        y, _ = build.gru(y, weights, h0=build.add("Slice", "h", *ends))
        y = build.concat(y)
    h0, model = draw(2, B, H, seed=4), build.model(y)
    _, hs = unroll(convert.from_onnx(model), XS, [h0[:1], h0[1:]])
    assert_close(hs, run(model, {"x": XS, "h": h0})[0])


def test_bidirectional_layer_matches():
    build, y = started(BOTH)
    stack = convert.from_onnx(build.model(y))
    assert isinstance(stack.layers[0], Bidirectional)
    assert isinstance(convert.from_onnx(build.model(y), node="gru_0"), Bidirectional)
