"""Sequences in chunks of equal length."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def chunk_length(length: int, steps: int) -> int:
    """A chunk of at most these and more than half as many steps without a remainder, if any is.

    A remainder chunk forces a copy of every array.
    """
    return next((n for n in range(steps, steps // 2, -1) if length % n == 0), steps)


def in_chunks(
    stretch: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, steps: int, reverse: bool
) -> tuple[Any, Any]:
    """Equivalent to `stretch(carry, xs)`, in a scan over chunks; a remainder comes last.

    Args:
      stretch: `(carry, xs [T, ...]) -> (carry, ys [T, ...])`, for any T, as a scan; or ys with one
        entry for the whole stretch, `[1, ...]`.
      carry: the first carry.
      xs: a pytree of arrays `[T, ...]`.
      steps: the length of a chunk.
      reverse: whether the stretch runs from the last step to the first.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    count, rest = divmod(length, steps)
    first, last = slice(length - rest), slice(length - rest, None)
    if reverse:
        first, last = slice(rest, None), slice(rest)
    chunks = jax.tree.map(lambda x: x[first].reshape(count, steps, *x.shape[1:]), xs)
    carry, ys = jax.lax.scan(stretch, carry, chunks, reverse=reverse)
    ys = jax.tree.map(lambda y: y.reshape(count * y.shape[1], *y.shape[2:]), ys)
    if rest:
        carry, tail = stretch(carry, jax.tree.map(lambda x: x[last], xs))
        ys = jax.tree.map(lambda *y: jnp.concatenate(y[::-1] if reverse else y), ys, tail)
    return carry, ys
