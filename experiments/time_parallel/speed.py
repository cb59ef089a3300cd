"""The time of each implementation on this processor, in turns."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

import gru_jax
from experiments.benchmark.timing import Apply, Implementation, Mode, Shape, draw, on_jax, timed
from experiments.time_parallel.config import Config

MODES: tuple[Mode, ...] = ("forward", "train")
SCAN = "gru_unroll"
JACOBIANS: tuple[Literal["full", "diagonal"], ...] = ("full", "diagonal")


def scan(shape: Shape) -> tuple[Any, Apply]:
    """`gru_unroll`."""
    return weights(shape), lambda params, xs: gru_jax.gru_unroll(params, None, xs)[1]


def kernel(shape: Shape) -> tuple[Any, Apply]:
    """`gru_unroll` by the kernel of a GPU."""

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        return gru_jax.gru_unroll(params, None, xs, implementation="pallas")[1]

    return weights(shape), apply


def parallel(jacobian: Literal["full", "diagonal"], shape: Shape) -> tuple[Any, Apply]:
    """`gru_unroll_parallel`."""

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        return gru_jax.gru_unroll_parallel(params, None, xs, jacobian=jacobian)[1]

    return weights(shape), apply


def weights(shape: Shape) -> gru_jax.GRUParams:
    """Untrained weights."""
    return gru_jax.init_gru(jax.random.key(0), shape.inputs, shape.hidden)


MAKES: Mapping[str, Callable[[Shape], tuple[Any, Apply]]] = {
    SCAN: scan,
    **{name: partial(parallel, name) for name in JACOBIANS},
}


def shapes(config: Config) -> list[Shape]:
    """One sequence of each size and length that is timed."""
    return [
        Shape(steps, 1, units, units)
        for units in config.hidden_sizes
        for steps in config.timed_lengths
    ]


def measure(config: Config) -> list[dict[str, Any]]:
    """Milliseconds of untrained weights, and the iterations that they take."""
    implementations: dict[str, Implementation] = {
        name: partial(on_jax, make) for name, make in MAKES.items()
    }
    results = []
    for shape in shapes(config):
        found: dict[str, Any] = {"shape": shape._asdict(), "iterations": iterations(shape)}
        for mode in MODES:
            title = f"T = {shape.steps}, H = {shape.hidden}, {mode}"
            entries = timed(title, shape, mode, implementations, config.rounds)
            found[mode] = {name: entry._asdict() for name, entry in entries.items()}
        results.append(found)
    return results


def iterations(shape: Shape) -> dict[str, int]:
    """Of Newton's method, by Jacobian, on the inputs that are timed."""
    xs = jnp.asarray(draw(shape.steps, shape.batch, shape.inputs))
    found: dict[str, int] = {}
    for name in JACOBIANS:
        solution = gru_jax.gru_unroll_parallel(weights(shape), None, xs, jacobian=name)[2]
        found[name] = int(solution.iterations)
    return found
