"""The textbook's weights: the equations, the readout, and what is refused."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from common import H, I, assert_close, random_params
from convert_common import assert_same, draw, jax_tree, numpy_tree, ours

import gru_jax
from gru_jax import ReadoutParams, convert


def textbook_weights():
    w_z, w_r, w = draw(3, H, H + I)
    return {"W_z": w_z, "W_r": w_r, "W": w, "W_y": draw(2, H, seed=1)}


def test_step_with_readout_matches_the_equations():
    """With [h, x] written out in NumPy."""
    w_z, w_r, w, w_y = (weights := textbook_weights()).values()
    params, readout = convert.from_textbook(weights)
    h, x = draw(H, seed=2), draw(I, seed=3)
    both = np.concatenate([h, x])
    z, r = 1 / (1 + np.exp(-w_z @ both)), 1 / (1 + np.exp(-w_r @ both))
    new = (1 - z) * h + z * np.tanh(w @ np.concatenate([r * h, x]))
    y = 1 / (1 + np.exp(-w_y @ new))
    assert_close(gru_jax.generate_step(params, readout, h, x), (new, y))


def test_round_trip_with_and_without_readout():
    weights = textbook_weights()
    assert_same(convert.to_textbook(*convert.from_textbook(weights)), jax_tree(weights))
    del weights["W_y"]
    assert_same(convert.to_textbook(convert.from_textbook(weights)), numpy_tree(weights))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W_r": None}, r"lacks \['W_r'\]"),
        ({"W": np.ones((H, H + I - 1))}, "W has shape"),
        ({"W_y": np.ones((2, H - 1))}, "W_y has shape"),
        (dict.fromkeys(("W_z", "W_r", "W"), np.ones((H, H))), "W_z has shape"),
        ({"W_y": np.ones((2, H), np.float16)}, "W_y is float16"),
    ],
)
def test_wrong_weights_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        convert.from_textbook(textbook_weights() | change)


def test_wrong_readouts_are_refused():
    params = ours("textbook")
    for wrong in (params, jnp.ones((H, 2)), "readout"):
        with pytest.raises(ValueError, match=r"readout is a .*, but must be a ReadoutParams"):
            convert.to_textbook(params, wrong)
    for w in (jnp.ones((2, H)), jnp.ones(H), None, jnp.ones((H, 2), int), jnp.ones((H, 0))):
        with pytest.raises(ValueError, match=r"^readout"):
            convert.to_textbook(params, ReadoutParams(w))
    with pytest.raises(ValueError, match=r"readout\.b is not zero"):
        convert.to_textbook(params, ReadoutParams(jnp.ones((H, 2)), jnp.ones(2)))
    zero = ReadoutParams(jnp.ones((H, 2)), jnp.zeros(2))
    assert convert.to_textbook(params, zero)["W_y"].shape == (2, H)


def test_zero_biases_are_dropped():
    params = random_params(bias=False)
    zero = dataclasses.replace(params, b=jnp.zeros(3 * H))
    assert_same(convert.to_textbook(zero), convert.to_textbook(params))
