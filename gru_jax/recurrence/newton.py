"""Newton's method for the states of a GRU at all steps at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._ops import spread
from .._scan import restart, select
from .._state import vary_like
from . import scan
from .gru import GRU
from .interface import Inputs, Point, Weights
from .jacobians import Jacobian, jacobians, solved
from .options import Options

PRODUCTS = scan.APART
OPTIONS = Options(save="states")


class Static(NamedTuple):
    """What is not an array."""

    jacobian: Jacobian
    tolerance: float
    goal: float  # below the tolerance iterations go on to this, as long as the residual falls
    max_iterations: int


class Iterate(NamedTuple):
    """States, and what one step makes of each."""

    states: jax.Array  # [T, ..., H]
    before: jax.Array  # the state before each step, after its reset
    stepped: jax.Array  # f(before, x)
    gates: Any


class Recurrence(NamedTuple):
    """h_t = f(h_{t-1}, x_t) over all steps."""

    weights: Weights
    h0: jax.Array
    inputs: Inputs
    projection: Any

    def stepped(self, h: jax.Array, here: tuple[Any, Any, Any]) -> tuple[jax.Array, jax.Array, Any]:
        """From states h and what is given to a step, the states after resets, f and its gates."""
        x, update_mask, resets = here
        before = restart(h, resets, self.fresh(h))
        new, gates = GRU.step(PRODUCTS, self.weights, OPTIONS)(before, x)
        return before, new if update_mask is None else select(update_mask, new, before), gates

    def at(self, states: jax.Array) -> Iterate:
        """What one step makes of each of these states."""
        here = self.projection, self.inputs.mask, self.inputs.resets
        return Iterate(states, *self.stepped(scan.shifted(OPTIONS, self.h0, states), here))

    def improved(self, iterate: Iterate, jacobian: Jacobian) -> jax.Array:
        """The states after an iteration of Newton's method."""
        (params, _), (states, before, new, gates) = self.weights, iterate
        none = jax.tree.map(lambda _: None, GRU.slots(PRODUCTS, params))
        point = Point(self.weights, before, gates, self.inputs)
        factors, _ = GRU.coefficients(PRODUCTS, point, (none, None), OPTIONS)
        j = jacobians(jacobian, GRU.prepared(PRODUCTS, params), factors)
        zero = jnp.zeros_like(self.h0)
        better = states + solved(j, zero, new - states, self.inputs.resets, None)
        return jnp.where(jnp.isfinite(better), self.clipped(better), new)

    def fresh(self, like: jax.Array) -> jax.Array | None:
        """The reset state with as many axes."""
        fresh = self.weights.constants.reset_state
        return None if fresh is None else spread(fresh, like)

    def clipped(self, states: jax.Array) -> jax.Array:
        """The states within the bound that no state exceeds."""
        bound = jnp.fmax(1, jnp.abs(self.h0))[None]  # NaN in h0 is no bound: a reset may end it
        fresh = self.fresh(states)
        bound = bound if fresh is None else jnp.fmax(bound, jnp.abs(fresh))
        return jnp.clip(states, -bound, bound)

    def finished(self, states: jax.Array, begin: jax.Array) -> jax.Array:
        """All states, those from step `begin` `[...]` on by a loop."""

        def body(t: Any, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            h, states = carry
            every = states, (self.projection, self.inputs.mask, self.inputs.resets)
            given, here = jax.tree.map(lambda x: x[t], every)
            h = select(t >= begin, self.stepped(h, here)[1], given)
            return h, states.at[t].set(h)

        start = jnp.min(begin, initial=states.shape[0])
        h = jnp.concatenate([self.h0[None], states])[start]
        result: tuple[jax.Array, jax.Array]
        result = jax.lax.fori_loop(start, states.shape[0], body, (h, states))
        return result[1]


def residuals(iterate: Iterate) -> jax.Array:
    """|h_t − f(h_{t-1}, x_t)| of each step, `[T, ...]`."""
    return jnp.max(jnp.abs(iterate.stepped - iterate.states), axis=-1)


def newton(static: Static, recurrence: Recurrence, guess: jax.Array) -> tuple[jax.Array, Iterate]:
    """The number of iterations, and the last iterate.

    A row is open until its residual is at the goal, or within the tolerance and falls no more. NaN
    ends it: as iterates are finite, it comes from the arguments, and no iteration removes it.
    """

    def is_open(residual: jax.Array, last: jax.Array) -> jax.Array:
        return (residual > static.goal) & ((residual > static.tolerance) | (residual < last))

    def goes_on(carry: tuple[jax.Array, Iterate, jax.Array, jax.Array]) -> jax.Array:
        count, _, _, rows = carry
        return (count < static.max_iterations) & jnp.any(rows)

    def body(carry: tuple[jax.Array, Iterate, jax.Array, jax.Array]) -> Any:
        count, iterate, last, rows = carry
        better = recurrence.improved(iterate, static.jacobian)
        iterate = recurrence.at(select(rows[None], better, iterate.states))
        residual = jnp.max(residuals(iterate), axis=0)
        return count + 1, iterate, residual, rows & is_open(residual, last)

    finite = jnp.where(jnp.isnan(guess), jnp.zeros_like(guess), guess)
    iterate = recurrence.at(recurrence.clipped(finite))
    residual = jnp.max(residuals(iterate), axis=0)
    count = vary_like(jnp.zeros((), jnp.int32), residual)  # each device its own
    first = count, iterate, residual, residual > static.goal
    count, iterate, _, _ = jax.lax.while_loop(goes_on, body, first)
    return count, iterate


def is_far(residual: jax.Array, tolerance: float) -> jax.Array:
    """Whether a residual exceeds the tolerance, or is NaN."""
    return ~(residual <= tolerance)
