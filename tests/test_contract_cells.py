"""The contract of every cell: one step, and layers of it."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from common import B, I, T, as_float64, assert_close, random_flags, randomised
from contract import CELLS, each_cell, random_problem

import gru_jax

DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])


def problem(cell, **shapes):
    """The step, parameters, a state and one input."""
    params, h, xs = random_problem(cell, **shapes)
    return CELLS[cell].step, params, h, xs[0]


def oracle_step(cell, params, h, x, **keywords):
    """The next state of NumPy, as leaves; keywords are those of one step."""
    keywords = {n: v[None] if n == "resets" else v for n, v in keywords.items()}
    arguments = as_float64((params, h, x[None])), as_float64(keywords)
    h_last, _ = oracle.unroll(CELLS[cell].oracle, *arguments[0], **arguments[1])
    return jax.tree.leaves(h_last)


@each_cell()
@pytest.mark.parametrize("batch", [(), (B,), (2, B)])
def test_step_matches_oracle(cell, batch):
    step, params, h, x = problem(cell, batch=batch)
    assert_close(jax.tree.leaves(jax.jit(step)(params, h, x)), oracle_step(cell, params, h, x))


@each_cell(optional_bias=True)
def test_step_without_bias_matches_oracle(cell):
    step, params, h, x = problem(cell, bias=False)
    assert_close(jax.tree.leaves(jax.jit(step)(params, h, x)), oracle_step(cell, params, h, x))


@each_cell()
def test_step_in_float64_matches_oracle(cell):
    with jax.enable_x64(True):
        step, params, h, x = problem(cell, dtype=np.float64)
        actual = jax.tree.leaves(jax.jit(step)(params, h, x))
        assert_close(actual, oracle_step(cell, params, h, x), rtol=1e-14, atol=1e-14)


@each_cell()
@pytest.mark.parametrize("batch", [None, (), (B,)])
def test_reset_replaces_the_state_of_a_step(cell, batch):
    step, params, h, x = problem(cell)
    keywords = {"resets": random_flags(2)[0]}
    if batch is not None:
        keywords["reset_state"] = randomised(gru_jax.zero_state(params, batch), 5)
    actual = jax.jit(step)(params, h, x, **keywords)
    assert_close(jax.tree.leaves(actual), oracle_step(cell, params, h, x, **keywords))


@each_cell()
def test_eager_and_mapped_steps_match_a_jitted_batch(cell):
    step, params, h, x = problem(cell)
    expected = jax.jit(step)(params, h, x)
    assert_close(step(params, h, x), expected)
    assert_close(jax.jit(jax.vmap(step, in_axes=(None, 0, 0)))(params, h, x), expected)


@each_cell()
@pytest.mark.parametrize(
    ("weights", "state", "tolerance"),
    [
        # rounding to 8 bits errs by at most 2⁻⁹ of each of the H terms, and gates flatten that
        ("bfloat16", "float32", 4e-3),
        ("bfloat16", "bfloat16", 3e-2),
        ("float16", "float32", 2e-3),
        ("float16", "float16", 4e-3),
    ],
)
def test_step_keeps_the_dtype_of_the_state(cell, weights, state, tolerance):
    step, params, h, x = problem(cell, dtype=jnp.dtype(weights), state=state)
    actual = jax.tree.leaves(jax.jit(step)(params, h, x))
    assert {leaf.dtype for leaf in actual} == {jnp.dtype(state)}
    assert_close(actual, oracle_step(cell, params, h, x), rtol=0, atol=tolerance)


@each_cell()
def test_gradients_of_saturated_gates_are_finite(cell):
    step, params, h, x = problem(cell)
    params = jax.tree.map(lambda leaf: 1e4 * leaf, params)

    def loss(params, h, x):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(step(params, h, x)))

    results = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(params, h, 1e4 * x)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(results))


@each_cell()
def test_stack_runs_the_cell(cell):
    """Over time in both directions, and step by step."""
    params, h0, xs = random_problem(cell)
    step, keywords = CELLS[cell].step, {"mask": random_flags(1), "resets": random_flags(2)}
    stack, run = gru_jax.GRUStack((params,)), partial(gru_jax.unroll, CELLS[cell].step)

    @jax.jit
    def results(stack, h0, xs):
        one_way = gru_jax.gru_stack_unroll(stack, (h0,), xs, step=step, **keywords)
        both = gru_jax.GRUStack((gru_jax.Bidirectional(params, params),))
        _, hs = gru_jax.gru_stack_unroll(both, None, xs, step=step)
        return one_way, hs, gru_jax.gru_stack_step(stack, (h0,), xs[0], step=step)

    ((h_last,), hs), both, ((streamed,), y) = results(stack, h0, xs)
    expected_last, expected = run(params, h0, xs, **keywords)
    assert_close((h_last, hs), (expected_last, jax.tree.leaves(expected)[0]))
    ways = (run(params, None, xs, reverse=reverse)[1] for reverse in (False, True))
    assert_close(both, jnp.concatenate([jax.tree.leaves(way)[0] for way in ways], axis=-1))
    assert_close(streamed, step(params, h0, xs[0]))
    assert_close(y, jax.tree.leaves(streamed)[0])


@each_cell()
def test_layers_in_both_directions_with_dropout(cell):
    init, step, *_ = CELLS[cell]
    stack = gru_jax.init_gru_stack(jax.random.key(0), I, (7, 6), bidirectional=True, init=init)
    run = partial(gru_jax.gru_stack_unroll, step=step, dropout=0.5, key=jax.random.key(1))
    h_lasts, ys = jax.eval_shape(run, stack, None, jnp.ones((T, B, I)))
    assert ys.shape == (T, B, 12)
    chex.assert_trees_all_equal_shapes_and_dtypes(h_lasts, gru_jax.zero_state(stack, (B,)))


@each_cell()
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, x: (h, x[:, :2]), r"x has shape \(4, 2\), .* \(\*batch, I\) with I = 3"),
        (lambda h, x: (h, x[0, 0]), r"x has shape \(\), but must have \(\*batch, I\)"),
        (lambda h, x: (h[:, :1], x), r"h has shape \(4, 1\), but must have \(4, 7\)"),
        (lambda h, x: (h[:2], x), r"h has shape \(2, 7\), but must have \(4, 7\)"),
        (lambda h, x: (h[0], x), r"h has shape \(7,\), but must have \(4, 7\) = \(\*batch, H\)"),
        (lambda h, x: (h, x.astype(jnp.bfloat16)), "x is bfloat16, but must be float32 like the"),
        (lambda h, x: (h, x.astype(int)), "x is int32, but must be float32 like the parameters"),
        (lambda h, x: (h.astype(int), x), "h is int32, but must be float32 like the parameters"),
        (lambda h, x: (h.astype(jnp.bfloat16), x), "h is bfloat16, but must be float32"),
    ],
)
def test_step_raises(cell, change, message):
    step, params, h, x = problem(cell)
    parts, structure = jax.tree.flatten(h)
    changed = [change(part, x) for part in parts]
    with pytest.raises(ValueError, match=message):
        step(params, jax.tree.unflatten(structure, [part for part, _ in changed]), changed[0][1])


@each_cell()
def test_resets_of_a_step_raise(cell):
    step, params, h, x = problem(cell)
    flags = random_flags(2)
    with pytest.raises(ValueError, match=r"resets has shape \(5, 4\), but must have \(4,\) = "):
        step(params, h, x, resets=flags)
    with pytest.raises(ValueError, match="resets is int32, but must be bool"):
        step(params, h, x, resets=flags[0].astype(int))
