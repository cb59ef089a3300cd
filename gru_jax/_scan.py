"""Any step function over time: masks, resets and the direction of travel."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._checks import as_array, check_flags, check_size


def unroll(
    step: Callable[[Any, Any, Any], Any],
    params: Any,
    h0: Any,
    xs: Any,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    unroll: int = 1,
) -> tuple[Any, Any]:
    """Runs `h = step(params, h, x)` over a sequence, in one `jax.lax.scan`.

        h_t = step(params, h_{t-1}, x_t)                     an ordinary step
        h_t = step(params, 0, x_t)                           where resets[t]
        h_t = h_{t-1}, and hs[t] = 0                         where not mask[t]

    Args:
      step: any function `(params, h, x) -> h'`, such as `gru_step`. The state may be a pytree of
        arrays `[..., features]`, the input a pytree of arrays `[..., any]`.
      params: passed to `step`.
      h0: the first state, `[..., H]`.
      xs: the inputs, time first, `[T, ...]`. T may be 0.
      mask: bool `[T, ...]`, one axis fewer than the states `[T, ..., H]`. Where it is False the
        step does not happen, its reset included: the state is carried through, the output is
        zero, and all gradients through the step are exactly zero, whatever `xs` holds there.
      resets: bool `[T, ...]`. Where it is True the state is replaced by zeros before `xs[t]` is
        consumed, so that a new episode begins with `xs[t]`.
      reverse: travel from the last step to the first. The outputs keep the inputs' places, and a
        reset at t still acts before `xs[t]` is consumed, now coming from t + 1.
      unroll: the number of steps per iteration of the compiled loop, as in `jax.lax.scan`.

    Returns:
      `(h_last, hs)`: the state after the last unmasked step in the direction of travel (h0 where
      there is none), and the state after every step `[T, ..., H]`.

    Raises:
      ValueError: `xs` without a common time axis, a mask or resets not of dtype bool or not of
        shape `[T, ...]`, `unroll` below 1.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> xs = jax.random.normal(jax.random.key(1), (7, 2, 3))  # [T, B, I]
    >>> h0 = gru_jax.zero_state(params, (2,))
    >>> h_last, hs = gru_jax.unroll(gru_jax.gru_step, params, h0, xs)
    >>> h_last.shape, hs.shape
    ((2, 5), (7, 2, 5))
    """
    h0 = jax.tree.map(partial(as_array, "h0"), h0)
    xs = jax.tree.map(partial(as_array, "xs"), xs)
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(xs)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            f"xs has leading axes {sorted(lengths)}, but must have one time axis T common to all."
        )
    ((length,),) = lengths
    shapes = {(length, *leaf.shape[:-1]) for leaf in jax.tree.leaves(h0)}
    mask = check_flags("mask", mask, shapes)
    resets = check_flags("resets", resets, shapes)
    check_size("unroll", unroll)
    h_last, (states, _) = scan_time(
        lambda h, x: (step(params, h, x), None),
        h0,
        prepare(xs, mask, resets),
        reverse=reverse,
        unroll=unroll,
    )
    return h_last, outputs(states, mask)


def scan_time(
    step: Callable[[Any, Any], tuple[Any, Any]],
    h0: Any,
    inputs: tuple[Any, jax.Array | None, jax.Array | None],
    *,
    reverse: bool,
    unroll: int,
) -> tuple[Any, tuple[Any, Any]]:
    """The scan of `unroll` over inputs `(xs, mask, resets)`, checked and prepared.

    The step gives the next state and anything else; returned are the last state, and all states
    and everything else stacked over time. Where a step is masked the state is the one before; a
    mask `[T, ..., H]` does so for single units.
    """

    def body(h: Any, inputs: tuple[Any, Any, Any]) -> tuple[Any, tuple[Any, Any]]:
        x, happens, resets_here = inputs
        h = restart(h, resets_here)
        new, other = step(h, x)
        if happens is not None:
            new = select(happens, new, h)
        return new, (new, other)

    return jax.lax.scan(body, h0, inputs, reverse=reverse, unroll=unroll)


def restart(h: Any, resets: jax.Array | None) -> Any:
    """Puts zeros in place of states that are reset."""
    return h if resets is None else select(resets, _zeros_like(h), h)


def outputs(states: Any, mask: jax.Array | None) -> Any:
    """The states, zero where masked."""
    return states if mask is None else select(mask, states, _zeros_like(states))


def prepare(
    xs: Any, mask: jax.Array | None, resets: jax.Array | None
) -> tuple[Any, jax.Array | None, jax.Array | None]:
    """Puts zeros in place of masked inputs, and takes out masked resets, which do not happen.

    Selecting the old state already makes a masked step's gradient zero, but the backward pass
    multiplies that zero by the step's derivatives and the input, and 0 · inf or 0 · NaN is NaN.
    """
    if mask is None:
        return xs, mask, resets
    return select(mask, xs, _zeros_like(xs)), mask, None if resets is None else resets & mask


def resets_from_behind(mask: jax.Array | None, resets: jax.Array) -> jax.Array:
    """The resets for travelling backwards between the same episodes.

    A step needs one where the next unmasked step has one. An episode's number grows with each
    reset, so that the next unmasked step's is the smallest of the unmasked ones to come.
    """
    episodes = jnp.cumsum(resets, axis=0, dtype=jnp.int32)
    none = jnp.full((1, *resets.shape[1:]), len(resets) + 1, jnp.int32)  # more than there can be
    seen = episodes if mask is None else jnp.where(mask, episodes, none)
    later = jnp.concatenate([jax.lax.cummin(seen, axis=0, reverse=True), none])[1:]
    return (later > episodes) & (later < none)


def sequence_mask(lengths: ArrayLike, max_length: int) -> jax.Array:
    """The mask of right-padded sequences: True at t where t < length.

    Args:
      lengths: integers `[...]`. A length above `max_length` counts as `max_length`.
      max_length: T, a Python integer.

    Returns:
      bool `[T, ...]`, time first, as `unroll` takes it.

    Raises:
      ValueError: `lengths` not integers, or `max_length` negative.

    >>> import gru_jax
    >>> gru_jax.sequence_mask([2, 0, 3], 3).astype(int)
    Array([[1, 0, 1],
           [1, 0, 1],
           [0, 0, 1]], dtype=int32)
    """
    lengths = as_array("lengths", lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths is {lengths.dtype}, but must be integers.")
    if max_length < 0:
        raise ValueError(f"max_length is {max_length}, but must be at least 0.")
    shape = (max_length, *lengths.shape)
    steps = jax.lax.broadcasted_iota(lengths.dtype, shape, 0)
    return steps < jnp.broadcast_to(lengths, shape)


def select(condition: jax.Array, on_true: Any, on_false: Any) -> Any:
    """Selects whole feature vectors: `condition [...]` between pytrees of `[..., features]`."""

    def select(a: jax.Array, b: jax.Array) -> jax.Array:
        axes = range(condition.ndim, a.ndim)
        return jnp.where(jnp.expand_dims(condition, tuple(axes)), a, b)

    return jax.tree.map(select, on_true, on_false)


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)
