"""The contract of every implementation over time: jit, vmap, two orders of derivatives, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, assert_close, weighted_sum
from contract import (
    EVERYTHING,
    IMPLEMENTATIONS,
    each_implementation,
    oracle_outputs,
    outputs_and_gradients,
    plain_gradients,
    problem,
    split,
)


@each_implementation()
def test_jit_matches_eager(name):
    run, arrays = problem(name, EVERYTHING)
    with jax.disable_jit():
        eager = run(**arrays)
    assert_close(jax.jit(run)(**arrays), eager)


@each_implementation("vmap")
@pytest.mark.parametrize("reverse", [False, True])
def test_vmap_over_the_batch_matches_a_batch_axis(name, reverse):
    run, arrays = problem(name, EVERYTHING)
    axes = {"params": None, "h0": 0, "xs": 1, "mask": 1, "resets": 1, "reset_state": 0}
    mapped = jax.vmap(
        lambda arrays: run(**arrays, reverse=reverse), in_axes=(axes,), out_axes=(0, 1)
    )
    expected = oracle_outputs(name, arrays, reverse=reverse)
    assert_close(jax.tree.leaves(jax.jit(mapped)(arrays)), expected)


@each_implementation("vmap")
def test_vmap_over_parameters_matches_a_loop(name):
    run, arrays = problem(name)
    others = [problem(name, seed=seed)[1]["params"] for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *others)
    results = jax.jit(jax.vmap(run, in_axes=(0, None, None)))(stacked, arrays["h0"], arrays["xs"])
    for i, params in enumerate(others):
        actual = [leaf[i] for leaf in jax.tree.leaves(results)]
        assert_close(actual, oracle_outputs(name, arrays | {"params": params}))


@each_implementation("vmap")
def test_per_example_gradients(name):
    run, arrays = problem(name)
    h0, xs = arrays["h0"], arrays["xs"]
    gradient = jax.grad(lambda params, h0, xs: weighted_sum(run(params, h0, xs)))
    mapped = jax.jit(jax.vmap(gradient, in_axes=(None, 0, 1)))(arrays["params"], h0, xs)
    single = jax.jit(gradient)
    for row in range(B):
        h0_of_row = jax.tree.map(lambda leaf, row=row: leaf[row], h0)
        expected = single(arrays["params"], h0_of_row, xs[:, row])
        assert_close(
            jax.tree.map(lambda leaf, row=row: leaf[row], mapped), expected, rtol=1e-5, atol=1e-5
        )


@each_implementation("second derivatives", "float64")
def test_derivatives_of_both_modes_and_two_orders_in_float64(name):
    """Along a random direction, against differences of the oracle."""
    with jax.enable_x64(True):
        run, arrays = problem(name, EVERYTHING, dtype=np.float64)
        differentiated, others = split(arrays)
        rng = np.random.default_rng(0)
        direction = jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape), differentiated)

        def along(distance, direction, run):
            return run(**jax.tree.map(lambda a, d: a + distance * d, differentiated, direction))

        @jax.jit
        def derivatives(direction):
            def value(distance):
                result = along(distance, direction, lambda **moved: run(**moved, **others))
                return weighted_sum(result)

            def forward(f):
                return lambda at: jax.jvp(f, (at,), (1.0,))

            (zeroth, reverse), (forwards, mixed) = forward(jax.value_and_grad(value))(0.0)
            _, (_, twice_forwards) = forward(forward(value))(0.0)
            twice_reverse = jax.grad(jax.grad(value))(0.0)
            second = mixed, twice_forwards, twice_reverse
            return zeroth, (reverse, forwards), second

        def numeric(distance):
            return weighted_sum(
                along(distance, direction, lambda **moved: oracle_outputs(name, moved | others))
            )

        step = 2e-3  # five points: errors of its fourth power
        a, b, c, d, e = (numeric(i * step) for i in (-2, -1, 0, 1, 2))
        value, first, second = derivatives(direction)
        assert_close(value, c, rtol=1e-13, atol=1e-13)
        assert_close(first, ((a - 8 * b + 8 * d - e) / 12 / step,) * 2, rtol=1e-7, atol=1e-7)
        expected = (-a + 16 * b - 30 * c + 16 * d - e) / 12 / step**2
        assert_close(second, (expected,) * 3, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "state", "tolerance"),
    [
        ("float64", "float64", 1e-13),
        # two units in the last of bfloat16's 8 bits; four where every sum is rounded to them, too
        ("bfloat16", "bfloat16", 2e-2),
        ("bfloat16", "float32", 1e-2),
    ],
)
@each_implementation("float64", "bfloat16", "mixed precision")
def test_precision(name, weights, state, tolerance):
    """States keep their dtype; products are taken in the weights' dtype."""
    with jax.enable_x64(weights == "float64"):
        dtypes = {"dtype": jnp.dtype(weights), "state": state}
        run, arrays = problem(name, "mask resets", **dtypes)
        result, gradients = outputs_and_gradients(run, arrays)
        assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(state)}
        assert_close(
            jax.tree.leaves(result), oracle_outputs(name, arrays), rtol=tolerance, atol=tolerance
        )
        row = IMPLEMENTATIONS[name]
        if not row.is_plain:
            expected = plain_gradients(row.cell, "mask resets", **dtypes)
            assert_close((result, gradients), expected, rtol=tolerance, atol=tolerance)
