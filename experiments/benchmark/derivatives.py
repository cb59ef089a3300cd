"""Derivatives of all kinds: forward and reverse mode, both, and with respect to some arguments."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmark.models import MAKES, timed_alike
from experiments.benchmark.timing import Apply, Mode, Ready, Shape, draw, loss_of, ready
from experiments.harness.records import markdown_table


class Derivative(NamedTuple):
    """One derivative of the states hs(weights, xs), or of a weighted sum of them."""

    shape: Shape
    of: Callable[[Apply, Any, jax.Array, jax.Array], Any]
    """`(apply, weights, xs, out_weights)`: what is timed, under jit."""


def _hvp(apply: Apply, weights: Any, xs: jax.Array, out_weights: jax.Array) -> Any:
    gradient = jax.grad(loss_of(apply))
    return jax.jvp(lambda weights: gradient(weights, xs, out_weights), (weights,), (weights,))


_COMMON, _LONG = Shape(64, 64, 64, 64), Shape(200, 1, 12, 64)
DERIVATIVES: Mapping[str, Derivative] = {
    "jvp by xs": Derivative(
        Shape(128, 64, 64, 128), lambda f, w, xs, _: jax.jvp(partial(f, w), (xs,), (xs,))
    ),
    "jvp by both": Derivative(
        Shape(128, 64, 64, 128), lambda f, w, xs, _: jax.jvp(f, (w, xs), (w, xs))
    ),
    "jacfwd by xs": Derivative(_LONG, lambda f, w, xs, _: jax.jacfwd(partial(f, w))(xs)),
    "jacrev of h_last": Derivative(
        _LONG, lambda f, w, xs, _: jax.jacrev(lambda xs: f(w, xs)[-1])(xs)
    ),
    "grad by weights": Derivative(_COMMON, lambda f, w, xs, o: jax.grad(loss_of(f))(w, xs, o)),
    "grad by xs": Derivative(_COMMON, lambda f, w, xs, o: jax.grad(loss_of(f), 1)(w, xs, o)),
    "grad by both": Derivative(_COMMON, lambda f, w, xs, o: jax.grad(loss_of(f), (0, 1))(w, xs, o)),
    "Hessian · v": Derivative(_COMMON, _hvp),
}


def derive(
    make: Callable[[Shape], tuple[Any, Apply]], derivative: Derivative, shape: Shape, mode: Mode
) -> Ready:
    """One implementation's derivative."""
    assert mode == "train"
    weights, apply = make(shape)
    xs = jnp.asarray(draw(shape.steps, shape.batch, shape.inputs))
    out_weights = jnp.asarray(draw(shape.steps, shape.batch, shape.hidden))
    return ready(partial(derivative.of, apply), weights, xs, out_weights)


def measure(rounds: int) -> dict[str, Any]:
    """Every derivative by every implementation that can be differentiated so."""
    return {
        name: {"sizes": derivative.shape._asdict()}
        | timed_alike(name, derivative.shape, derive, derivative, rounds)
        for name, derivative in DERIVATIVES.items()
    }


def markdown_derivatives(derivatives: Mapping[str, Any]) -> str:
    """The page's table: milliseconds."""
    rows = []
    for name, each in derivatives.items():
        cells = [f"{each[label]['median_ms']:.2f}" if label in each else "–" for label in MAKES]
        sizes = " · ".join(map(str, each["sizes"].values()))
        rows.append([name, sizes, *cells])
    return markdown_table(["ms", "T · B · I · H", *MAKES], rows)
