"""The plain scan, for any cell and any platform: both recurrences as `lax.scan`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import DTypeLike

from .._ops import product, spread
from .._scan import restart, scan_time
from .interface import Cell, Implementation, Inputs, PerGate, Point, Products, Weights
from .options import Options

Stretch = Callable[[Any, Any], tuple[Any, Any]]
"""A stretch of steps: `(carry, steps [T, ...]) -> (carry, outputs [T, ...])`, as in a scan."""


def states(products: Products, cell: Cell, options: Options, weights: Weights) -> Stretch:
    """The recurrence of the states; input projections are computed outside the loop."""
    step = cell.step(products, weights, options)

    def body(h: Any, projection: Any) -> tuple[Any, Any]:
        new, gates = step(h, projection)
        return new, gates if options.save == "gates" else None

    def stretch(h: Any, inputs: Inputs) -> tuple[Any, Any]:
        xs, mask, resets = inputs
        projection = cell.project(products, weights.params, xs, _dtype(h))
        return scan_time(
            body,
            h,
            (projection, mask, resets),
            weights.constants.reset_state,
            reverse=options.reverse,
            unroll=options.unroll,
        )

    return stretch


def linear(
    products: Products, cell: Cell, options: Options, weights: Any, carry: Any, steps: Any
) -> tuple[Any, Any]:
    """The recurrence of the tangents from its coefficients: those of the last and of all states.

    Takes `(prepared, constants)`, with the tangent of the reset state among the constants; the
    tangent of the first state; and `(resets, factors, terms)`.
    """
    prepared, constants = weights
    linear_step = cell.linear_step(products, prepared, constants)

    def body(h_dot: Any, step: tuple[jax.Array | None, Any, Any]) -> tuple[Any, Any]:
        resets, *coefficients = step
        h_dot = linear_step(restart(h_dot, resets, constants.reset_state), tuple(coefficients))
        return h_dot, h_dot

    return jax.lax.scan(body, carry, steps, reverse=options.reverse, unroll=options.unroll)


def tangents(
    products: Products,
    cell: Cell,
    options: Options,
    weights: tuple[Weights, Weights],
    *,
    loop: Callable[..., tuple[Any, Any]] = linear,
) -> Stretch:
    """The recurrence of the tangents, its loop as `linear`; weight gradients are outside of it."""
    at, along = weights
    prepared = cell.prepared(products, at.params)
    slots, slots_dot = cell.slots(products, at.params), cell.slots(products, along.params)

    def stretch(carry: Any, steps: Any) -> tuple[Any, Any]:
        h, h_dot = carry
        states, gates, (xs, mask, resets), xs_dot = steps

        # Coefficients computed from the states are not stored for the backward pass. The checkpoint
        # is differentiated, not what it contains, because jax_remat3's cannot be transposed.
        @jax.checkpoint
        def known(slots: Any, reset_state: Any, h: Any, xs: jax.Array) -> Any:
            constants = at.constants._replace(reset_state=reset_state)
            here = slots, constants, h, Inputs(xs, mask, resets)
            static = products, cell, options, loop
            return _known(static, (at.params, prepared), here, (states, gates))

        primals = slots, at.constants.reset_state, h, xs
        tangents = slots_dot, along.constants.reset_state, h_dot, xs_dot
        (h, _), (h_dot, states_dot) = _jvp(known, primals, tangents)
        return (h, h_dot), states_dot

    return stretch


def nonzero(tangents: Any) -> Any:
    """The tangents that `custom_jvp` gives to a rule, None for those that are zero."""
    return jax.tree.map(lambda dot: None if isinstance(dot, SymbolicZero) else dot, tangents)


def _jvp(f: Callable[..., Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
    """As `jax.jvp`, with None in place of zero tangents, also of those of whole subtrees."""
    tree: Any
    dots, tree = jax.tree.flatten(tangents, is_leaf=lambda dot: dot is None)
    parts = tree.flatten_up_to(primals)
    varied = [i for i, dot in enumerate(dots) if dot is not None]

    def of_varied(*values: Any) -> Any:
        new = dict(zip(varied, values, strict=True))
        return f(*tree.unflatten([new.get(i, part) for i, part in enumerate(parts)]))

    return jax.jvp(of_varied, tuple(parts[i] for i in varied), tuple(dots[i] for i in varied))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _known(static: Any, weights: Any, here: Any, known: tuple[Any, Any]) -> tuple[Any, Any]:
    """The last state and all states of a stretch, given as `known`, with their derivative.

    Differentiated with respect to `here` only: the other arguments follow from it.
    """
    (_, _, options, _), (_, _, h0, _), (states, _) = static, here, known
    return last(options, h0, states), states


@partial(_known.defjvp, symbolic_zeros=True)
def _known_jvp(static: Any, primals: Any, tangents: Any) -> tuple[Any, Any]:
    *static, loop = static
    products, cell, options = static
    (params, prepared), (_, constants, h0, inputs), (states, gates) = primals
    _, (slots_dot, constants_dot, h0_dot, (xs_dot, _, _)), _ = nonzero(tangents)
    before = jax.tree.map(partial(shifted, options), h0, states)
    at = _point(static, Weights(params, constants), before, gates, inputs)
    coefficients = cell.coefficients(products, at, (slots_dot, xs_dot), options)
    weights = prepared, constants._replace(reset_state=constants_dot.reset_state)
    steps = inputs.resets, *coefficients
    h_last_dot, states_dot = loop(products, cell, options, weights, h0_dot, steps)
    return (last(options, h0, states), states), (h_last_dot, states_dot)


def _point(static: Any, weights: Weights, before: Any, gates: Any, inputs: Inputs) -> Point:
    """Where the derivative is taken: states after their resets, and gates that may be unknown."""
    products, cell, options = static
    fresh = weights.constants.reset_state
    fresh = None if fresh is None else jax.tree.map(spread, fresh, before)
    before = restart(before, inputs.resets, fresh)
    if gates is None:
        step = cell.step(products, weights, options)
        _, gates = step(before, cell.project(products, weights.params, inputs.xs, _dtype(before)))
    return Point(weights, before, gates, inputs)


def tangents_in_one_loop(
    cell: Cell, options: Options, weights: tuple[Weights, Weights], carry: Any, steps: Any
) -> tuple[Any, Any]:
    """The recurrence of the tangents with everything inside the loop, for forward mode.

    Nothing is stored over time but the tangents of the states. Transposed, it would form the
    gradients of the weights step by step.
    """
    (at, along), (h0, h0_dot), (states, gates, inputs, xs_dot) = weights, carry, steps
    params, constants = at
    # `PRODUCTS` adds up the gates in the form whose transpose is fast
    linear_step = cell.linear_step(APART, cell.prepared(APART, params), constants)
    slots_dot = cell.slots(APART, along.params)

    def body(h_dot: Any, here: Any) -> tuple[Any, Any]:
        before, gates, inputs, x_dot = here
        point = _point((APART, cell, options), at, before, gates, inputs)
        coefficients = cell.coefficients(APART, point, (slots_dot, x_dot), options)
        h_dot = restart(h_dot, inputs.resets, along.constants.reset_state)
        h_dot = linear_step(h_dot, coefficients)
        return h_dot, h_dot

    before = jax.tree.map(partial(shifted, options), h0, states)
    scanned: tuple[Any, Any] = jax.lax.scan(
        body,
        h0_dot,
        (before, gates, inputs, xs_dot),
        reverse=options.reverse,
        unroll=options.unroll,
    )
    return scanned


def last(options: Options, h0: Any, states: Any) -> Any:
    """The last state in the direction of the scan; h0 without a step."""
    length = jax.tree.leaves(states)[0].shape[0]
    if isinstance(length, int) and length == 0:
        return h0
    return jax.tree.map(lambda leaf: leaf[0 if options.reverse else -1], states)


def shifted(options: Options, h0: jax.Array, states: jax.Array) -> jax.Array:
    """The state before each step."""
    if options.reverse:
        return jnp.concatenate([states, h0[None]])[1:]
    return jnp.concatenate([h0[None], states])[:-1]


def _dtype(h: Any) -> Any:
    return jax.tree.leaves(h)[0].dtype


def _gates(x: jax.Array, w: PerGate, gates: int, dtype: DTypeLike) -> PerGate:
    del gates  # one product for all
    assert not isinstance(w, tuple)
    return product(x, w, dtype)


def _weighted(factors: jax.Array, u: jax.Array) -> jax.Array:
    return jnp.sum(factors * u.reshape(factors.shape), axis=-2)


def _weighted_apart(factors: tuple[jax.Array, ...], u: jax.Array) -> jax.Array:
    parts = jnp.split(u, len(factors), axis=-1)
    first, *others = (factor * part for factor, part in zip(factors, parts, strict=True))
    return sum(others, first)


PRODUCTS = Products(
    gates=_gates,
    state=product,
    prepared=lambda w: w,
    tangent=product,
    weighted=_weighted,
    beside=partial(jnp.stack, axis=-2),
    slots=lambda w, gates: w,
    slotted=lambda x, w, dtype: _gates(x, w, 0, dtype),
)


APART = PRODUCTS._replace(weighted=_weighted_apart, beside=tuple)
"""With an array for the factors of each gate, for loops that nothing is summed over gates in."""


def _run(recurrence: Callable[..., Stretch], *args: Any) -> tuple[Any, Any]:
    cell, options, weights, carry, steps = args
    return recurrence(PRODUCTS, cell, options, weights)(carry, steps)


SCAN = Implementation(partial(_run, states), partial(_run, tangents))
