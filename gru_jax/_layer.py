"""One layer of a stack in one direction, with dropout and zoneout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._cell import gru_step
from ._fast import gru_unroll
from ._options import Save
from ._scan import unroll

Step = Callable[[Any, Any, Any], Any]
"""A cell: `(params, h, x) -> h'`."""


class Cell(NamedTuple):
    """What every layer runs."""

    step: Step
    recurrent_dropout: float
    zoneout: float
    save: Save


class Flags(NamedTuple):
    """What is said of the steps, as `unroll` takes it."""

    mask: jax.Array | None
    resets: jax.Array | None
    reset_state: Any
    reverse: bool


def run_layer(
    cell: Cell, params: Any, h0: Any, xs: jax.Array, flags: Flags, key: jax.Array | None
) -> tuple[Any, jax.Array]:
    """One layer in one direction; without a key zoneout takes its expectation."""
    keywords: dict[str, Any] = flags._asdict()
    if cell.step is not gru_step or (cell.zoneout and key is None):
        step = expected(cell.step, cell.zoneout)
        h_last, states = unroll(step, params, h0, xs, **keywords)
        return h_last, output(states)
    scale = updates = None
    if key is not None:
        scale_key, updates_key = jax.random.split(key)
        if cell.recurrent_dropout:
            scale = drop(scale_key, cell.recurrent_dropout, h0.shape, h0.dtype)
        if cell.zoneout:
            shape = *xs.shape[:1], *h0.shape
            updates = jax.random.bernoulli(updates_key, 1 - cell.zoneout, shape)
    keywords |= {"save": cell.save, "state_scale": scale, "unit_mask": updates}
    return gru_unroll(params, h0, xs, **keywords)


def expected(step: Step, zoneout: float) -> Step:
    """The step with the expectation of zoneout."""

    def expectation(params: Any, h: Any, x: Any) -> Any:
        new = step(params, h, x)
        return jax.tree.map(lambda old, new: zoneout * old + (1 - zoneout) * new, h, new)

    return expectation if zoneout else step


def drop(key: jax.Array, rate: float, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """What to multiply with: zero with probability `rate`, otherwise 1 / (1 − rate)."""
    kept = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, jnp.array(1 / (1 - rate), dtype), jnp.zeros((), dtype))


def output(state: Any) -> jax.Array:
    """The part of a state that the next layer reads: the first."""
    first: jax.Array = jax.tree.leaves(state)[0]
    return first


def connect(residual: bool, x: jax.Array, y: jax.Array) -> tuple[jax.Array, bool]:
    """The output of a layer, and whether its input was added to it."""
    connected = residual and x.shape[-1] == y.shape[-1]
    return (y + x.astype(y.dtype) if connected else y), connected


def check_connected(connected: bool) -> None:
    """Raises `ValueError` where `residual` would do nothing."""
    if not connected:
        raise ValueError("residual is True, but no layer's outputs are as wide as its inputs.")
