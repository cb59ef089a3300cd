"""Truncated gradients beside the exact one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments.long_sequences import data
from experiments.long_sequences.model import WAYS, Model, chunked, first_carry, truncated

TRUNCATED = ("truncated", "truncated, overlap")


def gradient_of(name: str, length: int) -> Callable[[Model, data.Sequence], Model]:
    """The gradient of the sum over a sequence, by truncation after segments of this length."""
    way = WAYS[name]
    loss = truncated(way.loss, length)

    def gradient(model: Model, sequence: data.Sequence) -> Model:
        found: Model = jax.grad(loss, has_aux=True)(
            model, first_carry(model, way, length), sequence
        )[0]
        return found

    return jax.jit(gradient)


def exact_gradient(model: Model, sequence: data.Sequence) -> Model:
    """The gradient of the sum over a sequence."""
    h0 = first_carry(model, WAYS["chunked_loss"], 0)
    found: Model = jax.jit(jax.grad(chunked, has_aux=True))(model, h0, sequence)[0]
    return found


def deviation(gradient: Model, exact: Model) -> dict[str, float]:
    """How far a gradient is from the exact one: the cosine, and the distance over the norm."""
    a, b = (jnp.concatenate([x.ravel() for x in jax.tree.leaves(g)]) for g in (gradient, exact))
    norms = jnp.linalg.norm(a), jnp.linalg.norm(b)
    return {
        "cosine": float(a @ b / (norms[0] * norms[1])),
        "relative_error": float(jnp.linalg.norm(a - b) / norms[1]),
    }


def compare(
    models: Mapping[str, Model], sequence: data.Sequence, lengths: Sequence[int]
) -> dict[str, Any]:
    """The deviations by model, way of truncation and length of the segments."""
    exact = {name: exact_gradient(model, sequence) for name, model in models.items()}
    found: dict[str, Any] = {name: {way: {} for way in TRUNCATED} for name in models}
    for way in TRUNCATED:
        for length in lengths:
            gradient = gradient_of(way, length)
            for name, model in models.items():
                here = deviation(gradient(model, sequence), exact[name])
                found[name][way][str(length)] = here
    return found
