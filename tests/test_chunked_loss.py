"""`chunked_loss`: the values and derivatives of the whole sequence, in the memory of one chunk."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    B,
    H,
    I,
    assert_close,
    random_flags,
    random_inputs,
    random_params,
    random_stack,
    randomised,
    weighted_sum,
)
from jax.sharding import PartitionSpec as P

import gru_jax

LENGTH = 11
CHUNKS = [1, 4, 50, None]  # of which 1 and 50 leave no rest


def weighted(hs, weights):
    """Every step has another weight, so that no chunk can take the place of another."""
    return sum(jnp.sum(weights[:, None, None] * h**2) for h in jax.tree.leaves(hs))


def gru_loss(params, h, chunk):
    h, hs = gru_jax.gru_unroll(params, h, chunk[0])
    return weighted(hs, chunk[1]), h


def lstm_loss(params, h, chunk):
    h, hs = gru_jax.unroll(gru_jax.lstm_step, params, h, chunk[0])
    return weighted(hs, chunk[1]), h


def rnn_loss(params, h, chunk):
    h, hs = gru_jax.unroll(gru_jax.rnn_step, params, h, chunk[0])
    return weighted(hs, chunk[1]), h


INIT = {lstm_loss: gru_jax.init_lstm, rnn_loss: gru_jax.init_rnn}


def problem(loss=rnn_loss, steps=LENGTH):
    params = randomised(INIT[loss](jax.random.key(0), I, H))
    h0 = randomised(gru_jax.zero_state(params, (B,)), 1)
    _, xs = random_inputs(steps=steps)
    return params, h0, (xs, jnp.sin(jnp.arange(steps, dtype=jnp.float32)))


def total(params, h0, xs, *, loss=rnn_loss, chunk=None):
    """A number that depends on the sum of the losses and on the last state."""
    value, h = gru_jax.chunked_loss(loss, params, h0, xs, chunk)
    return value + weighted_sum(h)


def whole(params, h0, xs, *, loss=rnn_loss):
    value, h = loss(params, h0, xs)
    return value + weighted_sum(h)


def gradient(f):
    return jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_it_is_the_loss_of_the_whole_sequence(chunk):
    """Values and gradients with respect to parameters, first state and inputs."""
    args = problem()
    found = gradient(partial(total, chunk=chunk))(*args)
    assert_close(found, gradient(whole)(*args), rtol=1e-5, atol=1e-5)


def test_it_takes_any_step_and_state():
    args = problem(lstm_loss)
    found = gradient(partial(total, loss=lstm_loss, chunk=4))(*args)
    assert_close(found, gradient(partial(whole, loss=lstm_loss))(*args), rtol=1e-5, atol=1e-5)


def test_it_takes_a_stack_with_masks_resets_and_a_learned_reset_state():
    stack, h0s = random_stack(bidirectional=False, sizes=(7,))
    _, xs = random_inputs(steps=LENGTH)
    masks, resets = (random_flags(seed, steps=LENGTH) for seed in (1, 2))
    targets = jnp.asarray(np.random.default_rng(3).normal(size=(LENGTH, B)), jnp.float32)

    def loss(params, hs, inputs):
        (stack, fresh), (xs, mask, resets, targets) = params, inputs
        hs, ys = gru_jax.gru_stack_unroll(
            stack, hs, xs, mask=mask, resets=resets, reset_state=fresh
        )
        errors = (jnp.sum(ys, axis=-1) - targets) ** 2
        return (jnp.sum(errors, where=mask), jnp.sum(mask, dtype=jnp.int32)), hs

    def mean(sums):
        return sums[0] / sums[1].astype(jnp.float32)

    def expected(params, hs):
        sums, hs = loss(params, hs, (xs, masks, resets, targets))
        return mean(sums), hs

    def found(params, hs):
        sums, hs = gru_jax.chunked_loss(loss, params, hs, (xs, masks, resets, targets), 3)
        assert sums[1].dtype == jnp.int32
        return mean(sums), hs

    fresh = jax.tree.map(lambda h: h[0], h0s)
    args = (stack, fresh), h0s
    (value, state), gradients = jax.jit(jax.value_and_grad(found, has_aux=True))(*args)
    expected_value, expected_gradients = jax.jit(jax.value_and_grad(expected, has_aux=True))(*args)
    assert_close((value, state), expected_value, rtol=1e-5, atol=1e-5)
    assert_close(gradients, expected_gradients, rtol=1e-5, atol=1e-5)
    assert jnp.any(gradients[1][0] != 0)


def test_derivatives_of_second_order():
    """Of the gradient, once in forward and once in reverse mode."""
    params, h0, xs = problem()
    direction = jax.tree.map(jnp.cos, params)

    def curvature(f):
        slope = jax.grad(lambda p: f(p, h0, xs))

        def both(p):
            forward = jax.jvp(slope, (p,), (direction,))[1]
            return forward, jax.grad(lambda p: weighted_sum(slope(p)))(p)

        return jax.jit(both)(params)

    chunked = partial(total, chunk=4)
    assert_close(curvature(chunked), curvature(whole), rtol=1e-4, atol=1e-4)


def test_vmap_over_rows_and_over_models():
    params, h0, (xs, weights) = problem()
    f = gradient(partial(total, chunk=4))
    places = (None, 0, (1, None))
    value, (_, of_h0, _) = jax.vmap(f, places)(params, h0[:, None], (xs[:, :, None], weights))
    (expected, (_, of_all, _)), last = f(params, h0, (xs, weights)), B - 1
    args = params, h0[last:], (xs[:, last:], weights)
    assert_close((value[last], of_h0[last]), (f(*args)[0], f(*args)[1][1]), rtol=1e-5, atol=1e-5)
    models = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), params)
    value, (_, of_h0, _) = jax.vmap(f, (0, None, None))(models, h0, (xs, weights))
    assert_close((value[0], of_h0[0]), (expected, of_all), rtol=1e-5, atol=1e-5)
    assert abs(value[1] - value[0]) > 1e-2


def test_chunks_nest():
    args = problem(steps=24)

    def nested(params, h, chunk):
        return gru_jax.chunked_loss(rnn_loss, params, h, chunk, 3)

    found = gradient(partial(total, loss=nested, chunk=9))(*args)
    assert_close(found, gradient(whole)(*args), rtol=1e-5, atol=1e-5)


def test_a_sequence_without_steps_has_no_loss_and_keeps_its_state():
    params, h0, xs = problem(steps=0)
    value, h = gru_jax.chunked_loss(rnn_loss, params, h0, xs)
    assert value == 0
    assert_close(h, h0, rtol=0, atol=0)
    gradients = jax.grad(lambda p: gru_jax.chunked_loss(rnn_loss, p, h0, xs)[0])(params)
    assert not any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradients))


def test_with_the_gradient_stopped_it_is_truncated_backpropagation():
    """The sum over chunks of the gradients that stop at a chunk's beginning."""
    params, h0, (xs, weights) = problem()

    def truncated(params, h, chunk):
        return rnn_loss(params, jax.lax.stop_gradient(h), chunk)

    @jax.jit
    @jax.grad
    def found(params):
        return gru_jax.chunked_loss(truncated, params, h0, (xs, weights), 4)[0]

    @jax.jit
    def expected(params):
        h, total = h0, jax.tree.map(jnp.zeros_like, params)
        for start in range(0, LENGTH, 4):
            chunk = xs[start : start + 4], weights[start : start + 4]
            gradients, h = jax.grad(rnn_loss, has_aux=True)(params, h, chunk)
            total = jax.tree.map(jnp.add, total, gradients)
        return total

    assert_close(found(params), expected(params), rtol=1e-5, atol=1e-5)


def test_memory_is_that_of_a_chunk():
    """Nothing grows with T but the states between chunks, of which the backward pass has two."""
    steps, chunk, hidden = 6400, 64, 32
    params, h0 = random_params(hidden=hidden), jnp.zeros((B, hidden))

    def temporary(steps):
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((steps, B, I), (steps,))]
        f = jax.jit(jax.grad(partial(total, loss=gru_loss, chunk=chunk)))
        return f.lower(params, h0, tuple(shapes)).compile().memory_analysis().temp_size_in_bytes

    state = h0.nbytes
    assert temporary(2 * steps) - temporary(steps) < 2 * (steps // chunk) * state
    assert temporary(steps) < steps * state / 5


def test_states_that_differ_between_devices_go_into_a_loop():
    """Under `shard_map` the first state may be the same everywhere, and the inputs not."""
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    params, h0, xs = problem()

    def f(params, xs):
        h0 = jnp.zeros((B, H))
        return total(params, h0, xs, chunk=4)[None]

    specs = P(), (P(None, "rows"), P())
    sharded = jax.jit(jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=P("rows")))
    expected = whole(params, jnp.zeros_like(h0), xs)
    assert_close(sharded(params, xs)[0], expected, rtol=1e-5)


def refused(message, **changes):
    params, h0, xs = problem()
    arguments = {"loss": rnn_loss, "params": params, "h0": h0, "xs": xs, "chunk": 3} | changes
    with pytest.raises(ValueError, match=message):
        gru_jax.chunked_loss(**arguments)


def test_bad_arguments_are_named():
    refused(r"loss is None, but must be a function \(params, h, xs\) -> \(loss, h'\)", loss=None)
    refused(r"chunk is 0, but must be at least 1", chunk=0)
    refused(r"h0 is None, but must be the first state", h0=None)
    refused(r"xs has leading axes", xs=(jnp.zeros((3, B, I)), jnp.zeros(4)))
    refused(r"loss returned a traced float32\[\], but must", loss=lambda p, h, x: jnp.sum(h))
    refused(r"loss returned .*, but must return a state", loss=lambda p, h, x: (0.0, h[0]))
    refused(r"loss is a str, but must be an array", loss=lambda p, h, x: ("no", h))


def test_a_dimension_variable_is_refused():
    params, h0, _ = problem()
    (steps,) = jax.export.symbolic_shape("T")
    shapes = (
        jax.ShapeDtypeStruct((steps, B, I), jnp.float32),
        jax.ShapeDtypeStruct((steps,), jnp.float32),
    )
    with pytest.raises(ValueError, match="xs has T = T steps, but must have a number of them"):
        jax.export.export(jax.jit(partial(gru_jax.chunked_loss, rnn_loss, params, h0)))(shapes)
