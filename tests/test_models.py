"""Many models at once: `jax.vmap` over weights, over gradients, and over both."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close, random_flags, random_inputs, random_params, weighted_sum
from jax.sharding import PartitionSpec as P

import gru_jax
from gru_jax.recurrence import cpu

pytestmark = pytest.mark.usefixtures("jax_defaults")

N, T, B = 3, 5, 4


def models(reset, hidden=7, steps=T):
    """Weights `[N, ...]`, first states `[N, B, H]` and inputs `[N, T, B, I]`."""
    params = [random_params(seed, reset=reset, hidden=hidden) for seed in range(N)]
    inputs = [random_inputs(seed, hidden=hidden, steps=steps) for seed in range(N)]
    h0, xs = zip(*inputs, strict=True)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params), jnp.stack(h0), jnp.stack(xs)


def plain(params, h0, xs, save=None, **options):
    return gru_jax.unroll(gru_jax.gru_step, params, h0, xs, **options)


def loss(run, params, h0, xs):
    return weighted_sum(run(params, h0, xs))


def flagged(run, **options):
    """With masks and resets, the same for all models."""
    mask, resets = random_flags(1, probability=0.7), random_flags(2)
    return partial(run, mask=mask, resets=resets, **options)


def gradient(f, *axes):
    return jax.vmap(jax.grad(f, argnums=(0, 1, 2)), in_axes=axes)


def row(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


TRANSFORMATIONS = {
    "over models": lambda f, p, h, x: gradient(f, 0, 0, 0)(p, h, x),
    "over models, other axes": lambda f, p, h, x: gradient(f, 0, 1, 2)(
        p, jnp.moveaxis(h, 0, 1), jnp.moveaxis(x, 0, 2)
    ),
    "over weights alone": lambda f, p, h, x: gradient(f, 0, None, None)(p, h[0], x[0]),
    "per example": lambda f, p, h, x: gradient(f, None, 0, 0)(row(p), h, x),
    "per example, by the inputs": lambda f, p, h, x: jax.vmap(
        jax.grad(f, argnums=2), in_axes=(None, 0, 0)
    )(row(p), h, x),
    "over models, by the inputs": lambda f, p, h, x: jax.vmap(jax.grad(f, argnums=2))(p, h, x),
    "over models, by the first state": lambda f, p, h, x: jax.vmap(jax.grad(f, argnums=1))(p, h, x),
    "models and examples": lambda f, p, h, x: jax.vmap(lambda q: gradient(f, None, 0, 0)(q, h, x))(
        p
    ),
    "of the sum": lambda f, p, h, x: jax.grad(
        lambda *args: jnp.sum(jax.vmap(f)(*args)), argnums=(0, 1, 2)
    )(p, h, x),
    "forward mode": lambda f, p, h, x: jax.vmap(jax.jacfwd(f, argnums=(0, 1, 2)))(p, h, x),
    "Hessian-vector products": lambda f, p, h, x: jax.vmap(
        lambda *args: jax.jvp(jax.grad(f, argnums=(0, 2)), args, args)
    )(p, h, x),
    "gradients of gradients": lambda f, p, h, x: jax.vmap(
        jax.grad(lambda *args: sum(map(jnp.vdot, *[jax.tree.leaves(jax.grad(f)(*args))] * 2)))
    )(p, h, x),
    "in a scan": lambda f, p, h, x: jax.lax.scan(
        lambda q, _: (
            jax.tree.map(lambda a, b: a - 0.1 * b, q, gradient(f, 0, 0, 0)(q, h, x)[0]),
            0,
        ),
        p,
        None,
        length=2,
    )[0],
}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("reset", ["before", "after"])
def test_derivatives_match_the_plain_scan(transformation, reset):
    transformed = TRANSFORMATIONS[transformation]
    arguments = models(reset)
    fast, slow = (
        jax.jit(partial(transformed, partial(loss, flagged(run))))(*arguments)
        for run in (gru_jax.gru_unroll, plain)
    )
    assert_close(fast, slow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("argnum", [0, 1, 2])
@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("reset", ["before", "after"])
def test_jacobians_by_each_argument(reset, derivative, argnum):
    """Many tangents, and many cotangents, of one model; those of the others are zero."""
    arguments = row(models(reset))
    fast, slow = (
        jax.jit(derivative(lambda *args, run=run: flagged(run)(*args)[1], argnum))(*arguments)
        for run in (gru_jax.gru_unroll, plain)
    )
    assert_close(fast, slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("save", ["gates", "states", "chunks"])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_save_and_direction(save, reverse):
    arguments = models("after")
    options = {"save": save, "reverse": reverse}
    fast, slow = (
        jax.jit(gradient(partial(loss, flagged(run, **options)), 0, 0, 0))(*arguments)
        for run in (gru_jax.gru_unroll, plain)
    )
    assert_close(fast, slow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mapped", ["mask", "resets", "reset_state", "state_scale", "unit_mask"])
def test_models_with_options_of_their_own(mapped):
    params, h0, xs = models("before")
    rng = np.random.default_rng(0)
    options = {
        "mask": jnp.asarray(rng.random((N, T, B)) < 0.7),
        "resets": jnp.asarray(rng.random((N, T, B)) < 0.5),
        "reset_state": jnp.asarray(rng.normal(size=(N, 7)), jnp.float32),
        "state_scale": jnp.asarray(rng.normal(size=(N, B, 7)), jnp.float32),
        "unit_mask": jnp.asarray(rng.random((N, T, B, 7)) < 0.5),
    }
    resets = options["resets"][0] if mapped == "reset_state" else None

    def run(params, h0, xs, option):
        fixed = {} if resets is None else {"resets": resets}
        return gru_jax.gru_unroll(params, h0, xs, **fixed, **{mapped: option})

    def of(params, h0, xs, option):
        return jax.grad(lambda *args: weighted_sum(run(*args, option)), argnums=(0, 1, 2))(
            params, h0, xs
        )

    found = jax.jit(jax.vmap(of))(params, h0, xs, options[mapped])
    for i in range(N):
        alone = jax.jit(of)(*jax.tree.map(lambda x, i=i: x[i], (params, h0, xs, options[mapped])))
        assert_close(jax.tree.map(lambda x, i=i: x[i], found), alone, rtol=1e-4, atol=1e-4)


def test_stacks_and_min_gru():
    keys = jax.random.split(jax.random.key(0), N)
    init = partial(gru_jax.init_gru_stack, input_size=3, hidden_sizes=(7, 6), bidirectional=True)
    stacks, xs = jax.vmap(init)(keys), models("after")[2]

    def of_stack(stack, xs):
        return jnp.sum(gru_jax.gru_stack_unroll(stack, None, xs)[1] ** 2)

    cells = jax.vmap(lambda key: gru_jax.init_min_gru(key, 3, 7))(keys)

    def of_cell(params, xs):
        return jnp.sum(gru_jax.min_gru_unroll(params, None, xs)[1] ** 2)

    for f, params in ((of_stack, stacks), (of_cell, cells)):
        found = jax.jit(jax.vmap(jax.grad(f)))(params, xs)
        for i in range(N):
            alone = jax.jit(jax.grad(f))(*jax.tree.map(lambda x, i=i: x[i], (params, xs)))
            assert_close(jax.tree.map(lambda x, i=i: x[i], found), alone, rtol=1e-4, atol=1e-4)


def test_models_in_a_shard_map():
    """Over a mesh of one device; run_sharded.py has more of them."""
    mesh = jax.make_mesh((1,), ("models",), axis_types=(jax.sharding.AxisType.Auto,))
    arguments = models("after")
    run = gradient(partial(loss, gru_jax.gru_unroll), 0, 0, 0)
    specs = P("models")
    sharded = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=specs))
    assert_close(sharded(*arguments), jax.jit(run)(*arguments))


def loops(program, platform, *arguments):
    """The loops of a program as it is compiled for a platform."""
    exported = jax.export.export(jax.jit(program), platforms=[platform])(*arguments)
    return exported.mlir_module().count("stablehlo.while")


def test_models_run_one_by_one_on_cpu_and_at_once_elsewhere():
    """One by one there is a loop over the models around each loop over time."""
    arguments = models("after", hidden=128, steps=16)  # no fewer than two iterations elsewhere
    run = partial(loss, gru_jax.gru_unroll)
    one = loops(jax.grad(run), "cuda", *jax.tree.map(lambda x: x[0], arguments))
    assert loops(gradient(run, 0, 0, 0), "cuda", *arguments) == one
    assert loops(gradient(run, 0, 0, 0), "cpu", *arguments) == 2 * one
    assert loops(jax.vmap(run), "cpu", *arguments) == 2
    per_example = gradient(run, None, 0, 0)
    assert loops(per_example, "cpu", row(arguments[0]), *arguments[1:]) == one


@pytest.mark.parametrize("save", ["gates", "states"])
def test_one_by_one_takes_no_more_memory_than_at_once(save, monkeypatch):
    """The residuals of all models are kept from the forward to the backward pass in both."""
    arguments = models("after", hidden=128)
    run = gradient(partial(loss, partial(gru_jax.gru_unroll, save=save)), 0, 0, 0)

    def temporary():
        analysis = jax.jit(run).lower(*arguments).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    one_by_one = temporary()
    monkeypatch.setattr(cpu, "is_large", lambda work: False)
    jax.clear_caches()
    assert one_by_one <= 1.1 * temporary()
