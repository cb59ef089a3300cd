"""What `gru_unroll_parallel` makes of hostile arguments, and which it refuses."""

import jax
import jax.numpy as jnp
import pytest
from common import assert_close
from test_parallel import EPS, long_problem

import gru_jax

BOTH = pytest.mark.parametrize(
    ("reset", "jacobian"), [("before", "full"), ("after", "diagonal")], ids=["full", "diagonal"]
)
HOSTILE = {
    "no rows": lambda h0, xs: (h0[:0], xs[:, :0], {}),
    "masked": lambda h0, xs: (h0, xs, {"mask": jnp.zeros((20, 2), bool)}),
    "reset everywhere": lambda h0, xs: (
        h0,
        xs,
        {"resets": jnp.ones((20, 2), bool), "reset_state": jnp.full(4, 3.0)},
    ),
    "h0 is large": lambda h0, xs: (100 * h0, xs, {}),
    "h0 is infinite": lambda h0, xs: (h0.at[0, 1].set(jnp.inf), xs, {}),
    "NaN in h0 until a reset": lambda h0, xs: (
        h0.at[0, 1].set(jnp.nan),
        xs,
        {"resets": jnp.zeros((20, 2), bool).at[3].set(True)},
    ),
    "NaN in xs": lambda h0, xs: (h0, xs.at[5, 0].set(jnp.nan), {}),
    "NaN in the guess": lambda h0, xs: (h0, xs, {"guess": jnp.full((20, 2, 4), jnp.nan)}),
    "an infinite guess": lambda h0, xs: (h0, xs, {"guess": jnp.full((20, 2, 4), jnp.inf)}),
    "no step": lambda h0, xs: (h0, xs[:0], {}),
    "one step": lambda h0, xs: (h0, xs[:1], {}),
    "no iterations": lambda h0, xs: (h0, xs, {"max_iterations": 0}),
    "an exact tolerance": lambda h0, xs: (h0, xs, {"tolerance": 1e-30}),
}


@BOTH
@pytest.mark.parametrize("name", HOSTILE)
def test_the_states_are_right_in_any_case(reset, jacobian, name):
    params, *arguments = long_problem(reset, 20)
    h0, xs, options = HOSTILE[name](*arguments)
    _, hs, solution = gru_jax.gru_unroll_parallel(params, h0, xs, jacobian=jacobian, **options)
    flags = {key: options[key] for key in options if key in ("mask", "resets", "reset_state")}
    expected = gru_jax.gru_unroll(params, h0, xs, **flags)[1]
    size = jnp.maximum(1, jnp.max(jnp.abs(h0), initial=0, where=jnp.isfinite(h0)))
    assert_close(hs, expected, rtol=1e-5, atol=1e-6 * float(size))
    assert int(solution.iterations) <= 20
    assert jnp.isnan(solution.residual).tolist() == (~jnp.isfinite(hs)).any(axis=(0, 2)).tolist()


@BOTH
@pytest.mark.parametrize("gain", [100.0, 1e10])
def test_weights_of_any_size(reset, jacobian, gain):
    """Gates are then steps: what is compared are the residuals, not the states."""
    params, h0, xs = long_problem(reset, 20, gain=gain)
    _, hs, solution = gru_jax.gru_unroll_parallel(params, h0, xs, jacobian=jacobian)
    assert bool(jnp.all(jnp.isfinite(hs)))
    assert bool(jnp.all(solution.residual <= 20 * EPS))


@BOTH
@pytest.mark.parametrize("state", [jnp.float32, jnp.bfloat16])
def test_narrow_weights_are_computed_with_in_float32(reset, jacobian, state):
    """Products that rounded the state would keep the iterations from settling."""
    params, h0, xs = long_problem(reset, 300, hidden=8)
    params, xs = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, xs))
    h0 = h0.astype(state)
    h_last, hs, solution = gru_jax.gru_unroll_parallel(params, h0, xs, jacobian=jacobian)
    assert (h_last.dtype, hs.dtype, solution.residual.dtype) == (state, state, jnp.float32)
    assert bool(jnp.all(solution.converged & (solution.residual <= 20 * EPS)))
    assert int(solution.iterations) <= 20
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, h0, xs))
    assert_close(hs, gru_jax.gru_unroll(*wide)[1].astype(state), rtol=1e-2, atol=1e-5)
    gradient = jax.grad(
        lambda params: jnp.sum(gru_jax.gru_unroll_parallel(params, h0, xs, jacobian=jacobian)[0])
    )
    assert gradient(params).w_h.dtype == jnp.bfloat16


@BOTH
def test_products_do_not_round_the_state(reset, jacobian):
    """By default those of GPUs and TPUs round their operands."""
    params, h0, xs = long_problem(reset, 3)
    run = jax.jit(gru_jax.gru_unroll_parallel, static_argnames="jacobian")
    text = run.lower(params, h0, xs, jacobian=jacobian).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) > 2
    assert all("[HIGHEST, HIGHEST]" in line for line in products)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0}, "tolerance is 0, but must be a positive number"),
        ({"tolerance": float("nan")}, "tolerance is nan, but must be"),
        ({"tolerance": "small"}, "tolerance is small, but must be"),
        ({"max_iterations": -1}, "max_iterations is -1, but must be at least 0"),
        ({"jacobian": "half"}, "jacobian is 'half', but must be one of 'full', 'diagonal'"),
        ({"guess": jnp.zeros((2, 4))}, r"guess has shape \(2, 4\), but must have \(5, 2, 4\)"),
        ({"guess": jnp.zeros((5, 2, 4), int)}, "guess is int32, but must be float32 like h0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    params, h0, xs = long_problem("after", 5)
    with pytest.raises(ValueError, match=message):
        gru_jax.gru_unroll_parallel(params, h0, xs, **options)
