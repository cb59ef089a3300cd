"""`gru_unroll` beside its plain twin `unroll(gru_step, ...)`: values, derivatives, transformations.

The oracle, masks, resets, lengths and refusals of both are in test_scan.py; long and wide
sequences, memory and what is compiled for which device in test_tangent.py.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_flags, random_inputs, random_params
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

import gru_jax

RESETS = pytest.mark.parametrize("reset", ["before", "after"])
twin = partial(gru_jax.unroll, gru_jax.gru_step)


def loss(unroll, params, h0, xs, mask=None, resets=None, reverse=False):
    """Weighs every output differently, so that no error can cancel."""
    h_last, hs = unroll(params, h0, xs, mask=mask, resets=resets, reverse=reverse)
    return jnp.sum(jnp.sin(jnp.arange(hs.size, dtype=hs.dtype).reshape(hs.shape)) * hs) + jnp.sum(
        h_last**2
    )


def assert_twins(params, h0, xs, tolerance, **keywords):
    """Values and the gradients with respect to everything, `reverse` and flags as given."""
    actual, expected = (
        jax.jit(jax.value_and_grad(partial(loss, unroll, **keywords), argnums=(0, 1, 2)))(
            params, h0, xs
        )
        for unroll in (gru_jax.gru_unroll, twin)
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@RESETS
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("flags", ["", "mask", "resets", "mask resets"])
@pytest.mark.parametrize("reverse", [False, True])
def test_twin(reset, bias, flags, reverse):
    params = random_params(reset=reset, bias=bias)
    keywords = {name: random_flags(seed) for seed, name in enumerate(flags.split())}
    # sums in another order: a few units in the last place, times the T steps they pass through
    assert_twins(params, *random_inputs(), tolerance=1e-5, reverse=reverse, **keywords)


@RESETS
@pytest.mark.parametrize(
    ("weights", "state", "tolerance"),
    [
        ("float64", "float64", 1e-13),
        # two units in the last of bfloat16's 8 bits; four where every sum is rounded to them, too
        ("bfloat16", "bfloat16", 2e-2),
        ("bfloat16", "float32", 1e-2),
    ],
)
def test_twin_in_other_precisions(reset, weights, state, tolerance):
    with jax.enable_x64(weights == "float64"):
        params = random_params(reset=reset, dtype=jnp.dtype(weights))
        h0, xs = random_inputs(dtype=jnp.dtype(weights))
        keywords = {"mask": random_flags(1), "resets": random_flags(2)}
        assert_twins(params, h0.astype(state), xs, tolerance, **keywords)


@RESETS
@pytest.mark.parametrize("unroll", [gru_jax.gru_unroll, twin], ids=["gru_unroll", "unroll"])
def test_finite_differences(reset, unroll):
    """First derivatives in both modes, and second ones, against central differences."""
    with jax.enable_x64(True):
        params = random_params(reset=reset, dtype=np.float64)
        h0, xs = random_inputs(dtype=np.float64)
        keywords = {"mask": random_flags(1), "resets": random_flags(2, probability=0.2)}
        function = jax.jit(partial(loss, unroll, **keywords))
        check_grads(function, (params, h0, xs), order=2, modes=("fwd", "rev"), rtol=1e-5, atol=1e-5)


@RESETS
def test_jit_changes_nothing(reset):
    params = random_params(reset=reset)
    h0, xs = random_inputs()
    with jax.disable_jit():
        eager = gru_jax.gru_unroll(params, h0, xs)
    assert_close(jax.jit(gru_jax.gru_unroll)(params, h0, xs), eager)


@RESETS
@pytest.mark.parametrize("reverse", [False, True])
def test_vmap_over_the_batch(reset, reverse):
    """The caller may write vmap over unbatched calls instead of a batch axis, flags and all."""
    params = random_params(reset=reset)
    h0, xs = random_inputs()
    mask, resets = random_flags(1), random_flags(2)

    def one(params, h0, xs, mask, resets):
        return gru_jax.gru_unroll(params, h0, xs, mask=mask, resets=resets, reverse=reverse)

    mapped = jax.vmap(one, in_axes=(None, 0, 1, 1, 1), out_axes=(0, 1))
    assert_close(mapped(params, h0, xs, mask, resets), one(params, h0, xs, mask, resets))


@RESETS
@pytest.mark.parametrize("save", ["gates", "states", "chunks"])
def test_vmap_is_one_more_batch_axis(reset, save):
    """It gives the same program, operation by operation, mapped twice or through a jit, too."""
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

    def total(value):
        h_last, hs = gru_jax.gru_unroll(params, **{"h0": h0, "xs": xs, mapped: value})
        return jnp.sum(h_last) + jnp.sum(hs**2)

    assert_close(jax.vmap(total)(many[mapped]), jnp.stack([total(row) for row in many[mapped]]))


def test_vmap_over_an_ensemble():
    members = [random_params(seed) for seed in range(3)]
    h0, xs = random_inputs()
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    actual = jax.vmap(gru_jax.gru_unroll, in_axes=(0, None, None))(stacked, h0, xs)
    for i, member in enumerate(members):
        assert_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], actual), gru_jax.gru_unroll(member, h0, xs)
        )


@RESETS
def test_per_example_gradients(reset):
    params = random_params(reset=reset)
    h0, xs = random_inputs()
    gradient = jax.grad(partial(loss, gru_jax.gru_unroll))
    per_example = jax.vmap(gradient, in_axes=(None, 0, 1))(params, h0, xs)
    for row in range(B):
        one = gradient(params, h0[row], xs[:, row])
        assert_close(jax.tree.map(lambda leaf, row=row: leaf[row], per_example), one, atol=1e-5)


@RESETS
def test_jacobians_and_hessian(reset):
    params = random_params(reset=reset)
    h0, xs = random_inputs(batch=())

    def last(unroll):
        return lambda h0: unroll(params, h0, xs)[0]

    def energy(unroll):
        return lambda h0: jnp.sum(unroll(params, h0, xs)[0] ** 2)

    forward, backward = jax.jacfwd(last(gru_jax.gru_unroll)), jax.jacrev(last(twin))
    assert_close(forward(h0), backward(h0), atol=1e-5)
    assert_close(
        jax.hessian(energy(gru_jax.gru_unroll))(h0), jax.hessian(energy(twin))(h0), atol=1e-5
    )


def test_checkpoint_changes_no_gradient():
    params = random_params()
    h0, xs = random_inputs()
    function = partial(loss, gru_jax.gru_unroll)
    assert_close(
        jax.grad(jax.checkpoint(function))(params, h0, xs), jax.grad(function)(params, h0, xs)
    )


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
def test_saturated_gates_give_finite_gradients(reset):
    params = jax.tree.map(lambda leaf: 1e4 * leaf, random_params(reset=reset))
    h0, xs = random_inputs()
    gradients = jax.grad(partial(loss, gru_jax.gru_unroll), argnums=(0, 1, 2))(params, h0, xs)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


# Properties that hold for every input. A fixed set of shapes bounds the number of compilations.

properties = settings(max_examples=25, deadline=None, derandomize=True, database=None)
run = jax.jit(gru_jax.gru_unroll, static_argnames="reverse")
RESET = st.sampled_from(["before", "after"])
SEED = st.integers(0, 2**32 - 1)


@properties
@given(RESET, SEED, st.integers(0, T))
def test_chunked_equals_whole(reset, seed, cut):
    params = random_params(seed, reset=reset)
    h0, xs = random_inputs(seed)
    mask = random_flags(seed)
    h_cut, first = run(params, h0, xs[:cut], mask=mask[:cut])
    h_last, second = run(params, h_cut, xs[cut:], mask=mask[cut:])
    assert_close((h_last, jnp.concatenate([first, second])), run(params, h0, xs, mask=mask))


@properties
@given(RESET, SEED, st.integers(1, T - 1))
def test_packed_with_resets_equals_apart(reset, seed, cut):
    params = random_params(seed, reset=reset)
    h0, xs = random_inputs(seed)
    resets = jnp.zeros((T, B), bool).at[cut].set(True)
    _, first = run(params, h0, xs[:cut])
    h_last, second = run(params, jnp.zeros_like(h0), xs[cut:])
    assert_close((h_last, jnp.concatenate([first, second])), run(params, h0, xs, resets=resets))


@properties
@given(RESET, SEED, st.integers(0, T), st.booleans())
def test_masked_padding_equals_shorter(reset, seed, length, reverse):
    params = random_params(seed, reset=reset)
    h0, xs = random_inputs(seed)
    mask = gru_jax.sequence_mask(jnp.full(B, length), T)
    h_last, hs = run(params, h0, xs, mask=mask, reverse=reverse)
    assert_close((h_last, hs[:length]), run(params, h0, xs[:length], reverse=reverse))
    assert not np.any(hs[length:])


@properties
@given(RESET, SEED)
def test_reverse_equals_flipped(reset, seed):
    params = random_params(seed, reset=reset)
    h0, xs = random_inputs(seed)
    mask, resets = random_flags(seed), random_flags(seed + 1)
    h_last, hs = run(params, h0, xs[::-1], mask=mask[::-1], resets=resets[::-1])
    assert_close(run(params, h0, xs, mask=mask, resets=resets, reverse=True), (h_last, hs[::-1]))


@properties
@given(RESET, SEED)
def test_states_stay_between_the_candidate_and_the_first_state(reset, seed):
    """h' is a mean of h and tanh(·): |h_t| never exceeds max(1, |h_0|)."""
    params = jax.tree.map(lambda leaf: 10 * leaf, random_params(seed, reset=reset))
    h0, xs = random_inputs(seed)
    _, hs = run(params, h0, xs)
    assert np.all(np.abs(hs) <= np.maximum(1, np.abs(h0)) + 1e-6)
