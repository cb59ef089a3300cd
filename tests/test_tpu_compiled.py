"""The TPU kernels compiled for every chip by XLA's own compiler, which nothing here has run."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from common import random_flags, random_inputs, random_params
from test_chips import compiled_for

import gru_jax

MIB = 2**20
VMEM = {"TPU v4": 16 * MIB, "TPU v5e": 128 * MIB, "TPU v5p": 64 * MIB, "TPU v6e": 128 * MIB}


def problem(reset, steps, rows, hidden, dtype=jnp.float32):
    params = random_params(reset=reset, inputs=64, hidden=hidden, dtype=dtype)
    h0, xs = random_inputs(steps=steps, batch=(rows,), inputs=64, hidden=hidden, dtype=dtype)
    return params, h0.astype(jnp.float32), xs


def loss(params, h0, xs, **keywords):
    _, hs = gru_jax.gru_unroll(params, h0, xs, implementation="pallas", **keywords)
    return jnp.sum(hs**2)


def trained(chip, *arguments, **keywords):
    """The program of the gradient with respect to everything."""
    gradient = jax.grad(partial(loss, **keywords), argnums=(0, 1, 2))
    return compiled_for(chip, gradient, *arguments)


@pytest.mark.parametrize(
    ("chip", "reset"),
    [("TPU v4", "after"), ("TPU v5e", "before"), ("TPU v5p", "after"), ("TPU v6e", "before")],
)
def test_one_kernel_in_each_direction_and_no_loop(chip, reset):
    """What is outside the kernels is a few products and passes over all steps.

    The gradients of the weights are among it: the kernels return nothing of their shapes.
    """
    arguments = problem(reset, steps=128, rows=64, hidden=128)
    forward = compiled_for(chip, partial(gru_jax.gru_unroll, implementation="pallas"), *arguments)
    program = trained(chip, *arguments)
    assert [kernel.name for kernel in forward.kernels] == ["recurrence"]
    names = [kernel.name for kernel in program.kernels]
    assert names == ["recurrence", "transposed_recurrence"]
    assert not forward.launches.loops
    assert not program.launches.loops
    assert forward.launches.total <= 10
    assert program.launches.total <= 40
    assert all(kernel.memory_bytes < VMEM[chip] for kernel in program.kernels)
    calls = [line for line in program.text.splitlines() if '"tpu_custom_call"' in line]
    results = [line.partition(" = ")[2].partition(" custom-call(")[0] for line in calls]
    assert len(results) == 2
    assert not any("[128,384]" in result or "[128,256]" in result for result in results)


@pytest.mark.parametrize(
    ("hidden", "dtype"), [(896, jnp.float32), (1280, jnp.bfloat16)], ids=["float32", "bfloat16"]
)
def test_the_largest_weights_that_are_taken_fit_the_smallest_chip(hidden, dtype):
    program = trained("TPU v4", *problem("before", steps=8, rows=16, hidden=hidden, dtype=dtype))
    assert len(program.kernels) == 2
    assert all(kernel.memory_bytes < VMEM["TPU v4"] for kernel in program.kernels)


@pytest.mark.parametrize("precision", ["default", "float32"])
def test_odd_sizes_with_everything(precision):
    """Products in float32 are asked for in a kernel, too."""
    arguments = problem("before", steps=7, rows=3, hidden=5)
    keywords = {
        "resets": random_flags(1, steps=7, batch=(3,)),
        "unit_mask": random_flags(2, steps=7, batch=(3, 5)),
        "state_scale": arguments[1],
        "reset_state": arguments[1],
        "reverse": True,
        "unroll": 2,
    }
    with jax.default_matmul_precision(precision):
        program = trained("TPU v5e", *arguments, **keywords)
    assert len(program.kernels) == 2
