"""Programs for accelerators: one loop with few products per direction, whatever runs on CPU.

Those for chips by name were compiled, not run.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from common import random_inputs, random_params, weighted_sum
from test_chips import compiled_for

import gru_jax
from experiments.benchmark.config import WORKLOADS
from experiments.benchmark.ours import ours
from experiments.benchmark.timing import loss_of
from gru_jax.recurrence import accelerators

STEPS = 40  # five iterations of the loop


def problem(reset):
    return random_params(reset=reset, hidden=128), *random_inputs(
        steps=STEPS, batch=(32,), hidden=128
    )


def loss(unroll, params, h0, xs):
    return weighted_sum(unroll(params, h0, xs))


def while_loops(module):
    """For each loop of a StableHLO module: the products in its body, called functions included."""
    functions = dict(
        re.findall(r"^  func\.func \w+ @([\w.]+)\((.*?)^  }", module, flags=re.M | re.S)
    )

    def products(text):
        called = re.findall(r"func\.call @([\w.]+)\(", text)
        return text.count("stablehlo.dot_general") + sum(products(functions[f]) for f in called)

    loops = re.findall(r"^( *)%\S+ = stablehlo\.while(.*?)^\1}(?! do)", module, flags=re.M | re.S)
    return [products(body) for _, body in loops]


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("save", ["gates", "states"])
@pytest.mark.parametrize(("reset", "products"), [("after", 1), ("before", 2)])
def test_one_loop_per_direction(platform, save, reset, products):
    """One product per step, two for "before"; the weights' gradients are formed outside."""
    arguments, run = problem(reset), partial(gru_jax.gru_unroll, save=save)

    def exported(function):
        return jax.export.export(jax.jit(function), platforms=[platform])(*arguments).mlir_module()

    in_body = products * accelerators.STEPS
    assert while_loops(exported(run)) == [in_body]
    gradient = exported(jax.grad(partial(loss, run), argnums=(0, 1, 2)))
    assert while_loops(gradient) == [in_body, in_body]
    # outside: x W_x, the gradients of x and W_x, and one for each product with the state
    assert gradient.count("stablehlo.dot_general") >= 3 * products + 3


def test_loops_of_the_plain_scan_are_counted():
    """In the plain scan, which adds up the weights' gradients in its backward loop."""
    arguments = problem("after")
    module = (
        jax.jit(jax.grad(partial(loss, partial(gru_jax.unroll, gru_jax.gru_step))))
        .lower(*arguments)
        .as_text()
    )
    forward, backward = while_loops(module)
    assert forward == 2  # one product of the state and one of the input
    assert backward > 2


@pytest.mark.parametrize("chip", ["H100", "A100"])
@pytest.mark.parametrize(("reset", "train", "forward"), [("after", 6, 3), ("before", 10, 4.5)])
def test_launches_per_step_on_a_gpu(chip, reset, train, forward):
    shape = WORKLOADS["rl"]
    params, apply = ours(shape, reset)
    xs, hs = (jax.ShapeDtypeStruct((*shape[:2], features), jnp.float32) for features in shape[2:])
    values = compiled_for(chip, apply, params, xs)
    assert values.launches.total <= forward * shape.steps
    assert values.temporary_bytes <= 17e6  # input projections and the states of one iteration
    gradient = jax.value_and_grad(loss_of(apply), argnums=(0, 1))
    program = compiled_for(chip, gradient, params, xs, hs)
    assert program.launches.total <= train * shape.steps
    assert program.launches.outside <= 30
    assert program.temporary_bytes <= {"H100": 46e6, "A100": 49e6}[chip]


@pytest.mark.parametrize("implementation", ["scan", "pallas"])
def test_products_of_the_gradient_have_the_precision_asked_for(implementation):
    """Also where it is asked for in the loss alone, outside of which JAX transposes."""

    def loss_in_float32(*arguments):
        with jax.default_matmul_precision("float32"):
            return loss(partial(gru_jax.gru_unroll, implementation=implementation), *arguments)

    gradient = jax.jit(jax.grad(loss_in_float32, argnums=(0, 1, 2)))
    traced = gradient.trace(*problem("after"))
    program = traced.lower(lowering_platforms=("tpu",)).as_text()
    products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
    # of which those in kernels cannot be read
    products = re.findall(r"dot_general\[(.*?)\n *\]", str(traced.jaxpr), flags=re.S)
    assert products
    assert all("precision=(Precision.HIGHEST, Precision.HIGHEST)" in each for each in products)
