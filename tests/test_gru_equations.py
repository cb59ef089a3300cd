"""`gru_step`: textbook weights, limits with a known result, and parameters that raise.

Its equality with the oracle, dtypes, and wrong states and inputs are in test_contract_cells.py.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from common import B, H, I, assert_close, random_inputs, random_params

import gru_jax

RESETS = pytest.mark.parametrize("reset", ["before", "after"])


def test_step_matches_textbook_weights():
    """W_z, W_r, W [H, H + I] on the concatenation [h, x], step by step over a sequence."""
    rng = np.random.default_rng(0)
    w_z, w_r, w = (rng.normal(size=(H, H + I)) / np.sqrt(H) for _ in range(3))
    params = gru_jax.GRUParams(
        w_x=jnp.asarray(np.concatenate([m[:, H:].T for m in (w_z, w_r, w)], axis=1), jnp.float32),
        w_h=jnp.asarray(np.concatenate([m[:, :H].T for m in (w_z, w_r, w)], axis=1), jnp.float32),
    )
    textbook = np.zeros(H)
    ours = gru_jax.zero_state(params)
    for x in rng.normal(size=(20, I)):
        z = oracle.sigmoid(w_z @ np.concatenate([textbook, x]))
        r = oracle.sigmoid(w_r @ np.concatenate([textbook, x]))
        candidate = np.tanh(w @ np.concatenate([r * textbook, x]))
        textbook = (1 - z) * textbook + z * candidate
        ours = gru_jax.gru_step(params, ours, jnp.asarray(x, jnp.float32))
        assert_close(ours, textbook, rtol=0, atol=1e-6)


def with_bias(params, *, z=0.0, r=0.0, n=0.0):
    b = jnp.repeat(jnp.asarray([z, r, n], jnp.float32), params.hidden_size)
    return dataclasses.replace(params, b=b)


@RESETS
def test_zero_weights_halve_the_state(reset):
    params = jax.tree.map(jnp.zeros_like, random_params(reset=reset))
    h, xs = random_inputs()
    np.testing.assert_array_equal(gru_jax.gru_step(params, h, xs[0]), h / 2)


@RESETS
def test_closed_update_gate_copies_the_state(reset):
    params = with_bias(random_params(reset=reset), z=-200.0)
    h, xs = random_inputs()
    np.testing.assert_array_equal(gru_jax.gru_step(params, h, xs[0]), h)


def test_open_update_and_closed_reset_gate_forget_the_state():
    params = with_bias(random_params(reset="before"), z=200.0, r=-200.0)
    h, xs = random_inputs()
    forgotten = gru_jax.gru_step(params, h, xs[0])
    np.testing.assert_array_equal(forgotten, gru_jax.gru_step(params, 0 * h, xs[0]))
    assert_close(forgotten, np.tanh(xs[0] @ params.w_x[:, 2 * H :]))


def test_reset_positions_are_different_functions():
    before = random_params(reset="before")
    after = dataclasses.replace(before, reset="after")
    h, xs = random_inputs()
    difference = gru_jax.gru_step(before, h, xs[0]) - gru_jax.gru_step(after, h, xs[0])
    assert np.abs(difference).max() > 0.01
    opened = with_bias(before, r=200.0)  # r = 1: the two agree
    assert_close(
        gru_jax.gru_step(opened, h, xs[0]),
        gru_jax.gru_step(dataclasses.replace(opened, reset="after"), h, xs[0]),
    )


def test_recurrent_candidate_bias_is_inside_the_reset_gate():
    params = with_bias(random_params(reset="after"), r=-200.0)
    without = dataclasses.replace(params, b_hn=None)
    h, xs = random_inputs()
    np.testing.assert_array_equal(
        gru_jax.gru_step(params, h, xs[0]), gru_jax.gru_step(without, h, xs[0])
    )


def replaced(**fields):
    return dataclasses.replace(random_params(reset="after"), **fields)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (replaced(reset="before"), 'params.b_hn is an array, but reset="before"'),
        (replaced(reset="never"), "params.reset is 'never', but must be one of"),
        (
            replaced(w_h=jnp.zeros((3 * H, H))),
            r"params.w_h has shape \(21, 7\)",
        ),
        (
            replaced(w_x=jnp.zeros((3 * H, I))),
            r"params.w_x has shape \(21, 3\), .* \(I, 21\)",
        ),
        (replaced(w_x=jnp.zeros(3 * H)), r"params.w_x has shape \(21,\), but must"),
        (replaced(b=jnp.zeros(H)), r"params.b has shape \(7,\), .* \(21,\) = \(3H,\)"),
        (
            replaced(b_hn=jnp.zeros(3 * H)),
            r"params.b_hn has shape \(21,\), .* \(7,\) = \(H",
        ),
        (
            replaced(b=jnp.zeros(3 * H, jnp.bfloat16)),
            "params.b is bfloat16, but params.w_h",
        ),
    ],
)
def test_wrong_parameters_raise(params, message):
    with pytest.raises(ValueError, match=message):
        gru_jax.gru_step(params, jnp.zeros((B, H)), jnp.zeros((B, I)))
