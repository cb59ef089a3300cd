"""The GRU over time: only what the state takes part in is left in the loop, in derivatives too."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._cell import Gates, gates_of, input_projection, mix
from ._checks import (
    as_array,
    check_flags,
    check_input,
    check_option,
    check_params,
    check_shape,
    check_size,
    check_state,
)
from ._params import GRUParams
from ._scan import outputs, prepare, restart, scan_time, select
from ._tangent import recurrent_weights, state_tangents, weight_tangents
from ._vmap import vmap_as_batch

Save = Literal["gates", "states", "chunks"]
Stretch = Callable[[Any, Any], tuple[Any, Any]]
"""A stretch of steps: `(carry, inputs [T, ...]) -> (carry, outputs [T, ...])`, as in a scan."""
Inputs = tuple[jax.Array, jax.Array | None, jax.Array | None]
"""xs `[T, ..., I]`, mask `[T, ...]` or `[T, ..., H]`, and resets `[T, ...]`."""


def gru_unroll(
    params: GRUParams,
    h0: ArrayLike,
    xs: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    save: Save = "gates",
    unroll: int = 1,
    state_scale: ArrayLike | None = None,
    unit_mask: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Runs the GRU over a sequence: the same numbers as `unroll(gru_step, ...)`, sooner.

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
      h0: the first state `[..., H]`, in the parameters' dtype or a wider one, which is carried.
      xs: the inputs `[T, ..., I]`, in the parameters' dtype. T may be 0.
      mask: bool `[T, ...]`; see `unroll`.
      resets: bool `[T, ...]`; see `unroll`.
      reverse: travel from the last step to the first; see `unroll`.
      save: what the forward pass keeps for the backward pass; the gradients are the same.
        "gates": states and gates, four or five arrays `[T, ..., H]`. Nothing is computed twice.
        "states": the states alone. The backward pass computes the gates again, outside its loop:
        a third more arithmetic for a fraction of the memory.
        "chunks": √T of the states, for very long sequences. The backward pass runs the recurrence
        again between them. The outputs `hs` need memory only as far as they are used.
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
      ValueError: an argument of the wrong shape or dtype, an unknown `save`, `unroll` below 1.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> xs = jax.random.normal(jax.random.key(1), (7, 2, 3))  # [T, B, I]
    >>> h0 = gru_jax.zero_state(params, (2,))
    >>> mask = gru_jax.sequence_mask(jnp.array([7, 4]), 7)
    >>> h_last, hs = gru_jax.gru_unroll(params, h0, xs, mask=mask)
    >>> h_last.shape, hs.shape
    ((2, 5), (7, 2, 5))
    """
    h0, xs = as_array("h0", h0), as_array("xs", xs)
    params = check_params(params)
    check_input("xs", params, xs, time_axes=1)
    check_state("h0", params, h0, xs.shape[1:-1])
    mask = check_flags("mask", mask, {xs.shape[:-1]})
    resets = check_flags("resets", resets, {xs.shape[:-1]})
    check_option("save", save, ("gates", "states", "chunks"))
    check_size("unroll", unroll)
    if state_scale is not None:
        state_scale = jax.lax.stop_gradient(as_array("state_scale", state_scale))
        check_shape("state_scale", state_scale, h0.shape, "(*batch, H) like h0")
    units = check_flags("unit_mask", unit_mask, {(*xs.shape[:1], *h0.shape)})
    visible, happens, resets = prepare(xs, mask, resets)
    if units is not None:
        happens = units if mask is None else units & mask[..., None]
    inputs = visible, happens, resets
    run = partial(_checkpointed if save == "chunks" else partial(_states, save), reverse, unroll)
    h_last, states = vmap_as_batch(run, params, state_scale, h0, inputs)
    return h_last, outputs(states, mask)


def _checkpointed(
    reverse: bool,
    unroll: int,
    params: GRUParams,
    scale: jax.Array | None,
    h0: jax.Array,
    inputs: Inputs,
) -> tuple[jax.Array, jax.Array]:
    """The same as `_states`, of which the backward pass is given √T states only."""
    length = len(inputs[0])
    run = jax.checkpoint(partial(_states, "gates", reverse, unroll, params, scale))
    steps = _even(length, math.isqrt(length) + 1)
    result: tuple[jax.Array, jax.Array] = _in_chunks(run, h0, inputs, steps, reverse)
    return result


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _states(
    save: Save,
    reverse: bool,
    unroll: int,
    params: GRUParams,
    scale: jax.Array | None,
    h0: jax.Array,
    inputs: Inputs,
) -> tuple[jax.Array, jax.Array]:
    """The last state and all states, masked ones repeating the one before."""
    most = _most_steps(2**20, h0)
    h_last, (states, _) = _run(False, most, reverse, unroll, params, scale, h0, inputs)
    return h_last, states


@_states.defjvp
def _states_jvp(
    save: Save, reverse: bool, unroll: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    params, scale, h0, inputs = primals
    params_dot, _, h0_dot, (xs_dot, _, _) = tangents
    most = _most_steps(2**16, h0)
    h_last, (states, saved) = _run(
        save == "gates", most, reverse, unroll, params, scale, h0, inputs
    )
    gates, w_h = gates_of(params, scale), recurrent_weights(params)
    dots = weight_tangents(params_dot)

    @jax.checkpoint  # what is computed from the states here is not kept for the backward pass
    def stretch(carry: Any, steps: Any) -> tuple[Any, jax.Array]:
        h, h_dot = carry
        states, found, (xs, mask, resets), xs_dot = steps
        path = jnp.concatenate([states, h[None]] if reverse else [h[None], states])
        before, h = (path[1:], path[0]) if reverse else (path[:-1], path[-1])
        before = restart(before, resets)
        if found is None:
            found = gates(before, input_projection(params, xs, h.dtype))
        if mask is not None:  # z = 0 leaves the state, and its tangent, as they are
            found = found._replace(z=select(mask, found.z, jnp.zeros_like(found.z)))
        h_dot, states_dot = state_tangents(
            params, w_h, dots, before, found, xs, xs_dot, h_dot, resets, scale, reverse, unroll
        )
        return (h, h_dot), states_dot

    steps = states, saved, inputs, xs_dot
    (_, h_last_dot), states_dot = _by_platform(stretch, (h0, h0_dot), steps, most, reverse)
    return (h_last, states), (h_last_dot, states_dot)


def _run(
    with_gates: bool,
    most: int,
    reverse: bool,
    unroll: int,
    params: GRUParams,
    scale: jax.Array | None,
    h0: jax.Array,
    inputs: Inputs,
) -> tuple[jax.Array, tuple[jax.Array, Gates | None]]:
    """The last state, all states, and all gates if asked for; on CPU `most` steps at once."""
    gates = gates_of(params, scale)

    def step(h: jax.Array, projection: Any) -> tuple[jax.Array, Gates | None]:
        found = gates(h, projection)
        return mix(h, found), found if with_gates else None

    def stretch(h: jax.Array, inputs: Inputs) -> tuple[jax.Array, tuple[jax.Array, Gates | None]]:
        xs, mask, resets = inputs
        projection = input_projection(params, xs, h.dtype)
        return scan_time(step, h, (projection, mask, resets), reverse=reverse, unroll=unroll)

    return _by_platform(stretch, h0, inputs, most, reverse)


def _most_steps(numbers: int, h0: jax.Array) -> int:
    """How many steps have so many numbers per gate; at least 16.

    Measured in `experiments.benchmark` and its forerunners: a training step gains up to a third
    from chunks of 2^16 numbers (256 kB in float32), which stay in a core's cache. The values
    alone lose a tenth by them, and gain a seventh from chunks of 2^20, where these are many.
    """
    return max(16, numbers // max(h0.size, 1))


def _by_platform(f: Stretch, carry: Any, xs: Any, steps: int, reverse: bool) -> tuple[Any, Any]:
    """Runs a stretch over all steps: at once, or on CPU in chunks of so many, if three or more."""
    length = len(jax.tree.leaves(xs)[0])
    if length < 3 * steps:
        return f(carry, xs)
    chunked = partial(_in_chunks, f, steps=_even(length, steps), reverse=reverse)
    result: tuple[Any, Any] = jax.lax.platform_dependent(carry, xs, cpu=chunked, default=f)
    return result


def _even(length: int, steps: int) -> int:
    """A chunk of at most these and more than half as many steps that leaves no rest, if any does.

    A rest costs a copy of everything, for it is cut off and put back.
    """
    return next((n for n in range(steps, steps // 2, -1) if length % n == 0), steps)


def _in_chunks(f: Stretch, carry: Any, xs: Any, steps: int, reverse: bool) -> tuple[Any, Any]:
    """The same as `f(carry, xs)`, in a scan over chunks of some steps; what is left comes last."""
    length = len(jax.tree.leaves(xs)[0])
    count, rest = divmod(length, steps)
    first, last = slice(length - rest), slice(length - rest, None)
    if reverse:
        first, last = slice(rest, None), slice(rest)
    chunks = jax.tree.map(lambda x: x[first].reshape(count, steps, *x.shape[1:]), xs)
    carry, ys = jax.lax.scan(f, carry, chunks, reverse=reverse)
    ys = jax.tree.map(lambda y: y.reshape(count * steps, *y.shape[2:]), ys)
    if rest:
        carry, tail = f(carry, jax.tree.map(lambda x: x[last], xs))
        ys = jax.tree.map(lambda *y: jnp.concatenate(y[::-1] if reverse else y), ys, tail)
    return carry, ys
