"""The GPU kernels compiled for H100: launches, registers and memory. Compiled, not run."""

from functools import partial

import gpu_simulator
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_chips import compiled_for
from test_kernels import flags, problem

import gru_jax
from gru_jax.recurrence import gpu_block

RESETS = pytest.mark.parametrize("reset", ["before", "after"])


def training_step(params, h0, xs, **keywords):
    def loss(params, xs):
        hs = gru_jax.gru_unroll(params, h0, xs, implementation="pallas", **keywords)[1]
        return jnp.mean(hs**2)

    return jax.grad(loss, argnums=(0, 1))(params, xs)


@gpu_simulator.needs_jax
@RESETS
def test_launches_and_memory(reset):
    """Of the benchmark's workload rl, of which the scan launches more than a thousand kernels."""
    arguments = problem(reset, steps=128, rows=64, inputs=64, hidden=128)
    run = partial(gru_jax.gru_unroll, implementation="pallas")
    forward, training = (
        compiled_for("H100", run, *arguments),
        compiled_for("H100", training_step, *arguments),
    )
    assert forward.launches.total <= 8
    assert training.launches.total <= 40
    assert not training.launches.loops
    assert training.temporary_bytes <= 46e6
    assert {kernel.name for kernel in training.kernels} == {"gru_forward", "gru_backward"}


@gpu_simulator.needs_jax
@RESETS
@pytest.mark.parametrize(
    ("rows", "hidden", "dtype"), [(16, 128, np.float32), (8, 192, jnp.bfloat16)]
)
def test_no_register_is_spilled(reset, rows, hidden, dtype):
    """With everything that needs registers, at the largest sizes."""
    sizes = {"steps": 3, "rows": rows * gpu_block.PROCESSORS, "hidden": hidden}
    keywords = flags("unit_mask", "resets", "state_scale", **sizes)
    arguments = problem(reset, **sizes, dtype=dtype)
    step = partial(training_step, **keywords, reset_state=jnp.ones(hidden))
    program = compiled_for("H100", step, *arguments)
    for kernel in program.kernels:
        assert kernel.spilled_bytes == 0
        assert kernel.registers <= 255
        assert kernel.memory_bytes <= 227 * 1024
