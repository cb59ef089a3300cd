"""`gru_unroll`: the GRU over time, with masks, resets and direction."""

from functools import partial
from typing import Any, SupportsIndex

import jax
from jax.typing import ArrayLike

from ._checks import (
    as_array,
    check_bool,
    check_flags,
    check_input,
    check_option,
    check_shape,
    check_state,
)
from ._options import Constants, Options, Save
from ._params import GRUParams, check_gru
from ._recurrence import checkpointed, states_of
from ._scan import check_unroll, detached, first_state, outputs, prepare
from ._state import check_reset_state
from ._vmap import vmap_as_batch


def gru_unroll(
    params: GRUParams,
    h0: ArrayLike | None,
    xs: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
    reverse: bool = False,
    save: Save = "gates",
    unroll: SupportsIndex = 1,
    state_scale: ArrayLike | None = None,
    unit_mask: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Runs the GRU over a time-major sequence: as `unroll(gru_step, ...)`, but faster.

    x W_x does not depend on the state, so it is formed for all steps at once, in large products,
    and the loop is left with the recurrent product only. The derivative is written by hand, as
    the linear recurrence that the states' tangents obey; JAX transposes it for reverse mode.
    Gradients of weights, inputs and biases are then formed outside the backward loop, in large
    products, too, where `jax.grad` of a plain scan adds them up step by step. Derivatives of
    every order, in forward and in reverse mode, work.

    On CPU everything outside the loops is done for a stretch of steps at a time, short enough to
    stay in the cache, and a single row of a large state is multiplied on two cores.

    `jax.vmap` over sequences that share the weights gives the same program as an explicit batch
    axis. The vmap of a gradient (per-example gradients), and over weights, does not: it is mapped
    by JAX's own rules, which transpose arrays around the loops.

    Args:
      params: the weights.
      h0: the first state `[..., H]`, in the parameters' dtype or a wider one, which is carried;
        None for zeros in the parameters' dtype.
      xs: the inputs `[T, ..., I]`, in the parameters' dtype. T may be 0.
      mask: bool `[T, ...]`; see `unroll`.
      resets: bool `[T, ...]`; see `unroll`. Not to be confused with `params.reset`, the position
        of the reset gate.
      reset_state: `[H]` or `[..., H]`, the state that a reset begins with, zeros by default; see
        `unroll`.
      reverse: travel from the last step to the first; see `unroll`.
      save: the residuals stored for the backward pass; the gradients are the same.
        "gates": states and gates, four or five arrays `[T, ..., H]`. Nothing is computed twice.
        "states": the states alone. The backward pass computes the gates again, outside its loop:
        a third more arithmetic for a fraction of the memory.
        "chunks": √T of the states, for very long sequences. The backward pass runs the recurrence
        again between them. The outputs `hs` need memory only as far as they are used. T must be
        a number: not a dimension variable of `jax.export`.
      unroll: the number of steps per iteration of the compiled loop, as in `jax.lax.scan`.
      state_scale: `[..., H]`, in h0's dtype. Multiplies the state where it enters the products
        with W_h, not where it is copied: the dropout of Gal & Ghahramani 2016. A constant:
        nothing is differentiated with respect to it.
      unit_mask: bool `[T, ..., H]`. Where it is False a unit keeps its state: zoneout (Krueger et
        al. 2017). Nothing is zeroed.

    Returns:
      `(h_last, hs)`: the state after the last unmasked step in the direction of travel
      `[..., H]`, and the state after every step `[T, ..., H]`, zero where masked.

    Raises:
      ValueError: an argument of the wrong shape or dtype, an unknown `save`, `unroll` below 1, a
        `reset_state` without resets.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> xs = jax.random.normal(jax.random.key(1), (7, 2, 3))  # [T, B, I]
    >>> h0 = gru_jax.zero_state(params, (2,))
    >>> mask = gru_jax.sequence_mask(jnp.array([7, 4]), 7)
    >>> h_last, hs = gru_jax.gru_unroll(params, h0, xs, mask=mask)
    >>> h_last.shape, hs.shape
    ((2, 5), (7, 2, 5))
    """
    params, xs = check_gru(params), as_array("xs", xs)
    check_input("xs", params, xs, time_axes=1)
    flags = mask, resets, reset_state, state_scale, unit_mask
    state = first_state(h0 if h0 is None else as_array("h0", h0), params, xs, flags)
    check_state("h0", params, state, xs.shape[1:-1])
    mask = check_flags("mask", mask, {xs.shape[:-1]})
    resets = check_flags("resets", resets, {xs.shape[:-1]})
    fresh = check_reset_state(reset_state, resets, state)
    check_bool("reverse", reverse)
    check_option("save", save, ("gates", "states", "chunks"))
    if save == "chunks" and not isinstance(xs.shape[0], int):
        raise ValueError(
            f'save is "chunks", but T = {xs.shape[0]} is a dimension variable: use save="states".'
        )
    scale = None if state_scale is None else as_array("state_scale", state_scale)
    if scale is not None:
        check_shape("state_scale", scale, state.shape, "(*batch, H) like h0")
        if scale.dtype != state.dtype:
            raise ValueError(f"state_scale is {scale.dtype}, but must be {state.dtype} like h0.")
        scale = jax.lax.stop_gradient(scale)
    units = check_flags("unit_mask", unit_mask, {(*xs.shape[:1], *state.shape)}, "(T, *batch, H)")
    options = Options(save, bool(reverse), check_unroll(unroll, xs.shape[0]))
    constants = Constants(scale, fresh)
    result: tuple[jax.Array, jax.Array] = _unroll(
        options, params, constants, state, (xs, mask, resets, units)
    )
    return result


@partial(jax.jit, static_argnums=0, inline=True)  # calls outside a jit compile once, too
def _unroll(
    options: Options, params: GRUParams, constants: Constants, h0: jax.Array, inputs: Any
) -> tuple[jax.Array, jax.Array]:
    xs, mask, resets, unit_mask = inputs
    masked_xs, update_mask, resets = prepare(xs, mask, resets)
    if unit_mask is not None:
        update_mask = unit_mask if mask is None else unit_mask & mask[..., None]
    run = partial(checkpointed if options.save == "chunks" else states_of, options)
    h_last, states = vmap_as_batch(run, params, constants, h0, (masked_xs, update_mask, resets))
    return detached(h_last, h0, xs), outputs(states, mask)
