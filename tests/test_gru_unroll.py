"""`gru_unroll`: transformations, saturation, short sequences, and properties of every input.

What it shares with other implementations is in test_contract*.py; chunks on CPU are in
test_cpu_tuning.py.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    B,
    H,
    I,
    T,
    assert_close,
    random_flags,
    random_inputs,
    random_params,
    weighted_sum,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import gru_jax

RESETS = pytest.mark.parametrize("reset", ["before", "after"])
plain = partial(gru_jax.unroll, gru_jax.gru_step)


def gradients(unroll, arguments, **keywords):
    """Value and gradients of a sum that weighs every output differently."""

    def loss(params, h0, xs):
        return weighted_sum(unroll(params, h0, xs, **keywords))

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*arguments)


@RESETS
@pytest.mark.parametrize("save", ["gates", "states", "chunks"])
def test_vmap_gives_the_program_of_a_batch_axis(reset, save):
    """It gives the same program, operation by operation, also mapped twice or through a jit."""
    params = random_params(reset=reset)
    h0, xs = random_inputs(batch=(B, 2))
    run = partial(gru_jax.gru_unroll, save=save)

    def program(run):
        gradient = jax.grad(lambda *args: jnp.sum(run(*args)[1] ** 2), argnums=(0, 1, 2))
        return str(jax.make_jaxpr(gradient)(params, h0, xs))

    def mapped(run):
        return jax.vmap(run, in_axes=(None, 0, 1), out_axes=(0, 1))

    assert program(mapped(run)) == program(run)
    assert program(mapped(mapped(run))) == program(run)
    through_jit = program(mapped(jax.jit(run)))
    assert through_jit.count("scan[") == program(run).count("scan[")
    assert through_jit.count("transpose[") == program(run).count("transpose[")


@pytest.mark.parametrize("mapped", ["h0", "xs", "mask", "resets", "state_scale", "unit_mask"])
def test_vmap_over_one_argument(mapped):
    """The others are shared by all rows."""
    params = random_params()
    h0, xs = random_inputs(batch=())
    many = {
        "h0": random_inputs()[0],
        "xs": random_inputs()[1].swapaxes(0, 1),
        "mask": random_flags(1).T,
        "resets": random_flags(2).T,
        "state_scale": random_inputs()[0],
        "unit_mask": jax.random.bernoulli(jax.random.key(3), 0.5, (B, len(xs), *h0.shape)),
    }

    @jax.jit
    def total(value):
        h_last, hs = gru_jax.gru_unroll(params, **{"h0": h0, "xs": xs, mapped: value})
        return jnp.sum(h_last) + jnp.sum(hs**2)

    expected = jnp.stack([total(row) for row in many[mapped]])
    assert_close(jax.jit(jax.vmap(total))(many[mapped]), expected)


@RESETS
@pytest.mark.parametrize("steps", [2, 3, 10])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_few_checkpoints_match_plain_scan(reset, steps, reverse):
    """√T of the states are kept, whether or not T is a square or a multiple."""
    arguments = random_params(reset=reset), *random_inputs(steps=steps)
    keywords = {"mask": random_flags(1, steps=steps), "resets": random_flags(2, steps=steps)}
    chunks = partial(gru_jax.gru_unroll, save="chunks")
    actual, expected = (
        gradients(unroll, arguments, reverse=reverse, **keywords) for unroll in (chunks, plain)
    )
    assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@RESETS
def test_jacobians_and_hessian(reset):
    params = random_params(reset=reset)
    h0, xs = random_inputs(batch=())

    @partial(jax.jit, static_argnums=0)
    def derivatives(unroll, h0):
        def last(h0):
            return unroll(params, h0, xs)[0]

        hessian = jax.hessian(lambda h0: jnp.sum(last(h0) ** 2))
        return jax.jacfwd(last)(h0), jax.jacrev(last)(h0), hessian(h0)

    actual, expected = (derivatives(unroll, h0) for unroll in (gru_jax.gru_unroll, plain))
    assert_close(actual, expected, atol=1e-5)
    assert_close(actual[0], actual[1], atol=1e-5)


def test_gradients_of_checkpoint():
    params = random_params()
    h0, xs = random_inputs()
    rematerialised = jax.checkpoint(gru_jax.gru_unroll)
    actual, expected = (
        gradients(unroll, (params, h0, xs)) for unroll in (rematerialised, gru_jax.gru_unroll)
    )
    assert_close(actual, expected)


def test_eval_shape():
    params = jax.eval_shape(
        partial(gru_jax.init_gru, input_size=I, hidden_size=H), jax.random.key(0)
    )
    h0, xs = jax.ShapeDtypeStruct((B, H), jnp.float32), jax.ShapeDtypeStruct((T, B, I), jnp.float32)
    h_last, hs = jax.eval_shape(gru_jax.gru_unroll, params, h0, xs)
    assert (h_last.shape, hs.shape, hs.dtype) == ((B, H), (T, B, H), jnp.float32)


def test_one_trace_per_shape():
    chex.clear_trace_counter()
    function = jax.jit(chex.assert_max_traces(gru_jax.gru_unroll, n=2))
    for steps in (T, T, T + 1, T + 1):
        for seed in range(3):
            h0, xs = random_inputs(seed, steps=steps)
            function(random_params(seed), h0, xs)


@RESETS
def test_gradients_of_saturated_gates_are_finite(reset):
    params = jax.tree.map(lambda leaf: 1e4 * leaf, random_params(reset=reset))
    h0, xs = random_inputs()
    results = gradients(gru_jax.gru_unroll, (params, h0, xs))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(results))


def test_unknown_save_raises():
    params, h0, xs = random_params(), *random_inputs()
    with pytest.raises(ValueError, match=r"save is 'everything', but must be one of 'gates', "):
        gru_jax.gru_unroll(params, h0, xs, save="everything")


# Properties that hold for every input. A fixed set of shapes bounds the number of compilations.

properties = settings(max_examples=25, deadline=None, derandomize=True, database=None)
run = jax.jit(gru_jax.gru_unroll, static_argnames="reverse")
RESET = st.sampled_from(["before", "after"])
SEED = st.integers(0, 2**32 - 1)


@properties
@given(RESET, SEED, st.integers(0, T))
def test_split_sequence_matches_whole(reset, seed, cut):
    params = random_params(seed, reset=reset)
    h0, xs = random_inputs(seed)
    mask = random_flags(seed)
    h_cut, first = run(params, h0, xs[:cut], mask=mask[:cut])
    h_last, second = run(params, h_cut, xs[cut:], mask=mask[cut:])
    assert_close((h_last, jnp.concatenate([first, second])), run(params, h0, xs, mask=mask))


@properties
@given(RESET, SEED, st.integers(1, T - 1))
def test_packed_episodes_match_separate_sequences(reset, seed, cut):
    params = random_params(seed, reset=reset)
    h0, xs = random_inputs(seed)
    resets = jnp.zeros((T, B), bool).at[cut].set(True)
    _, first = run(params, h0, xs[:cut])
    h_last, second = run(params, jnp.zeros_like(h0), xs[cut:])
    assert_close((h_last, jnp.concatenate([first, second])), run(params, h0, xs, resets=resets))


@properties
@given(RESET, SEED, st.integers(0, T), st.booleans())
def test_masked_padding_matches_shorter_sequence(reset, seed, length, reverse):
    params = random_params(seed, reset=reset)
    h0, xs = random_inputs(seed)
    mask = gru_jax.sequence_mask(jnp.full(B, length), T)
    h_last, hs = run(params, h0, xs, mask=mask, reverse=reverse)
    assert_close((h_last, hs[:length]), run(params, h0, xs[:length], reverse=reverse))
    assert not np.any(hs[length:])


@properties
@given(RESET, SEED)
def test_reverse_matches_flipped_sequence(reset, seed):
    params = random_params(seed, reset=reset)
    h0, xs = random_inputs(seed)
    mask, resets = random_flags(seed), random_flags(seed + 1)
    h_last, hs = run(params, h0, xs[::-1], mask=mask[::-1], resets=resets[::-1])
    assert_close(run(params, h0, xs, mask=mask, resets=resets, reverse=True), (h_last, hs[::-1]))


@properties
@given(RESET, SEED)
def test_states_are_bounded(reset, seed):
    """h' is a mean of h and tanh(·): |h_t| never exceeds max(1, |h_0|)."""
    params = jax.tree.map(lambda leaf: 10 * leaf, random_params(seed, reset=reset))
    h0, xs = random_inputs(seed)
    _, hs = run(params, h0, xs)
    assert np.all(np.abs(hs) <= np.maximum(1, np.abs(h0)) + 1e-6)
