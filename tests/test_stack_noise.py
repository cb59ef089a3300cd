"""Dropout and zoneout in stacks: what is drawn when, what is scaled, and what evaluation gives.

With given draws, `gru_unroll` is compared with the oracle in test_contract.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from common import B, assert_close, random_inputs, random_params, random_stack
from jax.extend.core import jaxprs_in_params

import gru_jax
from gru_jax import Bidirectional, GRUStack
from gru_jax.recurrence.platforms import IMPLEMENTATIONS


def gradient_of_inputs(stack, xs, **noise):
    run = partial(gru_jax.gru_stack_unroll, stack, None, **noise)
    return jax.jit(jax.grad(lambda xs: jnp.sum(run(xs)[1])))(xs)


def test_input_dropout_is_constant_over_time():
    stack, _ = random_stack(bidirectional=False, sizes=(7,))
    _, xs = random_inputs(steps=20)
    dropped = gradient_of_inputs(stack, xs, input_dropout=0.5, key=jax.random.key(0)) == 0
    assert jnp.all(dropped == dropped[:1])
    assert 0 < jnp.mean(dropped) < 1


def test_dropout_of_inputs_of_higher_layers():
    identity = jnp.eye(3, 9, k=6) * 100  # z is near 1, so that the first layer returns sign(x)
    stack = GRUStack(
        (
            gru_jax.GRUParams(identity, jnp.zeros((3, 9)), jnp.repeat(jnp.array([50.0, 0, 0]), 3)),
            gru_jax.GRUParams(
                identity / 1e4, jnp.zeros((3, 9)), jnp.repeat(jnp.array([50.0, 0, 0]), 3)
            ),
        )
    )
    xs = jnp.ones((40, 25, 3))
    _, hs = gru_jax.gru_stack_unroll(stack, None, xs, dropout=0.25, key=jax.random.key(0))
    values = np.unique(np.round(hs, 5))
    np.testing.assert_allclose(values, [0, np.tanh(0.01 / 0.75)], atol=2e-5)
    assert abs(float(jnp.mean(hs == 0)) - 0.25) < 0.03  # 3000 draws, σ = 0.008
    assert jnp.any(hs[0] != hs[1])


def test_recurrent_dropout_and_zoneout():
    stack, h0s = random_stack(bidirectional=False, sizes=(50,))
    _, xs = random_inputs(steps=20)
    key = jax.random.key(0)
    whole = gru_jax.gru_stack_unroll(stack, h0s, xs)[1]
    dropped = gru_jax.gru_stack_unroll(stack, h0s, xs, recurrent_dropout=0.3, key=key)[1]
    assert jnp.max(jnp.abs(dropped - whole)) > 0.01
    _, kept = gru_jax.gru_stack_unroll(stack, h0s, xs, zoneout=0.3, key=key)
    unchanged = jnp.mean(kept[1:] == kept[:-1])
    assert abs(float(unchanged) - 0.3) < 0.03  # 3800 draws, σ = 0.0075
    for noise in ({"input_dropout": 0.3}, {"recurrent_dropout": 0.3}):
        assert_close(gru_jax.gru_stack_unroll(stack, h0s, xs, **noise)[1], whole, rtol=0, atol=0)


def test_zoneout_without_key_is_its_expectation():
    stack, h0s = random_stack(bidirectional=False, sizes=(7,))
    h0, xs = h0s[0], random_inputs()[1]
    _, hs = gru_jax.gru_stack_unroll(stack, h0s, xs, zoneout=0.25)
    h = h0
    for x, actual in zip(xs, hs, strict=True):
        h = 0.25 * h + 0.75 * gru_jax.gru_step(stack.layers[0], h, x)
        assert_close(actual, h)


def test_noise_depends_on_key_and_direction():
    params = random_params()
    stack = GRUStack((Bidirectional(params, params),))
    _, xs = random_inputs(steps=1)
    noise = {"recurrent_dropout": 0.5, "zoneout": 0.5}
    h0s = (Bidirectional(jnp.ones((B, 7)), jnp.ones((B, 7))),)
    run = jax.jit(lambda key: gru_jax.gru_stack_unroll(stack, h0s, xs, **noise, key=key)[1])
    first, again, other = run(jax.random.key(0)), run(jax.random.key(0)), run(jax.random.key(1))
    assert jnp.array_equal(first, again)
    assert not jnp.array_equal(first, other)
    assert not jnp.array_equal(*jnp.split(first, 2, axis=-1))


def products_in_loops(jaxpr, inside=False):
    """The shapes of the products inside scans, in a jaxpr and all jaxprs within it."""
    shapes = []
    for equation in jaxpr.eqns:
        if inside and equation.primitive.name == "dot_general":
            shapes.append(equation.outvars[0].aval.shape)
        loop = inside or equation.primitive.name == "scan"
        for below in jaxprs_in_params(equation.params):
            shapes += products_in_loops(below, loop)
    return shapes


def test_noise_adds_no_products_to_the_loops():
    """One per step and direction, in the implementation of each platform, and no gradient's."""
    stack, h0s = random_stack("after", bidirectional=False, sizes=(7,))
    _, xs = random_inputs()
    noise = {"recurrent_dropout": 0.5, "zoneout": 0.5, "input_dropout": 0.5}

    def loss(stack, **noise):
        return jnp.sum(gru_jax.gru_stack_unroll(stack, h0s, xs, **noise)[1])

    quiet, noisy = (
        products_in_loops(jax.make_jaxpr(jax.grad(lambda s, kw=kw: loss(s, **kw)))(stack).jaxpr)
        for kw in ({}, {**noise, "key": jax.random.key(0)})
    )
    assert sorted(quiet) == sorted(noisy)
    assert len(noisy) == 2 * len({*IMPLEMENTATIONS, "others"})
