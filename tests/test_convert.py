"""Conversions, against the frameworks themselves: values, gradients, there-and-back.

A framework that is not installed skips by name. Sizes all differ, no bias is zero, T > 1.
"""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_inputs, random_params
from convert_common import assert_same, draw, numpy_tree, randomised

import gru_jax
from gru_jax import convert

os.environ.setdefault("KERAS_BACKEND", "jax")
# what imports of the peers warn about is theirs to mend
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]


# Each peer: weights as it hands them out, and its function (weights, h0, xs) -> hs, in JAX.


def linen():
    nn = pytest.importorskip("flax.linen")
    layer = nn.RNN(nn.GRUCell(H), time_major=True)
    weights = layer.init(jax.random.key(0), jnp.zeros((T, B, I)))["params"]["cell"]

    def run(weights, h0, xs):
        return layer.apply({"params": {"cell": weights}}, xs, initial_carry=h0)

    return randomised(weights), run


def nnx():
    nnx = pytest.importorskip("flax.nnx")
    cell = nnx.GRUCell(I, H, rngs=nnx.Rngs(0))
    weights = nnx.to_pure_dict(nnx.state(cell, nnx.Param))

    def run(weights, h0, xs):
        graph, state = nnx.split(cell, nnx.Param)
        nnx.replace_by_pure_dict(state, weights)
        return nnx.RNN(nnx.merge(graph, state), time_major=True)(xs, initial_carry=h0)

    return randomised(weights), run


def haiku():
    hk = pytest.importorskip("haiku")
    layer = hk.without_apply_rng(
        hk.transform(lambda h0, xs: hk.dynamic_unroll(hk.GRU(H), xs, h0)[0])
    )
    weights = layer.init(jax.random.key(0), jnp.zeros((B, H)), jnp.zeros((T, B, I)))["gru"]
    return randomised(weights), lambda weights, h0, xs: layer.apply({"gru": weights}, h0, xs)


def equinox(bias=True):
    eqx = pytest.importorskip("equinox")
    cell = eqx.nn.GRUCell(I, H, use_bias=bias, key=jax.random.key(0))
    names = ("weight_ih", "weight_hh", "bias", "bias_n")[: 4 if bias else 2]

    def run(weights, h0, xs):
        full = eqx.tree_at(
            lambda c: [getattr(c, name) for name in weights], cell, [*weights.values()]
        )
        step = jax.vmap(full)

        def body(h, x):
            h = step(x, h)
            return h, h

        return jax.lax.scan(body, h0, xs)[1]

    return randomised({name: getattr(cell, name) for name in names}), run


def keras(reset_after, bias=True):
    keras = pytest.importorskip("keras")
    layer = keras.layers.GRU(H, return_sequences=True, reset_after=reset_after, use_bias=bias)
    layer.build((B, T, I))
    names = [variable.name for variable in layer.cell.weights]
    rest = [variable.value for variable in layer.non_trainable_variables]
    weights = {v.name: np.asarray(v.value) for v in layer.cell.weights}

    def run(weights, h0, xs):
        arrays = [jnp.asarray(weights[name]) for name in names]
        hs, _ = layer.stateless_call(arrays, rest, jnp.swapaxes(xs, 0, 1), initial_state=[h0])
        return jnp.swapaxes(hs, 0, 1)

    return randomised(weights), run


PEERS = {
    "linen": (linen, convert.from_linen, convert.to_linen),
    "nnx": (nnx, convert.from_nnx, convert.to_nnx),
    "haiku": (haiku, convert.from_haiku, convert.to_haiku),
    "equinox": (equinox, convert.from_equinox, convert.to_equinox),
    "equinox without bias": (lambda: equinox(False), convert.from_equinox, convert.to_equinox),
    "keras after": (lambda: keras(True), convert.from_keras, convert.to_keras),
    "keras after without bias": (
        lambda: keras(True, False),
        convert.from_keras,
        convert.to_keras,
    ),
    "keras before": (
        lambda: keras(False),
        lambda w: convert.from_keras(w, reset_after=False),
        convert.to_keras,
    ),
    "keras before without bias": (
        lambda: keras(False, False),
        lambda w: convert.from_keras(w, reset_after=False),
        convert.to_keras,
    ),
}
EACH = pytest.mark.parametrize("peer", PEERS)


def our_hs(params, h0, xs):
    return gru_jax.gru_unroll(params, h0, xs)[1]


@EACH
def test_their_weights_give_their_numbers_and_ours_give_ours(peer):
    make, from_peer, to_peer = PEERS[peer]
    weights, run = make()
    h0, xs = random_inputs()
    params = from_peer(weights)
    assert_close(our_hs(params, h0, xs), run(weights, h0, xs))
    ours = random_params(1, reset=params.reset, bias=params.b is not None)
    if peer == "nnx":
        ours = dataclasses.replace(ours, b_hn=None)
    assert_close(run(numpy_tree(to_peer(ours)), h0, xs), our_hs(ours, h0, xs))


@EACH
def test_there_and_back_is_exact(peer):
    make, from_peer, to_peer = PEERS[peer]
    weights, _ = make()
    params = from_peer(weights)
    assert_same(from_peer(to_peer(params)), params)
    if not peer.startswith("keras after"):  # whose two biases of z and r are added up
        assert_same(to_peer(params), jax.tree.map(jnp.asarray, weights))
    ours = random_params(reset=params.reset, bias=params.b is not None)
    if peer == "nnx":
        ours = dataclasses.replace(ours, b_hn=None)
    assert_same(from_peer(to_peer(ours)), ours)


@EACH
def test_gradients(peer):
    """With respect to their weights, through the conversion; the state and the inputs."""
    make, from_peer, _ = PEERS[peer]
    weights, run = make()
    h0, xs = random_inputs()
    out_weights = draw(T, B, H)

    def loss(run, weights, h0, xs):
        return jnp.sum(out_weights * run(weights, h0, xs))

    expected = jax.grad(lambda *a: loss(run, *a), argnums=(0, 1, 2))(weights, h0, xs)
    actual = jax.grad(
        lambda *a: loss(lambda w, h0, xs: our_hs(from_peer(w), h0, xs), *a), argnums=(0, 1, 2)
    )(weights, h0, xs)
    # float32 sums over T · B terms in another order
    assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@EACH
def test_every_entry_is_accounted_for(peer):
    make, from_peer, _ = PEERS[peer]
    weights, _ = make()
    flat = jax.tree_util.tree_flatten_with_path(weights)[0]
    for path, leaf in flat:
        *outer, last = [entry.key for entry in path]

        def changed(value, outer=tuple(outer), last=last):
            copy = jax.tree.map(np.asarray, weights)
            place = copy
            for name in outer:
                place = place[name]
            if value is None:
                del place[last]
            else:
                place[last] = value
            return copy

        kernel_only = "without bias" in peer or last not in ("bias", "b")
        if kernel_only and "bias" not in last:
            with pytest.raises(ValueError, match=f"lacks .*{last}"):
                from_peer(changed(None))
        with pytest.raises(ValueError, match=r"has shape"):
            from_peer(changed(np.zeros([size + 1 for size in leaf.shape], np.float32)))
    with pytest.raises(ValueError, match=r"unknown \['surplus'\]"):
        from_peer({**weights, "surplus": np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    ("to_peer", "reset"),
    [
        (convert.to_linen, "before"),
        (convert.to_nnx, "before"),
        (convert.to_equinox, "before"),
        (convert.to_torch, "before"),
        (convert.to_haiku, "after"),
        (convert.to_textbook, "after"),
    ],
)
def test_the_other_reset_is_refused(to_peer, reset):
    with pytest.raises(ValueError, match=f'params.reset is "{reset}"'):
        to_peer(random_params(reset=reset))


def test_nnx_refuses_to_drop_a_bias():
    params = random_params(reset="after")
    with pytest.raises(ValueError, match="b_hn is not zero"):
        convert.to_nnx(params)
    zero = dataclasses.replace(params, b_hn=jnp.zeros(H))
    assert_close(convert.from_nnx(convert.to_nnx(zero)).b, params.b, rtol=0, atol=0)


@pytest.mark.parametrize("to_peer", [convert.to_linen, convert.to_equinox, convert.to_torch])
def test_a_missing_half_of_the_biases_is_zero(to_peer):
    from_peer = getattr(convert, to_peer.__name__.replace("to_", "from_"))
    params = random_params(reset="after")
    without = dataclasses.replace(params, b_hn=None)
    assert not jnp.any(from_peer(to_peer(without)).b_hn)
    assert_close(from_peer(to_peer(without)).b, params.b, rtol=0, atol=0)
    without = dataclasses.replace(params, b=None)
    assert not jnp.any(from_peer(to_peer(without)).b)


# The textbook


def test_textbook():
    """The equations with [h, x] written out."""
    w_z, w_r, w = draw(3, H, H + I)
    w_y = draw(2, H, seed=1)
    weights = {"W_z": w_z, "W_r": w_r, "W": w, "W_y": w_y}
    params, readout = convert.from_textbook(weights)
    h, x = draw(H, seed=2), draw(I, seed=3)
    both = np.concatenate([h, x])
    z, r = 1 / (1 + np.exp(-w_z @ both)), 1 / (1 + np.exp(-w_r @ both))
    new = (1 - z) * h + z * np.tanh(w @ np.concatenate([r * h, x]))
    y = 1 / (1 + np.exp(-w_y @ new))
    assert_close(gru_jax.generate_step(params, readout, h, x), (new, y))
    assert_same(convert.to_textbook(params, readout), jax.tree.map(jnp.asarray, weights))
    del weights["W_y"]
    assert_same(convert.to_textbook(convert.from_textbook(weights)), numpy_tree(weights))
    with pytest.raises(ValueError, match=r"lacks \['W_r'\]"):
        convert.from_textbook({"W_z": w_z, "W": w})
    with pytest.raises(ValueError, match="W has shape"):
        convert.from_textbook({**weights, "W": w[:, 1:]})
    with pytest.raises(ValueError, match="W_y has shape"):
        convert.from_textbook({**weights, "W_y": w_y[:, 1:]})
    with pytest.raises(ValueError, match="W_z has shape"):
        convert.from_textbook(dict.fromkeys(weights, w_z[:, :H]))
    with pytest.raises(ValueError, match=r"params\.b is not zero"):
        convert.to_textbook(random_params())
    zero = random_params(bias=False)
    assert_same(
        convert.to_textbook(dataclasses.replace(zero, b=jnp.zeros(3 * H))),
        convert.to_textbook(zero),
    )


def test_no_framework_is_imported_to_convert():
    code = (
        "import sys, numpy as np; from gru_jax import convert, init_gru; import jax;"
        "p = init_gru(jax.random.key(0), 2, 3, reset='after');"
        "[getattr(convert, 'from_' + n)(getattr(convert, 'to_' + n)(p))"
        " for n in ('torch', 'linen', 'equinox', 'keras')];"
        "convert.from_onnx(convert.to_onnx(p), linear_before_reset=1);"
        "names = {'torch', 'flax', 'haiku', 'equinox', 'keras', 'onnx', 'h5py'};"
        "assert not names & set(sys.modules), names & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "name", ["textbook", "torch", "linen", "nnx", "haiku", "equinox", "keras", "onnx"]
)
def test_every_conversion_says_what_it_refuses(name):
    for direction in ("from", "to"):
        assert "Raises:" in getattr(convert, f"{direction}_{name}").__doc__


@pytest.mark.parametrize("name", ["linen", "nnx", "haiku", "equinox", "keras", "textbook"])
def test_a_stack_is_refused_where_a_cell_is_converted(name):
    stack = gru_jax.init_gru_stack(jax.random.key(0), 2, (3,))
    with pytest.raises(ValueError, match="made from a GRUParams, not from a GRUStack"):
        getattr(convert, f"to_{name}")(stack)
