"""One layer of a stack, with dropout and zoneout."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._masks import backward_resets
from .._scan import unroll
from ..recurrence import fast_path
from ..recurrence.options import Program, Save
from .params import Bidirectional

Step = Callable[[Any, Any, Any], Any]
"""A cell: `(params, h, x) -> h'`."""


class Cell(NamedTuple):
    """The cell that every layer runs, and its options."""

    step: Step
    recurrent_dropout: float
    zoneout: float
    save: Save
    implementation: Program | None


class Flags(NamedTuple):
    """Masks, resets and direction, as `unroll` takes them."""

    mask: jax.Array | None
    resets: jax.Array | None
    reset_state: Any
    reverse: bool = False


def run_layer(
    cell: Cell, params: Any, h0: Any, xs: jax.Array, flags: Flags, keys: Sequence[jax.Array | None]
) -> tuple[Any, jax.Array]:
    """One layer, in both directions if it is bidirectional.

    Args:
      cell: the cell.
      params: the layer's parameters.
      h0: its first state.
      xs: its inputs `[T, ..., I]`.
      flags: masks and resets of the forward direction; the reset state is like `h0`.
      keys: one for each direction; without them zoneout takes its expectation.

    Returns:
      The last state, and the outputs `[T, ..., H]`, or `[T, ..., 2H]` of both directions.
    """
    if not isinstance(params, Bidirectional):
        return _run_direction(cell, params, h0, xs, flags, keys[0])
    mask, resets, reset_state, _ = flags
    reset_states = reset_state or Bidirectional(None, None)
    both = Bidirectional(
        flags._replace(reset_state=reset_states.forward),
        Flags(
            mask,
            None if resets is None else backward_resets(mask, resets),
            reset_states.backward,
            reverse=True,
        ),
    )
    directions = zip(params, h0, both, keys, strict=True)
    h_lasts, hs = zip(
        *(_run_direction(cell, p, h, xs, flags, key) for p, h, flags, key in directions),
        strict=True,
    )
    return Bidirectional(*h_lasts), jnp.concatenate(hs, axis=-1)


def _run_direction(
    cell: Cell, params: Any, h0: Any, xs: jax.Array, flags: Flags, key: jax.Array | None
) -> tuple[Any, jax.Array]:
    path = fast_path(cell.step)
    if path is None:
        h_last, states = unroll(cell.step, params, h0, xs, **flags._asdict())
        return h_last, output(states)
    options: dict[str, Any] = {}
    if path.regularised:
        options = {"save": cell.save, "implementation": cell.implementation}
        options |= _regularisation(cell, h0, xs, key)
    return path.unroll(params, h0, xs, **flags._asdict(), **options)


def _regularisation(
    cell: Cell, h0: jax.Array, xs: jax.Array, key: jax.Array | None
) -> dict[str, Any]:
    """Recurrent dropout and zoneout as `gru_unroll` takes them."""
    if key is None:
        return {"zoneout": cell.zoneout}
    scale_key, updates_key = jax.random.split(key)
    scale = updates = None
    if cell.recurrent_dropout:
        scale = drop(scale_key, cell.recurrent_dropout, h0.shape, h0.dtype)
    if cell.zoneout:
        shape = *xs.shape[:1], *h0.shape
        updates = jax.random.bernoulli(updates_key, 1 - cell.zoneout, shape)
    return {"state_scale": scale, "unit_mask": updates}


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
