"""Calls outside `jax.jit`: what is traced and compiled once, and what again in every call."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from common import B, H, I, assert_close, random_flags, random_inputs, random_params
from contract import CELLS, each_cell, random_problem

import gru_jax

GRU = random_params(reset="after")


@pytest.fixture
def compilations():
    """Counts the programs that XLA compiles, or JAX takes from its persistent cache."""
    seen = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(seen)
    jax.monitoring.unregister_event_duration_listener(listen)


@each_cell()
def test_repeated_calls_outside_jit_do_not_compile(cell, compilations):
    (params, h0, xs), step = random_problem(cell), CELLS[cell].step
    stack = gru_jax.init_gru_stack(jax.random.key(0), I, (H, H), bidirectional=True)
    mask = random_flags(1)
    head = gru_jax.init_readout(jax.random.key(1), H, I)

    def tokens():
        def own_step(params, h, token):
            h = step(params[0], h, jax.nn.one_hot(token, I))
            return h, gru_jax.readout(params[1], jax.tree.leaves(h)[0])

        prompt = jnp.array([[1] * B, [2] * B])
        return gru_jax.generate(jax.random.key(2), own_step, (params, head), h0, prompt, 3)

    def loss():
        def own_loss(params, h, xs):
            h, hs = gru_jax.unroll(step, params, h, xs)
            return jnp.sum(jax.tree.leaves(hs)[0]), h

        return gru_jax.chunked_loss(own_loss, params, h0, xs, 2)

    def everything():
        results = [gru_jax.unroll(step, params, h0, xs, mask=mask), tokens(), loss()]
        results.append(gru_jax.unroll(lambda p, h, x: step(p, h, x), params, h0, xs))
        if cell.startswith("gru"):
            results.append(gru_jax.gru_unroll(params, h0, xs, mask=mask))
            results.append(jax.grad(lambda p: jnp.sum(gru_jax.gru_unroll(p, h0, xs)[1]))(params))
            results.append(gru_jax.gru_stack_unroll(stack, None, xs, mask=mask, zoneout=0.1))
        if cell == "min_gru":
            results.append(gru_jax.min_gru_unroll(params, h0, xs, mask=mask))
        return results

    first = everything()
    before = compilations()
    assert before > 0
    assert_close(everything(), first, rtol=0, atol=0)
    assert compilations() == before


def test_captured_values_may_change():
    """A step that captures what may change is traced again."""
    h0, xs = random_inputs()

    class Model:
        scale = 1.0

        def step(self, params, h, x):
            return self.scale * gru_jax.gru_step(params, h, x)

    model, scale, weights, numbers = Model(), 1.0, jnp.ones(()), {"scale": 1.0}

    def attribute():
        return None

    attribute.scale = 1.0

    @jax.custom_jvp
    def scaled(x):
        return x * numbers["scale"]

    scaled.defjvps(lambda t, ans, x: t)

    def by_closure(params, h, x):
        return scale * gru_jax.gru_step(params, h, x)

    steps = [
        model.step,
        by_closure,
        lambda p, h, x: weights * gru_jax.gru_step(p, h, x),
        lambda p, h, x: numbers["scale"] * gru_jax.gru_step(p, h, x),
        lambda p, h, x: model.step(p, h, x),
        partial(model.step),
        lambda p, h, x: Model.scale * gru_jax.gru_step(p, h, x),
        lambda p, h, x: attribute.scale * gru_jax.gru_step(p, h, x),
        lambda p, h, x: scaled(gru_jax.gru_step(p, h, x)),
    ]
    ones = [gru_jax.unroll(step, GRU, h0, xs)[0] for step in steps]
    model.scale, scale, weights, numbers["scale"] = 0.0, 0.0, jnp.zeros(()), 0.0
    Model.scale = attribute.scale = 0.0
    zeros = [gru_jax.unroll(step, GRU, h0, xs)[0] for step in steps]
    for one, zero in zip(ones, zeros, strict=True):
        assert jnp.any(one != 0)
        assert not jnp.any(zero)
