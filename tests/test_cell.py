"""One step: the oracle, the textbook, limits worked out by hand, dtypes, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from common import B, H, I, as_float64, assert_close, random_inputs, random_params

import gru_jax

RESETS = pytest.mark.parametrize("reset", ["before", "after"])


@RESETS
@pytest.mark.parametrize("bias", [True, False])
def test_oracle(reset, bias):
    params = random_params(reset=reset, bias=bias)
    h, xs = random_inputs(batch=())
    expected = oracle.gru_step(as_float64(params), as_float64(h), as_float64(xs[0]))
    assert_close(gru_jax.gru_step(params, h, xs[0]), expected)


@RESETS
def test_oracle_float64(reset):
    with jax.enable_x64(True):
        params = random_params(reset=reset, dtype=np.float64)
        h, xs = random_inputs(batch=(), dtype=np.float64)
        expected = oracle.gru_step(as_float64(params), as_float64(h), as_float64(xs[0]))
        assert_close(gru_jax.gru_step(params, h, xs[0]), expected, rtol=1e-14, atol=1e-14)


def test_textbook_weights():
    """W_z, W_r, W of shape [H, H + I] on the concatenation [h, x], step by step over a sequence."""
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


@RESETS
def test_numpy_weights_are_taken_as_jax_takes_them(reset):
    """Weights loaded from a file are often NumPy float64; without x64 they become float32."""
    params = random_params(reset=reset)
    h, xs = random_inputs()
    loaded = as_float64(params)
    assert gru_jax.zero_state(loaded).dtype == jnp.float32
    np.testing.assert_array_equal(
        gru_jax.gru_step(loaded, as_float64(h), as_float64(xs[0])),
        gru_jax.gru_step(params, h, xs[0]),
    )
    assert_close(
        gru_jax.gru_unroll(loaded, as_float64(h), as_float64(xs)),
        gru_jax.unroll(gru_jax.gru_step, loaded, h, xs),
    )


def with_bias(params, *, z=0.0, r=0.0, n=0.0):
    b = jnp.repeat(jnp.asarray([z, r, n], jnp.float32), params.hidden_size)
    return dataclasses.replace(params, b=b)


@RESETS
def test_all_zero_weights_halve_the_state(reset):
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


@RESETS
@pytest.mark.parametrize("batch", [(), (B,), (2, B)])
def test_batch_axes(reset, batch):
    params = random_params(reset=reset)
    h, xs = random_inputs(batch=batch)
    actual = gru_jax.gru_step(params, h, xs[0])
    assert actual.shape == (*batch, H)
    rows = [
        gru_jax.gru_step(params, row_h, row_x)
        for row_h, row_x in zip(h.reshape(-1, H), xs[0].reshape(-1, I), strict=True)
    ]
    assert_close(actual, jnp.stack(rows).reshape(actual.shape))


@RESETS
def test_bfloat16_products_with_float32_accumulation(reset):
    """Equals the float32 step on rounded weights, but for the state rounded before its product."""
    params = random_params(reset=reset, dtype=jnp.bfloat16)
    h, xs = random_inputs()
    x = xs[0].astype(jnp.bfloat16)
    actual = gru_jax.gru_step(params, h, x)
    assert actual.dtype == jnp.float32
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    expected = gru_jax.gru_step(wide, h, x.astype(jnp.float32))
    # rounding to 8 bits errs by at most 2⁻⁹ of each of the H terms, and gates flatten that
    assert_close(actual, expected, rtol=0, atol=4e-3)


@RESETS
def test_bfloat16_state(reset):
    params = random_params(reset=reset, dtype=jnp.bfloat16)
    h, xs = random_inputs(dtype=jnp.bfloat16)
    actual = gru_jax.gru_step(params, h, xs[0])
    assert actual.dtype == jnp.bfloat16
    expected, _ = oracle.gru_unroll(as_float64(params), as_float64(h), as_float64(xs[:1]))
    assert_close(actual, expected, rtol=0, atol=3e-2)  # a few units of 2⁻⁸ at values around 1


@RESETS
def test_finite_at_saturation(reset):
    params = jax.tree.map(lambda leaf: 1e4 * leaf, random_params(reset=reset))
    h, xs = random_inputs()
    value, gradients = jax.value_and_grad(
        lambda p: jnp.sum(gru_jax.gru_step(p, h, 1e4 * xs[0]) ** 2)
    )(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((value, gradients)))


def replaced(**fields):
    return dataclasses.replace(random_params(reset="after"), **fields)


X = jnp.zeros((B, I))
STATE = jnp.zeros((B, H))


@pytest.mark.parametrize(
    ("params", "h", "x", "message"),
    [
        (None, jnp.zeros((B, 1)), X, r"h has shape \(4, 1\), but must have \(4, 7\)"),
        (None, jnp.zeros(H), X, r"h has shape \(7,\), but must have \(4, 7\) = \(\*batch, H\)"),
        (None, STATE, jnp.zeros((B, H)), r"x has shape \(4, 7\), .* \(\*batch, I\) with I = 3"),
        (None, STATE, 0.0, r"x has shape \(\), but must have \(\*batch, I\)"),
        (None, STATE, X.astype(int), "x is int32, but must be float32 like the parameters: use x."),
        (None, STATE.astype(int), X, "h is int32, but must be float32 like the parameters, or"),
        (None, STATE.astype(jnp.bfloat16), X, "h is bfloat16, but must be float32"),
        (None, "state", X, "h is a str, but must be an array"),
        (replaced(reset="before"), STATE, X, 'params.b_hn is an array, but reset="before"'),
        (replaced(reset="never"), STATE, X, "params.reset is 'never', but must be one of"),
        (replaced(w_h=jnp.zeros((3 * H, H))), STATE, X, r"params.w_h has shape \(21, 7\)"),
        (replaced(w_x=jnp.zeros((3 * H, I))), STATE, X, r"params.w_x has shape .* \(I, 21\)"),
        (replaced(w_x=jnp.zeros(3 * H)), STATE, X, r"params.w_x has shape \(21,\)"),
        (replaced(b=jnp.zeros(H)), STATE, X, r"params.b has shape \(7,\), .* \(21,\) = \(3H,\)"),
        (replaced(b_hn=jnp.zeros(3 * H)), STATE, X, r"params.b_hn has shape \(21,\)"),
        (replaced(b=jnp.zeros(3 * H, jnp.bfloat16)), STATE, X, "params.b is bfloat16, but"),
    ],
)
def test_refusals(params, h, x, message):
    with pytest.raises(ValueError, match=message):
        gru_jax.gru_step(params or replaced(), h, x)
