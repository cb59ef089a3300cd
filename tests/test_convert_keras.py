"""Bidirectional layers, names and lists of weights of Keras."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_inputs, random_params
from convert_common import assert_same, draw

import gru_jax
from gru_jax import GRUStack, convert

os.environ.setdefault("KERAS_BACKEND", "jax")
# warnings of the frameworks are not ours to fix
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]


@pytest.mark.parametrize("reset_after", [True, False])
def test_bidirectional_outputs_match(reset_after):
    keras = pytest.importorskip("keras")
    layer = keras.layers.Bidirectional(
        keras.layers.GRU(H, return_sequences=True, reset_after=reset_after)
    )
    layer.build((B, T, I))
    layer.set_weights([draw(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    parts = {"forward": layer.forward_layer, "backward": layer.backward_layer}
    weights = {
        name: {w.name: np.asarray(w.value) for w in part.cell.weights}
        for name, part in parts.items()
    }
    params = convert.from_keras(weights, reset_after=reset_after)
    _, xs = random_inputs()
    expected = jnp.swapaxes(jnp.asarray(layer(jnp.swapaxes(xs, 0, 1))), 0, 1)
    hs = gru_jax.gru_stack_unroll(GRUStack((params,)), None, xs)[1]
    assert_close(hs, expected)
    back = convert.to_keras(params)
    for name, part in parts.items():
        part.set_weights([np.asarray(w) for w in back[name].values()])
    assert_close(jnp.swapaxes(jnp.asarray(layer(jnp.swapaxes(xs, 0, 1))), 0, 1), expected)
    with pytest.raises(ValueError, match=r"\['backward', 'forward'\]"):
        convert.from_keras({"forward": weights["forward"]})


def test_keras_bias_of_the_other_reset_is_refused():
    params = random_params(reset="after")
    with pytest.raises(ValueError, match=r"bias has shape"):
        convert.from_keras(convert.to_keras(params), reset_after=False)


@pytest.fixture
def both():
    keras = pytest.importorskip("keras")
    layer = keras.layers.Bidirectional(keras.layers.GRU(H, return_sequences=True), name="both")
    layer.build((B, T, I))
    layer.set_weights([draw(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    return layer


def test_lists_and_paths_keep_both_directions(both):
    parts = {"forward": both.forward_layer, "backward": both.backward_layer}
    expected = convert.from_keras(
        {k: {w.name: np.asarray(w.value) for w in part.weights} for k, part in parts.items()}
    )
    for weights in (
        both.weights,
        tuple(both.weights),
        both.get_weights(),
        {w.path: w for w in both.weights},
        {f"{w.path}:0": np.asarray(w.value) for w in both.weights},
        {k: {w.name: w for w in part.weights} for k, part in parts.items()},
        {k: part.get_weights() for k, part in parts.items()},
        {k: part.weights for k, part in parts.items()},
    ):
        assert_same(convert.from_keras(weights), expected)
    assert_same(convert.from_keras(both.weights, prefix="both"), expected)
    for name, part in parts.items():
        one = getattr(expected, name)
        assert_same(convert.from_keras(both.weights, prefix=part.name), one)
        assert_same(convert.from_keras(part.weights), one)
        assert_same(convert.from_keras(part.get_weights()), one)
    without_bias = [w for w in both.get_weights() if w.shape[0] != 2]
    assert convert.from_keras(without_bias).forward.b is None


def test_names_that_collide_are_refused(both):
    """In Keras 3 every kernel is named "kernel": only the last direction remains."""
    with pytest.raises(ValueError, match=r"Bidirectional has two each: use \{w.path: w"):
        convert.from_keras({w.name: w for w in both.weights})
    mixed = {w.name: w for w in both.backward_layer.weights}
    mixed["kernel"] = both.forward_layer.cell.kernel
    with pytest.raises(ValueError, match="plain names"):
        convert.from_keras(mixed)
    with pytest.raises(ValueError, match="same path"):
        convert.from_keras([*both.weights, both.weights[0]])
    backward = both.backward_layer.cell.weights
    one = convert.from_keras({w.name: np.asarray(w.value) for w in backward})
    assert_same(one, convert.from_keras(both.weights).backward)


def test_wrong_lists_of_weights_are_refused(both):
    arrays = both.get_weights()
    for wrong in ([], arrays[:1], arrays[:5], arrays * 2, arrays[:3] + [draw(7, 21)] * 3):
        with pytest.raises(ValueError, match="weights is a list of"):
            convert.from_keras(wrong)
    with pytest.raises(ValueError, match=r"lacks|shape"):
        convert.from_keras({"forward": arrays[:3], "backward": arrays[3:4] * 3})
    with pytest.raises(ValueError, match="weights is a Bidirectional, but must be a mapping"):
        convert.from_keras(both)
    keras = pytest.importorskip("keras")
    for kind, found in ((keras.layers.LSTM, "four gates"), (keras.layers.SimpleRNN, "single gate")):
        other = kind(H)
        other.build((B, T, I))
        with pytest.raises(ValueError, match=rf"recurrent_kernel has shape .*{found}"):
            convert.from_keras(other.get_weights())


@pytest.mark.parametrize("reset_after", ["yes", 1, [True], jnp.array(True)])
def test_wrong_reset_after_is_refused(reset_after, both):
    with pytest.raises(ValueError, match=r"reset_after is a .*, but must be True, False or None"):
        convert.from_keras(both.get_weights(), reset_after=reset_after)


def test_reset_after_is_inferred_from_the_bias():
    for reset in ("before", "after"):
        params = random_params(reset=reset)
        assert_same(convert.from_keras(convert.to_keras(params)), params)
    with pytest.raises(ValueError, match=r"bias has shape \(21,\), but must have \(2, 21\)"):
        convert.from_keras(convert.to_keras(random_params()), reset_after=True)


def test_cells_out_of_order_are_refused():
    stack = {
        f"rnn/stacked_rnn_cells/gru_cell_{i}/{name}": array
        for i, inputs in enumerate((I, H))
        for name, array in convert.to_keras(random_params(inputs=inputs)).items()
    }
    assert len(convert.from_keras(stack).layers) == 2
    with pytest.raises(ValueError, match="in the order of the layer's weights"):
        convert.from_keras(dict(reversed(stack.items())))
