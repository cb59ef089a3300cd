"""`unroll` of steps that are no cell of the library, and what raises.

Outputs, masks, resets and directions of the library's cells are in test_contract.py.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from common import B, T, assert_close, random_flags, random_inputs, random_params

import gru_jax

GRU = random_params(reset="after")


def test_states_and_inputs_that_are_pytrees():
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


def test_parameters_that_are_not_arrays():
    """Such as the activation of an Equinox layer."""
    h0, xs = random_inputs()

    def step(params, h, x):
        gru, activation = params
        return activation(gru_jax.gru_step(gru, h, x))

    for _ in range(2):
        h, _ = gru_jax.unroll(step, (GRU, jnp.tanh), h0, xs[:1])
        assert_close(h, jnp.tanh(gru_jax.gru_step(GRU, h0, xs[0])))


@pytest.mark.parametrize("returned", [lambda h: h[None], lambda h: (h, h), lambda h: h > 0])
def test_step_that_returns_no_state_raises(returned):
    with pytest.raises(ValueError, match=r"step returned .*, but must return a state like the"):
        gru_jax.unroll(lambda p, h, x: returned(h), GRU, *random_inputs())


@pytest.mark.parametrize(
    ("xs", "message"),
    [
        ((jnp.zeros((T, 2)), jnp.zeros((T + 1, 2))), r"xs has leading axes \[\(5,\), \(6,\)\]"),
        ((), r"xs has leading axes \[\], but must have one time axis T common to all"),
    ],
)
def test_inputs_without_common_time_axis_raise(xs, message):
    with pytest.raises(ValueError, match=message):
        gru_jax.unroll(lambda _, h, x: h, None, jnp.zeros(2), xs)
