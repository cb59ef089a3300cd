"""`gru_unroll_parallel`: what Newton's method promises, its Jacobians, and its derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import assert_close, random_flags, random_inputs, random_params, weighted_sum
from jax.test_util import check_grads

import gru_jax
from gru_jax.recurrence import scan
from gru_jax.recurrence.gru import GRU
from gru_jax.recurrence.interface import Inputs, Point, Weights
from gru_jax.recurrence.jacobians import jacobians
from gru_jax.recurrence.newton import Recurrence
from gru_jax.recurrence.options import Constants, Options

EPS = float(jnp.finfo(jnp.float32).eps)
RESETS = pytest.mark.parametrize("reset", ["before", "after"])
KINDS = pytest.mark.parametrize("jacobian", ["full", "diagonal"])


def long_problem(reset, steps, gain=1.0, rows=2, hidden=4):
    """Weights of this gain, inputs and a first state."""
    params = gru_jax.init_gru(jax.random.key(0), 3, hidden, reset=reset)
    params = jax.tree.map(lambda w: gain * w, params)
    xs = jax.random.normal(jax.random.key(1), (steps, rows, 3))
    return params, jax.random.normal(jax.random.key(2), (rows, hidden)), xs


def residual_of(params, h0, hs, xs):
    """The largest |h_t − gru_step(h_{t-1}, x_t)| of each row."""
    before = jnp.concatenate([h0[None], hs])[:-1]
    stepped = jax.jit(gru_jax.gru_step)(params, before, xs)
    return jnp.max(jnp.abs(stepped - hs), axis=(0, -1))


def jacobians_at(params, h, x, mask, kind):
    """Those of one step."""
    weights = Weights(params, Constants(None, None))
    gates = GRU.step(scan.APART, weights, Options())(
        h, GRU.project(scan.APART, params, x, h.dtype)
    )[1]
    none = jax.tree.map(lambda _: None, GRU.slots(scan.APART, params))
    at = Point(weights, h, gates, Inputs(x, mask, None))
    factors, _ = GRU.coefficients(scan.APART, at, (none, None), Options())
    return jacobians(kind, GRU.prepared(scan.APART, params), factors)


@RESETS
@KINDS
def test_jacobians_are_those_of_a_step(reset, jacobian):
    """The identity where it is masked."""
    params = random_params(reset=reset)
    h, xs = random_inputs()
    mask = jnp.array([True, False, True, True])
    actual = jacobians_at(params, h, xs[0], mask, jacobian)
    expected = jax.vmap(jax.jacfwd(partial(gru_jax.gru_step, params)))(h, xs[0])
    expected = expected.at[1].set(jnp.eye(7))
    expected = jnp.swapaxes(expected, -1, -2)  # rows are states
    if jacobian == "diagonal":
        expected = jnp.diagonal(expected, axis1=-2, axis2=-1)
    assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@RESETS
@KINDS
def test_each_iteration_makes_one_more_state_exact(reset, jacobian):
    """Also of weights so large that the iterations are far from the others."""
    params, h0, xs = long_problem(reset, 12, gain=6.0)
    _, expected = gru_jax.gru_unroll(params, h0, xs)
    weights = Weights(params, Constants(None, None))
    projection = GRU.project(scan.APART, params, xs, h0.dtype)
    recurrence = Recurrence(weights, h0, Inputs(xs, None, None), projection)
    states = jnp.zeros_like(expected)
    for count in range(1, 13):
        states = recurrence.improved(recurrence.at(states), jacobian)
        assert_close(states[:count], expected[:count], rtol=1e-5, atol=1e-5)
        assert jnp.max(jnp.abs(states)) <= jnp.maximum(1, jnp.max(jnp.abs(h0)))


@RESETS
@KINDS
def test_as_many_iterations_as_steps_solve_what_is_chaotic(reset, jacobian):
    """Rounding of the first steps, which chaos multiplies, does not reach the others."""
    params, h0, xs = long_problem(reset, 100, gain=8.0, rows=1)
    options = {"jacobian": jacobian, "max_iterations": 100}
    _, hs, solution = gru_jax.gru_unroll_parallel(params, h0, xs, **options)
    assert bool(solution.converged[0])
    assert 10 < int(solution.iterations) <= 100
    assert float(residual_of(params, h0, hs, xs)[0]) <= 64 * EPS


@RESETS
@KINDS
def test_the_residual_is_at_most_what_is_reported(reset, jacobian):
    params, h0, xs = long_problem(reset, 300)
    _, hs, solution = gru_jax.gru_unroll_parallel(params, h0, xs, jacobian=jacobian)
    assert bool(jnp.all(solution.converged))
    # another compilation of the same step rounds otherwise
    assert bool(jnp.all(residual_of(params, h0, hs, xs) <= solution.residual + 4 * EPS))
    coarse = gru_jax.gru_unroll_parallel(params, h0, xs, jacobian=jacobian, tolerance=1e-2)[2]
    assert bool(jnp.all((coarse.residual > 100 * EPS) & (coarse.residual <= 1e-2)))
    assert coarse.iterations < solution.iterations


@RESETS
@KINDS
def test_rows_that_do_not_converge_are_finished_by_a_loop(reset, jacobian):
    params, h0, xs = long_problem(reset, 40, gain=8.0)  # chaotic
    options = {"jacobian": jacobian, "max_iterations": 3}
    _, hs, solution = gru_jax.gru_unroll_parallel(params, h0, xs, **options)
    assert not bool(jnp.any(solution.converged))
    assert int(solution.iterations) == 3
    assert bool(jnp.all(residual_of(params, h0, hs, xs) <= 64 * EPS))
    # the first steps only: chaos makes of every rounding error another state
    assert_close(hs[:15], gru_jax.gru_unroll(params, h0, xs)[1][:15], rtol=1e-4, atol=1e-4)


def test_a_row_does_not_depend_on_the_others():
    params, h0, xs = long_problem("after", 60, gain=3.0, rows=3)
    wild = xs.at[:, 1].multiply(30)
    together = gru_jax.gru_unroll_parallel(params, h0, wild)
    alone = gru_jax.gru_unroll_parallel(params, h0[::2], wild[:, ::2])
    assert_close(together[1][:, ::2], alone[1], rtol=0, atol=16 * EPS)


@RESETS
def test_the_residual_of_long_sequences_is_that_of_the_scan(reset):
    params, h0, xs = long_problem(reset, 100_000, rows=1)
    _, expected = gru_jax.gru_unroll(params, h0, xs)
    _, hs, solution = gru_jax.gru_unroll_parallel(params, h0, xs)
    assert int(solution.iterations) <= 6
    by_scan = jnp.max(residual_of(params, h0, expected, xs))
    assert jnp.max(residual_of(params, h0, hs, xs)) <= by_scan + 4 * EPS


@RESETS
@KINDS
def test_gradients_in_float64_are_those_of_the_scan(reset, jacobian):
    with jax.enable_x64(True):
        params = random_params(reset=reset, dtype=np.float64)
        h0, xs = random_inputs(dtype=np.float64, steps=30)
        flags = {"mask": random_flags(1, steps=30), "resets": random_flags(2, steps=30)}

        def gradient(run):
            def loss(*args):
                return weighted_sum(run(*args, **flags)[:2])

            return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, h0, xs)

        actual = gradient(partial(gru_jax.gru_unroll_parallel, jacobian=jacobian))
        assert_close(actual, gradient(gru_jax.gru_unroll), rtol=1e-10, atol=1e-10)


@KINDS
def test_derivatives_of_second_order(jacobian):
    with jax.enable_x64(True):
        params = random_params(reset="after", dtype=np.float64)
        h0, xs = random_inputs(dtype=np.float64)

        def run(*args):
            return gru_jax.gru_unroll_parallel(*args, jacobian=jacobian)[:2]

        check_grads(run, (params, h0, xs), order=2, rtol=1e-5, atol=1e-5)


def trained(reset):
    """A GRU that has learned to repeat its input after four steps, and its loss."""
    keys = jax.random.split(jax.random.key(0), 3)
    head = 0.3 * jax.random.normal(keys[0], (8, 1))
    weights = gru_jax.init_gru(keys[1], 1, 8, reset=reset), head

    def loss(weights, key):
        params, head = weights
        xs = jax.random.normal(key, (40, 16, 1))
        _, hs = gru_jax.gru_unroll(params, None, xs)
        return jnp.mean((hs[4:] @ head - xs[:-4]) ** 2)

    adam = optax.adam(2e-2)

    def update(state, key):
        weights, optimiser = state
        value, gradient = jax.value_and_grad(loss)(weights, key)
        change, optimiser = adam.update(gradient, optimiser)
        return (optax.apply_updates(weights, change), optimiser), value

    keys = jax.random.split(keys[2], 300)
    (weights, _), losses = jax.jit(partial(jax.lax.scan, update))(
        (weights, adam.init(weights)), keys
    )
    return weights[0], float(jnp.mean(losses[-20:]))


@pytest.mark.usefixtures("jax_defaults")
@RESETS
def test_iterations_of_untrained_and_trained_weights(reset):
    """With diagonals what was trained to remember does not converge, and is finished by a loop."""
    xs = jax.random.normal(jax.random.key(3), (1000, 1, 1))
    params, loss = trained(reset)
    assert loss < 0.01  # of 1
    untrained = gru_jax.init_gru(jax.random.key(0), 1, 8, reset=reset)
    counts = {}
    for name, weights in (("untrained", untrained), ("trained", params)):
        for jacobian in ("full", "diagonal"):
            run = partial(gru_jax.gru_unroll_parallel, weights, None, xs)
            _, hs, solution = run(jacobian=jacobian)
            counts[name, jacobian] = int(solution.iterations)
            assert bool(jnp.all(solution.converged)) == (counts[name, jacobian] < 100)
            assert_close(hs, gru_jax.gru_unroll(weights, None, xs)[1], rtol=1e-4, atol=1e-4)
    assert counts["untrained", "full"] in (4, 5)
    assert counts["untrained", "diagonal"] in range(15, 20)
    assert counts["trained", "full"] in (5, 6, 7)
    assert counts["trained", "diagonal"] == 100


def test_a_good_guess_saves_iterations():
    params, h0, xs = long_problem("after", 200, gain=2.0)
    _, hs, first = gru_jax.gru_unroll_parallel(params, h0, xs)
    again = gru_jax.gru_unroll_parallel(params, h0, xs, guess=hs)[2]
    assert int(again.iterations) <= 2 < int(first.iterations)
    reverse = gru_jax.gru_unroll_parallel(params, h0, xs, reverse=True)[1]
    turned = gru_jax.gru_unroll_parallel(params, h0, xs, reverse=True, guess=reverse)[2]
    assert int(turned.iterations) <= 2


def test_nan_stays_in_its_row_and_its_episode():
    params, h0, xs = long_problem("before", 20)
    resets = jnp.zeros((20, 2), bool).at[10, 0].set(True)
    xs = xs.at[5, 0].set(jnp.nan)
    flags = {"resets": resets, "max_iterations": 8}
    _, hs, solution = gru_jax.gru_unroll_parallel(params, h0, xs, **flags)
    _, expected = gru_jax.gru_unroll(params, h0, xs, resets=resets)
    assert_close(hs, expected, rtol=1e-5, atol=1e-6)
    assert solution.converged.tolist() == [False, True]


def test_mapped_over_weights():
    params = [long_problem("after", 50, gain)[0] for gain in (0.5, 2.0)]
    _, h0, xs = long_problem("after", 50)
    stacked = jax.tree.map(lambda *w: jnp.stack(w), *params)
    _, hs, solution = jax.vmap(gru_jax.gru_unroll_parallel, (0, None, None))(stacked, h0, xs)
    for i, each in enumerate(params):
        assert_close(hs[i], gru_jax.gru_unroll(each, h0, xs)[1], rtol=1e-5, atol=1e-5)
    assert solution.converged.shape == (2, 2)
