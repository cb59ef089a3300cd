"""Many models at once: gradients with respect to the weights, mapped over models and their data."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmark.ours import ours
from experiments.benchmark.peers import equinox, flax_linen, haiku, plain_scan
from experiments.benchmark.timing import (
    Apply,
    Implementation,
    Mode,
    Ready,
    Shape,
    draw,
    loss_of,
    ready,
    timed,
)
from experiments.harness.records import markdown_table


class Many(NamedTuple):
    """So many models of one shape; or examples, each with a gradient of its own, of one model."""

    models: int
    shape: Shape
    shared: bool = False


MANY = {
    "seeds": Many(8, Shape(64, 32, 16, 64)),
    "tiny": Many(100, Shape(100, 1, 4, 4)),
    "subjects": Many(64, Shape(100, 8, 4, 16)),
    "examples": Many(32, Shape(64, 1, 16, 64), shared=True),
}
COUNTS = (1, 4, 16, 64, 256)
"""Models of the shape of "subjects", whose time is drawn."""
MAKES: Mapping[str, Callable[[Shape], tuple[Any, Apply]]] = {
    "gru_jax": ours,
    "gru_jax before": partial(ours, reset="before"),
    "plain scan": plain_scan,
    "Flax linen": flax_linen,
    "Haiku": haiku,
    "Equinox": equinox,
}


def over_models(
    make: Callable[[Shape], tuple[Any, Apply]], many: Many, shape: Shape, mode: Mode
) -> Ready:
    """`jax.vmap` of the gradient."""
    assert mode == "train"
    weights, apply = make(shape)
    xs = jnp.asarray(draw(many.models, shape.steps, shape.batch, shape.inputs))
    out_weights = jnp.asarray(draw(many.models, shape.steps, shape.batch, shape.hidden))
    if not many.shared:
        scales = 1 + jnp.linspace(-0.1, 0.1, many.models)
        weights = jax.tree.map(lambda w: jax.vmap(jnp.multiply, (None, 0))(w, scales), weights)
    axes = None if many.shared else 0, 0, 0
    return ready(jax.vmap(jax.grad(loss_of(apply)), in_axes=axes), weights, xs, out_weights)


def measure(rounds: int) -> dict[str, Any]:
    """Every workload, and how the time grows with the number of models."""
    workloads = {name: _timed(name, many, rounds) for name, many in MANY.items()}
    curve = {
        str(count): _timed(f"{count} models", MANY["subjects"]._replace(models=count), rounds)
        for count in COUNTS
    }
    return {"workloads": workloads, "curve": curve}


def _timed(name: str, many: Many, rounds: int) -> dict[str, Any]:
    sizes = {"models": many.models, **many.shape._asdict()}
    return {"sizes": sizes} | timed_alike(name, many.shape, over_models, many, rounds)


def timed_alike(
    name: str, shape: Shape, measured: Callable[..., Ready], what: Any, rounds: int
) -> dict[str, Any]:
    """The entries of all of `MAKES`, made ready by `measured(make, what, shape, mode)`."""
    implementations: Mapping[str, Implementation] = {
        label: partial(measured, make, what) for label, make in MAKES.items()
    }
    entries = timed(name, shape, "train", implementations, rounds)
    return {label: entry._asdict() for label, entry in entries.items()}


def markdown_models(workloads: Mapping[str, Any]) -> str:
    """The page's table: milliseconds, and the ratio to the fastest other library."""
    sizes = [" · ".join(map(str, each["sizes"].values())) for each in workloads.values()]
    rows = [["models · T · B · I · H", *sizes]]
    for label in MAKES:
        cells = [
            f"{each[label]['median_ms']:.2f} ({each[label]['ratio']:.2f})" if label in each else "–"
            for each in workloads.values()
        ]
        rows.append([label, *cells])
    return markdown_table(["ms (relative to the fastest other library)", *workloads], rows)
