"""Programs for accelerators: one loop with few products per direction, whatever runs on CPU."""

import re
from functools import partial

import jax
import pytest
from common import random_inputs, random_params, weighted_sum

import gru_jax


def problem(reset):
    return random_params(reset=reset, hidden=128), *random_inputs(steps=51, batch=(32,), hidden=128)


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

    assert while_loops(exported(run)) == [products]
    gradient = exported(jax.grad(partial(loss, run), argnums=(0, 1, 2)))
    assert while_loops(gradient) == [products, products]
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
    assert forward == 4  # one product of the state and three of the input
    assert backward > 4


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
