"""The drop-in Flax layers: same parameters, same outputs, same training curves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

pytest.importorskip("flax")

import optax
from flax import linen as nn
from flax import nnx

import gru_jax.flax.linen
import gru_jax.flax.nnx

# Flax promotes dtypes and ranks as JAX does by default
pytestmark = pytest.mark.usefixtures("jax_defaults")
B, T, I, H = 4, 6, 3, 7
LENGTHS = np.array([6, 4, 1, 2])
CALLS = [
    {},
    {"return_carry": True},
    {"reverse": True},
    {"reverse": True, "keep_order": True, "return_carry": True},
    {"seq_lengths": LENGTHS, "return_carry": True},
    {"seq_lengths": LENGTHS, "reverse": True, "return_carry": True},
    {"seq_lengths": LENGTHS, "reverse": True, "keep_order": True, "return_carry": True},
]


def draw(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def randomised(tree):
    """Biases that are not zero, too."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(H), leaf.dtype), tree
    )


def without_padding(result, call, time_major):
    """Replaces Flax's outputs in the padding by zeros."""
    if "seq_lengths" not in call:
        return result
    carry, outputs = result
    mask = (np.arange(T)[:, None] < LENGTHS) if time_major else (np.arange(T) < LENGTHS[:, None])
    return carry, jnp.where(mask[..., None], outputs, 0)


def linen_layers(dtype=None, **arguments):
    cell = nn.GRUCell(H, dtype=dtype)
    return nn.RNN(cell, **arguments), gru_jax.flax.linen.RNN(cell, **arguments)


def nnx_layers(dtype=None, **arguments):
    cell = nnx.GRUCell(I, H, dtype=dtype, rngs=nnx.Rngs(0))
    nnx.update(cell, randomised(nnx.state(cell, nnx.Param)))
    return nnx.RNN(cell, **arguments), gru_jax.flax.nnx.RNN(cell, **arguments)


@pytest.mark.parametrize("interface", ["linen", "nnx"])
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(
    ("as_attribute", "dtype"), [(False, None), (True, None), (True, jnp.bfloat16)]
)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(call) or "plain")
def test_outputs_match_flax_for_every_argument(interface, time_major, as_attribute, call, dtype):
    """Passed to the layer or to the call, with an initial carry or without."""
    xs = draw(*((T, B) if time_major else (B, T)), I)
    lengths = {k: v for k, v in call.items() if k == "seq_lengths"}
    rest = {k: v for k, v in call.items() if k != "seq_lengths"} | {"time_major": time_major}
    attributes, arguments = (rest, lengths) if as_attribute else ({}, lengths | rest)
    if as_attribute:
        arguments = arguments | {"initial_carry": draw(B, H)}
    if interface == "linen":
        theirs, ours = linen_layers(dtype, **attributes)
        variables = randomised(theirs.init(jax.random.key(0), xs))
        expected, actual = (m.apply(variables, xs, **arguments) for m in (theirs, ours))
    else:
        theirs, ours = nnx_layers(dtype, **attributes)
        expected, actual = theirs(xs, **arguments), ours(xs, **arguments)
    expected = without_padding(expected, call, time_major)
    assert jax.tree.map(lambda leaf: leaf.dtype, actual) == jax.tree.map(
        lambda leaf: leaf.dtype, expected
    )
    # bfloat16: 8 bits, over six steps; Flax rounds the sums that we keep in float32
    tolerance = {} if dtype is None else {"rtol": 3e-2, "atol": 3e-2}
    assert_close(actual, expected, **tolerance)


def test_linen_initialisation_matches_flax():
    xs = draw(B, T, I)
    theirs, ours = linen_layers()
    expected, actual = (m.init(jax.random.key(3), xs) for m in (theirs, ours))
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert_close(actual, expected, rtol=0, atol=0)


def test_nnx_state_has_the_structure_of_flax():
    """So that a checkpoint of one can be restored into the other."""
    theirs, ours = (nnx.state(layer) for layer in nnx_layers())
    assert jax.tree.structure(nnx.to_pure_dict(ours)) == jax.tree.structure(
        nnx.to_pure_dict(theirs)
    )


def test_linen_bidirectional_matches_flax():
    xs = draw(B, T, I)

    def model(rnn):
        return nn.Bidirectional(rnn(nn.GRUCell(H)), rnn(nn.GRUCell(H)))

    theirs, ours = model(nn.RNN), model(gru_jax.flax.linen.RNN)
    variables = randomised(theirs.init(jax.random.key(0), xs))
    mask = np.arange(T) < LENGTHS[:, None]
    for lengths in (None, LENGTHS):
        expected, actual = (m.apply(variables, xs, seq_lengths=lengths) for m in (theirs, ours))
        if lengths is not None:
            expected = jnp.where(mask[..., None], expected, 0)
        assert_close(actual, expected)


def test_nnx_bidirectional_matches_flax():
    xs = draw(B, T, I)
    there, here = (nnx.GRUCell(I, H, rngs=nnx.Rngs(i)) for i in range(2))
    expected, actual = (
        nnx.Bidirectional(rnn(there), rnn(here))(xs) for rnn in (nnx.RNN, gru_jax.flax.nnx.RNN)
    )
    assert_close(actual, expected)


class Tagger(nn.Module):
    """A small model around the layer."""

    rnn: type

    @nn.compact
    def __call__(self, xs):
        return nn.Dense(2)(self.rnn(nn.GRUCell(H), name="gru")(nn.Dense(5)(xs)))


def train(loss, weights, steps=20):
    optimiser = optax.adam(1e-2)

    def update(carry, _):
        weights, state = carry
        value, gradient = jax.value_and_grad(loss)(weights)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(weights, updates), state), value

    return jax.jit(lambda w: jax.lax.scan(update, (w, optimiser.init(w)), length=steps)[1])(weights)


def test_linen_training_curve_matches_flax():
    xs, targets = draw(B, T, I), jnp.sin(draw(B, T, 2) * 3)
    weights = Tagger(nn.RNN).init(jax.random.key(0), xs)
    expected, actual = (
        train(lambda w, m=model: jnp.mean((m.apply(w, xs) - targets) ** 2), weights)
        for model in (Tagger(nn.RNN), Tagger(gru_jax.flax.linen.RNN))
    )
    assert expected[-1] < 0.8 * expected[0]
    assert_close(actual, expected, rtol=1e-5)


def test_nnx_training_curve_matches_flax():
    xs, targets = draw(B, T, I), jnp.sin(draw(B, T, H) * 3)
    curves = []
    for rnn in (nnx.RNN, gru_jax.flax.nnx.RNN):
        graph, weights, rest = nnx.split(rnn(nnx.GRUCell(I, H, rngs=nnx.Rngs(0))), nnx.Param, ...)

        def loss(weights, graph=graph, rest=rest):
            h0 = jnp.zeros((B, H))
            return jnp.mean((nnx.merge(graph, weights, rest)(xs, initial_carry=h0) - targets) ** 2)

        curves.append(train(loss, weights))
    expected, actual = curves
    assert expected[-1] < 0.95 * expected[0]
    assert_close(actual, expected, rtol=1e-5)


def test_checkpoint_of_flax_is_restored(tmp_path):
    """Saved from a model with Flax's layer, restored into one with ours."""
    ocp = pytest.importorskip("orbax.checkpoint")
    xs = draw(B, T, I)
    theirs, ours = Tagger(nn.RNN), Tagger(gru_jax.flax.linen.RNN)
    variables = randomised(theirs.init(jax.random.key(0), xs))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "flax", variables)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "flax", ours.init(jax.random.key(1), xs))
    assert_close(ours.apply(restored, xs), theirs.apply(variables, xs))


def test_row_of_length_zero_returns_its_initial_carry():
    _, ours = nnx_layers()
    h0 = draw(B, H)
    carry, outputs = ours(
        draw(B, T, I), initial_carry=h0, seq_lengths=jnp.array([0, 1, 2, 0]), return_carry=True
    )
    assert_close(carry[jnp.array([0, 3])], h0[jnp.array([0, 3])], rtol=0, atol=0)
    assert not jnp.any(outputs[0])


def test_other_cells_are_refused():
    with pytest.raises(ValueError, match=r"cell is a \w*LSTMCell, but must be a Flax GRUCell"):
        gru_jax.flax.linen.RNN(nn.LSTMCell(H)).init(jax.random.key(0), draw(B, T, I))
    with pytest.raises(ValueError, match="must be a Flax GRUCell"):
        gru_jax.flax.nnx.RNN(nnx.LSTMCell(I, H, rngs=nnx.Rngs(0)))(draw(B, T, I))
