"""A cell's fast path over time: validation, masks, resets, and dispatch."""

from functools import partial
from typing import Any, NamedTuple

import jax
from jax.typing import ArrayLike

from .._checks import as_array, check_flags, check_shape
from .._scan import detached, first_state, outputs, prepare
from .._state import check_reset_state
from ..cells.checks import check_input, check_states
from .derivative import run
from .flat import ROWS, STEPS, WEIGHTS
from .interface import Cell, Inputs
from .options import Constants, Options
from .primitive import as_primitive


class Flags(NamedTuple):
    """What `gru_unroll` is told about the steps, as given."""

    mask: ArrayLike | None
    resets: ArrayLike | None
    reset_state: Any
    state_scale: ArrayLike | None
    unit_mask: ArrayLike | None


def checked(
    params: Any, h0: Any, xs: ArrayLike, flags: Flags
) -> tuple[Any, tuple[jax.Array, jax.Array | None, jax.Array | None], Any]:
    """The first state, `(xs, mask, resets)` and the state after a reset, checked.

    Args:
      params: a cell's parameters, checked.
      h0: the first state, a pytree of `[..., H]`; None for zeros.
      xs: the inputs `[T, ..., I]`.
      flags: as given.

    Raises:
      ValueError: an argument of the wrong kind, shape or dtype.
    """
    xs = as_array("xs", xs)
    check_input("xs", params, xs, time_axes=1)
    state = first_state(h0, params, xs, flags)
    check_states("h0", params, state, xs.shape[1:-1])
    mask = check_flags("mask", flags.mask, {xs.shape[:-1]})
    resets = check_flags("resets", flags.resets, {xs.shape[:-1]})
    return state, (xs, mask, resets), check_reset_state(flags.reset_state, resets, state)


def fast_unroll(
    cell: Cell, params: Any, h0: Any, xs: ArrayLike, flags: Flags, options: Options
) -> tuple[Any, Any]:
    """Runs a cell over a sequence; equivalent to `unroll` of its step, but faster.

    Args:
      cell: the cell.
      params: its parameters, checked.
      h0: the first state, a pytree of `[..., H]`; None for zeros.
      xs: the inputs `[T, ..., I]`.
      flags: as given to `gru_unroll`.
      options: as given to `gru_unroll`.

    Raises:
      ValueError: an argument of the wrong kind, shape or dtype.
    """
    state, (xs, mask, resets), fresh = checked(params, h0, xs, flags)
    options = options.checked(xs.shape[0])
    h = jax.tree.leaves(state)[0]
    scale = None if flags.state_scale is None else as_array("state_scale", flags.state_scale)
    if scale is not None:
        check_shape("state_scale", scale, h.shape, "(*batch, H) like h0")
        if scale.dtype != h.dtype:
            raise ValueError(f"state_scale is {scale.dtype}, but must be {h.dtype} like h0.")
        scale = jax.lax.stop_gradient(scale)
    shape = *xs.shape[:1], *h.shape
    units = check_flags("unit_mask", flags.unit_mask, {shape}, "(T, *batch, H)")
    constants = Constants(scale, fresh)
    result: tuple[Any, Any] = _unroll(
        (cell, options), params, constants, state, (xs, mask, resets, units)
    )
    return result


@partial(jax.jit, static_argnums=0)  # calls outside a jit compile once, too
def _unroll(
    static: tuple[Cell, Options], params: Any, constants: Constants, h0: Any, inputs: Any
) -> tuple[Any, Any]:
    xs, mask, resets, unit_mask = inputs
    masked_xs, update_mask, resets = prepare(xs, mask, resets)
    if unit_mask is not None:
        update_mask = unit_mask if mask is None else unit_mask & mask[..., None]
    h_last, states = as_primitive(
        run,
        static,
        (params, constants, h0, Inputs(masked_xs, update_mask, resets)),
        (WEIGHTS, ROWS, ROWS, STEPS),
        (ROWS, STEPS),
    )
    return detached(h_last, h0, xs), outputs(states, mask)
