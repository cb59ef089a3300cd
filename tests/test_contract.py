"""The contract of every implementation over time: outputs, gradients, masks, resets, precision.

Outputs and directional derivatives are compared with the NumPy oracle, and all gradients of faster
implementations with those of `unroll` of the step.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, T, as_float64, assert_close, weighted_sum
from contract import (
    EVERYTHING,
    IMPLEMENTATIONS,
    each_implementation,
    oracle_outputs,
    outputs_and_gradients,
    plain_gradients,
    problem,
    split,
    supporting,
)

BOTH_DIRECTIONS = pytest.mark.parametrize("reverse", [False, True])


def assert_slopes_match_oracle(name, arrays, gradients, **static):
    """Derivatives along random directions, one for each array, against central differences."""
    rng, (differentiated, others) = np.random.default_rng(0), split(as_float64(arrays))
    leaves, structure = jax.tree.flatten(differentiated)
    for i, gradient in enumerate(jax.tree.leaves(gradients)):
        direction = rng.normal(size=gradient.shape)
        sums = []
        for distance in (1e-5, -1e-5):
            moved = [*leaves[:i], leaves[i] + distance * direction, *leaves[i + 1 :]]
            changed = jax.tree.unflatten(structure, moved) | others
            sums.append(weighted_sum(oracle_outputs(name, changed, **static)))
        actual = np.sum(np.asarray(gradient, np.float64) * direction)
        # the sum of up to 150 gradients, each of which float32 sums up over 20 steps
        np.testing.assert_allclose(actual, (sums[0] - sums[1]) / 2e-5, rtol=1e-4, atol=1e-4)


def cases():
    """Combinations of keyword arguments, for the implementations that support them."""
    combinations = [
        ("", {}),
        ("", {"reverse": True}),
        ("mask", {}),
        ("resets", {"reverse": True}),
        ("mask resets", {}),
        ("mask resets", {"reverse": True}),
        ("mask resets reset_state", {}),
        (EVERYTHING, {"reverse": True}),
        ("state_scale unit_mask", {}),
        (f"{EVERYTHING} state_scale unit_mask", {"reverse": True, "zoneout": 0.3}),
    ]
    return [
        pytest.param(
            *row.values,
            keywords,
            static,
            id=f"{row.values[0]}-{' '.join([keywords, *static])}",
            marks=row.marks,
        )
        for keywords, static in combinations
        for row in supporting(*keywords.replace("states", "state").split(), *static)
    ]


@pytest.mark.parametrize(("name", "keywords", "static"), cases())
def test_outputs_and_gradients(name, keywords, static):
    run, arrays = problem(name, keywords)
    result, gradients = outputs_and_gradients(run, arrays, **static)
    assert_close(jax.tree.leaves(result), oracle_outputs(name, arrays, **static))
    assert_slopes_match_oracle(name, arrays, gradients, **static)
    if "mask" in arrays:
        h_last, hs = map(jax.tree.leaves, result)
        for first, last, each in zip(jax.tree.leaves(arrays["h0"]), h_last, hs, strict=True):
            np.testing.assert_array_equal(last[-1], first[-1])  # a row masked in all steps
            assert not np.any(each[~arrays["mask"]])
    row = IMPLEMENTATIONS[name]
    if not row.is_plain and "state_scale" not in arrays:
        expected = plain_gradients(row.cell, keywords, **static)
        # sums in another order: a few units in the last place, times the T steps they pass through
        assert_close((result, gradients), expected, rtol=1e-5, atol=1e-5)


@each_implementation("no bias")
def test_outputs_and_gradients_without_bias(name):
    run, arrays = problem(name, EVERYTHING, bias=False)
    result, gradients = outputs_and_gradients(run, arrays)
    assert_close(jax.tree.leaves(result), oracle_outputs(name, arrays))
    assert_slopes_match_oracle(name, arrays, gradients)


@each_implementation()
@pytest.mark.parametrize("batch", [(), (2, B)])
@pytest.mark.parametrize(("keywords", "reverse"), [("", False), (EVERYTHING, True)])
def test_outputs_of_any_batch_axes(name, batch, keywords, reverse):
    run, arrays = problem(name, keywords, batch=batch)
    result = jax.jit(partial(run, reverse=reverse))(**arrays)
    expected = oracle_outputs(name, arrays, reverse=reverse)
    assert_close(jax.tree.leaves(result), expected)


@each_implementation()
@pytest.mark.parametrize("steps", [0, 1])
@BOTH_DIRECTIONS
def test_short_sequences(name, steps, reverse):
    run, arrays = problem(name, "resets", steps=steps)
    result, gradients = outputs_and_gradients(run, arrays, reverse=reverse)
    assert_close(jax.tree.leaves(result), oracle_outputs(name, arrays, reverse=reverse))
    assert_slopes_match_oracle(name, arrays, gradients, reverse=reverse)
    if steps == 0:
        jax.tree.map(np.testing.assert_array_equal, result[0], arrays["h0"])
        assert not any(map(np.any, jax.tree.leaves(gradients["params"])))


@each_implementation("unroll")
def test_outputs_of_unrolled_loops(name):
    run, arrays = problem(name, EVERYTHING)
    results = jax.jit(lambda arrays: [run(**arrays, unroll=n) for n in (2, T, T + 1)])(arrays)
    for result in results:
        assert_close(jax.tree.leaves(result), oracle_outputs(name, arrays))


@each_implementation("mask")
def test_padding_reaches_neither_outputs_nor_gradients(name):
    """Whatever it is, even NaN; the gradients of masked inputs are exactly zero."""
    run, arrays = problem(name, "mask resets")
    mask, xs = arrays["mask"], arrays["xs"]

    @jax.jit
    def outputs_and_gradients(differentiated, others):
        def loss(differentiated):
            result = run(**differentiated, **others)
            return weighted_sum(result), result

        return jax.value_and_grad(loss, has_aux=True)(differentiated)

    expected = outputs_and_gradients(*split(arrays))
    for padding in (0.0, 1e30, np.inf, np.nan):
        padded = jnp.where(mask[..., None], xs, padding)
        actual = outputs_and_gradients(*split(arrays | {"xs": padded}))
        jax.tree.map(np.testing.assert_array_equal, actual, expected)
        np.testing.assert_array_equal(actual[1]["xs"][~mask], 0)


@each_implementation("resets")
@BOTH_DIRECTIONS
def test_nothing_crosses_a_reset(name, reverse):
    """NaN and infinities before it, in inputs or in the first state, change nothing after it."""
    run, arrays = problem(name)

    @jax.jit
    def states_and_gradients(h0, xs, resets, after):
        def loss(h0, xs):
            hs = run(arrays["params"], h0, xs, resets=resets, reverse=reverse)[1]
            states = jax.tree.map(lambda hs: jnp.where(after[:, None, None], hs, 0), hs)
            return weighted_sum(states), states

        (_, states), (d_h0, d_xs) = jax.value_and_grad(loss, (0, 1), has_aux=True)(h0, xs)
        return states, d_h0, jnp.where(after[:, None, None], d_xs, 0)

    h0, xs = arrays["h0"], arrays["xs"]
    order = jnp.arange(T)[::-1] if reverse else jnp.arange(T)
    for step in (0, 3):  # the number of steps before the reset
        after, resets = order >= step, jnp.broadcast_to((order == step)[:, None], (T, B))
        expected = states_and_gradients(h0, xs, resets, after)
        assert not any(map(np.any, jax.tree.leaves(expected[1])))  # exactly zero
        for bad in (jnp.nan, jnp.inf, -jnp.inf):
            worse = jax.tree.map(lambda leaf, bad=bad: jnp.full_like(leaf, bad), h0)
            dirty = jnp.where(after[:, None, None], xs, bad)
            states, _, d_xs = states_and_gradients(worse, dirty, resets, after)
            assert_close((states, d_xs), (expected[0], expected[2]), atol=1e-5, rtol=1e-5)


@each_implementation("reset_state")
@BOTH_DIRECTIONS
def test_gradient_of_the_reset_state_ignores_other_rows(name, reverse):
    """NaN in row 1 reaches the gradient of no other."""
    run, arrays = problem(name, "reset_state")
    steps, rows = [1, 2, 0 if reverse else T - 1], [0, 0, 1]
    resets = jnp.zeros((T, B), bool).at[jnp.array(steps), jnp.array(rows)].set(True)

    @jax.jit
    def gradient(xs):
        def loss(reset_state):
            hs = run(
                **(arrays | {"xs": xs, "resets": resets, "reset_state": reset_state}),
                reverse=reverse,
            )[1]
            return weighted_sum(jax.tree.map(lambda hs: jnp.delete(hs, 1, axis=1), hs))

        return jax.grad(loss)(arrays["reset_state"])

    expected = gradient(arrays["xs"])
    assert any(map(np.any, jax.tree.leaves(expected)))
    assert_close(gradient(arrays["xs"].at[2, 1].set(jnp.nan)), expected, atol=1e-5)


@each_implementation()
@pytest.mark.parametrize(("steps", "batch"), [(T, (B,)), (0, (B,)), (T, ())])
def test_first_state_of_none_is_zeros(name, steps, batch):
    run, arrays = problem(name, steps=steps, batch=batch)
    zeros = jax.tree.map(jnp.zeros_like, arrays["h0"])
    actual, expected = (run(arrays["params"], h0, arrays["xs"]) for h0 in (None, zeros))
    assert_close(actual, expected, rtol=0, atol=0)


FLAGS = jnp.ones((T, B), bool)


@each_implementation()
@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"mask": FLAGS.T}, r"mask has shape \(4, 5\), but must have \(5, 4\) = \(T, \*batch\)"),
        ({"mask": FLAGS[..., None]}, r"mask has shape \(5, 4, 1\), but must have \(5, 4\)"),
        ({"mask": FLAGS[:, 0]}, r"mask has shape \(5,\), but must have \(5, 4\)"),
        ({"mask": FLAGS[:-1]}, r"mask has shape \(4, 4\), but must have \(5, 4\)"),
        ({"resets": FLAGS.T}, r"resets has shape \(4, 5\), but must have \(5, 4\)"),
        ({"resets": FLAGS[0]}, r"resets has shape \(4,\), but must have \(5, 4\)"),
        ({"mask": FLAGS.astype(int)}, "mask is int32, but must be bool: use mask != 0"),
        ({"resets": FLAGS.astype(jnp.float32)}, "resets is float32, but must be bool"),
        ({"reverse": 1.5}, "reverse is 1.5, but must be True or False"),
        ({"h0": "state"}, "h0 is a str, but must be"),
        ({"xs": jnp.zeros((T, B, H))}, r"xs? has shape .*4, 7\), but must have .* with I = 3"),
        ({"xs": jnp.zeros(())}, "xs has "),
        ({"xs": "text"}, "xs is a str, but must be an array"),
        ({"reset_state": jnp.zeros(H)}, "reset_state is given, but resets is None"),
        ({"params": None}, "params is None, but must be"),
    ],
)
def test_wrong_arguments_raise(name, keywords, message):
    run, arrays = problem(name)
    with pytest.raises(ValueError, match=message):
        run(**(arrays | keywords))


@each_implementation("unroll")
def test_unrolling_by_less_than_a_step_raises(name):
    run, arrays = problem(name)
    with pytest.raises(ValueError, match="unroll is 0, but must be at least 1"):
        run(**arrays, unroll=0)


@each_implementation()
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h[..., :1], r"h0? has shape \(4, 1\), but must have \(4, 7\)"),
        (lambda h: h[0], r"h0? has shape \(7,\), but must have \(4, 7\)"),
        (lambda h: h.astype(int), "is int32, but must be float32"),
    ],
)
def test_wrong_states_raise(name, change, message):
    run, arrays = problem(name)
    wrong = jax.tree.map(change, arrays["h0"])
    with pytest.raises(ValueError, match=message):
        run(**(arrays | {"h0": wrong}))


@each_implementation("reset_state")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h[0, :3], r"reset_state has shape \(3,\), but must have \(7,\) = \(H,\) or"),
        (lambda h: h[:1], r"reset_state has shape \(1, 7\), but must have"),
        (lambda h: h.astype(int), "reset_state is int32, but must be float32 like the state"),
        (lambda h: (h, h, h), r"reset_state is a \w+, but must be a pytree like the state"),
    ],
)
def test_wrong_reset_states_raise(name, change, message):
    run, arrays = problem(name, "resets reset_states")
    wrong = jax.tree.map(change, arrays["reset_state"])
    with pytest.raises(ValueError, match=message):
        run(**(arrays | {"reset_state": wrong}))


@each_implementation()
def test_numpy_arguments(name):
    run, arrays = problem(name)
    assert_close(run(**jax.tree.map(np.asarray, arrays)), run(**arrays))
