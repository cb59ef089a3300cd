"""Chunks of a sequence: cache-sized ones on CPU, and those that a checkpoint keeps a state of."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Stretch = Callable[[Any, Any], tuple[Any, Any]]
"""A stretch of steps: `(carry, inputs [T, ...]) -> (carry, outputs [T, ...])`, as in a scan."""


def most_steps(max_elements: int, h0: jax.Array) -> int | None:
    """The chunk length that keeps one gate's activations below `max_elements`; at least 16.

    None where the batch is a dimension variable of `jax.export`: nothing is chunked.

    Measured in `experiments.benchmark` and its forerunners: a training step gains up to a third
    from chunks of 2^16 numbers (256 kB in float32), which stay in a core's cache. The values
    alone lose a tenth by them, and gain a seventh from chunks of 2^20, where these are many.
    """
    if not all(isinstance(size, int) for size in h0.shape):
        return None
    return max(16, max_elements // max(h0.size, 1))


def by_platform(
    f: Stretch, carry: Any, xs: Any, steps: int | None, reverse: bool
) -> tuple[Any, Any]:
    """Runs a stretch over all steps: at once, or on CPU in chunks of so many, if three or more."""
    length = jax.tree.leaves(xs)[0].shape[0]
    if steps is None or not isinstance(length, int) or length < 3 * steps:
        return f(carry, xs)
    chunked = partial(in_chunks, f, steps=chunk_length(length, steps), reverse=reverse)
    result: tuple[Any, Any] = jax.lax.platform_dependent(carry, xs, cpu=chunked, default=f)
    return result


def chunk_length(length: int, steps: int) -> int:
    """A chunk of at most these and more than half as many steps without a remainder, if any is.

    A remainder chunk forces a copy of every array.
    """
    return next((n for n in range(steps, steps // 2, -1) if length % n == 0), steps)


def in_chunks(f: Stretch, carry: Any, xs: Any, steps: int, reverse: bool) -> tuple[Any, Any]:
    """The same as `f(carry, xs)`, in a scan over chunks of some steps; the remainder comes last."""
    length = jax.tree.leaves(xs)[0].shape[0]
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
