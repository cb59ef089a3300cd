"""An implementation of which one platform's kernels compute the loops, and XLA all else.

A kernel can be neither differentiated nor transposed nor, in general, mapped. Here each is what is
compiled of a primitive, whose derivatives, transposes and maps over models are those of the plain
scan; but the transpose of the linear recurrence, of which backpropagation consists, has a kernel of
its own. Input projections, the coefficients of the linear recurrence and the gradients of weights
are formed outside, for all steps at once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import scan
from .flat import D_ROWS, D_STEPS, ROWS, STEPS, WEIGHTS
from .interface import Cell, Implementation, Inputs, Products, Weights
from .options import Constants, Options
from .primitive import as_primitive


class Dots(NamedTuple):
    """The tangents that the linear recurrence takes, or their cotangents."""

    h: Any  # of the first state [..., H]
    reset_state: Any  # [..., H]; None for zero
    terms: Any  # [T, ..., H]; None for zero


class Kernels(NamedTuple):
    """The kernels of one platform, as functions of arrays with any batch axes, none of size 0."""

    check: Callable[[Cell, Options, Weights, Any, Inputs], None]
    """`(cell, options, weights, h0, inputs)`: raises `Unsupported`, with what it does not take,
    where one of the two kernels does not."""
    states: Callable[[Cell, Options, Weights, Any, Inputs], tuple[Any, tuple[Any, Any]]]
    """`(cell, options, weights, h0, inputs)`: the recurrence of the states; see `Operation`."""
    transposed: Callable[[Cell, Options, Any, Any, Dots, Any], Dots]
    """`(cell, options, (prepared, scale), (resets, factors), shapes, cotangents)`: the transpose of
    `scan.linear`. From the cotangents `(h_last, states)` of its results, None for leaves that are
    zero, to those of the tangents it takes, of which the shapes are given."""


def implementation(kernels: Kernels) -> Implementation:
    """The implementation with these kernels."""
    return Implementation(partial(_states, kernels), partial(_tangents, kernels))


def _states(
    kernels: Kernels, cell: Cell, options: Options, weights: Weights, h0: Any, inputs: Inputs
) -> tuple[Any, tuple[Any, Any]]:
    if 0 in inputs.xs.shape[:-1]:
        return scan.SCAN.states(cell, options, weights, h0, inputs)
    kernels.check(cell, options, weights, h0, inputs)
    h_last, states, gates = as_primitive(
        _states_by_scan,
        (kernels, cell, options),
        (*weights, h0, inputs),
        (WEIGHTS, ROWS, ROWS, STEPS),
        (ROWS, STEPS, STEPS),
        compiled=_states_by_kernel,
    )
    return h_last, (states, gates)


def _tangents(
    kernels: Kernels, cell: Cell, options: Options, weights: Any, carry: Any, steps: Any
) -> tuple[Any, Any]:
    inputs = steps[2]
    if 0 in inputs.xs.shape[:-1]:
        return scan.SCAN.tangents(cell, options, weights, carry, steps)
    kernels.check(cell, options, weights[0], carry[0], inputs)
    loop = partial(_linear, kernels)
    return scan.tangents(scan.APART, cell, options, weights, loop=loop)(carry, steps)


def _states_by_scan(
    kernels: Kernels, cell: Cell, options: Options, *args: Any
) -> tuple[Any, Any, Any]:
    del kernels
    params, constants, h0, inputs = args
    stretch = scan.states(scan.PRODUCTS, cell, options, Weights(params, constants))
    h_last, (states, gates) = stretch(h0, inputs)
    return h_last, states, gates


def _states_by_kernel(
    kernels: Kernels, cell: Cell, options: Options, *args: Any
) -> tuple[Any, Any, Any]:
    params, constants, h0, inputs = args
    weights = Weights(params, constants)
    h_last, (states, gates) = kernels.states(cell, options, weights, h0, inputs)
    return h_last, states, gates


def _linear(
    kernels: Kernels, products: Products, cell: Cell, options: Options, *args: Any
) -> tuple[Any, Any]:
    """As `scan.linear`."""
    del products  # `scan.APART`
    (prepared, constants), h_dot, (resets, factors, terms) = args
    scale, fresh = constants
    if fresh is not None:  # the kernel's cotangent is one for each row
        fresh = jax.tree.map(lambda dot, h: jnp.broadcast_to(dot, h.shape), fresh, h_dot)
    result: tuple[Any, Any] = as_primitive(
        _linear_by_scan,
        (kernels, cell, options),
        (prepared, scale, resets, factors, h_dot, fresh, terms),
        (WEIGHTS, ROWS, STEPS, STEPS, D_ROWS, D_ROWS, D_STEPS),
        (D_ROWS, D_STEPS),
        transposed=_transposed_by_kernel,
    )
    return result


def _linear_by_scan(kernels: Kernels, cell: Cell, options: Options, *args: Any) -> tuple[Any, Any]:
    prepared, scale, resets, factors, h_dot, fresh, terms = args
    weights, steps = (prepared, Constants(scale, fresh)), (resets, factors, terms)
    del kernels
    return scan.linear(scan.APART, cell, options, weights, h_dot, steps)


def _transposed_by_kernel(kernels: Kernels, cell: Cell, options: Options, *args: Any) -> Dots:
    prepared, scale, resets, factors, *dots, cotangents = args
    shapes = Dots(*dots)
    tree: Any = jax.tree.structure(shapes.h)
    halves = cotangents[: tree.num_leaves], cotangents[tree.num_leaves :]
    given = tuple(map(tree.unflatten, halves))
    return kernels.transposed(cell, options, (prepared, scale), (resets, factors), shapes, given)
