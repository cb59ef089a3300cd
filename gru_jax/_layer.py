"""One layer of a stack in one direction, with the noise that training adds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ._cell import gru_step
from ._fast import Save, gru_unroll
from ._scan import unroll

Step = Callable[[Any, Any, Any], Any]
"""A cell: `(params, h, x) -> h'`."""


def run_layer(
    step: Step,
    mask: jax.Array | None,
    recurrent_dropout: float,
    zoneout: float,
    save: Save,
    params: Any,
    h0: Any,
    xs: jax.Array,
    resets: jax.Array | None,
    reverse: bool,
    key: jax.Array | None,
) -> tuple[Any, jax.Array]:
    """One layer in one direction."""
    flags: dict[str, Any] = {"mask": mask, "resets": resets, "reverse": reverse}
    if step is not gru_step or (zoneout and key is None):
        h_last, states = unroll(expected(step, zoneout), params, h0, xs, **flags)
        return h_last, output(states)
    scale = updates = None
    if key is not None:
        scale_key, updates_key = jax.random.split(key)
        if recurrent_dropout:
            scale = drop(scale_key, recurrent_dropout, h0.shape, h0.dtype)
        if zoneout:
            updates = jax.random.bernoulli(updates_key, 1 - zoneout, (len(xs), *h0.shape))
    return gru_unroll(params, h0, xs, **flags, save=save, state_scale=scale, unit_mask=updates)


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


def dtype_of(params: Any) -> Any:
    """The dtype of a cell's parameters."""
    return jax.tree.leaves(params)[0].dtype


def connect(residual: bool, x: jax.Array, y: jax.Array) -> tuple[jax.Array, bool]:
    """The output of a layer, and whether its input was added to it."""
    connected = residual and x.shape[-1] == y.shape[-1]
    return (y + x.astype(y.dtype) if connected else y), connected


def check_connected(connected: bool) -> None:
    """Refuses `residual` where it would do nothing."""
    if not connected:
        raise ValueError("residual is True, but no layer's outputs are as wide as its inputs.")
