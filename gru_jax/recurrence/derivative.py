"""The recurrence of a cell with its derivative: both by the platform's implementation."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from . import platforms
from .chunks import chunk_length, in_chunks
from .interface import Cell, Inputs, Weights
from .options import Constants, Options


def run(
    cell: Cell, options: Options, params: Any, constants: Constants, h0: Any, inputs: Inputs
) -> tuple[Any, Any]:
    """The last state and all states, masked ones repeating the one before."""
    weights = Weights(params, constants)
    if options.save != "chunks":
        return _states(cell, options, weights, h0, inputs)
    inner = replace(options, save="gates")
    stretch = jax.checkpoint(partial(_states, cell, inner, weights))
    length = inputs.xs.shape[0]
    steps = chunk_length(length, math.isqrt(length) + 1)
    return in_chunks(stretch, h0, inputs, steps, options.reverse)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _states(
    cell: Cell, options: Options, weights: Weights, h0: Any, inputs: Inputs
) -> tuple[Any, Any]:
    values_only = replace(options, save=None)
    h_last, (states, _) = platforms.run("states", cell, values_only, weights, h0, inputs)
    return h_last, states


@_states.defjvp
def _states_jvp(
    cell: Cell, options: Options, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    weights, h0, inputs = primals
    weights_dot, h0_dot, (xs_dot, _, _) = tangents
    h_last, (states, gates) = platforms.run("states", cell, options, weights, h0, inputs)
    (_, h_last_dot), states_dot = platforms.run(
        "tangents",
        cell,
        options,
        (weights, weights_dot),
        (h0, h0_dot),
        (states, gates, inputs, xs_dot),
    )
    return (h_last, states), (h_last_dot, states_dot)
