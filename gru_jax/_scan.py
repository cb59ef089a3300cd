"""Any step function over time, with masks, resets and either direction."""

from collections.abc import Callable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._checks import (
    as_array,
    check_bool,
    check_callable,
    check_flags,
    check_size,
    check_time_axis,
    is_symbolic,
)
from ._state import Tree, check_reset_state, like_inputs, vary_like, zeros_for
from ._trace import once


def unroll(
    step: Callable[[Any, Any, Any], Any],
    params: Any,
    h0: Any,
    xs: Any,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: Any = None,
    reverse: bool = False,
    unroll: SupportsIndex = 1,
) -> tuple[Any, Any]:
    """Runs `h = step(params, h, x)` over a sequence, in one `jax.lax.scan`.

        h_t = step(params, h_{t-1}, x_t)                     an ordinary step
        h_t = step(params, reset_state, x_t)                 where resets[t]
        h_t = h_{t-1}, and hs[t] = 0                         where not mask[t]

    Args:
      step: any function `(params, h, x) -> h'`, such as `gru_step`. The state may be a pytree of
        arrays `[..., features]`, the input a pytree of arrays `[..., any]`.
        Traced once for calls with the same shapes, as under `jax.jit`, if it is a function that
        captures nothing but numbers, strings, functions, and modules of JAX and NumPy.
      params: passed to `step`.
      h0: the first state, `[..., H]`; None for zeros, where `params` are a cell's and `xs` is one
        array `[T, ..., I]`.
      xs: the inputs, time-major, `[T, ...]`. T may be 0.
      mask: bool `[T, ...]`, one axis fewer than the states `[T, ..., H]`. Where it is False the
        step does not happen, its reset included: the state is carried through, the output is
        zero, and all gradients through the step are exactly zero, whatever `xs` holds there.
      resets: bool `[T, ...]`. Where it is True the state is replaced before `xs[t]` is consumed,
        so that a new episode begins with `xs[t]`.
      reset_state: what it is replaced with, zeros by default: `[H]` or `[..., H]`, for a state of
        several parts a pytree of them. Differentiable: a learned first state.
      reverse: run from the last step to the first. The outputs keep the order of the inputs, and a
        reset at t still acts before `xs[t]` is consumed, on the state that comes from t + 1.
      unroll: the number of steps per iteration of the compiled loop, as in `jax.lax.scan`.

    Returns:
      `(h_last, hs)`: the state after the last unmasked step in the direction of the scan (h0 where
      there is none), and the state after every step `[T, ..., H]`.

    Raises:
      ValueError: `xs` without a common time axis, a mask or resets not of dtype bool or not of
        shape `[T, ...]`, a `reset_state` unlike the state or without resets, `unroll` below 1, a
        step whose result is not like the state.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> xs = jax.random.normal(jax.random.key(1), (7, 2, 3))  # [T, B, I]
    >>> h0 = gru_jax.zero_state(params, (2,))
    >>> h_last, hs = gru_jax.unroll(gru_jax.gru_step, params, h0, xs)
    >>> h_last.shape, hs.shape
    ((2, 5), (7, 2, 5))
    """
    check_callable("step", step, "(params, h, x) -> h'")
    xs, length = check_time_axis("xs", xs)
    h0 = first_state(h0, params, xs, mask, resets, reset_state)
    shapes = {(length, *leaf.shape[:-1]) for leaf in jax.tree.leaves(h0)}
    mask = check_flags("mask", mask, shapes)
    resets = check_flags("resets", resets, shapes)
    reset_state = check_reset_state(reset_state, resets, h0)
    check_bool("reverse", reverse)
    unroll = check_unroll(unroll, length)
    traced_once = once(step, params)
    run = _unroll_once if traced_once else _unroll
    options = traced_once or step, bool(reverse), unroll
    result: tuple[Any, Any] = run(options, params, h0, (xs, mask, resets, reset_state))
    return result


def _unroll(
    options: tuple[Any, bool, int],
    params: Any,
    h0: Any,
    inputs: tuple[Any, Any, Any, Any],
) -> tuple[Any, Any]:
    step, reverse, unroll = options
    xs, mask, resets, reset_state = inputs

    def checked(h: Any, x: Any) -> tuple[Any, None]:
        new = step(params, h, x)
        check_next(h, new)
        return new, None

    h_last, (states, _) = scan_time(
        checked, h0, prepare(xs, mask, resets), reset_state, reverse=reverse, unroll=unroll
    )
    return detached(h_last, h0, xs), outputs(states, mask)


_unroll_once = jax.jit(_unroll, static_argnums=0, inline=True)


def first_state(h0: Any, params: Any, xs: Any, *others: Any) -> Any:
    """The first state as arrays, zeros for None, as the carry of a loop over all these must be.

    It is sharded as the inputs are, and varies over the axes of a `shard_map` over which any of
    the others does.
    """
    if h0 is None:
        if not isinstance(xs, jax.Array) or xs.ndim < 2:
            raise ValueError("h0 is None, but must be the first state: xs is no array (T, ..., I).")
        h0 = zeros_for(params, xs, time_axes=1)

    def placed(leaf: Any) -> Any:
        leaf = as_array("h0", leaf)
        explicit = jax.sharding.get_abstract_mesh().explicit_axes and isinstance(xs, jax.Array)
        if explicit and leaf.ndim == xs.ndim - 1 and leaf.shape[:-1] == xs.shape[1:-1]:
            return like_inputs(leaf, xs, time_axes=1)
        return leaf

    return vary_like(jax.tree.map(placed, h0), params, xs, others)


def check_unroll(unroll: Any, length: Any) -> int:
    """The number of steps per iteration; raises `ValueError` if it cannot be told to fit T."""
    steps = check_size("unroll", unroll)
    if steps > 1 and is_symbolic(length):
        raise ValueError(
            f"unroll is {steps}, but must be 1, because T = {length} is a dimension variable."
        )
    return steps


def detached(h_last: Any, h0: Any, xs: Any) -> Any:
    """A copy of the last state where there was no step: else it were h0's own buffer."""
    length = jax.tree.leaves(xs)[0].shape[0]
    return jax.tree.map(jnp.copy, h0) if isinstance(length, int) and length == 0 else h_last


def check_next(h: Any, new: Any, name: str = "step") -> None:
    """Raises `ValueError` if a function returned a state that is not like the one it was given."""
    old, new = (jax.tree.map(lambda leaf: jax.typeof(leaf), tree) for tree in (h, new))
    structures: list[Any] = [jax.tree.structure(old), jax.tree.structure(new)]
    same = structures[0] == structures[1] and all(
        (a.shape, a.dtype) == (b.shape, b.dtype)
        for a, b in zip(*map(jax.tree.leaves, (old, new)), strict=True)
    )
    if not same:
        raise ValueError(
            f"{name} returned {new}, but must return a state like the one that it was given, {old}."
        )


def scan_time(
    step: Callable[[Any, Any], tuple[Any, Any]],
    h0: Any,
    inputs: tuple[Any, jax.Array | None, jax.Array | None],
    reset_state: Any,
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
        x, update_mask, resets_here = inputs
        restarted = restart(h, resets_here, reset_state)
        new, other = step(restarted, x)
        if update_mask is not None:
            new = select(update_mask, new, restarted)
        return new, (new, other)

    return jax.lax.scan(body, h0, inputs, reverse=reverse, unroll=unroll)


def restart(h: Any, resets: jax.Array | None, reset_state: Any) -> Any:
    """Puts the reset state, zeros for None, in place of states that are reset."""
    if resets is None:
        return h
    return select(resets, _zeros_like(h) if reset_state is None else reset_state, h)


def restarted(h: Tree, resets: ArrayLike | None, reset_state: Any) -> Tree:
    """The state of a single step, arrays `[..., features]`, after its resets `[...]`."""
    batch_shape = jax.tree.leaves(h)[0].shape[:-1]
    resets = check_flags("resets", resets, {batch_shape}, "(*batch) of x and h")
    result: Tree = restart(h, resets, check_reset_state(reset_state, resets, h))
    return result


def outputs(states: Any, mask: jax.Array | None) -> Any:
    """The states, zero where masked."""
    return states if mask is None else select(mask, states, _zeros_like(states))


def prepare(
    xs: Any, mask: jax.Array | None, resets: jax.Array | None
) -> tuple[Any, jax.Array | None, jax.Array | None]:
    """Zeros masked inputs and removes masked resets.

    Selecting the old state already makes a masked step's gradient zero, but the backward pass
    multiplies that zero by the step's derivatives and the input, and 0 · inf or 0 · NaN is NaN.
    """
    if mask is None:
        return xs, mask, resets
    return select(mask, xs, _zeros_like(xs)), mask, None if resets is None else resets & mask


def select(condition: jax.Array, on_true: Any, on_false: Any) -> Any:
    """Selects whole feature vectors: `condition [...]` between pytrees of `[..., features]`."""

    def select(a: jax.Array, b: jax.Array) -> jax.Array:
        axes = range(condition.ndim, a.ndim)
        return jnp.where(jnp.expand_dims(condition, tuple(axes)), a, b)

    return jax.tree.map(select, on_true, on_false)


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)
