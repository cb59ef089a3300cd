"""Arguments of every conversion: dtypes, kinds, shapes, and whose memory the results are."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import H, I, random_params
from convert_common import RESET, from_, ours, theirs, to

import gru_jax
from gru_jax import Bidirectional, GRUParams, GRUStack, ReadoutParams, convert

EACH = pytest.mark.parametrize("name", RESET)
FLOATING = ["float16", "bfloat16", "float32"]
OTHERS = ["uint8", "int32", "bool", "complex64", "float8_e4m3fn", "int4"]
OBJECTS = [None, "weights", b"weights", 3, 0.5, True, [1.0], (), np.ones((2, 3)), object(), dict]


def at_each_leaf(tree, change):
    """The tree with one leaf after the other changed, and the name of that leaf."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    for i, (path, leaf) in enumerate(leaves):
        changed = [change(leaf) if j == i else other for j, (_, other) in enumerate(leaves)]
        last = path[-1]
        yield getattr(last, "key", getattr(last, "name", None)), structure.unflatten(changed)


@EACH
@pytest.mark.parametrize("dtype", OTHERS)
def test_other_dtypes_are_refused_by_name(name, dtype):
    for leaf, weights in at_each_leaf(theirs(name), lambda a: a.astype(dtype)):
        with pytest.raises(ValueError, match=rf"{leaf} is {dtype}, but must be float16, bfloat16"):
            from_(name)(weights)
    for leaf, params in at_each_leaf(ours(name), lambda a: a.astype(dtype)):
        with pytest.raises(ValueError, match=rf"params: {leaf} is {dtype}, but must be float16"):
            to(name)(params)


@EACH
@pytest.mark.parametrize("dtype", FLOATING)
def test_floating_dtypes_are_kept(name, dtype):
    weights = theirs(name, ours(name, dtype=dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(weights)} == {jnp.dtype(dtype)}
    for given in (weights, jax.tree.map(np.asarray, weights)):
        leaves = jax.tree.leaves(from_(name)(given))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}


@EACH
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


@EACH
def test_mixed_dtypes_are_refused(name):
    for _, weights in at_each_leaf(theirs(name), lambda a: a.astype(jnp.float16)):
        with pytest.raises(ValueError, match=r"float(16|32), but \S+ is float(16|32): cast"):
            from_(name)(weights)
    for _, params in at_each_leaf(ours(name), lambda a: a.astype(jnp.float16)):
        with pytest.raises(ValueError, match=r"float(16|32), but \S+ is float(16|32): cast"):
            to(name)(params)


@EACH
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
            if leaf in ("kernel", "w_i") and change(jnp.zeros((3, 21))).shape == (4, 21):
                continue
            with pytest.raises(ValueError, match=r"has shape"):
                from_(name)(weights)
        for leaf, params in at_each_leaf(ours(name), change):
            if leaf == "w_x" and change(jnp.zeros((3, 21))).shape == (4, 21):
                continue
            with pytest.raises(ValueError, match=r"params: \w+ has shape"):
                to(name)(params)


@EACH
@pytest.mark.parametrize("sizes", [{"hidden": 0}, {"inputs": 0}])
def test_empty_sizes_are_refused(name, sizes):
    i, h = sizes.get("inputs", I), sizes.get("hidden", H)
    params = GRUParams(jnp.zeros((i, 3 * h)), jnp.zeros((h, 3 * h)), reset=RESET[name])
    with pytest.raises(ValueError, match="has shape"):
        to(name)(params)
    sizes = {H: h, 3 * H: 3 * h, I: i, H + I: h + i}
    empty = jax.tree.map(lambda a: jnp.zeros([sizes.get(s, s) for s in a.shape]), theirs(name))
    with pytest.raises(ValueError, match="has shape"):
        from_(name)(empty)


@EACH
@pytest.mark.parametrize(
    "wrong", OBJECTS, ids=lambda wrong: type(wrong).__name__ + str(np.shape(wrong))
)
def test_an_argument_of_another_kind(name, wrong):
    with pytest.raises(
        ValueError, match=r"^(state_dict|params|state|arrays|weights) (is a|has|is the p)"
    ):
        from_(name)(wrong)
    with pytest.raises(ValueError, match=r"^params"):
        to(name)(wrong)
    if name not in ("textbook", "equinox") and not isinstance(wrong, (str, type(None))):
        with pytest.raises(ValueError, match=r"^prefix is a .*, but must be a string or None"):
            from_(name)(theirs(name), prefix=wrong)
        with pytest.raises(ValueError, match=r"^prefix is 'elsewhere', where there is no GRU"):
            from_(name)(theirs(name), prefix="elsewhere")


@EACH
@pytest.mark.parametrize(
    "wrong",
    ["x", [[1.0], [1.0, 2.0]], object(), 3, [1], {}, {1.5: 2}, None],
    ids=lambda wrong: type(wrong).__name__,
)
def test_a_value_of_another_kind(name, wrong):
    for leaf, weights in at_each_leaf(theirs(name), lambda _: "here"):
        if wrong is None and leaf == "bias":  # none is absent
            continue
        weights = jax.tree.map(lambda a: wrong if isinstance(a, str) else a, weights)
        with pytest.raises(ValueError, match=rf"{leaf}|lacks|1\.5") as error:
            from_(name)(weights)
        assert "JAX" not in str(error.value)
    for leaf, params in at_each_leaf(ours(name), lambda _: "here"):
        if wrong is None and leaf.startswith("b"):
            continue
        params = dataclasses.replace(params, **{leaf: wrong})
        with pytest.raises(ValueError, match=rf"params.*{leaf}"):
            to(name)(params)


@EACH
def test_keys_of_another_kind(name):
    for key in (1, None, 1.5, ("a",)):
        with pytest.raises(ValueError, match=r"unknown \[|has the key|GRUs"):
            from_(name)({**theirs(name), key: np.ones(3)})


@EACH
def test_other_classes_of_ours(name):
    key = jax.random.key(0)
    params = ours(name)
    for wrong in (
        gru_jax.init_lstm(key, I, H),
        gru_jax.init_rnn(key, I, H),
        gru_jax.init_min_gru(key, I, H),
        gru_jax.init_layer_norm_gru(key, I, H),
        gru_jax.init_readout(key, H, I),
        (params,),
    ):
        with pytest.raises(ValueError, match=rf"^params.*a {type(wrong).__name__}"):
            to(name)(wrong)
        with pytest.raises(ValueError, match=rf"is a {type(wrong).__name__}|weights is a list of"):
            from_(name)(wrong)
    if name != "torch":
        with pytest.raises(ValueError, match=r"not from a GRUStack. Convert its layers one by one"):
            to(name)(GRUStack((params,)))
    for mixed in (Bidirectional(params, None), Bidirectional(GRUStack((params,)), params)):
        with pytest.raises(ValueError, match="params"):
            to(name)(mixed)
    for reset in ("sideways", None, 3):
        with pytest.raises(ValueError, match=r"params\.reset is"):
            to(name)(dataclasses.replace(params, reset=reset))
    with pytest.raises(ValueError, match=r"params.*is a GRUParams|is a GRUParams, but must be a"):
        from_(name)(params)
    if RESET[name] == "before":
        with pytest.raises(ValueError, match=r'params\.b_hn is an array, but reset="before"'):
            to(name)(dataclasses.replace(params, b_hn=jnp.ones(H)))


def test_textbook_readouts():
    params, readout = ours("textbook"), ReadoutParams(jnp.ones((H, 2)))
    for wrong in (None, params, jnp.ones((H, 2)), "readout"):
        if wrong is None:
            assert "W_y" not in convert.to_textbook(params, wrong)
            continue
        with pytest.raises(ValueError, match=r"readout is a .*, but must be a ReadoutParams"):
            convert.to_textbook(params, wrong)
    for w in (jnp.ones((2, H)), jnp.ones(H), None, jnp.ones((H, 2), int), jnp.ones((H, 0))):
        with pytest.raises(ValueError, match=r"^readout"):
            convert.to_textbook(params, ReadoutParams(w))
    weights = convert.to_textbook(params, readout)
    assert len(convert.from_textbook(weights)) == 2
    with pytest.raises(ValueError, match="W_y is float16"):
        convert.from_textbook(weights | {"W_y": weights["W_y"].astype(jnp.float16)})


@pytest.mark.parametrize(("name", "field"), [("nnx", "b_hn"), ("textbook", "b")])
def test_a_bias_that_may_be_lost_is_refused_while_it_is_traced(name, field):
    params = random_params(reset=RESET[name])
    with pytest.raises(ValueError, match=f"params.{field} is traced"):
        jax.jit(to(name))(params)
