"""Arguments of every conversion: dtypes, classes, shapes."""

import dataclasses
import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import H, I
from convert_common import (
    EACH_FORMAT,
    FORMATS,
    argument,
    default_reset,
    from_,
    ours,
    theirs,
    to,
)

import gru_jax
from gru_jax import Bidirectional, GRUParams, GRUStack

FLOATING = ["float16", "bfloat16", "float32"]
OTHERS = ["uint8", "int32", "bool", "complex64", "float8_e4m3fn", "int4"]
EACH_WITH_PREFIX = pytest.mark.parametrize(
    "name",
    [name for name in FORMATS if "prefix" in inspect.signature(from_(name)).parameters],
)
OBJECTS = [None, "weights", b"weights", 3, 0.5, True, [1.0], (), np.ones((2, 3)), object(), dict]


def at_each_leaf(tree, change):
    """For each leaf, its name and the tree with only that leaf changed."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    for i, (path, leaf) in enumerate(leaves):
        changed = [change(leaf) if j == i else other for j, (_, other) in enumerate(leaves)]
        last = path[-1]
        yield getattr(last, "key", getattr(last, "name", None)), structure.unflatten(changed)


@EACH_FORMAT
@pytest.mark.parametrize("dtype", OTHERS)
def test_other_dtypes_are_refused_by_name(name, dtype):
    for leaf, weights in at_each_leaf(theirs(name), lambda a: a.astype(dtype)):
        with pytest.raises(ValueError, match=rf"{leaf} is {dtype}, but must be float16, bfloat16"):
            from_(name)(weights)
    for leaf, params in at_each_leaf(ours(name), lambda a: a.astype(dtype)):
        with pytest.raises(
            ValueError, match=rf"^{argument(to(name))}: {leaf} is {dtype}, but must be float16"
        ):
            to(name)(params)


@EACH_FORMAT
@pytest.mark.parametrize("dtype", FLOATING)
def test_floating_dtypes_are_kept(name, dtype):
    weights = theirs(name, ours(name, dtype=dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(weights)} == {jnp.dtype(dtype)}
    for given in (weights, jax.tree.map(np.asarray, weights)):
        leaves = jax.tree.leaves(from_(name)(given))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}


@EACH_FORMAT
def test_float64_of_numpy_is_converted_without_a_warning(name):
    expected = from_(name)(theirs(name))
    double = jax.tree.map(lambda a: np.asarray(a, np.float64), theirs(name))
    swapped = jax.tree.map(lambda a: np.asarray(a).astype(">f4"), theirs(name))
    listed = jax.tree.map(lambda a: np.asarray(a).tolist(), theirs(name))
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), ours(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for weights in (double, swapped, listed):
            jax.tree.map(np.testing.assert_array_equal, from_(name)(weights), expected)
        jax.tree.map(np.testing.assert_array_equal, to(name)(params), theirs(name))
    with jax.enable_x64(True):
        assert {a.dtype for a in jax.tree.leaves(from_(name)(double))} == {jnp.dtype("float64")}


@EACH_FORMAT
def test_mixed_dtypes_are_refused(name):
    for _, weights in at_each_leaf(theirs(name), lambda a: a.astype(jnp.float16)):
        with pytest.raises(ValueError, match=r"float(16|32), but \S+ is float(16|32): cast"):
            from_(name)(weights)
    for _, params in at_each_leaf(ours(name), lambda a: a.astype(jnp.float16)):
        with pytest.raises(ValueError, match=r"float(16|32), but \S+ is float(16|32): cast"):
            to(name)(params)


@EACH_FORMAT
def test_other_shapes_are_refused(name):
    """Nothing is broadcast, transposed or empty."""
    changes = [
        lambda a: a[..., :1],
        lambda a: a[..., 0],
        lambda a: jnp.zeros((), a.dtype),
        lambda a: jnp.zeros((1,), a.dtype),
        lambda a: a[None],
        lambda a: a[..., None],
        lambda a: a[:0],
        lambda a: a[..., :0],
        lambda a: jnp.zeros((a.shape[0] + 1, *a.shape[1:]), a.dtype),
    ]
    for change in changes:
        for leaf, weights in at_each_leaf(theirs(name), change):
            # only the width of the inputs is free
            if leaf == "weight_ih" and change(jnp.zeros((21, 3))).shape == (21, 1):
                continue
            if (name, leaf) == ("onnx", "W") and change(jnp.zeros((1, 21, 3))).shape == (1, 21, 1):
                continue
            if leaf in ("kernel", "w_i") and change(jnp.zeros((3, 21))).shape == (4, 21):
                continue
            with pytest.raises(ValueError, match=r"has shape"):
                from_(name)(weights)
        for leaf, params in at_each_leaf(ours(name), change):
            if leaf == "w_x" and change(jnp.zeros((3, 21))).shape == (4, 21):
                continue
            with pytest.raises(ValueError, match=rf"^{argument(to(name))}: \w+ has shape"):
                to(name)(params)


@EACH_FORMAT
@pytest.mark.parametrize("sizes", [{"hidden": 0}, {"inputs": 0}])
def test_empty_sizes_are_refused(name, sizes):
    i, h = sizes.get("inputs", I), sizes.get("hidden", H)
    params = GRUParams(jnp.zeros((i, 3 * h)), jnp.zeros((h, 3 * h)), reset=default_reset(name))
    with pytest.raises(ValueError, match="has shape"):
        to(name)(params)
    sizes = {H: h, 3 * H: 3 * h, 6 * H: 6 * h, I: i, H + I: h + i}
    empty = jax.tree.map(lambda a: jnp.zeros([sizes.get(s, s) for s in a.shape]), theirs(name))
    with pytest.raises(ValueError, match="has shape"):
        from_(name)(empty)


@EACH_FORMAT
@pytest.mark.parametrize(
    "wrong", OBJECTS, ids=lambda wrong: type(wrong).__name__ + str(np.shape(wrong))
)
def test_arguments_of_other_classes_are_refused(name, wrong):
    with pytest.raises(ValueError, match=rf"^{argument(to(name))}"):
        to(name)(wrong)
    if name == "onnx":
        pytest.importorskip("onnx")
    if name == "onnx" and isinstance(wrong, str):
        return  # a path
    with pytest.raises(
        ValueError, match=rf"^{argument(from_(name))} (is a|has|is the p|cannot be read)"
    ):
        from_(name)(wrong)


@EACH_WITH_PREFIX
def test_wrong_prefixes_are_refused(name):
    for wrong in OBJECTS:
        if isinstance(wrong, str | None):
            continue
        with pytest.raises(ValueError, match=r"^prefix is a .*, but must be a string or None"):
            from_(name)(theirs(name), prefix=wrong)
    with pytest.raises(ValueError, match=r"^prefix is 'elsewhere', where there is no GRU"):
        from_(name)(theirs(name), prefix="elsewhere")


@EACH_FORMAT
@pytest.mark.parametrize(
    "wrong",
    ["x", [[1.0], [1.0, 2.0]], object(), 3, [1], {}, {1.5: 2}, None],
    ids=lambda wrong: type(wrong).__name__,
)
def test_values_that_are_not_arrays_are_refused(name, wrong):
    for leaf, weights in at_each_leaf(theirs(name), lambda _: "here"):
        if wrong is None and leaf in ("bias", "B"):  # None is absent
            continue
        weights = jax.tree.map(lambda a: wrong if isinstance(a, str) else a, weights)
        with pytest.raises(ValueError, match=rf"{leaf}|lacks|1\.5") as error:
            from_(name)(weights)
        assert "JAX" not in str(error.value)
    for leaf, params in at_each_leaf(ours(name), lambda _: "here"):
        if wrong is None and leaf.startswith("b"):
            continue
        params = dataclasses.replace(params, **{leaf: wrong})
        with pytest.raises(ValueError, match=rf"^{argument(to(name))}.*{leaf}"):
            to(name)(params)


@EACH_FORMAT
def test_unknown_keys_are_refused(name):
    for key in (1, None, 1.5, ("a",)):
        with pytest.raises(ValueError, match=r"unknown \[|has the key|GRUs"):
            from_(name)({**theirs(name), key: np.ones(3)})


@EACH_FORMAT
def test_other_parameters_of_ours_are_refused(name):
    key = jax.random.key(0)
    params = ours(name)
    if name == "onnx":
        pytest.importorskip("onnx")
    for wrong in (
        gru_jax.init_lstm(key, I, H),
        gru_jax.init_rnn(key, I, H),
        gru_jax.init_min_gru(key, I, H),
        gru_jax.init_layer_norm_gru(key, I, H),
        gru_jax.init_readout(key, H, I),
        (params,),
    ):
        with pytest.raises(ValueError, match=rf"^{argument(to(name))}.*a {type(wrong).__name__}"):
            to(name)(wrong)
        with pytest.raises(ValueError, match=rf"is a {type(wrong).__name__}|weights is a list of"):
            from_(name)(wrong)
    if GRUStack not in FORMATS[name].networks:
        with pytest.raises(ValueError, match=r"not from a GRUStack. Convert its layers one by one"):
            to(name)(GRUStack((params,)))
    for mixed in (Bidirectional(params, None), Bidirectional(GRUStack((params,)), params)):
        with pytest.raises(ValueError, match=rf"^{argument(to(name))}"):
            to(name)(mixed)
    for reset in ("sideways", None, 3):
        with pytest.raises(ValueError, match=rf"^{argument(to(name))}\.reset is"):
            to(name)(dataclasses.replace(params, reset=reset))
    with pytest.raises(ValueError, match=r"params.*is a GRUParams|is a GRUParams, but must be a"):
        from_(name)(params)
    if "before" in FORMATS[name].resets:
        with pytest.raises(ValueError, match=r'\.b_hn is an array, but reset="before"'):
            to(name)(dataclasses.replace(ours(name, "before"), b_hn=jnp.ones(H)))
