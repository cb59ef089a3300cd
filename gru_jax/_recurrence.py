"""The GRU's recurrence: input projections and weight gradients are computed outside the loop."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ._cell import Gates, gates_of, input_projection, mix
from ._chunks import by_platform, chunk_length, in_chunks, most_steps
from ._ops import spread
from ._options import Constants, Options
from ._params import GRUParams
from ._scan import restart, scan_time, select
from ._tangent import Point, WeightTangents, recurrent_weights, state_tangents, weight_tangents

Inputs = tuple[jax.Array, jax.Array | None, jax.Array | None]
"""xs `[T, ..., I]`, mask `[T, ...]` or `[T, ..., H]`, and resets `[T, ...]`."""


def checkpointed(
    options: Options, params: GRUParams, constants: Constants, h0: jax.Array, inputs: Inputs
) -> tuple[jax.Array, jax.Array]:
    """The same as `states_of`, of which the backward pass is given √T states only."""
    length = inputs[0].shape[0]
    run = jax.checkpoint(partial(states_of, options._replace(save="gates"), params, constants))
    steps = chunk_length(length, math.isqrt(length) + 1)
    result: tuple[jax.Array, jax.Array] = in_chunks(run, h0, inputs, steps, options.reverse)
    return result


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def states_of(
    options: Options, params: GRUParams, constants: Constants, h0: jax.Array, inputs: Inputs
) -> tuple[jax.Array, jax.Array]:
    """The last state and all states, masked ones repeating the one before."""
    most = most_steps(2**20, h0)
    plain = options._replace(save="states")
    h_last, (states, _) = _run(plain, most, params, constants, h0, inputs)
    return h_last, states


@states_of.defjvp
def _states_jvp(
    options: Options, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    params, constants, h0, inputs = primals
    params_dot, constants_dot, h0_dot, (xs_dot, _, _) = tangents
    most = most_steps(2**16, h0)
    h_last, (states, gates) = _run(options, most, params, constants, h0, inputs)

    weights = params, recurrent_weights(params)
    slots, weights_dot = weight_tangents(params), weight_tangents(params_dot)

    def stretch(carry: Any, steps: Any) -> tuple[Any, jax.Array]:
        h, h_dot = carry
        states, gates, (xs, mask, resets), xs_dot = steps

        # What is computed from the states here is not stored for the backward pass. The checkpoint
        # is differentiated, not what it contains: jax_remat3's cannot be transposed.
        @jax.checkpoint
        def known(slots: Any, reset_state: Any, h: jax.Array, xs: jax.Array) -> Any:
            here = constants._replace(reset_state=reset_state), h, (xs, mask, resets)
            return _known(options, weights, slots, here, (states, gates))

        at = slots, constants.reset_state, h, xs
        along = weights_dot, constants_dot.reset_state, h_dot, xs_dot
        (h, _), (h_dot, states_dot) = jax.jvp(known, at, along)
        return (h, h_dot), states_dot

    steps = states, gates, inputs, xs_dot
    (_, h_last_dot), states_dot = by_platform(stretch, (h0, h0_dot), steps, most, options.reverse)
    return (h_last, states), (h_last_dot, states_dot)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _known(
    options: Options,
    weights: tuple[GRUParams, list[jax.Array]],
    slots: WeightTangents,
    here: tuple[Constants, jax.Array, Inputs],
    known: tuple[jax.Array, Gates | None],
) -> tuple[jax.Array, jax.Array]:
    """The last state and all states of `states_of`, given as `known`, with their derivative.

    Its tangents are those of `here` and of `slots`, which only take the weights' tangents; the
    other arguments' have come from these.
    """
    (_, h0, _), (states, _) = here, known
    return _last(options, h0, states), states


@_known.defjvp
def _known_jvp(
    options: Options, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    (params, w_h), _, (constants, h0, (xs, mask, resets)), (states, gates) = primals
    path = jnp.concatenate([states, h0[None]] if options.reverse else [h0[None], states])
    before = path[1:] if options.reverse else path[:-1]
    fresh = constants.reset_state
    before = restart(before, resets, None if fresh is None else spread(fresh, before))
    if gates is None:
        find = gates_of(params, constants.scale)
        gates = find(before, input_projection(params, xs, h0.dtype))
    if mask is not None:  # z = 0 leaves the state, and its tangent, as they are
        gates = gates._replace(z=select(mask, gates.z, jnp.zeros_like(gates.z)))

    _, weights_dot, (constants_dot, h0_dot, (xs_dot, _, _)), _ = tangents
    at = Point(before, gates, xs, resets, constants.scale)
    along = weights_dot, constants_dot.reset_state, h0_dot, xs_dot
    tangents_out = state_tangents(params, w_h, at, along, options)
    return (_last(options, h0, states), states), tangents_out


def _last(options: Options, h0: jax.Array, states: jax.Array) -> jax.Array:
    if isinstance(states.shape[0], int) and states.shape[0] == 0:
        return h0
    return states[0 if options.reverse else -1]


def _run(
    options: Options,
    most: int | None,
    params: GRUParams,
    constants: Constants,
    h0: jax.Array,
    inputs: Inputs,
) -> tuple[jax.Array, tuple[jax.Array, Gates | None]]:
    """The last state, all states, and all gates to be saved; on CPU `most` steps at once."""
    find = gates_of(params, constants.scale)

    def step(h: jax.Array, projection: Any) -> tuple[jax.Array, Gates | None]:
        gates = find(h, projection)
        return mix(h, gates), gates if options.save == "gates" else None

    def stretch(h: jax.Array, inputs: Inputs) -> tuple[jax.Array, tuple[jax.Array, Gates | None]]:
        xs, mask, resets = inputs
        projection = input_projection(params, xs, h.dtype)
        return scan_time(
            step,
            h,
            (projection, mask, resets),
            constants.reset_state,
            reverse=options.reverse,
            unroll=options.unroll,
        )

    return by_platform(stretch, h0, inputs, most, options.reverse)
