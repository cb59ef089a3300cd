"""The scan tuned for CPU: chunks of long and wide sequences, single rows, memory.

What `gru_unroll` does on every platform is tested elsewhere; these tests look at programs that
are compiled for CPU.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close, random_flags, random_inputs, random_params, weighted_sum
from test_gru_unroll import RESETS, gradients, plain

import gru_jax
from gru_jax.recurrence.cpu import is_single_row_and_large

SAVE = pytest.mark.parametrize("save", ["gates", "states", "chunks"])
WIDE = {"batch": (32,), "hidden": 128}  # 2^16 numbers are 16 steps
LONG = 83  # five chunks of 16 steps and three steps left


def problem(reset="before", steps=LONG, **shapes):
    shapes = WIDE | shapes
    params = random_params(reset=reset, hidden=shapes["hidden"])
    return params, *random_inputs(steps=steps, **shapes)


def with_(save):
    return partial(gru_jax.gru_unroll, save=save)


def loss(unroll, params, h0, xs, **keywords):
    return weighted_sum(unroll(params, h0, xs, **keywords))


def compiled_in_chunks(function, *arguments):
    """The compiled function, which has loops within loops."""
    lowered = jax.jit(function).lower(*arguments)
    assert lowered.as_text().count("stablehlo.while") > 2
    return lowered.compile()


def flags_of(names, **shapes):
    return {
        name: random_flags(seed, probability=0.8, **shapes)
        for seed, name in enumerate(names.split())
    }


@cache  # compiled once for every `save`
def gradients_of_plain_scan(reset, steps, reverse, names):
    flags = flags_of(names, steps=steps, batch=(32,))
    return gradients(plain, problem(reset, steps), reverse=reverse, **flags)


@RESETS
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("steps", "flags"), [(80, ""), (LONG, "mask resets")])
@SAVE
def test_gradients_in_chunks_match_plain_scan(reset, save, reverse, flags, steps):
    arguments = problem(reset, steps)
    keywords = flags_of(flags, steps=steps, batch=(32,))
    function = partial(loss, with_(save), reverse=reverse, **keywords)
    gradient = compiled_in_chunks(jax.value_and_grad(function, argnums=(0, 1, 2)), *arguments)
    expected = gradients_of_plain_scan(reset, steps, reverse, flags)
    # the weights' gradients are sums of 1600 terms in another order
    assert_close(gradient(*arguments), expected, rtol=1e-4, atol=1e-4)


@RESETS
def test_outputs_in_chunks_match_plain_scan(reset):
    """Where nothing is differentiated chunks are longer."""
    shapes = {"batch": (256,), "hidden": 256}  # 2^20 numbers are 16 steps
    keywords = flags_of("mask resets", steps=LONG, batch=(256,)) | {"reverse": True}
    arguments = problem(reset, **shapes)
    fast = compiled_in_chunks(partial(gru_jax.gru_unroll, **keywords), *arguments)
    expected = jax.jit(partial(plain, **keywords))(*arguments)
    assert_close(fast(*arguments), expected, atol=1e-5)


@cache  # compiled once for every `save`
def higher_derivatives(reset, save=None):
    """Forward mode, forward over reverse, and reverse over reverse, in one direction."""
    arguments = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), problem(reset))
    gradient = jax.value_and_grad(
        partial(loss, plain if save is None else with_(save)), argnums=(0, 1, 2)
    )
    direction = jax.tree.map(jnp.sin, arguments)

    def slope(*arguments):
        along = jax.tree.map(jnp.vdot, gradient(*arguments)[1], direction)
        return sum(jax.tree.leaves(along))

    @jax.jit
    def derivatives(*arguments):
        return jax.jvp(gradient, arguments, direction), jax.grad(slope)(*arguments)

    return derivatives(*arguments)


@RESETS
@SAVE
def test_higher_derivatives_in_chunks_match_plain_scan(reset, save):
    with jax.enable_x64(True):
        actual, expected = higher_derivatives(reset, save), higher_derivatives(reset)
        assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@RESETS
@pytest.mark.parametrize("save", ["gates", "states"])
def test_vmap_in_chunks_matches_plain_scan(reset, save):
    """Over two batches, each of which is wide enough for chunks."""
    params, h0, xs = problem(reset)
    h0, xs = jnp.stack([h0, 2 * h0]), jnp.stack([xs, 2 * xs], 1)
    mapped = jax.vmap(with_(save), in_axes=(None, 0, 1), out_axes=(0, 1))

    def gradient(unroll, *arguments):
        function = jax.grad(lambda *args: jnp.sum(unroll(*args)[1] ** 2), argnums=(0, 1, 2))
        return jax.jit(function)(*arguments)

    flat = h0.reshape(-1, *h0.shape[2:]), xs.reshape(len(xs), -1, *xs.shape[3:])
    expected = gradient(plain, params, *flat)
    actual = gradient(mapped, params, h0, xs)
    assert_close(
        jax.tree.map(lambda a, e: a.reshape(e.shape), actual, expected),
        expected,
        rtol=1e-4,
        atol=1e-3,  # the weights' gradients are sums of 3300 terms, up to 500 in all
    )


def test_mixed_precision_in_chunks():
    """bfloat16 weights and inputs, float32 state: errors of bfloat16's size, not more."""
    params, h0, xs = problem("after")
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    exact = gradients(plain, (jax.tree.map(lambda n: n.astype(jnp.float32), narrow), h0, xs))
    (value, (d_params, d_h0, _)) = gradients(
        gru_jax.gru_unroll, (narrow, h0, xs.astype(jnp.bfloat16))
    )
    assert (value.dtype, d_h0.dtype, d_params.w_h.dtype) == ("float32", "float32", "bfloat16")
    difference = np.abs(d_params.w_h.astype(jnp.float32) - exact[1][0].w_h)
    assert np.max(difference) < 0.02 * np.max(np.abs(exact[1][0].w_h))


def temporary_bytes(function, *arguments):
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def last_state(unroll, params, h0, xs):
    return jnp.sum(unroll(params, h0, xs)[0])


def test_memory_of_residuals():
    arguments = problem(steps=1024)
    one_array = 4 * 1024 * 32 * 128
    used = {
        save: temporary_bytes(jax.grad(partial(last_state, with_(save))), *arguments)
        for save in ("gates", "states", "chunks")
    }
    assert 4 * one_array < used["gates"] < 6 * one_array
    assert one_array < used["states"] < 2 * one_array
    assert used["chunks"] < 0.5 * one_array


@RESETS
def test_memory_of_gradients_under_vmap(reset):
    """The gradients of shared weights are never held per example, as an array [B, H, 3H]."""
    params, h0, xs = problem(reset, steps=6, batch=(512,))

    def total(params, h0, xs):
        mapped = jax.vmap(gru_jax.gru_unroll, in_axes=(None, 0, 1), out_axes=(0, 1))
        return jnp.sum(mapped(params, h0, xs)[1])

    per_example = 4 * 512 * 128 * 3 * 128
    assert temporary_bytes(jax.grad(total), params, h0, xs) < 0.5 * per_example


@RESETS
@pytest.mark.parametrize("save", ["gates", "states"])
@pytest.mark.parametrize("hidden", [256, 257])
def test_products_of_a_single_row_in_halves(reset, save, hidden):
    """Odd sizes are not halved."""
    arguments = problem(reset, steps=3, batch=(1,), hidden=hidden)
    assert is_single_row_and_large(arguments[1], arguments[0].w_h) == (hidden % 2 == 0)

    def whole(params, h0, xs):
        h_last, hs = plain(params, h0[0], xs[:, 0])
        return h_last[None], hs[:, None]

    actual, expected = (gradients(unroll, arguments) for unroll in (with_(save), whole))
    assert_close(actual, expected, rtol=1e-5, atol=1e-5)
