"""The recurrence of a cell with its derivative: both by the platform's implementation."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .._state import vary_like
from . import platforms, scan
from .chunks import chunk_length, in_chunks
from .flat import D_ROWS, D_STEPS, D_WEIGHTS, ROWS, STEPS, WEIGHTS
from .interface import Cell, Inputs, Weights
from .options import Constants, Options
from .primitive import as_primitive


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


@partial(_states.defjvp, symbolic_zeros=True)
def _states_jvp(
    cell: Cell, options: Options, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    weights, h0, inputs = primals
    h_last, states, gates = as_primitive(
        _with_gates,
        (cell, options),
        (*weights, h0, inputs),
        (WEIGHTS, ROWS, ROWS, STEPS),
        (ROWS, STEPS, STEPS),
    )
    dots = nonzero(primals, tangents)
    return (h_last, states), state_tangents(cell, options, primals, dots, (states, gates))


def nonzero(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """Tangents of weights, of h0 and of xs, None where zero but for h0's, which a loop carries."""
    weights, h0, inputs = primals
    weights_dot, h0_dot, (xs_dot, _, _) = scan.nonzero(tangents)
    if None in jax.tree.leaves(h0_dot, is_leaf=lambda dot: dot is None):
        zeros = vary_like(jax.tree.map(jnp.zeros_like, h0), h0, weights, inputs)
        h0_dot = jax.tree.map(lambda zero, dot: zero if dot is None else dot, zeros, h0_dot)
    return weights_dot, h0_dot, xs_dot


def state_tangents(
    cell: Cell,
    options: Options,
    primals: tuple[Any, ...],
    dots: tuple[Any, Any, Any],
    known: tuple[Any, Any],
) -> tuple[Any, Any]:
    """The tangents of the last state and of all states, which are known with their gates or None.

    Args:
      cell: the cell.
      options: as for the states.
      primals: weights, h0 and inputs.
      dots: their tangents; see `nonzero`.
      known: states and gates.
    """
    (weights, h0, inputs), (weights_dot, h0_dot, xs_dot) = primals, dots
    result: tuple[Any, Any] = as_primitive(
        _tangents,
        (cell, options),
        (*weights, h0, (*known, inputs), *weights_dot, h0_dot, xs_dot),
        (WEIGHTS, ROWS, ROWS, STEPS, D_WEIGHTS, D_ROWS, D_ROWS, D_STEPS),
        (D_ROWS, D_STEPS),
        compiled=_tangents_in_one_loop,
    )
    return result


def _with_gates(
    cell: Cell, options: Options, params: Any, constants: Constants, h0: Any, inputs: Inputs
) -> tuple[Any, Any, Any]:
    weights = Weights(params, constants)
    h_last, (states, gates) = platforms.run("states", cell, options, weights, h0, inputs)
    return h_last, states, gates


def _tangents(cell: Cell, options: Options, *args: Any) -> tuple[Any, Any]:
    (_, h_last_dot), states_dot = platforms.run("tangents", cell, options, *_grouped(*args))
    return h_last_dot, states_dot


def _tangents_in_one_loop(cell: Cell, options: Options, *args: Any) -> tuple[Any, Any]:
    return scan.tangents_in_one_loop(cell, options, *_grouped(*args))


def _grouped(*args: Any) -> tuple[Any, Any, Any]:
    """Weights, carry and steps, each with their tangents."""
    params, constants, h0, steps, params_dot, constants_dot, h0_dot, xs_dot = args
    weights = Weights(params, constants), Weights(params_dot, constants_dot)
    return weights, (h0, h0_dot), (*steps, xs_dot)
