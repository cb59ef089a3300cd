"""What a cell declares to have a fast path, and what an implementation of one provides."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .options import Constants, Options

Tree = Any
"""A pytree of arrays; a state's leaves are `[..., H]`."""
PerGate = jax.Array | tuple[jax.Array, ...]
"""One product per gate: a tuple of arrays `[..., H]`, or one array `[..., gates · H]`."""


class Products(NamedTuple):
    """How an implementation computes the products of a cell, accumulated in `dtype`."""

    gates: Callable[[jax.Array, jax.Array, int, DTypeLike], PerGate]
    """`(x, w, gates, dtype)`: x w for all gates of w `[K, gates · H]`, outside the loop."""
    state: Callable[[jax.Array, jax.Array, DTypeLike], jax.Array]
    """`(h, w, dtype)`: h w inside the loop of the states."""
    prepared: Callable[[jax.Array], jax.Array]
    """`(w)`: the weights in the layout that `tangent` takes."""
    tangent: Callable[[jax.Array, jax.Array, DTypeLike], jax.Array]
    """`(h_dot, prepared(w), dtype)`: h_dot w inside the loop of the tangents."""
    weighted: Callable[[Any, jax.Array], jax.Array]
    """`(beside(factors), u [..., gates · H])`: the sum over the gates of both's product."""
    beside: Callable[[Sequence[jax.Array]], Any]
    """`(factors)`: the factors of all gates, `[..., H]` each, as `weighted` takes them."""
    slots: Callable[[jax.Array, int], PerGate]
    """`(w, gates)`: the layout of w in which its tangent enters, and its gradient leaves."""
    slotted: Callable[[jax.Array, PerGate, DTypeLike], PerGate]
    """`(x, slots(w, gates), dtype)`: x w for all gates, outside the loop."""


def per_gate(products: PerGate, gates: int) -> tuple[jax.Array, ...]:
    """The products of each gate, `[..., H]`."""
    if isinstance(products, tuple):
        return products
    return tuple(jnp.split(products, gates, axis=-1))


class Inputs(NamedTuple):
    """The inputs of a stretch of steps."""

    xs: jax.Array  # [T, ..., I]
    mask: jax.Array | None  # bool [T, ...], or [T, ..., H] for single units
    resets: jax.Array | None  # bool [T, ...]


class Weights(NamedTuple):
    """What is the same at all steps and may be differentiated."""

    params: Any
    constants: Constants


class Point(NamedTuple):
    """Where the derivative of a stretch of steps is taken."""

    weights: Weights
    before: Tree  # the state before each step, after its reset, [T, ..., H]
    gates: Any  # what `step` returned with the states
    inputs: Inputs


class Cell(NamedTuple):
    """A cell as pure functions, from which this package makes its fast path.

    Its state may be any pytree of arrays `[..., H]`. Every function gets `Products`, so that a
    cell is written once for all platforms.
    """

    project: Callable[[Products, Any, jax.Array, DTypeLike], Any]
    """`(products, params, xs, dtype)`: the part of all steps that does not depend on the state."""
    step: Callable[[Products, Weights, Options], Callable[[Tree, Any], tuple[Tree, Any]]]
    """`(products, weights, options)`: the rest of a step, `(h, projection) -> (h', gates)`.

    `gates` is any pytree that the derivative needs."""
    prepared: Callable[[Products, Any], Any]
    """`(products, params)`: the recurrent weights, as `linear_step` takes them."""
    slots: Callable[[Products, Any], Any]
    """`(products, params)`: all parameters in the layout in which their tangents enter. Tangents
    that are zero are None, there and in the result."""
    coefficients: Callable[[Products, Point, tuple[Any, jax.Array], Options], Any]
    """`(products, at, (slots, xs_dot), options)`: the coefficients of the linear recurrence that
    the tangents of the states obey, stacked over time: those of the identity where masked. They are
    a pair `(factors, terms)`, of which only the terms depend on slots and xs_dot. None stands for
    zero, in all of the slots of a weight or in none of them."""
    linear_step: Callable[[Products, Any, Constants], Callable[[Tree, Any], Tree]]
    """`(products, prepared, constants)`: one step of it, `(h_dot, (factors, terms)) -> h_dot'`."""


Operation = Callable[[Cell, Options, Any, Any, Any], tuple[Any, Any]]
"""One of the two recurrences over a stretch of steps: `(cell, options, weights, carry, steps)`.

The recurrence of the states takes `Weights`, a carry h and steps `Inputs`, and returns `(h_last,
(states, gates))`, with gates None unless `options.save` is "gates". That of the tangents takes
`(weights, weights_dot)`, a carry (h, h_dot) and steps (states, gates, inputs, xs_dot), and returns
`((h_last, h_last_dot), states_dot)`; it is linear in all tangents. Both raise `Unsupported` where
the implementation does not apply to these arguments.
"""


class Implementation(NamedTuple):
    """Both recurrences as one platform runs them."""

    states: Operation
    tangents: Operation


class Unsupported(Exception):  # noqa: N818, no error: the plain scan runs instead
    """Raised by an implementation that does not apply to its arguments."""
