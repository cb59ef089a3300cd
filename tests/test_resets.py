"""States after resets, in stacks and under vmap.

Resets of every cell and implementation are in test_contract*.py.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from common import B, H, I, T, assert_close, random_flags, random_inputs, random_params, randomised
from contract import CELLS, random_problem

import gru_jax

RESETS = random_flags(2)


def test_vmap_over_reset_states():
    params = random_params()
    h0, xs = random_inputs()
    states = jnp.stack([jnp.full(H, 0.5), jnp.linspace(-1, 1, H)])
    run = partial(gru_jax.gru_unroll, params)

    @jax.jit
    def one(h0, xs, resets, state):
        return run(h0, xs, resets=resets, reset_state=state)[1]

    shared = jax.jit(jax.vmap(one, in_axes=(0, 1, 1, None), out_axes=1))(h0, xs, RESETS, states[0])
    assert_close(shared, one(h0, xs, RESETS, states[0]))
    mapped = jax.jit(jax.vmap(one, in_axes=(None, None, None, 0)))(h0, xs, RESETS, states)
    assert_close(mapped, jnp.stack([one(h0, xs, RESETS, state) for state in states]))
    rows = jax.jit(jax.vmap(one, in_axes=(0, 1, 1, 0), out_axes=1))
    state = jnp.stack([states[0]] * B)
    assert_close(rows(h0, xs, RESETS, state), one(h0, xs, RESETS, state))


@pytest.mark.parametrize(
    ("cell", "zoneout"),
    [(cell, 0.0) for cell in CELLS] + [("gru before", 0.2), ("gru after", 0.2)],
)
def test_streaming_matches_unroll(cell, zoneout):
    params, _, xs = random_problem(cell)
    above = dataclasses.replace(params, w_x=jnp.resize(params.w_x, (H, params.w_x.shape[1])))
    stack = gru_jax.GRUStack((params, above))
    fresh = (
        randomised(gru_jax.zero_state(params), 1),
        randomised(gru_jax.zero_state(params, (B,)), 2),
    )
    keywords = {"step": CELLS[cell].step, "zoneout": zoneout, "reset_state": fresh}
    run = partial(gru_jax.gru_stack_unroll, stack, None, resets=RESETS)
    h_lasts, hs = jax.jit(partial(run, **keywords))(xs)
    step = jax.jit(partial(gru_jax.gru_stack_step, stack, **keywords))
    states = gru_jax.zero_state(stack, (B,))
    for t in range(T):
        states, y = step(states, xs[t], resets=RESETS[t])
        assert_close(y, hs[t], atol=1e-5)
    assert_close(states, h_lasts, atol=1e-5)


def test_reset_state_of_one_layer():
    """None for the others: they restart from zeros."""
    stack = gru_jax.init_gru_stack(jax.random.key(0), I, (H, H))
    state, xs = jnp.linspace(-1, 1, H), random_inputs()[1]
    run = jax.jit(partial(gru_jax.gru_stack_unroll, stack, None, xs, resets=RESETS))
    actual = run(reset_state=(None, state))
    assert_close(actual, run(reset_state=(jnp.zeros(H), state)), rtol=0, atol=0)


def test_reset_states_of_both_directions():
    """Each episode matches a sequence that begins with the reset states."""
    stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (H,), bidirectional=True)
    xs, run = random_inputs()[1], jax.jit(gru_jax.gru_stack_unroll)
    fresh = gru_jax.Bidirectional(jnp.full(H, 0.5), jnp.linspace(-1, 1, H))
    resets = jnp.zeros((T, B), bool).at[jnp.array([0, 2])].set(True)
    _, hs = run(stack, None, xs, resets=resets, reset_state=(fresh,))
    ones = jax.tree.map(lambda state: jnp.broadcast_to(state, (B, H)), fresh)
    _, first = run(stack, (ones,), xs[:2])
    start = gru_jax.Bidirectional(ones.forward, jnp.zeros((B, H)))
    _, second = run(stack, (start,), xs[2:])
    assert_close(hs, jnp.concatenate([first, second]))


@pytest.mark.parametrize(
    ("reset_state", "message"),
    [
        ("zeros", "reset_state is a str, but must be an array"),
        ((jnp.zeros(H),), "reset_state is a tuple, but must be a pytree like the state"),
    ],
)
@pytest.mark.parametrize("run", [gru_jax.gru_unroll, partial(gru_jax.unroll, gru_jax.gru_step)])
def test_wrong_kinds_of_reset_state_raise(run, reset_state, message):
    with pytest.raises(ValueError, match=message):
        run(random_params(), *random_inputs(), resets=RESETS, reset_state=reset_state)
