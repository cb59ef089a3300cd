"""Any step over time: masks, resets, direction, pytrees, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from common import (
    B,
    H,
    T,
    as_float64,
    assert_close,
    random_flags,
    random_inputs,
    random_params,
)

import gru_jax

UNROLLS = pytest.mark.parametrize(
    "unroll",
    [lambda *args, **kw: gru_jax.unroll(gru_jax.gru_step, *args, **kw), gru_jax.gru_unroll],
    ids=["unroll", "gru_unroll"],
)


@UNROLLS
@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("with_resets", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch", [(), (B,), (2, B)])
def test_oracle(unroll, reset, masked, with_resets, reverse, batch):
    params = random_params(reset=reset)
    h0, xs = random_inputs(batch=batch)
    keywords = {
        "mask": random_flags(1, batch=batch) if masked else None,
        "resets": random_flags(2, batch=batch) if with_resets else None,
        "reverse": reverse,
    }
    expected = oracle.gru_unroll(as_float64(params), as_float64(h0), as_float64(xs), **keywords)
    assert_close(unroll(params, h0, xs, **keywords), expected)


@UNROLLS
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("reverse", [False, True])
def test_empty_and_single_step(unroll, steps, reverse):
    params = random_params()
    h0, xs = random_inputs(steps=steps)
    flags = random_flags(steps=steps, probability=1.0)
    h_last, hs = unroll(params, h0, xs, mask=flags, resets=~flags, reverse=reverse)
    assert hs.shape == (steps, B, H)
    assert_close(h_last, gru_jax.gru_step(params, h0, xs[0]) if steps else h0)
    gradients = jax.grad(lambda p: jnp.sum(unroll(p, h0, xs, mask=flags, reverse=reverse)[0]))(
        params
    )
    assert all(np.any(leaf) == (steps > 0) for leaf in jax.tree.leaves(gradients))


@UNROLLS
@pytest.mark.parametrize("reverse", [False, True])
def test_length_zero_returns_the_first_state(unroll, reverse):
    params = random_params()
    h0, xs = random_inputs()
    mask = gru_jax.sequence_mask(jnp.array([T, 0, 2, 0]), T)
    h_last, hs = unroll(params, h0, xs, mask=mask, reverse=reverse)
    np.testing.assert_array_equal(h_last[1::2], h0[1::2])
    assert not np.any(hs[:, 1::2])


@UNROLLS
@pytest.mark.parametrize("padding", [0.0, 1e30, np.inf, np.nan])
def test_masked_steps_have_exactly_zero_gradients(unroll, padding):
    """And the padding's value, even NaN, reaches neither values nor gradients."""
    params = random_params()
    h0, xs = random_inputs()
    mask = random_flags()
    padded = jnp.where(mask[..., None], xs, padding)

    def loss(params, h0, xs):
        h_last, hs = unroll(params, h0, xs, mask=mask)
        return jnp.sum(hs**2) + jnp.sum(h_last**3)

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))(params, h0, padded)
    expected, expected_gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))(params, h0, xs)
    np.testing.assert_array_equal(gradients[2][~mask], 0)
    np.testing.assert_array_equal(value, expected)
    jax.tree.map(np.testing.assert_array_equal, gradients, expected_gradients)


@UNROLLS
def test_masked_step_ignores_its_reset(unroll):
    params = random_params()
    h0, xs = random_inputs()
    mask = jnp.ones((T, B), bool).at[2].set(False)
    resets = jnp.zeros((T, B), bool).at[2].set(True)
    assert_close(
        unroll(params, h0, xs, mask=mask, resets=resets), unroll(params, h0, xs, mask=mask)
    )


@UNROLLS
def test_reset_acts_before_its_own_input(unroll):
    params = random_params()
    h0, xs = random_inputs()
    resets = jnp.zeros((T, B), bool).at[2].set(True)
    _, hs = unroll(params, h0, xs, resets=resets)
    assert_close(hs[2], gru_jax.gru_step(params, jnp.zeros_like(h0), xs[2]))
    gradient = jax.grad(lambda h: jnp.sum(unroll(params, h, xs, resets=resets)[0]))(h0)
    np.testing.assert_array_equal(gradient, 0)


@UNROLLS
@pytest.mark.parametrize("unrolled", [1, 2, T, T + 1])
def test_loop_unrolling_changes_nothing(unroll, unrolled):
    params = random_params()
    h0, xs = random_inputs()
    assert_close(unroll(params, h0, xs, unroll=unrolled), unroll(params, h0, xs))


def test_any_step_on_pytrees():
    """A counter and a running sum over inputs in two parts, one of them tokens."""

    def step(scale, h, x):
        return {"count": h["count"] + 1, "sum": h["sum"] + scale * x["value"] * x["token"][:, None]}

    h0 = {"count": jnp.zeros((B, 1), jnp.int32), "sum": jnp.ones((B, 2))}
    rng = np.random.default_rng(0)
    xs = {
        "value": jnp.asarray(rng.normal(size=(T, B, 2)), jnp.float32),
        "token": jnp.asarray(rng.normal(size=(T, B)), jnp.float32),
    }
    mask = random_flags()
    h_last, hs = gru_jax.unroll(step, 3.0, h0, xs, mask=mask)
    np.testing.assert_array_equal(h_last["count"][:, 0], np.sum(mask, axis=0))
    terms = np.where(mask[..., None], 3 * xs["value"] * xs["token"][..., None], 0)
    assert_close(h_last["sum"], 1 + np.sum(terms, axis=0))
    assert hs["count"].shape == (T, B, 1)
    assert not np.any(hs["count"][~mask])


def test_sequence_mask():
    np.testing.assert_array_equal(
        gru_jax.sequence_mask(np.array([[0, 1], [3, 9]]), 3),
        [
            [[False, True], [True, True]],
            [[False, False], [True, True]],
            [[False, False], [True, True]],
        ],
    )
    assert gru_jax.sequence_mask(2, 3).tolist() == [True, True, False]
    assert gru_jax.sequence_mask(jnp.array([1]), 0).shape == (0, 1)


@pytest.mark.parametrize(
    ("lengths", "max_length", "message"),
    [
        (jnp.array([1.0]), 3, "lengths is float32, but must be integers"),
        (jnp.array([1]), -1, "max_length is -1, but must be at least 0"),
    ],
)
def test_sequence_mask_refusals(lengths, max_length, message):
    with pytest.raises(ValueError, match=message):
        gru_jax.sequence_mask(lengths, max_length)


FLAGS = jnp.ones((T, B), bool)


@UNROLLS
@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"mask": FLAGS.T}, r"mask has shape \(4, 5\), but must have \(5, 4\) = \(T, \*batch\)"),
        ({"mask": FLAGS[..., None]}, r"mask has shape \(5, 4, 1\), but must have \(5, 4\)"),
        ({"mask": FLAGS[:, 0]}, r"mask has shape \(5,\), but must have \(5, 4\)"),
        ({"mask": FLAGS[:-1]}, r"mask has shape \(4, 4\), but must have \(5, 4\)"),
        ({"resets": FLAGS.T}, r"resets has shape \(4, 5\), but must have \(5, 4\)"),
        ({"mask": FLAGS.astype(int)}, "mask is int32, but must be bool: use mask != 0"),
        ({"resets": FLAGS.astype(jnp.float32)}, "resets is float32, but must be bool"),
        ({"unroll": 0}, "unroll is 0, but must be at least 1"),
        ({"h0": jnp.zeros((B, 1))}, r"h0? has shape \(4, 1\), but must have \(4, 7\)"),
        ({"h0": jnp.zeros(H)}, r"h0? has shape \(7,\), but must have \(4, 7\)"),
        ({"h0": "state"}, "h0 is a str, but must be an array"),
        ({"xs": jnp.zeros((T, B, H))}, r"xs? has shape .*4, 7\), but must have .* with I = 3"),
        ({"xs": jnp.zeros(())}, "xs has "),
        ({"xs": "text"}, "xs is a str, but must be an array"),
    ],
)
def test_refusals(unroll, keywords, message):
    h0, xs = random_inputs()
    arguments = {"h0": h0, "xs": xs} | keywords
    with pytest.raises(ValueError, match=message):
        unroll(random_params(), **arguments)


@pytest.mark.parametrize(
    ("xs", "message"),
    [
        ((jnp.zeros((T, 2)), jnp.zeros((T + 1, 2))), r"xs has leading axes \[\(5,\), \(6,\)\]"),
        ((), r"xs has leading axes \[\], but must have one time axis T common to all"),
    ],
)
def test_time_axis_refusals(xs, message):
    with pytest.raises(ValueError, match=message):
        gru_jax.unroll(lambda _, h, x: h, None, jnp.zeros(2), xs)
