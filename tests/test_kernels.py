"""`implementation`: which program runs, and what is refused."""

from functools import partial

import jax
import pytest
from common import random_inputs, random_params, random_stack, weighted_sum

import gru_jax


def loss(params, h0, xs, **keywords):
    return weighted_sum(gru_jax.gru_unroll(params, h0, xs, **keywords))


@pytest.mark.parametrize("transform", [lambda f: f, jax.grad], ids=["values", "gradient"])
def test_a_platform_without_a_kernel_is_refused_when_it_is_compiled_for(transform):
    arguments = random_params(), *random_inputs()
    traced = jax.jit(transform(partial(loss, implementation="pallas"))).trace(*arguments)
    with pytest.raises(ValueError, match='is "pallas", but there is no kernel for this platform'):
        traced.lower(lowering_platforms=("cpu",))


def test_the_scan_can_be_asked_for():
    arguments = random_params(), *random_inputs()
    programs = {
        jax.jit(partial(loss, implementation=each)).lower(*arguments).as_text()
        for each in (None, "scan")
    }
    assert len(programs) == 1


@pytest.mark.parametrize("value", ["Pallas", "", 1, True])
def test_an_unknown_implementation_is_refused(value):
    message = "implementation is .*, but must be one of 'scan', 'pallas'"
    with pytest.raises(ValueError, match=message):
        loss(random_params(), *random_inputs(), implementation=value)
    stack, h0s = random_stack()
    with pytest.raises(ValueError, match=message):
        gru_jax.gru_stack_unroll(stack, h0s, random_inputs()[1], implementation=value)


def test_a_stack_hands_the_implementation_to_its_layers():
    stack, h0s = random_stack()
    run = jax.jit(partial(gru_jax.gru_stack_unroll, implementation="pallas"))
    with pytest.raises(ValueError, match='is "pallas", but there is no kernel'):
        run.lower(stack, h0s, random_inputs()[1])


@pytest.mark.parametrize("cell", ["min_gru", "lstm"])
def test_cells_without_kernels_are_refused(cell):
    init, step = (getattr(gru_jax, name) for name in (f"init_{cell}", f"{cell}_step"))
    stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (5, 4), init=init)
    xs = random_inputs()[1]
    with pytest.raises(ValueError, match="there are kernels for step=gru_step only"):
        gru_jax.gru_stack_unroll(stack, None, xs, step=step, implementation="pallas")
    gru_jax.gru_stack_unroll(stack, None, xs, step=step, implementation="scan")
