"""The contract of all conversions: one test per property, over the rows of the table of formats.

The frameworks themselves are in convert_peers.py; one that is not installed is skipped by name.
Sizes all differ, no bias is zero, T > 1.
"""

import dataclasses
import importlib
import subprocess
import sys

import convert_peers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_inputs, random_params
from convert_common import (
    EACH_CASE,
    EACH_FORMAT,
    FORMATS,
    assert_same,
    default_reset,
    draw,
    from_,
    jax_tree,
    numpy_tree,
    ours,
    to,
)

import gru_jax
from gru_jax import Bidirectional, GRUParams, GRUStack, convert

# warnings of the frameworks are not ours to fix
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]


def peer_of(case):
    """The framework's GRU, with its own weights."""
    name, reset, bias = case
    if FORMATS[name].package is not None:
        pytest.importorskip(FORMATS[name].package)
    return getattr(convert_peers, name)(reset, bias)


def our_hs(params, h0, xs):
    return gru_jax.gru_unroll(params, h0, xs)[1]


def test_table_lists_the_public_functions():
    public = {name for name in vars(convert) if name.startswith(("from_", "to_"))}
    assert public == {f"{verb}_{name}" for verb in ("from", "to") for name in FORMATS}
    for name in FORMATS:
        module = importlib.import_module(f"gru_jax.convert.{name}")
        for verb in ("from", "to"):
            assert getattr(module, f"{verb}_{name}") is getattr(convert, f"{verb}_{name}")


@EACH_FORMAT
@pytest.mark.parametrize("verb", ["from", "to"])
def test_docstring_has_shapes_dtypes_errors_and_an_example(name, verb):
    doc = getattr(convert, f"{verb}_{name}").__doc__
    for part in ("Args:", "Returns:", "Raises:", "ValueError:", ">>> "):
        assert part in doc, part
    assert "dtype" in doc or "bfloat16" in doc
    for section in ("Args:", "Returns:"):
        assert "H" in doc.split(section)[1].split("`[")[1].split("]`")[0]


@EACH_CASE
def test_outputs_match_framework(case):
    """With the framework's own weights, and with ours."""
    name, reset, bias = case
    peer, (h0, xs) = peer_of(case), random_inputs()
    params = from_(name, reset)(peer.weights)
    assert params.reset == reset
    assert_close(our_hs(params, h0, xs), peer.run(peer.weights, h0, xs))
    params = ours(name, reset, bias, seed=1)
    assert_close(peer.run(numpy_tree(to(name)(params)), h0, xs), our_hs(params, h0, xs))


@EACH_CASE
def test_gradients_match_framework(case):
    """With respect to the framework's weights, through the conversion; the state and the inputs."""
    name, reset, _ = case
    peer, (h0, xs) = peer_of(case), random_inputs()
    if peer.gradients is None:
        pytest.skip(f"{name} has no gradients")
    out_weights = draw(T, B, H)

    def loss(weights, h0, xs):
        return jnp.sum(out_weights * our_hs(from_(name, reset)(weights), h0, xs))

    expected = peer.gradients(peer.weights, h0, xs, out_weights)
    actual = jax.grad(loss, argnums=(0, 1, 2))(peer.weights, h0, xs)
    # float32 sums over T · B terms in another order
    assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@EACH_CASE
def test_round_trip_of_framework_weights_is_exact(case):
    name, reset, _ = case
    weights = jax_tree(peer_of(case).weights)
    params = from_(name, reset)(weights)
    back = to(name)(params)
    assert_same(from_(name, reset)(back), params)
    if reset not in FORMATS[name].summed:
        assert_same(back, weights)


@EACH_CASE
def test_round_trip_of_our_parameters_is_exact(case):
    name, reset, bias = case
    params = ours(name, reset, bias)
    assert_same(from_(name, reset)(to(name)(params)), params)


OPTIONAL = {"keras": "bias", "onnx": "B"}  # entries that hold all biases


@EACH_CASE
def test_missing_unknown_and_misshapen_entries_are_refused(case):
    name, reset, bias = case
    weights, convert_it = numpy_tree(to(name)(ours(name, reset, bias))), from_(name, reset)
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(weights)[0]]
    for *outer, last in ([entry.key for entry in path] for path in paths):
        copy = jax.tree.map(np.asarray, weights)
        place = copy
        for key in outer:
            place = place[key]
        place[last] = np.zeros([size + 1 for size in place[last].shape], np.float32)
        with pytest.raises(ValueError, match="has shape"):
            convert_it(copy)
        del place[last]
        if last == OPTIONAL.get(name):
            without = convert_it(copy)
            assert without.b is None
            assert without.b_hn is None
        else:
            with pytest.raises(ValueError, match=rf"lacks \['{'/'.join((*outer, last))}'\]"):
                convert_it(copy)
    with pytest.raises(ValueError, match=r"unknown \['surplus'\]"):
        convert_it({**weights, "surplus": np.zeros(3, np.float32)})


@EACH_FORMAT
def test_sign_of_the_update_gate(name):
    """Of parameters that are one for the update gate and zero elsewhere."""
    w_x = jnp.zeros((I, 3 * H)).at[:, :H].set(1)
    params = GRUParams(w_x, jnp.zeros((H, 3 * H)), reset=default_reset(name))
    values = {float(x) for leaf in jax.tree.leaves(to(name)(params)) for x in leaf.flatten()}
    assert values == {0.0, -1.0 if FORMATS[name].negates_z else 1.0}


@EACH_FORMAT
def test_unsupported_reset_is_refused(name):
    for reset in {"before", "after"} - set(FORMATS[name].resets):
        with pytest.raises(ValueError, match=rf'params\.reset is "{reset}", but .* resets'):
            to(name)(random_params(reset=reset))


@EACH_FORMAT
def test_unsupported_biases_are_refused_unless_zero(name):
    """Also while they are traced, because their values are then unknown."""
    form = FORMATS[name]
    params = random_params(reset=default_reset(name))
    for field in ("b", "b_hn"):
        bias = getattr(params, field)
        if field in form.biases or bias is None:
            continue
        without = dataclasses.replace(params, **{field: None})
        expected = to(name)(without)
        with pytest.raises(ValueError, match=rf"params\.{field} is not zero"):
            to(name)(params)
        zero = dataclasses.replace(params, **{field: jnp.zeros_like(bias)})
        assert_same(to(name)(zero), expected)
        with pytest.raises(ValueError, match=rf"params\.{field} is traced"):
            jax.jit(to(name))(zero)
        jax.jit(to(name))(without)


@EACH_FORMAT
def test_missing_biases_become_zeros(name):
    """One of the two; and both, where the format always has biases."""
    form, reset = FORMATS[name], default_reset(name)
    params = ours(name, reset)
    missing = [(field,) for field in form.biases if len(form.biases) > 1]
    missing += [("b", "b_hn")] * (not form.without_bias)
    for fields in missing:
        back = from_(name, reset)(
            to(name)(dataclasses.replace(params, **dict.fromkeys(fields, None)))
        )
        for field in form.biases:
            value = getattr(params, field)
            expected = jnp.zeros_like(value) if field in fields else value
            assert_close(getattr(back, field), expected, rtol=0, atol=0)


@EACH_FORMAT
@pytest.mark.parametrize("cls", [GRUParams, GRUStack, Bidirectional])
def test_networks_are_accepted_or_refused_by_name(name, cls):
    params = ours(name)
    both = Bidirectional(params, params)
    network = {GRUParams: params, GRUStack: GRUStack((params,)), Bidirectional: both}[cls]
    if cls in FORMATS[name].networks:
        leaves = jax.tree.leaves(to(name)(network))
        assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    else:
        with pytest.raises(ValueError, match=rf"^params.*(not from|is) a {cls.__name__}"):
            to(name)(network)


def test_conversion_imports_no_framework():
    packages = {form.package.split(".")[0] for form in FORMATS.values() if form.package}
    code = (
        "import functools, sys, jax\n"
        "from gru_jax import convert, init_gru\n"
        "from gru_jax.convert._formats import FORMATS\n"
        "for form in FORMATS.values():\n"
        "    to, from_ = (getattr(convert, verb + form.name) for verb in ('to_', 'from_'))\n"
        "    for reset in form.resets:\n"
        "        init = functools.partial(init_gru, reset=reset, bias=False)\n"
        "        options = form.reset_options.get(reset, {})\n"
        "        round_trip = lambda key: from_(to(init(key, 2, 3)), **options)\n"
        "        jax.eval_shape(round_trip, jax.random.key(0))\n"
        f"imported = {packages | {'h5py'}} & set(sys.modules)\n"
        "assert not imported, imported\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
